"""Events by HTTP POST."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path
from typing import Literal

from pydantic import Field

from anomaly.alarms.sinks.base import Sink, SinkSettings, read_secret
from anomaly.errors import SinkError

TIMEOUT_S = 10.0
SIGNATURE = "X-Anomaly-Signature"


class WebhookSettings(SinkSettings):
    kind: Literal["webhook"]
    url: str = Field(pattern=r"^https?://")
    secret_env: str | None = None

    def open(self, where: Path) -> Sink:
        return Webhook(self.name, self.url, read_secret(where, self.secret_env) if self.secret_env is not None else None)


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
