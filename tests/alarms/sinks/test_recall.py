"""A sink that shows what is on is told, when it is opened, what it took last of each alarm."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from anomaly.alarms.events import make_event
from anomaly.alarms.store import Store
from anomaly.errors import SinkError
from tests.alarms.delivery.conftest import Noting, delivery, route
from tests.alarms.sinks.conftest import OPENED
from tests.edge.conftest import until


class Showing(Noting):
    def __init__(self, name: str, fails_from: int = 1 << 30) -> None:
        super().__init__(name, self._maybe)
        self.recalled: list[list[tuple[str, str]]] = []
        self._fails_from = fails_from

    def _maybe(self, call: int) -> None:
        if call >= self._fails_from:
            raise SinkError("away")

    def recall(self, told: Sequence[str]) -> None:
        assert self.calls == 0
        self.recalled.append([(body["subject"], body["type"]) for body in map(json.loads, told)])


def test_a_sink_is_told_what_it_took_before_and_not_what_still_waits(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.db")
    first, second = Showing("out", fails_from=4), Showing("out")
    kinds = (("opened", "a"), ("opened", "b"), ("closed", "b"), ("opened", "c"))
    events = [
        make_event(kind, "press", alarm, float(at), OPENED | {"condition": f"sensor:{alarm}"})  # type: ignore[arg-type]
        for at, (kind, alarm) in enumerate(kinds)
    ]
    store.add_events(events, ["out"])
    with delivery(tmp_path / "s.db", route(first)):
        until(lambda: first.calls >= 4)
    assert first.recalled == [[]]
    with delivery(tmp_path / "s.db", route(second)):
        until(lambda: second.recalled)
        until(lambda: len(second.taken) == 1)
    assert second.recalled == [[("a", "anomaly.alarm.opened"), ("b", "anomaly.alarm.closed")]]
    store.close()
