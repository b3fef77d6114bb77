"""What all live sources share: a thread that connects again and again, and a bounded queue from which the monitor polls."""

from __future__ import annotations

import random
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Any

from anomaly.buses.backoff import backoff_s
from anomaly.data.records import Record, Rejected
from anomaly.edge.sources.base import Poll
from anomaly.errors import in_words

FIRST_RETRY_S, LONGEST_RETRY_S = 0.5, 60.0
FIRST_RECORDS_S = 2.0  # after connecting: what was waiting at the source may take so long to come


class Feed(ABC):
    """A live source in a thread of its own.

    When the queue is full, the oldest record is discarded and counted: a late picture or reading is worth less than the next one.
    While the source is away it is tried again, after 0.5 s at first and 60 s at most. A thread that has ended all the same is started anew.
    """

    def __init__(self, name: str, queue: int, clock: Callable[[], float] = time.time) -> None:
        self.name = name
        self.clock = clock
        self.stopping = threading.Event()
        self.connects = 0
        self.mark: dict[str, Any] = {}  # the position after what is put next, where the source has one
        self.muted = False  # records are not queued: they were handled before a restart and are read again only for the next window
        self._queue: deque[tuple[Record[Any] | Rejected, dict[str, Any]]] = deque()
        self._most = queue
        self._dropped = 0
        self._lock = threading.Lock()
        self._trouble = f"{name}: not connected yet"
        self._connecting = True  # for the first time, or connected a moment ago
        self._since = 0.0
        self._start()

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._serve, name=f"feed {self.name}", daemon=True)
        self._thread.start()

    @abstractmethod
    def run(self) -> None:
        """Connect, call `connected`, then `put` what comes until `stopping` is set. Raises SourceError when the source goes away."""

    def connected(self) -> None:
        """The source is there."""
        self.connects += 1
        self._since = time.monotonic()
        self._trouble = ""

    @property
    def full(self) -> bool:
        """Whether the next record would push out the oldest one."""
        return len(self._queue) >= self._most

    def put(self, item: Record[Any] | Rejected) -> None:
        """Queue a record, or one that could not be read."""
        if self.muted:
            return
        with self._lock:
            if len(self._queue) >= self._most:
                self._queue.popleft()
                self._dropped += 1
            self._queue.append((item, self.mark))

    def poll(self, limit: int) -> Poll:
        """What has come since, at most `limit` of it. `waiting` also while it is not known yet whether something comes."""
        if not self._thread.is_alive() and not self.stopping.is_set():
            self._trouble = f"{self.name}: the thread that reads it had ended; it was started again"
            self._start()
        found = Poll(trouble=self._trouble)
        with self._lock:
            found.dropped, self._dropped = self._dropped, 0
            for _ in range(min(limit, len(self._queue))):
                item, found.position = self._queue.popleft()
                (found.rejected if isinstance(item, Rejected) else found.records).append(item)  # type: ignore[arg-type]
            found.waiting = bool(self._queue)
        self._connecting = self._connecting and (not self.connects or time.monotonic() - self._since < FIRST_RECORDS_S)
        found.waiting = found.waiting or self._connecting
        return found

    def close(self) -> None:
        """Stop the thread; it has five seconds to leave."""
        self.stopping.set()
        self._thread.join(5.0)

    def _serve(self) -> None:
        failures = 0
        while not self.stopping.is_set():
            before = self.connects
            try:
                self.run()
            except Exception as error:  # SourceError, or a client library's own: the source is tried again, and `trouble` gives the reason
                self._trouble = f"{self.name}: {in_words(error)}"
                self._connecting = False
            failures = 0 if self.connects > before else failures + 1
            self.stopping.wait(backoff_s(failures, random.random(), FIRST_RETRY_S, LONGEST_RETRY_S))  # noqa: S311 - jitter
