"""Where alarms go, as a TOML file says it.

[[sink]]
name = "maintenance"
kind = "webhook"                       # or "jsonl" or "apprise"
url = "https://example.org/alarms"
secret_env = "ALARM_SECRET"            # HMAC key, from the environment, never from the file
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from anomaly.alarms.sinks.apprise_sink import AppriseSettings
from anomaly.alarms.sinks.base import Sink
from anomaly.alarms.sinks.json_lines import JsonLinesSettings
from anomaly.alarms.sinks.webhook import WebhookSettings
from anomaly.errors import SpecError
from anomaly.toml_file import read_toml

Settings = Annotated[WebhookSettings | JsonLinesSettings | AppriseSettings, Field(discriminator="kind")]
_SETTINGS: TypeAdapter[list[Settings]] = TypeAdapter(list[Settings])


def read_sinks(path: Path) -> list[Sink]:
    """The sinks that a TOML file names. Raises SpecError naming file, sink and key."""
    raw = read_toml(path, "deploy/alerts.toml")
    if set(raw) - {"sink"}:
        raise SpecError(f"{path}: unknown key `{sorted(set(raw) - {'sink'})[0]}`; a sink is written as [[sink]]")
    try:
        settings = _SETTINGS.validate_python(raw.get("sink", []))
    except ValidationError as error:
        first = error.errors()[0]
        raise SpecError(f"{path}: sink {'.'.join(str(p) for p in first['loc'])}: {first['msg']}") from error
    names = [each.name for each in settings]
    if len(set(names)) != len(names):
        raise SpecError(f"{path}: two sinks have the same name; names tell deliveries apart")
    return [each.open(path) for each in settings]
