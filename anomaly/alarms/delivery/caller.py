"""Calls of a sink with a limit on the time that one may take, whatever the sink does."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue

from anomaly.alarms.sinks.base import RecallingSink, Route, Sink
from anomaly.errors import SinkError

GRACE_S = 2.0  # beyond the sink's own time limit, so that its own words come first
MOST_HUNG = 3  # calls that have not come back; no further one is begun before one of them does


class Caller:
    """Calls one sink on a thread of its own. A call that does not come back in time is left alone, and the sink opened anew."""

    def __init__(self, route: Route, told: Callable[[], list[str]] = list) -> None:
        """`told` gives what a sink that shows which alarms are on has to know before its first event."""
        self._route = route
        self._told = told
        self._sink: Sink | None = route.sink
        self._worker: _Worker | None = None
        self._hung: list[_Worker] = []

    def begin(self) -> None:
        """Let the sink know what was on before it was opened, if it has not been used yet. Raises what `told` does."""
        if self._worker is None and self._sink is not None:
            self._work(self._sink)

    def send(self, body: str, event_id: str, limit_s: float | None = None) -> None:
        """Send one event. Raises SinkError, also for any other exception of the sink and for a call that takes too long.

        `limit_s`: seconds that the call may take at most, when that is less than the sink's own limit.
        """
        name = self._route.name
        self._hung = [worker for worker in self._hung if worker.is_alive()]
        if len(self._hung) >= MOST_HUNG:
            raise SinkError(f"{name}: {len(self._hung)} earlier calls have not come back")
        if self._worker is None:
            self._work(self._sink or self._opened())
        assert self._worker is not None
        limit = self._route.timeout_s + GRACE_S
        limit = limit if limit_s is None else min(limit, max(limit_s, 0.05))
        try:
            error = self._worker.call(body, event_id, limit)
        except Empty:
            self._worker.abandon()
            self._hung.append(self._worker)
            self._worker = None
            raise SinkError(f"{name}: a call did not come back within {limit:g} s") from None
        if isinstance(error, SinkError):
            raise error
        if error is not None:
            raise SinkError(f"{name}: {type(error).__name__}: {error}") from error

    def _work(self, sink: Sink) -> None:
        if isinstance(sink, RecallingSink):
            told = self._told()
            with suppress(Exception):  # it shows less until the next events come
                sink.recall(told)
        self._worker, self._sink = _Worker(self._route.name, sink), None

    def _opened(self) -> Sink:
        try:
            return self._route.open()
        except Exception as error:
            raise SinkError(f"{self._route.name}: cannot be opened anew: {error}") from error

    def close(self) -> None:
        """End the sink's connections, when it is not in a call."""
        if self._worker is not None:
            self._worker.abandon()
        self._worker = None


class _Worker(threading.Thread):
    def __init__(self, name: str, sink: Sink) -> None:
        super().__init__(name=f"sink {name}", daemon=True)
        self._sink = sink
        self._asked: SimpleQueue[tuple[str, str] | None] = SimpleQueue()
        self._answers: SimpleQueue[BaseException | None] = SimpleQueue()
        self.start()

    def call(self, body: str, event_id: str, limit_s: float) -> BaseException | None:
        """The exception that the sink raised, if any. Raises Empty when it does not come back in time."""
        self._asked.put((body, event_id))
        return self._answers.get(timeout=limit_s)

    def abandon(self) -> None:
        """Close the sink and end, once the call that is on has come back."""
        self._asked.put(None)

    def run(self) -> None:
        while (asked := self._asked.get()) is not None:
            try:
                self._sink.send(*asked)
                self._answers.put(None)
            except BaseException as error:  # whatever a sink raises is a failed try, and ends no lane
                self._answers.put(error)
        with suppress(BaseException):
            self._sink.close()
