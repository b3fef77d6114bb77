"""All lanes of one process: started, watched, started again, and told of when they fail."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from anomaly.alarms.delivery.lane import Lane, LaneStatus, store_at
from anomaly.alarms.delivery.summary import NO_LINE
from anomaly.alarms.delivery.trouble import FAILING_AFTER_S, SinkTrouble
from anomaly.alarms.health.board import SinkHealth
from anomaly.alarms.health.log import LineLog
from anomaly.alarms.sinks.base import Route
from anomaly.alarms.store import Store
from anomaly.errors import StoreError

WATCH_S = 1.0
CLOSE_S = 10.0
log = logging.getLogger("anomaly.delivery")


@contextmanager
def delivering(store: Path, routes: Sequence[Route]) -> Iterator[Delivery]:
    """Deliver while the block runs, and what is due at its end, for some seconds at most; then what still waits is told."""
    delivery = Delivery(store_at(store), routes)
    try:
        yield delivery
    finally:
        delivery.close()


class Delivery:
    """A lane a sink, each on a thread of its own, and one thread that watches them.

    failing_after_s: seconds after which a sink that takes nothing is an alarm to the other sinks
    clock: seconds since 1970
    """

    def __init__(
        self,
        open_store: Callable[[], Store],
        routes: Sequence[Route],
        failing_after_s: float = FAILING_AFTER_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._open_store = open_store
        self._clock = clock
        self._stop = threading.Event()
        self._closing: tuple[float, float] | None = None
        self._trouble = SinkTrouble([route.name for route in routes], failing_after_s, clock)
        self._lanes: list[Lane] = []
        self._threads: list[threading.Thread] = []
        for route in routes:
            lane = Lane(route, open_store, clock)
            self._lanes.append(lane)
            self._threads.append(_start(lane))
        self._log = LineLog(NO_LINE)
        self._watcher = threading.Thread(target=self._watch, name="delivery", daemon=True)
        self._watcher.start()

    def wake(self) -> None:
        """There is something new to send."""
        for lane in self._lanes:
            lane.wake()

    def status(self) -> list[LaneStatus]:
        """How each lane stands."""
        return [lane.status for lane in self._lanes]

    def health(self) -> list[SinkHealth]:
        """The same, for health and metrics."""
        now = self._clock()
        return [
            SinkHealth(
                each.sink,
                "ok" if each.failing_since is None else "failing",
                None if each.last_success is None else max(0.0, now - each.last_success),
                each.error,
            )
            for each in self.status()
        ]

    def close(self, within_s: float = CLOSE_S) -> None:
        """Send what is due, for so many seconds at most; then tell what still waits, and why. Raises StoreError."""
        until = time.monotonic() + within_s
        for lane in self._lanes:
            lane.close(within_s)
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()) + 1.0)
        self._stop.set()
        self._watcher.join(WATCH_S + 1.0)
        self._tell_what_waits()

    def _tell_what_waits(self) -> None:
        store = self._open_store()
        try:
            counts = store.outbox_counts()
        finally:
            store.close()
        for status in self.status():
            waiting = counts.get((status.sink, "waiting"), 0)
            if waiting:
                why = f" ({status.error})" if status.error else ""
                log.warning("sink %s: %d events still wait%s; they are sent at the next start", status.sink, waiting, why)

    # --- the watching thread ---

    def _watch(self) -> None:
        store: Store | None = None
        while not self._stop.wait(WATCH_S):
            try:
                self._restart()
                store = store or self._open_store()
                store.refresh()
                events = self._trouble.look(store, self.status())
                for event in events:
                    self._log.event(event)
                if events:
                    self.wake()
            except Exception as error:  # the watch goes on; what it could not tell now, it tells later
                log.log(logging.WARNING if isinstance(error, StoreError) else logging.ERROR, "delivery: %s", error)
        if store is not None:
            with suppress(StoreError):
                store.close()

    def _restart(self) -> None:
        """Start lanes again whose thread is gone: by what nobody thought of, since a lane catches all errors itself."""
        for i, (lane, thread) in enumerate(zip(self._lanes, self._threads, strict=True)):
            if not thread.is_alive() and not lane.ended:
                lane.status.restarts += 1
                log.error("sink %s: its lane ended, and is started again", lane.route.name)
                self._threads[i] = _start(lane)


def _start(lane: Lane) -> threading.Thread:
    thread = threading.Thread(target=lane.run, name=f"lane {lane.route.name}", daemon=True)
    thread.start()
    return thread
