"""Events to a Prefect server or Prefect Cloud, where automations can begin with them. By HTTP: nothing of Prefect is needed here."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Literal

from pydantic import Field

from anomaly.alarms.events import iso
from anomaly.alarms.sinks.base import Sink, SinkSettings, read_secret
from anomaly.alarms.sinks.http import HttpPoster, HttpUrl
from anomaly.alarms.sinks.parsed import as_level, parse_event
from anomaly.names import one_line


class PrefectSettings(SinkSettings):
    kind: Literal["prefect"]
    url: HttpUrl = Field(description="PREFECT_API_URL, such as http://prefect:4200/api")
    key_env: str | None = Field(None, description="environment variable that holds Prefect Cloud's API key")
    login_env: str | None = Field(None, description="environment variable that holds USER:PASSWORD of a server of your own")

    def open(self, where: Path) -> Sink:
        key = None if self.key_env is None else f"Bearer {read_secret(where, self.key_env)}"
        if self.login_env is not None:
            key = f"Basic {base64.b64encode(read_secret(where, self.login_env).encode()).decode()}"
        return PrefectEvents(self.name, self.url, key, self.timeout_s)


class PrefectEvents:
    """Each event under its own name (`anomaly.alarm.opened`) and id; its resource is `anomaly.line.NAME`, its payload what it says."""

    def __init__(self, name: str, url: str, authorization: str | None, timeout_s: float = 10.0) -> None:
        self.name = name
        self._headers = {"Content-Type": "application/json"} | ({"Authorization": authorization} if authorization else {})
        self._http = HttpPoster(name, url.rstrip("/") + "/events", timeout_s)

    def send(self, body: str, event_id: str) -> None:
        event = parse_event(body)
        told = {
            "id": event_id,
            "occurred": iso(event.time),
            "event": f"anomaly.{event.kind}",
            "resource": {"prefect.resource.id": f"anomaly.line.{as_level(event.line)}", "prefect.resource.name": one_line(event.line)},
            "related": [],
            "payload": event.data | {"line": event.line, "alarm": event.alarm},
        }
        self._http.post(json.dumps([told]).encode(), self._headers)

    def close(self) -> None:
        self._http.close()
