"""The monitor loop of one line: poll, score, judge, store, wake the delivery. Safe to kill at any moment."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomaly.alarms.events import Event, alarm_id, iso, make_event
from anomaly.alarms.life import Settings, Transition, step
from anomaly.alarms.quality import Quality, Seen, Turn
from anomaly.alarms.store import Batch, Scored, Store
from anomaly.alarms.wording import reason, told
from anomaly.bundle.archive import Bundle
from anomaly.data.records import Record, Rejected
from anomaly.edge.release import Change, Loaded, Release
from anomaly.edge.runtime.batching import Answers, score
from anomaly.edge.runtime.session import Session
from anomaly.edge.sources.base import Poll, Source
from anomaly.errors import StoreError

AT_ONCE = {"image": 8, "window": 1024}  # records a turn: pictures are large, and a turn is what a crash repeats
POLL_S = 0.05
FROZEN_ROWS, FROZEN_PICTURES = 30, 5  # this many equal to the last digit in a row: a frozen source
PROBATION = 100  # records that a new champion is watched for, the one before scoring them too
GONE_WILD = (20, 0.5, 0.1)  # rolled back when of so many records it flags over this share, and the one before under that


@dataclass
class Totals:
    """What the loop has done since it started."""

    scored: int = 0
    rejected: int = 0
    flagged: int = 0
    opened: int = 0
    closed: int = 0
    dropped: int = 0


@dataclass
class Monitor:
    """One line: a verified bundle in a session, a source, a store, and the names of the sinks its events go to.

    `say` gets one line of text for what a person should see. `release` brings other bundles while the line runs.
    """

    bundle: Bundle
    session: Session
    source: Source
    store: Store
    line: str
    sinks: Sequence[str] = ()
    aside: Path | None = None
    wake: Callable[[], None] = lambda: None
    say: Callable[[str], None] = lambda _: None
    release: Release | None = None
    silent_after_s: float | None = None
    clock: Callable[[], float] = time.time
    totals: Totals = field(default_factory=Totals)

    def __post_init__(self) -> None:
        _, self._state, self._alarm = self.store.resume(self.line)
        kept = self.store.quality(self.line)
        self._quality = Quality({name: state for name, (state, _) in kept.items()}, self.silent_after_s, self.clock())
        self._quality_alarms = {name: alarm for name, (_, alarm) in kept.items()}
        self._challenger: Loaded | None = None
        self._before: Loaded | None = None  # the champion before, while the new one is on probation
        self._watched: list[tuple[bool, bool]] = []  # flagged by the new one, by the one before
        self._same = 0
        self._last_payload: NDArray[Any] | None = None
        self._use(self.bundle, self.session)
        self._provider = self._worse_provider()

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
                stop.wait(max(POLL_S, 4 * (time.monotonic() - started)))  # a folder of thousands takes its time to look at
        return self.totals

    def turn(self, stop: threading.Event, once: bool = False) -> Poll:
        """One look at the source, and everything that follows from it. Returns what the source gave."""
        events: list[Event] = []
        for change in self.release.take() if self.release is not None else ():
            events += self._change(change)
        poll = self.source.poll(AT_ONCE[self.bundle.manifest.input.name])
        self.totals.dropped += poll.dropped
        turns = [] if once else self._quality.look(self._seen(poll), self.clock())
        events += [self._quality_event(turn) for turn in turns]
        if poll.records or poll.rejected or events:
            self._handle(poll, events, stop, once)
        return poll

    # --- one batch ---

    def _handle(self, poll: Poll, events: list[Event], stop: threading.Event, once: bool) -> None:
        answers = self._answers(poll.records, events)
        scored: list[Scored] = []
        state, alarm = self._state, self._alarm
        scores, p_values = answers.score.tolist(), answers.p_value.tolist()
        for at, record in enumerate(poll.records):
            scored.append(Scored(record.id, record.time, scores[at], p_values[at]))
            state, transition = step(state, record.time, p_values[at], self._settings)
            if transition is not None:
                alarm, event = self._event(transition, record, answers, at, alarm)
                events.append(event)
        self.totals.flagged += int((answers.p_value <= self._settings.threshold).sum())
        events += [self._rejection(item) for item in poll.rejected]
        self._keep_aside(poll.rejected)
        challenger = self._challenger
        batch = Batch(
            self.line, self.bundle.hash, poll.position, state, alarm, scored,
            [(item.id, item.time, item.reason) for item in poll.rejected], events, self.sinks,
            shadow=self._shadow(poll.records, challenger) if challenger else (),
            shadow_bundle=challenger.bundle.hash if challenger else "",
            quality={name: (s, self._quality_alarms.get(name)) for name, s in self._quality.states.items()},
        )  # fmt: skip
        self._commit(batch, stop, once)
        self._state, self._alarm = state, alarm
        self.totals.scored += len(scored)
        self.totals.rejected += len(poll.rejected)
        self.wake()
        for event in events:
            self.say(told(event))

    def _commit(self, batch: Batch, stop: threading.Event, once: bool) -> None:
        while True:
            try:
                if not batch.position:  # a source without one: what is stored stays
                    batch.position = self.store.resume(self.line)[0]
                self.store.commit(batch)
                return
            except StoreError as error:
                if once or stop.is_set():
                    raise
                self.say(f"{error}; trying again in 5 s")
                stop.wait(5.0)

    def _answers(self, records: Sequence[Record[NDArray[Any]]], events: list[Event]) -> Answers:
        """What the champion says; while it is on probation, what the one before says where the new one fails."""
        before = self._before
        if before is None or not records:
            return score(self.session, records)
        theirs = score(before.session, records)
        why = ""
        answers = theirs
        try:
            answers = score(self.session, records)
            why = self._wild(answers, theirs, before)
        except Exception as error:  # the graph failed on a real record: the one before takes over
            why = f"it failed on a record: {str(error).splitlines()[0][:200]}"
        if not why:
            if len(self._watched) >= PROBATION:
                self._before = None
                if self.release is not None:
                    self.release.confirm(self.bundle)
            return answers
        bad = self.bundle
        self._use(before.bundle, before.session)
        self._before = None
        if self.release is not None:
            self.release.refuse(bad.hash, before.bundle.hash)
        events.append(self._bundle_event("rolled_back", bad.hash, f"{why}; {name_of(before.bundle)} is in use again"))
        return theirs

    def _wild(self, answers: Answers, theirs: Answers, before: Loaded) -> str:
        """Why a new champion is not to be trusted, "" while it is."""
        if not (np.isfinite(answers.score).all() and np.isfinite(answers.p_value).all()):
            return "its scores are not finite"
        theirs_at = before.bundle.manifest.threshold.p_value
        ours = (answers.p_value <= self._settings.threshold).tolist()
        self._watched += zip(ours, (theirs.p_value <= theirs_at).tolist(), strict=True)
        least, high, low = GONE_WILD
        new, old = (float(share) for share in np.mean(self._watched, axis=0))
        if len(self._watched) >= least and new > high and old < low:
            return f"it flagged {new:.0%} of {len(self._watched)} records, {name_of(before.bundle)} {old:.0%}"
        return ""

    def _shadow(self, records: Sequence[Record[NDArray[Any]]], challenger: Loaded) -> list[Scored]:
        """What a challenger says of the same records; one that fails is let go, and nothing else happens."""
        try:
            answers = score(challenger.session, records)
        except Exception as error:  # it is only watched: the line goes on
            self.say(f"the challenger {challenger.bundle.hash[:12]} failed and is let go: {str(error).splitlines()[0][:200]}")
            self._challenger = None
            return []
        columns = zip(records, answers.score.tolist(), answers.p_value.tolist(), strict=True)
        return [Scored(record.id, record.time, score_, p_value) for record, score_, p_value in columns]

    # --- bundles ---

    def _use(self, bundle: Bundle, session: Session) -> None:
        self.bundle, self.session = bundle, session
        alarm = bundle.manifest.alarm
        self._settings = Settings(threshold=bundle.manifest.threshold.p_value, **alarm.model_dump())
        self._watched = []

    def _change(self, change: Change) -> list[Event]:
        if change.refused:
            return [self._bundle_event("refused", change.hash, change.refused)]
        if change.role == "challenger":
            self._challenger = change.loaded
            return []
        assert change.loaded is not None
        self._before = Loaded(self.bundle, self.session)
        self._use(change.loaded.bundle, change.loaded.session)
        return [self._bundle_event("swapped", self.bundle.hash, f"{name_of(self.bundle)} in place of {name_of(self._before.bundle)}")]

    def _bundle_event(self, kind: Any, bundle_hash: str, why: str) -> Event:
        return make_event(kind, self.line, bundle_hash, self.clock(), {"bundle_hash": bundle_hash, "reason": why})

    # --- data quality ---

    def _seen(self, poll: Poll) -> Seen:
        frozen = self._frozen(poll.records) if poll.records else None
        return Seen(len(poll.records), len(poll.rejected), poll.trouble, frozen, self.session.degraded or self._provider)

    def _frozen(self, records: Sequence[Record[NDArray[Any]]]) -> str:
        if records[-1].payload.ndim == 2:
            window = records[-1].payload[-max(FROZEN_ROWS, self.bundle.manifest.input.window or 1) :]
            known = np.isfinite(window)
            still = len(window) >= FROZEN_ROWS and known.all() and window.shape[1] > 1 and bool((window == window[-1]).all())
            return f"every sensor has given the same reading for {len(window)} rows" if still else ""
        for record in records:
            last = self._last_payload
            same = last is not None and last.shape == record.payload.shape and np.array_equal(last, record.payload)
            self._same = self._same + 1 if same else 1
            self._last_payload = record.payload
        return f"the same picture came {self._same} times" if self._same >= FROZEN_PICTURES else ""

    def _worse_provider(self) -> str:
        """Words when this line ran on a GPU at its last start and cannot now (not where the CPU was asked for)."""
        key, order = f"provider {self.line}", ("tensorrt", "cuda", "cpu")
        last = self.store.setting(key)
        lost = bool(self.session.refused) and last in order
        worse = lost and order.index(self.session.provider) > order.index(last)
        if not worse and last != self.session.provider:
            self.store.set(key, self.session.provider)
        return f"runs on {self.session.provider}, no longer on {last}: {self.session.refused}" if worse else ""

    def _quality_event(self, turn: Turn) -> Event:
        opened = turn.kind == "opened"
        alarm = alarm_id(self.line, turn.condition, turn.began, turn.condition) if opened else self._quality_alarms.get(turn.condition)
        self._quality_alarms[turn.condition] = alarm if opened else None
        data = {"class": "data quality", "condition": turn.condition, "reason": turn.reason, "began": iso(turn.began)}
        extra = {} if opened else {"lasted_s": turn.time - turn.began}
        return make_event("opened" if opened else "closed", self.line, alarm or turn.condition, turn.time, data | extra)

    # --- events ---

    def _event(
        self, transition: Transition, record: Record[NDArray[Any]], answers: Answers, at: int, alarm: str | None
    ) -> tuple[str | None, Event]:
        data: dict[str, Any] = {
            "class": "process",
            "record": record.id,
            "began": iso(transition.began),
            "p_value": transition.worst,
            "score": float(answers.score[at]),
            "threshold_p": self._settings.threshold,
            "bundle": name_of(self.bundle),
            "bundle_hash": self.bundle.hash,
        }
        if transition.kind == "opened":
            self.totals.opened += 1
            alarm = alarm_id(self.line, self.bundle.hash, transition.began, record.id)
            return alarm, make_event("opened", self.line, alarm, transition.time, data | reason(answers.detail[at], self.bundle))
        self.totals.closed += 1
        assert alarm is not None
        return None, make_event("closed", self.line, alarm, transition.time, data | {"lasted_s": transition.time - transition.began})

    def _rejection(self, item: Rejected) -> Event:
        return make_event("rejected", self.line, item.id, item.time, {"record": item.id, "reason": item.reason})

    def _keep_aside(self, rejected: Sequence[Rejected]) -> None:
        for item in rejected:
            if self.aside is None or item.path is None:
                continue
            try:
                self.aside.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(item.path, self.aside / item.id.replace("/", "__"))
            except OSError as error:
                self.say(f"{item.path}: could not be kept aside ({error.strerror}); its reason is in the store")


def name_of(bundle: Bundle) -> str:
    """NAME-VERSION."""
    return f"{bundle.manifest.name}-{bundle.manifest.version}"
