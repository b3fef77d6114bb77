"""Delivery of events from the store's outbox: at least once, oldest first, with back-off. What cannot be delivered is kept."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from anomaly.alarms.sinks.base import Sink
from anomaly.alarms.store import Store
from anomaly.backoff import backoff_s
from anomaly.errors import SinkError, StoreError

FIRST_RETRY_S = 1.0
LONGEST_RETRY_S = 300.0
MAX_ATTEMPTS = 200  # about 16 hours of trying; then a dead letter


def deliver_due(store: Store, sinks: Sequence[Sink], now: Callable[[], float], random_: random.Random) -> int:
    """Send everything that is due, once each; returns how many were taken. A failing sink never delays another."""
    taken = 0
    for sink in sinks:
        held: set[str] = set()
        for item in store.due(sink.name, now()):
            if item.alarm in held:
                continue  # an earlier event of this alarm just failed: order is kept
            try:
                sink.send(item.body, item.id)
            except SinkError as error:
                held.add(item.alarm)
                last = item.attempts + 1 >= MAX_ATTEMPTS
                again = None if last else now() + backoff_s(item.attempts, random_.random(), FIRST_RETRY_S, LONGEST_RETRY_S)
                store.failed(item, str(error), again)
            else:
                store.delivered(item)
                taken += 1
    return taken


@contextmanager
def delivering(store: Path, sinks: Sequence[Sink]) -> Iterator[DeliveryThread]:
    """Deliver while the block runs, and what is due at its end. Raises StoreError at the end when the store could not be used."""
    thread = DeliveryThread(store, sinks)
    try:
        yield thread
    finally:
        thread.close()
    if thread.error is not None:
        raise thread.error


class DeliveryThread:
    """Runs `deliver_due` beside the monitor loop, with a connection of its own. `close` sends what is still due and ends it."""

    def __init__(self, store: Path, sinks: Sequence[Sink]) -> None:
        self._path = store
        self._sinks = sinks
        self._wake = threading.Event()
        self._stop = False
        self.error: StoreError | None = None
        self._thread = threading.Thread(target=self._run, name="delivery", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """There is something new to send."""
        self._wake.set()

    def close(self, timeout_s: float = 30.0) -> None:
        self._stop = True
        self._wake.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._attempt():
            self._wake.wait(5.0)  # the store cannot be used (a full disk): what waits stays in it
            self._wake.clear()

    def _attempt(self) -> bool:
        """Deliver until told to stop (True) or the store fails (False, with the reason in `error`)."""
        try:
            store = Store(self._path)
            while True:
                stopping = self._stop
                while deliver_due(store, self._sinks, time.time, random.Random()):  # noqa: S311 - jitter
                    pass
                self.error = None
                if stopping:
                    store.close()
                    return True
                self._wake.wait(1.0)
                self._wake.clear()
        except StoreError as error:
            self.error = error
            return self._stop
