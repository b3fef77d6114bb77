"""The monitor loop: poll, score, judge, store, wake the delivery. Safe to kill at any moment."""

from __future__ import annotations

import io
import shutil
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomaly.alarms.events import Event, alarm_id, iso, make_event
from anomaly.alarms.life import Settings, Transition, step
from anomaly.alarms.store import Scored, Store
from anomaly.bundle.archive import Bundle
from anomaly.data.records import Record, Rejected
from anomaly.edge.session import Answer, Session
from anomaly.edge.sources import Poll, Source
from anomaly.errors import BundleError, StoreError

BATCH = 256
POLL_S = 0.2
SELF_TEST_RELATIVE = 1e-3  # a GPU may sum in another order; a wrong graph is off by far more


@dataclass
class Totals:
    """What the loop has done since it started."""

    scored: int = 0
    rejected: int = 0
    flagged: int = 0
    opened: int = 0
    closed: int = 0


@dataclass
class Monitor:
    """One line: a verified bundle in a session, a source, a store, and the names of the sinks its events go to.

    `say` gets one line of text for what a person should see.
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
    totals: Totals = field(default_factory=Totals)

    def __post_init__(self) -> None:
        manifest = self.bundle.manifest
        self._settings = Settings(
            manifest.threshold.p_value, manifest.alarm.on_delay_s, manifest.alarm.off_delay_s, manifest.alarm.deadband
        )
        _, self._state, self._alarm = self.store.resume(self.line)

    def run(self, stop: threading.Event, once: bool = False) -> Totals:
        """Loop until `stop` is set; with `once`, until the source has nothing more. Returns what was done.

        A batch that cannot be stored (disk full) is kept and tried again; with `once` StoreError is raised instead.
        """
        while not stop.is_set():
            poll = self.source.poll(BATCH)
            if poll.records or poll.rejected:
                self._handle(poll, stop, once)
            elif once and not poll.waiting:
                break
            else:
                stop.wait(POLL_S)
        return self.totals

    def _handle(self, poll: Poll, stop: threading.Event, once: bool) -> None:
        answers = self._score(poll.records)
        scored, events = [], []
        state, alarm = self._state, self._alarm
        for record, answer in zip(poll.records, answers, strict=True):
            p_value = float(answer.p_value[0])
            scored.append(Scored(record.id, record.time, float(answer.score[0]), p_value))
            state, transition = step(state, record.time, p_value, self._settings)
            self.totals.flagged += p_value <= self._settings.threshold
            if transition is not None:
                alarm, event = self._event(transition, record, answer, alarm)
                events.append(event)
        events += [self._rejection(item) for item in poll.rejected]
        rejected = [(item.id, item.time, item.reason) for item in poll.rejected]
        self._keep_aside(poll.rejected)
        while True:
            try:
                self.store.commit(self.line, self.bundle.hash, scored, rejected, events, self.sinks, poll.position, state, alarm)
                break
            except StoreError as error:
                if once or stop.is_set():
                    raise
                self.say(f"{error}; trying again in 5 s")
                stop.wait(5.0)
        self._state, self._alarm = state, alarm
        self.totals.scored += len(scored)
        self.totals.rejected += len(rejected)
        self.wake()
        for event in events:
            self._tell(event)

    def _score(self, records: Sequence[Record[NDArray[Any]]]) -> list[Answer]:
        """One answer of a batch of one for every record; records of the same shape run together."""
        answers: list[Answer] = []
        start = 0
        while start < len(records):
            stop = start + 1
            limit = start + (BATCH if records[start].payload.ndim == 2 else 8)
            while stop < min(len(records), limit) and records[stop].payload.shape == records[start].payload.shape:
                stop += 1
            batch = self.session.run(np.stack([r.payload for r in records[start:stop]]))
            answers += [Answer(*(part[i : i + 1] for part in batch)) for i in range(stop - start)]
            start = stop
        return answers

    def _event(self, transition: Transition, record: Record[NDArray[Any]], answer: Answer, alarm: str | None) -> tuple[str | None, Event]:
        data: dict[str, Any] = {
            "record": record.id,
            "began": iso(transition.began),
            "p_value": transition.worst,
            "score": float(answer.score[0]),
            "threshold_p": self._settings.threshold,
            "bundle": f"{self.bundle.manifest.name}-{self.bundle.manifest.version}",
            "bundle_hash": self.bundle.hash,
        }
        if transition.kind == "opened":
            self.totals.opened += 1
            alarm = alarm_id(self.line, self.bundle.hash, transition.began, record.id)
            return alarm, make_event("opened", self.line, alarm, transition.time, data | self._reason(answer))
        self.totals.closed += 1
        assert alarm is not None
        return None, make_event("closed", self.line, alarm, transition.time, data | {"lasted_s": transition.time - transition.began})

    def _reason(self, answer: Answer) -> dict[str, Any]:
        """Where on the picture, as shares of its width and height; or which sensors, with their share of the score."""
        detail = answer.detail[0]
        if detail.ndim == 2:
            y, x = np.unravel_index(int(detail.argmax()), detail.shape)
            return {"where": {"x": (float(x) + 0.5) / detail.shape[1], "y": (float(y) + 0.5) / detail.shape[0]}}
        shares = detail / max(float(detail.sum()), 1e-12)
        names = [s.name for s in self.bundle.manifest.input.sensors]
        return {"top": [{"sensor": names[i], "share": round(float(shares[i]), 4)} for i in np.argsort(-shares)[:3]]}

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

    def _tell(self, event: Event) -> None:
        data = event.data
        if event.kind == "rejected":
            self.say(f"{iso(event.time)}  set aside  {data['reason'].splitlines()[0]}")
            return
        reason = ", ".join(f"{t['sensor']} {t['share']:.0%}" for t in data.get("top", []))
        if "where" in data:
            reason = f"at {data['where']['x']:.0%} across, {data['where']['y']:.0%} down"
        verb = "ALARM     " if event.kind == "opened" else "alarm over"
        self.say(f"{iso(event.time)}  {verb}  {data['record']}  p {data['p_value']:.2g}  {reason}".rstrip())


def self_test(bundle: Bundle, session: Session) -> int:
    """Run the bundle's examples and compare with the answers it brings; returns how many there were.

    Raises BundleError when one is off: the graph does not compute here what it computed where it was made.
    """
    names = sorted(name for name in bundle.members if name.startswith("examples/"))
    for name in names:
        try:
            with np.load(io.BytesIO(bundle.members[name]), allow_pickle=False) as example:
                suffix = "" if session.variant == "float" else f"_{session.variant}"
                raw, score, p_value = example["raw"], example[f"score{suffix}"], example[f"p_value{suffix}"]
        except (ValueError, KeyError, OSError, EOFError) as error:
            raise BundleError(f"{bundle.path}: {name} cannot be read: {error}") from error
        answer = session.run(raw)
        relative = float(np.max(np.abs(answer.score - score) / np.maximum(np.abs(score), 1.0)))
        threshold = bundle.manifest.threshold.p_value
        if not relative < SELF_TEST_RELATIVE or ((answer.p_value <= threshold) != (p_value <= threshold)).any():
            raise BundleError(
                f"{bundle.path}: self-test {name} gives {float(answer.score[0]):.6g} instead of {float(score[0]):.6g} on "
                f"{session.provider}; do not use it on this machine; try --provider cpu"
            )
    return len(names)
