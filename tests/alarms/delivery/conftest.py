"""Lanes over a store in a temporary folder, and sinks that do what a test says."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from anomaly.alarms.delivery import Delivery
from anomaly.alarms.delivery.lane import store_at
from anomaly.alarms.routing import Routing
from anomaly.alarms.sinks.base import Route, Sink


class Noting:
    """A sink that does what it is told at each call, and notes what it has taken."""

    def __init__(self, name: str, do: Callable[[int], None] = lambda _: None) -> None:
        self.name = name
        self.taken: list[dict] = []
        self.at: list[float] = []
        self.calls = 0
        self.closed = 0
        self._do = do

    def send(self, body: str, event_id: str) -> None:
        self.calls += 1
        self._do(self.calls)
        self.taken.append(json.loads(body))
        self.at.append(time.monotonic())

    def close(self) -> None:
        self.closed += 1

    @property
    def ids(self) -> list[str]:
        return [body["id"] for body in self.taken]


def route(sink: Sink, timeout_s: float = 10.0, **keys: object) -> Route:
    return Route(Routing(name=sink.name, **keys), sink, lambda: sink, timeout_s)


@contextmanager
def delivery(path: Path, *routes: Route, failing_after_s: float = 60.0) -> Iterator[Delivery]:
    started = Delivery(store_at(path), routes, failing_after_s)
    try:
        yield started
    finally:
        started.close(2.0)


def until(found: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait for something to become true; fails when it does not."""
    end = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)
