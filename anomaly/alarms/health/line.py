"""What one line shows of itself. Its loop writes here after each turn; the web server, the watchdog and heartbeats read.

Plain attributes and whole numbers, written by one thread: a reader sees them a turn old at worst, and never makes the loop wait.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from anomaly.alarms.evidence.made import Recent

BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)  # seconds
NOT_OPENED = "not opened yet"


class Durations:
    """A histogram of seconds, as Prometheus counts them.

    >>> seconds = Durations()
    >>> seconds.add(0.004, 3)
    >>> seconds.add(60.0)
    >>> seconds.cumulative()[2], seconds.cumulative()[-1], seconds.quantile(0.5), seconds.quantile(0.99)
    ((0.005, 3), (inf, 4), 0.005, inf)
    """

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.total = 0.0

    def add(self, seconds: float, times: int = 1) -> None:
        """Count a duration of `seconds`, `times` times."""
        self.counts[bisect_left(BOUNDS, seconds)] += times
        self.total += seconds * times

    def cumulative(self) -> list[tuple[float, int]]:
        """(bound, how many took no longer), the last bound infinite."""
        found, so_far = [], 0
        for bound, count in zip((*BOUNDS, float("inf")), list(self.counts), strict=True):
            so_far += count
            found.append((bound, so_far))
        return found

    def quantile(self, share: float) -> float | None:
        """The smallest bound that this share kept; None before anything was counted."""
        counted = self.cumulative()
        wanted = share * counted[-1][1]
        return next((bound for bound, so_far in counted if so_far >= wanted), None) if counted[-1][1] else None


@dataclass
class LineHealth:
    """Counts since the start, and how things stand.

    source, store: words for what is wrong with it at the moment, "" for nothing
    lag_s: how old the newest record was when it was handled, None before the first
    drift: 1 while there is drift, else the evidence for it as a share of what is needed; None where it is not measured
    detector: the bundle in use, None before the first
    release: the release folder or URL that the line follows, "" for none
    readings: gives what the sensors have read in the last hours, None for pictures
    clock: seconds on a clock that is never set (monotonic)
    turned: set at the end of each turn, for one who has work for the time until the next
    """

    line: str
    clock: Callable[[], float] = time.monotonic
    scored: int = 0
    flagged: int = 0
    rejected: int = 0
    dropped: int = 0
    opened: int = 0
    closed: int = 0
    seconds: Durations = field(default_factory=Durations)
    lag_s: float | None = None
    source: str = NOT_OPENED
    store: str = ""
    bundle: str = ""
    bundle_hash: str = ""
    provider: str = ""
    variant: str = ""
    drift: float | None = None
    detector: Any = None
    release: str = ""
    readings: Callable[[], Recent | None] | None = None
    began: float = field(init=False)
    last_turn: float | None = None
    last_record: float | None = None
    turned: threading.Event = field(default_factory=threading.Event, repr=False)

    def __post_init__(self) -> None:
        self.began = self.clock()

    def count(self, totals: Mapping[str, int]) -> None:
        """Take over what the loop has counted since its start."""
        self.scored, self.flagged, self.rejected = totals["scored"], totals["flagged"], totals["rejected"]
        self.dropped, self.opened, self.closed = totals["dropped"], totals["opened"], totals["closed"]

    def alive(self) -> None:
        """The loop goes on: after each turn, and while it waits for something that it tells of."""
        self.last_turn = self.clock()
        self.turned.set()

    def took(self, records: int, seconds: float, lag_s: float | None) -> None:
        """Records were polled, scored and stored in `seconds`; each of them waited that long. `lag_s`: age of the newest one then."""
        self.seconds.add(seconds, records)
        self.lag_s, self.last_record = lag_s, self.clock()

    @property
    def last_turn_age_s(self) -> float | None:
        """Seconds since the last turn ended, None before the first."""
        return None if self.last_turn is None else max(0.0, self.clock() - self.last_turn)

    @property
    def last_record_age_s(self) -> float:
        """Seconds since a record came; before the first, since the start."""
        return max(0.0, self.clock() - (self.began if self.last_record is None else self.last_record))

    def missing(self) -> list[str]:
        """What is not there for the line to do its work, in words; [] when it is ready."""
        bundle = [] if self.bundle_hash else ["bundle: not loaded yet"]
        return bundle + [f"{what}: {why}" for what, why in (("source", self.source), ("store", self.store)) if why]
