"""The monitor loop of one line: poll, score, alarm life, commit. Safe to kill at any moment."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomaly.alarms.book import PROCESS
from anomaly.alarms.events import Event, EventKind, alarm_id
from anomaly.alarms.evidence import EVIDENCE_BYTES, Keeper, going_on
from anomaly.alarms.health.line import LineHealth
from anomaly.alarms.health.log import LineLog
from anomaly.alarms.process import ProcessAlarm
from anomaly.alarms.quality import FROZEN_ROWS, Quality, Repeats, Seen, lost_provider
from anomaly.alarms.sensors import find_in_sensors, last_missed
from anomaly.alarms.store import LIMIT_BYTES, THRESHOLD, ZONE, Batch, Scored, Store
from anomaly.bundle.archive import Bundle
from anomaly.data.records import Record
from anomaly.edge.announce import Judged, WorstRecord, bundle_event, keep_aside, process_event
from anomaly.edge.drift_watch import DriftWatch, outside_alarms
from anomaly.edge.kinds import kind_of, rules_of
from anomaly.edge.line_book import LineBook, suppressed_by
from anomaly.edge.probation import Probation
from anomaly.edge.release import Change, Loaded, Release, name_of
from anomaly.edge.runtime.batching import Answers, score
from anomaly.edge.runtime.session import ORDER, Session
from anomaly.edge.sources.base import Poll, Source
from anomaly.edge.sources.supervised import SupervisedSource
from anomaly.edge.sources.uri import check_source, open_source
from anomaly.errors import StoreError

POLL_S = 0.05
STORE_RETRY_S = 5.0
SILENT_PERIODS, SILENT_AT_LEAST_S = 20, 60.0  # a source of periodic readings is silent after so many periods without one
Records = Sequence[Record[NDArray[Any]]]


@dataclass
class Totals:
    """What the loop has done since it started."""

    scored: int = 0
    rejected: int = 0
    flagged: int = 0
    opened: int = 0
    closed: int = 0
    dropped: int = 0

    def __add__(self, other: Totals) -> Totals:
        return Totals(**{name: value + getattr(other, name) for name, value in vars(self).items()})


@dataclass
class Outcome:
    """What one batch of records became: their scores, the alarms that opened or closed, and the id of the alarm that is open then."""

    alarm: str | None
    was_active: bool  # an alarm was open before
    scored: list[Scored] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    flagged: int = 0


@dataclass
class Monitor:
    """One line: a verified bundle in a session, a source, a store, and the names of the sinks its events go to.

    aside: a folder for copies of files that could not be read, None to keep none
    wake: called when there are new events to deliver
    release: brings other bundles while the line runs
    silent_after_s: seconds without a record that are an alarm, None for never
    clock: seconds since 1970
    health: what the line shows of itself
    """

    bundle: Bundle
    session: Session
    source: Source
    store: Store
    line: str
    sinks: Sequence[str] = ()
    aside: Path | None = None
    wake: Callable[[], None] = lambda: None
    release: Release | None = None
    silent_after_s: float | None = None
    clock: Callable[[], float] = time.time
    totals: Totals = field(default_factory=Totals)
    health: LineHealth = field(default_factory=lambda: LineHealth(""))

    def __post_init__(self) -> None:
        self.log = LineLog(self.line)
        self.store.register(self.line, self.sinks)
        _, state, self._alarm = self.store.resume(self.line)
        self._process = ProcessAlarm(rules_of(self.bundle.manifest, self.bundle.hash), self.store.kept(self.line, "process"), state)
        self._quality = Quality(self.line, self.store.quality(self.line), self.silent_after_s, self.clock())
        self._repeats = Repeats()
        self._missed: NDArray[np.bool_] | None = None  # of the last rows, where sensors had no reading
        self._challenger: Loaded | None = self.release.challenger if self.release is not None else None
        self._probation: Probation | None = None
        self._book = LineBook(self.store, self.line)
        self._worst = WorstRecord(self.store.kept(self.line, "worst"))
        self._keeper = Keeper(self.log)
        self._drift = DriftWatch(self.line, self.store.kept(self.line, "drift"))
        self._use(Loaded(self.bundle, self.session))
        if self.release is not None and self.release.before is not None:  # a champion that had not proved itself before a restart
            self._probation = Probation(Loaded(self.bundle, self.session), self.release.before)
        self._lost_store = ""
        self._lost_provider = self._compare_provider()

    def run(self, stop: threading.Event, once: bool = False) -> Totals:
        """Loop until `stop` is set; with `once`, until the source has nothing more. Returns what was done.

        A batch that cannot be stored (disk full) is kept and tried again; with `once` StoreError is raised instead.
        """
        while not stop.is_set():
            started = time.monotonic()
            poll = self.turn(stop, once)
            if not (poll.records or poll.rejected):
                if once and not poll.waiting:
                    break
                stop.wait(max(POLL_S, 4 * (time.monotonic() - started)))  # looking at a folder of thousands takes its time
        return self.totals

    def turn(self, stop: threading.Event, once: bool = False) -> Poll:
        """Poll the source once, and do all that follows from it. Returns what the source gave."""
        started = time.perf_counter()
        poll = self._turn(stop, once)
        self._show(poll, time.perf_counter() - started)
        return poll

    def _turn(self, stop: threading.Event, once: bool) -> Poll:
        self._find_lost_store()
        events = self._follow_release()
        poll = self.source.poll(self._kind.records_per_poll)
        self.totals.dropped += poll.dropped
        for note in poll.notes:
            self.log.info("%s", note)
        self._book.last = once and not (poll.records or poll.rejected or poll.waiting)
        events += self._look_once(poll) if once else self._quality.look(self._seen(poll), self.clock())
        self._suppressed = suppressed_by(poll.mode, self.bundle.manifest.input, self._process.rules.settings)
        if poll.records or poll.rejected or events or self._book.due(self.clock(), self._suppressed):
            self._handle(poll, events, stop, once)
        self.store.tidy()
        return poll

    def _show(self, poll: Poll, seconds: float) -> None:
        """What those who watch the line see of a turn."""
        health, session = self.health, self.session
        health.count(vars(self.totals))
        health.source = poll.trouble
        health.bundle, health.bundle_hash = name_of(self.bundle), self.bundle.hash
        health.provider, health.variant = session.provider, session.variant
        health.drift = self._drift.level
        health.detector, health.readings = self.bundle, self._keeper.recent
        health.release = self.release.where if self.release is not None else ""
        if poll.records:
            health.took(len(poll.records), seconds, self.clock() - poll.records[-1].time)
        health.alive()

    # --- one batch: score, alarm life, commit ---

    def _handle(self, poll: Poll, events: list[Event], stop: threading.Event, once: bool) -> None:
        """Score and store one batch. `events` are those from before its first record."""
        answers, rolled_back = self._score(poll.records)
        outcome = self._live_through(poll.records, answers)
        events = [
            *events,
            *rolled_back,
            *outcome.events,
            *self._look_for_drift(poll.records, answers, outcome),
            *self._look_at_sensors(poll, once),
        ]
        keep_aside(poll.rejected, self.aside, self.log)
        batch = self._batch(poll, outcome, events)
        more = batch.state.active and outcome.flagged
        if events or poll.rejected or more or self._book.due(self.clock(), self._suppressed):
            batch.prepare = self._take_to_book
        self._commit(batch, stop, once)
        self._alarm = batch.alarm
        self._count(poll, outcome)
        self.wake()
        for event in batch.events:
            if event.id not in batch.changes.quiet:
                self.log.event(event)

    def _take_to_book(self, batch: Batch) -> None:
        """Give the events of a batch their states and priorities, with what else has become due of the line's alarms."""
        active = batch.state.active
        worst = {PROCESS: batch.state.worst} if active else {}
        so_far = {PROCESS: self._worst.so_far(self._process.flagged)} if active else {}
        lowest = min(batch.scored, key=lambda one: one.p_value, default=None)
        reached = {PROCESS: lowest.time} if lowest is not None and lowest.p_value <= batch.state.worst else {}
        batch.events = self._book.apply(batch, batch.events, self.clock(), worst, self._suppressed, reached, so_far)
        renamed = batch.changes.renamed
        batch.evidence = going_on(batch.evidence, renamed)
        batch.alarm = None if batch.alarm is None else renamed.get(batch.alarm, batch.alarm)

    def _score(self, records: Records) -> tuple[Answers, list[Event]]:
        """The answers to use; where a champion fails its probation, those of the one before, with the event of the rollback."""
        if self._probation is None or not records:
            return score(self.session, records), []
        answers, failure = self._probation.score(records)
        if failure:
            return answers, [self._roll_back(self._probation.before, failure)]
        if self._probation.passed:
            self._probation = None
            if self.release is not None:
                self.release.confirm(self.bundle)
        return answers, []

    def _live_through(self, records: Records, answers: Answers) -> Outcome:
        """Take the process alarm through all records of a batch, in order."""
        outcome = Outcome(
            self._alarm, self._process.state.active, flagged=int((answers.p_value <= self._process.rules.settings.threshold).sum())
        )
        columns = zip(records, answers.score.tolist(), answers.p_value.tolist(), strict=True)
        outcome.scored = [Scored(record.id, record.time, score_, p_value) for record, score_, p_value in columns]
        details = answers.detail if self._kind.by_sensor else None
        judged, first = Judged(records, answers.p_value, answers.score, answers.detail, self.bundle.manifest.threshold.score), 0
        for number, change in self._process.take_all([r.time for r in records], answers.p_value, answers.score, details):
            if change.kind == "opened" or outcome.alarm is None:
                outcome.alarm = alarm_id(self.line, self.bundle.hash, change.began, records[number].id)
            self._find_worst(judged, first, number + 1, change.began if change.kind == "opened" else None)
            if change.kind == "opened":
                self._keeper.opened(outcome.alarm, judged.found(number))
            self._keeper.belongs(outcome.alarm)
            first = number + 1
            outcome.events.append(process_event(change, self.line, outcome.alarm, judged, number, self.bundle, self._worst))
            if change.kind == "closed":
                outcome.alarm = None
                self._clear_worst()
        state = self._process.state
        if state.active or state.since is not None:
            self._find_worst(judged, first, len(records), None if state.active else state.since)
            self._keeper.belongs(outcome.alarm)
        else:
            self._clear_worst()
        self._keeper.remember(records, details)
        return outcome

    def _find_worst(self, judged: Judged, first: int, stop: int, since: float | None) -> None:
        worst = self._worst.take(judged, first, stop, since, self.bundle.manifest.input)
        if worst is not None:
            self._keeper.worse(judged.found(worst))

    def _clear_worst(self) -> None:
        self._worst.clear()
        self._keeper.forget()

    def _batch(self, poll: Poll, outcome: Outcome, events: Sequence[Event]) -> Batch:
        challenger = self._challenger
        return Batch(
            self.line, self.bundle.hash, poll.position, self._process.state, outcome.alarm, outcome.scored,
            [(item.id, item.time, item.reason) for item in poll.rejected], events, self.sinks,
            shadow=self._shadow(poll.records, challenger) if challenger else (),
            shadow_bundle=challenger.bundle.hash if challenger else "",
            quality=self._quality.kept,
            kept={THRESHOLD: repr(self._process.rules.settings.threshold), ZONE: self._book.zone}
            | {"process": self._process.kept, "worst": self._worst.kept, "drift": self._drift.kept} | self._book.kept,
            evidence=self._keeper.made() if self.store.evidence_bytes else (),
        )  # fmt: skip

    def _commit(self, batch: Batch, stop: threading.Event, once: bool) -> None:
        evidence, why = batch.evidence, ""
        while True:
            try:
                self.store.commit(batch)
                self.health.store = ""
                if why and not batch.evidence:
                    self.log.warning("the pictures or readings of an alarm are not kept: %s", why)
                return
            except StoreError as error:
                if batch.evidence:  # the alarm counts more, and takes less room
                    evidence, why, batch.evidence = batch.evidence, str(error), ()
                    continue
                batch.evidence = evidence
                if once or stop.is_set():
                    raise
                self.log.error("%s; trying again in %g s", error, STORE_RETRY_S)
                self.health.store = str(error)
                self.health.alive()
                stop.wait(STORE_RETRY_S)
                self._find_lost_store()

    def _find_lost_store(self) -> None:
        """See whether the store was deleted, replaced or damaged: it is begun anew with what this line knows."""
        try:
            lost = self.store.refresh()
        except StoreError as error:
            lost = str(error)
        if lost:
            self._lost_store = lost
            self._book.begun_anew()
            self.log.error("%s", lost)

    def _count(self, poll: Poll, outcome: Outcome) -> None:
        self.totals.scored += len(outcome.scored)
        self.totals.rejected += len(poll.rejected)
        self.totals.flagged += outcome.flagged
        self.totals.opened += sum(event.kind == "opened" for event in outcome.events)
        self.totals.closed += sum(event.kind == "closed" for event in outcome.events)

    # --- bundles that change while the line runs ---

    def _use(self, loaded: Loaded) -> None:
        self.bundle, self.session = loaded.bundle, loaded.session
        manifest = loaded.bundle.manifest
        self._drift.use(loaded.bundle)
        self._keeper.use(manifest.input, manifest.scale)
        self._kind = kind_of(manifest.input.name)
        self._process.use(rules_of(manifest, loaded.bundle.hash))
        self._book.use(manifest.alarm, manifest.input.zone)

    def _follow_release(self) -> list[Event]:
        """Take what the release has brought since the last turn."""
        events = [self._change(change) for change in (self.release.take() if self.release is not None else ())]
        return [event for event in events if event is not None]

    def _change(self, change: Change) -> Event | None:
        if change.refused:
            return self._bundle_event("refused", change.hash, change.refused)
        if change.role == "challenger":
            self._challenger = change.loaded
            return None
        assert change.loaded is not None
        before = Loaded(self.bundle, self.session)
        self._use(change.loaded)
        self._probation = Probation(change.loaded, before)
        if self.release is not None:
            self.release.before = before  # also for a line that begins anew
        return self._bundle_event("swapped", self.bundle.hash, f"{name_of(self.bundle)} in place of {name_of(before.bundle)}")

    def _roll_back(self, before: Loaded, why: str) -> Event:
        bad = self.bundle
        self._use(before)
        self._probation = None
        if self.release is not None:
            self.release.refuse(bad.hash, before.bundle.hash, why)
        return self._bundle_event("rolled_back", bad.hash, f"{why}; {name_of(before.bundle)} is in use again")

    def _shadow(self, records: Records, challenger: Loaded) -> list[Scored]:
        """The challenger's scores of the same records. One that fails is dropped, and nothing else happens."""
        try:
            answers = score(challenger.session, records)
        except Exception as error:  # it is only watched: the line goes on
            self.log.warning("the challenger %s failed and is let go: %s", challenger.bundle.hash[:12], str(error).splitlines()[0][:200])
            self._challenger = None
            return []
        columns = zip(records, answers.score.tolist(), answers.p_value.tolist(), strict=True)
        return [Scored(record.id, record.time, score_, p_value) for record, score_, p_value in columns]

    # --- data quality ---

    def _seen(self, poll: Poll) -> Seen:
        frozen = None
        if poll.records:
            self._repeats, frozen = self._kind.find_frozen(self._repeats, poll.records, self.bundle.manifest.input)
        beyond = poll.beyond if poll.records else None
        provider, store = self.session.degraded or self._lost_provider, self._lost_store
        self._lost_store = ""
        release = self.release.trouble if self.release is not None else ""
        return Seen(len(poll.records), len(poll.rejected), poll.trouble, frozen, provider, beyond, store, poll.mode is not None, release)

    def _look_once(self, poll: Poll) -> list[Event]:
        """Of a source that is read to its end: what its clock or its age would tell is left out."""
        now, events = self.clock(), []
        if poll.beyond:
            self.log.warning("%s", poll.beyond)
        if poll.records or poll.rejected:
            events = self._quality.look_at_source("", now)  # over, if an earlier run ended by it
            events += self._quality.look_at_records(Seen(len(poll.records), len(poll.rejected)), now)
        if self._book.last:
            events += self._quality.look_at_all(self.totals.scored, self.totals.rejected, now)
        return events

    def _look_at_sensors(self, poll: Poll, once: bool) -> list[Event]:
        """Sensors that give no reading, stand still or are far beyond the normals, each by itself: all are scored meanwhile."""
        schema = self.bundle.manifest.input
        if self._kind.last_rows is None or not poll.records or not schema.period_s:
            return []
        words = {sensor: word for sensor, (_, word, _) in poll.unread.items()}
        alone = not once and len(poll.records[0].payload) >= FROZEN_ROWS  # else no condition tells that the whole source is frozen
        rows, before = self._kind.last_rows(poll.records)
        findings = find_in_sensors(rows, before, schema, words, alone=alone, missed=self._missed)
        self._missed = last_missed(self._missed, rows)
        return self._quality.look_at_sensors([record.time for record in poll.records], findings, schema.max_gap_s)

    def _look_for_drift(self, records: Records, answers: Answers, outcome: Outcome) -> list[Event]:
        times, threshold = [record.time for record in records], self._process.rules.settings.threshold
        return self._drift.take(records, answers, outside_alarms(times, answers.p_value, threshold, outcome.was_active, outcome.events))

    def _compare_provider(self) -> str:
        """Words when this line ran on a GPU at its last start and cannot now; else today's provider is remembered."""
        key = f"provider {self.line}"
        last = self.store.setting(key)
        lost = lost_provider(last, self.session.provider, self.session.refused, ORDER)
        if not lost and last != self.session.provider:
            self.store.set(key, self.session.provider)
        return lost

    # --- events ---

    def _bundle_event(self, kind: EventKind, bundle_hash: str, why: str) -> Event:
        return bundle_event(kind, self.line, bundle_hash, why, self.clock())


