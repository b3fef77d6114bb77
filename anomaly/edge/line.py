"""One line that is kept going: its monitor is opened, and opened again, whatever goes wrong. Its trouble is its own, and is told."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from anomaly.alarms.events import Event
from anomaly.alarms.health.line import LineHealth
from anomaly.alarms.health.log import LineLog
from anomaly.alarms.quality import Quality, Seen
from anomaly.alarms.store import Batch, Store
from anomaly.buses.backoff import backoff_s
from anomaly.edge.line_book import LineBook
from anomaly.edge.monitor import POLL_S, Monitor, Totals
from anomaly.edge.sources.base import Poll
from anomaly.edge.sources.supervised import SupervisedSource
from anomaly.errors import AnomalyError, LineTakenError, SourceError, SpecError, StoreError, in_words

FIRST_RETRY_S, LONGEST_RETRY_S = 1.0, 60.0
SOURCE = "source"  # the condition that tells of it, which the monitor goes on with once it is open


@dataclass
class Line:
    """A line by its name, with the way to open its monitor.

    open_monitor: opens bundle, source and store. What it raises is told and tried again, but SpecError: that is for a person to mend
    store, sinks, wake: by these a line tells that it cannot be opened
    once: what is there is taken and that is all; errors are then raised by the turn
    alone: without a line beside it that goes on: where it cannot be opened at first, whoever made it ends with `error`
    failures: turns and openings that have failed
    """

    name: str
    open_monitor: Callable[[], Monitor]
    store: Path
    sinks: Sequence[str] = ()
    wake: Callable[[], None] = lambda: None
    once: bool = False
    alone: bool = False
    health: LineHealth = field(default_factory=lambda: LineHealth(""))
    clock: Callable[[], float] = time.time
    steady: Callable[[], float] = time.monotonic
    jitter: Callable[[], float] = random.random
    monitor: Monitor | None = None
    failures: int = 0

    def __post_init__(self) -> None:
        self.log = LineLog(self.name)
        self._in_a_row = 0
        self._not_before = -1e300
        self._trouble = ""
        self._taken = False  # by another process: what is stored of the line is that one's
        self._outage: tuple[Store, Quality, LineBook] | None = None  # by which it is told that the line rests
        self.error: Exception | None = None  # why it could not be opened at first
        try:
            self._open()
        except SpecError as error:
            raise SpecError(f"line {self.name}: {error}") from error
        except Exception as error:
            self.error = error
            if self.once or self.alone:
                self._tell_of_the_end(in_words(error), isinstance(error, LineTakenError))
            else:
                self._fail(error, "cannot start")

    @property
    def totals(self) -> Totals:
        """What the line has done since it began."""
        return Totals() if self.monitor is None else self.monitor.totals

    def run(self, stop: threading.Event) -> Totals:
        """Take turns until `stop` is set; with `once`, until the source has nothing more. Returns what was done."""
        while not stop.is_set():
            started = self.steady()
            poll = self.turn(stop)
            if not (poll.records or poll.rejected):
                if self.once and not poll.waiting:
                    break
                stop.wait(max(POLL_S, 4 * (self.steady() - started)))  # looking at a folder of thousands takes its time
        return self.totals

    def turn(self, stop: threading.Event) -> Poll:
        """One turn. An error is logged, counted and told, and the line goes on after a while; with `once` it is raised."""
        if self.monitor is None and self.once and self.error is not None:
            raise self.error
        if self._trouble and (self.steady() < self._not_before or not self._begun_anew()):
            self._tell()
            return Poll(trouble=self._trouble, waiting=True)
        assert self.monitor is not None
        try:
            poll = self.monitor.turn(stop, self.once)
        except Exception as error:
            if self.once or stop.is_set():
                raise
            self._fail(error, "a turn failed")
            return Poll(trouble=self._trouble, waiting=True)
        self._trouble, self._outage = "", None
        if poll.records or poll.rejected:
            self._in_a_row = 0
        elif self.once and not poll.waiting:
            self._end(poll)
        return poll

    def close(self) -> None:
        """Let go of the source."""
        if self.monitor is not None:
            self.monitor.source.close()

    def _open(self) -> None:
        self.monitor = self.open_monitor()
        self.error = None
        source = self.monitor.source
        if isinstance(source, SupervisedSource) and source.trouble:
            self.log.warning("waiting for its source: %s", source.trouble)

    def _begun_anew(self) -> bool:
        """After a rest: the monitor goes on by what is stored, or is opened where there is none."""
        try:
            if self.monitor is not None:
                self.monitor = replace(self.monitor)
            else:
                self._open()
                self.log.info("started")
            return True
        except Exception as error:
            self._fail(error, "cannot start")
            return False

    def _fail(self, error: Exception, what: str) -> None:
        """Log and count an error, and rest. What the turn did not handle the source gives again."""
        self._trouble = f"{what}: {in_words(error)}"
        self.failures += 1
        wait_s = backoff_s(self._in_a_row, self.jitter(), FIRST_RETRY_S, LONGEST_RETRY_S)
        self._in_a_row += 1
        self._not_before = self.steady() + wait_s
        self._taken = isinstance(error, LineTakenError)
        known = isinstance(error, AnomalyError)
        self.log.error("%s; trying again in %.0f s", self._trouble, max(wait_s, 1), exc_info=None if known else error)
        self.health.source = self._trouble
        self.health.alive()  # it is in trouble and says so; it does not hang
        if self.monitor is not None and isinstance(self.monitor.source, SupervisedSource):
            self.monitor.source.failed(error)

    def _tell(self) -> None:
        """An alarm for a line that rests, by the condition of its source. The monitor takes it over, and closes it."""
        self.health.alive()
        if self._taken:
            return
        try:
            _, quality, book = self._begin_outage()
            now = self.clock()
            events = quality.look(Seen(trouble=self._trouble), now)
            if events or book.due(now):
                self._store(events, now)
        except StoreError as error:
            self.log.error("%s", error)

    def _tell_of_the_end(self, trouble: str, taken: bool = False) -> None:
        """An alarm at once for a line that ends since its source cannot be read. The next run that reads it closes the alarm."""
        if taken:
            return
        try:
            now = self.clock()
            self._store(self._begin_outage()[1].look_at_source(trouble, now), now)
        except StoreError as error:
            self.log.debug("%s", error)  # the error that ends the line is told anyway

    def _begin_outage(self) -> tuple[Store, Quality, LineBook]:
        if self._outage is None:
            store = Store(self.store) if self.monitor is None else self.monitor.store
            store.register(self.name, self.sinks)
            kept = {name: state for name, state in store.quality(self.name).items() if name == SOURCE}
            self._outage = store, Quality(self.name, kept, None, self.clock()), LineBook(store, self.name)
        return self._outage

    def _store(self, events: Sequence[Event], now: float) -> None:
        """Store what the condition of the source has become, and its events. Raises StoreError."""
        store, quality, book = self._begin_outage()
        position, state, alarm = store.resume(self.name)
        kept = {SOURCE: quality.kept[SOURCE]}
        batch = Batch(self.name, "", position, state, alarm, events=events, sinks=self.sinks, quality=kept, prepare=book.prepare(now))
        store.commit(batch)
        for event in batch.events:
            if event.id not in batch.changes.quiet:
                self.log.event(event)
        self.wake()

    def _end(self, poll: Poll) -> None:
        """With `once`, nothing more comes: what is wrong with the source is an error then."""
        if poll.trouble:
            self._tell_of_the_end(poll.trouble)
            raise SourceError(poll.trouble)
        if not (self.totals.scored or self.totals.rejected):
            if self.monitor is not None and self.monitor.store.scored_by(self.name):
                self.log.info("nothing new to score: what was scored before stands in %s", self.store)
            else:
                self.log.warning("nothing was there to score")
