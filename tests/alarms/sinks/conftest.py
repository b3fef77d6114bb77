"""Events for sinks, and a sink from the text of its block in alerts.toml."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anomaly.alarms.events import EventKind, make_event
from anomaly.alarms.sinks.alerts_toml import read_routes
from anomaly.alarms.sinks.base import Sink

HOSTILE = 'press\n3 "left]" \\ +#/\x1b[31m é'  # a line's name is text from outside
OPENED = {
    "class": "process", "condition": "process", "priority": "high", "state": "unacknowledged", "began": "2026-01-01T00:00:00Z",
    "reason": "flow and heat are unusual", "record": "r:7", "p_value": 0.001, "score": 9.0, "bundle": "pump 1", "bundle_hash": "abc",
    "top": [{"sensor": "flow", "share": 0.8}],
}  # fmt: skip
BEGAN = 1_767_225_600.0  # 2026-01-01


def event(kind: EventKind, alarm: str = "a1", line: str = "press-3", at: float = BEGAN, **data: Any) -> tuple[str, str]:
    """(body, id) of an event."""
    made = make_event(kind, line, alarm, at, {**OPENED, **data})
    return made.to_json(), made.id


@pytest.fixture
def sink(tmp_path: Path) -> Callable[[str], Sink]:
    def opened(text: str) -> Sink:
        path = tmp_path / "alerts.toml"
        path.write_text(f'[[sink]]\nname = "it"\n{text}\n')
        return read_routes(path)[0].sink

    return opened
