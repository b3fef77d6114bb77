"""Where alarms go, as a TOML file says it.

link = "http://box:8080/"              # the page that messages point to, if there is one

[[sink]]
name = "maintenance"
kind = "webhook"                       # or "jsonl" or "apprise"
url = "https://example.org/alarms"
secret_env = "ALARM_SECRET"            # HMAC key, from the environment, never from the file
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, get_args

from pydantic import Field, TypeAdapter, ValidationError

from anomaly.alarms.sinks.alertmanager import AlertmanagerSettings
from anomaly.alarms.sinks.apprise_sink import AppriseSettings
from anomaly.alarms.sinks.base import Route
from anomaly.alarms.sinks.bus.mqtt import MqttSettings
from anomaly.alarms.sinks.bus.opcua import OpcUaSettings
from anomaly.alarms.sinks.bus.sparkplug import SparkplugSettings
from anomaly.alarms.sinks.json_lines import JsonLinesSettings
from anomaly.alarms.sinks.prefect_event import PrefectSettings
from anomaly.alarms.sinks.syslog import SyslogSettings
from anomaly.alarms.sinks.webhook import WebhookSettings
from anomaly.errors import SpecError
from anomaly.toml_file import read_toml, unknown_key

Settings = Annotated[
    WebhookSettings | JsonLinesSettings | AppriseSettings | MqttSettings | SparkplugSettings | OpcUaSettings
    | AlertmanagerSettings | SyslogSettings | PrefectSettings,
    Field(discriminator="kind"),
]  # fmt: skip
_SETTINGS: TypeAdapter[list[Settings]] = TypeAdapter(list[Settings])


def read_routes(path: Path) -> list[Route]:
    """The sinks that a TOML file names, opened. Raises SpecError naming file, sink and key."""
    return [Route(each, each.open(path), partial(each.open, path), each.timeout_s) for each in _read_settings(path)]


def read_route(path: Path, name: str) -> Route:
    """One sink that a TOML file names, opened; the others are read, but not opened. Raises SpecError."""
    settings = _read_settings(path)
    found = next((each for each in settings if each.name == name), None)
    if found is None:
        raise SpecError(f"{path}: no sink {name!r}; there are {', '.join(each.name for each in settings) or 'none'}")
    return Route(found, found.open(path), partial(found.open, path), found.timeout_s)


def _read_settings(path: Path) -> list[Settings]:
    raw = read_toml(path, "deploy/alerts.toml")
    if set(raw) - {"sink", "link"}:
        raise SpecError(f"{path}: unknown key `{sorted(set(raw) - {'sink', 'link'})[0]}`; a sink is written as [[sink]]")
    sinks = raw.get("sink", [])
    if "link" in raw and isinstance(sinks, list):
        sinks = [{"link": raw["link"], **each} if isinstance(each, dict) else each for each in sinks]
    try:
        settings = _SETTINGS.validate_python(sinks)
    except ValidationError as error:
        raise SpecError(f"{path}: {_first(error, sinks)}") from error
    names = [each.name for each in settings]
    if len(set(names)) != len(names):
        raise SpecError(f"{path}: two sinks have the same name; names tell deliveries apart")
    return settings


def _first(error: ValidationError, sinks: object) -> str:
    """The first thing that is wrong, with the sink's name (its number where it has none) and the key."""
    first = error.errors(include_url=False, include_input=False)[0]
    number, *rest = first["loc"] or ("?",)
    one = sinks[number] if isinstance(sinks, list) and isinstance(number, int) else None
    name = one.get("name", number) if isinstance(one, dict) else number
    keys = ".".join(str(part) for part in rest[1:])  # rest[0] is the kind
    if first["type"] == "union_tag_invalid":
        return f"sink {name!r}: no kind {first['ctx']['tag']!r}; there are {first['ctx']['expected_tags']}"
    if first["type"] == "extra_forbidden" and len(rest) == 2:
        kinds = {get_args(each.model_fields["kind"].annotation)[0]: each for each in get_args(get_args(Settings)[0])}
        return f"sink {name!r}: {unknown_key(keys, kinds[rest[0]].model_fields)}"
    return f"sink {name!r}{f', key `{keys}`' if keys else ''}: {first['msg'].removeprefix('Value error, ')}"
