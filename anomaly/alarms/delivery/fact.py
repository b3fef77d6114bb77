"""A waiting event, and what of it decides whether, when and how it is sent."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from anomaly.alarms.routing import Priority, priority_of
from anomaly.alarms.store import Waiting


@dataclass(frozen=True, slots=True)
class Fact:
    """`kind` is one of TYPES; `class_` is empty for what is no alarm; `time` in seconds since 1970."""

    row: Waiting
    kind: str
    line: str
    class_: str
    priority: Priority
    time: float
    data: dict[str, Any]

    @property
    def is_alarm(self) -> bool:
        return self.kind.startswith("alarm.")

    @property
    def key(self) -> str:
        """What the newest of replaces the older ones: an alarm, or the last word on a line's bundle."""
        return f"{self.kind} {self.line}" if self.kind.startswith(("bundle.", "line.")) else self.row.alarm


def read_fact(row: Waiting) -> Fact:
    """What a row's event says."""
    body = json.loads(row.body)
    kind, data = str(body["type"]).removeprefix("anomaly."), body.get("data") or {}
    line = str(body["source"]).removeprefix("/anomaly/")
    return Fact(row, kind, line, str(data.get("class", "")), priority_of(kind, data), _seconds(str(body["time"])), data)


def _seconds(text: str) -> float:
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        return 0.0
