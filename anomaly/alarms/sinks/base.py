"""Where events go: a webhook, a JSON-lines file, or any of the services Apprise knows. Read from a TOML file.

[[sink]]
name = "maintenance"
kind = "webhook"                       # or "jsonl" or "apprise"
url = "https://example.org/alarms"
secret_env = "ALARM_SECRET"            # HMAC key, from the environment, never from the file
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from anomaly.errors import SinkError, SpecError
from anomaly.toml_file import read_toml

TIMEOUT_S = 10.0
SIGNATURE = "X-Anomaly-Signature"


class Sink(Protocol):
    """Something that takes events. `send` returns when the event is safely there, or raises SinkError."""

    name: str

    def send(self, body: str, event_id: str) -> None:
        """Deliver one CloudEvents JSON text; `event_id` is the idempotency key."""
        ...


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str = Field(pattern=r"^[A-Za-z0-9_-]{1,40}$")


class WebhookSettings(_Settings):
    kind: Literal["webhook"]
    url: str = Field(pattern=r"^https?://")
    secret_env: str | None = None


class JsonlSettings(_Settings):
    kind: Literal["jsonl"]
    path: Path


class AppriseSettings(_Settings):
    kind: Literal["apprise"]
    url_env: str = Field(description="environment variable that holds the Apprise URL, which carries credentials")


_SETTINGS: TypeAdapter[Any] = TypeAdapter(list[Annotated[WebhookSettings | JsonlSettings | AppriseSettings, Field(discriminator="kind")]])


def read_sinks(path: Path) -> list[Sink]:
    """The sinks a TOML file names. Raises SpecError naming file, sink and key."""
    raw = read_toml(path, "deploy/alerts.toml")
    if set(raw) - {"sink"}:
        raise SpecError(f"{path}: unknown key `{sorted(set(raw) - {'sink'})[0]}`; a sink is written as [[sink]]")
    try:
        settings = _SETTINGS.validate_python(raw.get("sink", []))
    except ValidationError as error:
        first = error.errors()[0]
        raise SpecError(f"{path}: sink {'.'.join(str(p) for p in first['loc'])}: {first['msg']}") from error
    names = [s.name for s in settings]
    if len(set(names)) != len(names):
        raise SpecError(f"{path}: two sinks have the same name; names tell deliveries apart")
    return [_build(path, s) for s in settings]


def _build(path: Path, settings: Any) -> Sink:
    match settings:
        case WebhookSettings():
            return Webhook(settings.name, settings.url, _secret(path, settings.secret_env))
        case JsonlSettings():
            return JsonLines(settings.name, settings.path)
        case _:
            return Apprise(settings.name, _secret(path, settings.url_env) or "")


def _secret(path: Path, variable: str | None) -> str | None:
    if variable is None:
        return None
    value = os.environ.get(variable)
    if not value:
        raise SpecError(f"{path}: the environment variable {variable} is not set; set it to the secret it stands for")
    return value


class Webhook:
    """HTTP POST of the CloudEvents JSON, signed: `X-Anomaly-Signature: sha256=` HMAC-SHA256 of the body in hex."""

    def __init__(self, name: str, url: str, secret: str | None) -> None:
        import httpx

        self.name = name
        self._url = url
        self._secret = secret
        self._errors = httpx.HTTPError
        self._client = httpx.Client(timeout=TIMEOUT_S, follow_redirects=False)

    def send(self, body: str, event_id: str) -> None:
        raw = body.encode()
        headers = {"Content-Type": "application/cloudevents+json", "Idempotency-Key": event_id}
        if self._secret:
            headers[SIGNATURE] = "sha256=" + hmac.new(self._secret.encode(), raw, hashlib.sha256).hexdigest()
        try:
            response = self._client.post(self._url, content=raw, headers=headers)
        except self._errors as error:
            raise SinkError(f"{self.name}: {type(error).__name__}") from error
        if not response.is_success:
            raise SinkError(f"{self.name}: HTTP {response.status_code}")


class JsonLines:
    """One event a line, appended and synced; a line cut short by a crash is closed before the next one."""

    def __init__(self, name: str, path: Path) -> None:
        self.name = name
        self._path = path

    def send(self, body: str, event_id: str) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a+b") as stream:
                stream.seek(0, os.SEEK_END)
                torn = False
                if stream.tell():
                    stream.seek(-1, os.SEEK_END)
                    torn = stream.read(1) != b"\n"
                stream.write((b"\n" if torn else b"") + body.encode() + b"\n")
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            raise SinkError(f"{self.name}: {error}") from error


class Apprise:
    """A message in words through Apprise, to e-mail, chat, pagers and some hundred more."""

    def __init__(self, name: str, url: str) -> None:
        try:
            import apprise
        except ImportError as error:
            raise SpecError(f"sink {name!r} needs Apprise; run: pip install 'anomaly-pipeline[alerts]'") from error
        self.name = name
        self._apprise = apprise.Apprise()
        if not self._apprise.add(url):
            raise SpecError(f"sink {name!r}: not a URL that Apprise understands; see its list of services")

    def send(self, body: str, event_id: str) -> None:
        title, text = describe(json.loads(body))
        if not self._apprise.notify(title=title, body=text):
            raise SinkError(f"{self.name}: the service did not take the message")


def describe(event: dict[str, Any]) -> tuple[str, str]:
    """(title, text) of an event in words, for people."""
    data = event["data"]
    line = event["source"].removeprefix("/anomaly/")
    verb = {"anomaly.alarm.opened": "alarm", "anomaly.alarm.closed": "alarm over"}.get(event["type"], event["type"])
    lines = [f"Line {line}, since {data.get('began', event['time'])}.", f"Record: {data.get('record', '')}"]
    if "p_value" in data:
        lines.append(f"As unusual as 1 normal record in {1 / max(data['p_value'], 1e-12):,.0f} (p = {data['p_value']:.2g}).")
    if data.get("top"):
        lines.append("Most involved: " + ", ".join(f"{t['sensor']} ({t['share']:.0%})" for t in data["top"]))
    if data.get("where"):
        lines.append(f"Where: {data['where']['x']:.0%} from the left, {data['where']['y']:.0%} from the top.")
    return f"{line}: {verb}", "\n".join(lines)