def open_monitor(
    detector: Loaded,
    source: str,
    store: Path,
    sinks: Sequence[str],
    wake: Callable[[], None],
    release: Release | None = None,
    name: str | None = None,
    silent_after_s: float | None = None,
    health: LineHealth | None = None,
    patient: bool = True,
    store_bytes: int = LIMIT_BYTES,
    evidence_bytes: int = EVIDENCE_BYTES,
) -> Monitor:
    """A line from a detector and the URI of its source: both are opened, and the line goes on where the store says it ended.

    `name`: the line's, that of the bundle when it is None. `silent_after_s`: for readings with a period it is set by that when it is
    None. What is not there yet, a source or the end of a file's last line, is waited for, unless not `patient`. The rest are fields of
    Monitor. Raises SpecError or DataError when the source can never do, SourceError when it is not there and is not waited for, StoreError
    when the store cannot be opened.
    """
    line = name or detector.bundle.manifest.name
    db = Store(store, limit_bytes=store_bytes, evidence_bytes=evidence_bytes)
    db.claim(line)
    schema = detector.bundle.manifest.input
    check_source(source, schema)

    def open_() -> Source:
        return open_source(source, schema, lambda record: db.known(line, record), db.resume(line)[0], finished=not patient)

    records = SupervisedSource(open_, patient=patient)
    if silent_after_s is None and schema.period_s:
        silent_after_s = max(SILENT_AT_LEAST_S, SILENT_PERIODS * schema.period_s)
    aside = store.with_name(store.name + ".aside")
    shown = LineHealth(line) if health is None else health
    return Monitor(detector.bundle, detector.session, records, db, line, sinks, aside, wake, release, silent_after_s, health=shown)
