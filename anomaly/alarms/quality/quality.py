"""Alarms of the data-quality class: a source that is away, silent, frozen or sends bad data is never a quiet gap.

Each condition has a life of its own, by the same state machine as process alarms (`life`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from anomaly.alarms.events import Event, alarm_id, iso, make_event
from anomaly.alarms.life import CALM, Settings, State, Transition, step
from anomaly.alarms.quality.together import KINDS, TOGETHER, Together, Turn
from anomaly.alarms.sensors import Finding

AWAY_S = 10.0  # a source may be away for this long before it is an alarm
RELEASE_AWAY_S = 60.0  # a release folder or server, without which the line goes on as it is
BAD_DATA_OF, BAD_DATA_SHARE = 20, 0.5  # of the last records, the share that was set aside
STORE_LOST_S = 600.0  # for so long after the store was lost this is an alarm
FROZEN_ROWS, FROZEN_PICTURES = 30, 5  # this many equal to the last digit in a row: a frozen source
# The names are part of the event format and of the store.
CONDITIONS = {
    "source": Settings(threshold=0.5, on_delay_s=AWAY_S),
    "silent": Settings(threshold=0.5),
    "frozen": Settings(threshold=0.5),
    "rubbish": Settings(threshold=0.5),
    "range": Settings(threshold=0.5),
    "provider": Settings(threshold=0.5),
    "release": Settings(threshold=0.5, on_delay_s=RELEASE_AWAY_S),
    "store": Settings(threshold=0.5, off_delay_s=STORE_LOST_S),
}
LAST_ROW = "last_row"  # kept with them, for a gap over a restart: the time of the last row of sensors
KEPT_BESIDE = (LAST_ROW, TOGETHER)  # what is kept with conditions and is none
Kept = Mapping[str, tuple[State, str | None]]  # condition -> its state, and the id of its open alarm


@dataclass(frozen=True)
class Seen:
    """What one turn showed of a source: words for what is wrong, "" where nothing is; counts of records read and set aside.

    `alive`: rows came, though none is to be scored (a machine that stands still by design).
    `frozen` and `beyond` (values beyond the range that the detector was fitted to) are None where no record came, so that nothing is known.
    """

    records: int = 0
    rejected: int = 0
    trouble: str = ""
    frozen: str | None = None
    provider: str = ""
    beyond: str | None = None
    store: str = ""
    alive: bool = False
    release: str = ""


class Quality:
    """The conditions of one line. `silent_after_s`: seconds without a record that are an alarm, None for never."""

    def __init__(self, line: str, kept: Kept, silent_after_s: float | None, now: float) -> None:
        """`kept` is what the store has of the line, {} at first."""
        self._line = line
        self._states = {name: kept[name][0] if name in kept else State() for name in CONDITIONS}
        self._states |= {name: state for name, (state, _) in kept.items() if name.startswith((*KINDS, LAST_ROW))}
        self._alarms: dict[str, str | None] = {name: kept[name][1] for name in CONDITIONS if name in kept}
        self._together = Together(
            line, {name: state for name, (state, _) in kept.items()}, {name: alarm for name, (_, alarm) in kept.items()}
        )
        self._silent_after_s = silent_after_s
        self._last = now
        if silent_after_s is not None and self._states["silent"].active:
            self._last -= silent_after_s  # silent before a restart: still so until a record comes
        self._recent: deque[bool] = deque(maxlen=BAD_DATA_OF)
        self._reasons: dict[str, str] = {}

    @property
    def kept(self) -> dict[str, tuple[State, str | None]]:
        """What the store is to keep of the line."""
        alarms = self._alarms | self._together.alarms
        conditions = {name: (self._states.get(name, CALM), alarms.get(name)) for name in {**self._states, **alarms}}
        return conditions | self._together.kept

    def look(self, seen: Seen, now: float) -> list[Event]:
        """Take in one turn; returns an event for each condition that became an alarm by it, or is over."""
        return self._take(seen, now, CONDITIONS)

    def look_at_source(self, trouble: str, now: float) -> list[Event]:
        """The same of the source alone, for a run that ends with this: nobody looks again, so trouble is an alarm without a delay."""
        at_once = CONDITIONS["source"].model_copy(update={"on_delay_s": 0.0})
        return self._take(Seen(trouble=trouble), now, {"source": at_once})

    def look_at_records(self, seen: Seen, now: float) -> list[Event]:
        """The same of how many records could be read, for a run over what there is: how old that is matters not."""
        return self._take(seen, now, {"rubbish": CONDITIONS["rubbish"]})

    def look_at_all(self, records: int, rejected: int, now: float) -> list[Event]:
        """At the end of such a run, how many of all its records could be read: they may have been few."""
        reason = f"{rejected} of {records + rejected} records could not be read" if mostly_unread(records, rejected) else ""
        return self._step("rubbish", reason, now, CONDITIONS["rubbish"]) if records or rejected else []

    def _take(self, seen: Seen, now: float, conditions: Mapping[str, Settings]) -> list[Event]:
        now_reasons = self._wrong(seen, now)
        events = []
        for name, settings in conditions.items():
            reason = now_reasons.get(name)
            if reason is not None:
                events += self._step(name, reason, now, settings)
        return events

    def _step(self, name: str, reason: str, now: float, settings: Settings) -> list[Event]:
        if reason:
            self._reasons[name] = reason
        self._states[name], change = step(self._states[name], now, 0.0 if reason else 1.0, settings)
        return [] if change is None else [self._event(name, change)]

    def look_at_sensors(self, times: Sequence[float], findings: Sequence[Finding], max_gap_s: float | None = None) -> list[Event]:
        """Take in what was found in rows at `times` (n,): each condition of a sensor is an alarm, with the others that have it since then.

        It lives by the times of the rows, so that a file read again gives the same. A gap in them is no time in which a sensor was wrong.
        """
        moments = np.asarray(times, np.float64)
        last = self._states.get(LAST_ROW, CALM).since
        gaps = np.diff(moments, prepend=moments[0] if last is None else last) > (np.inf if max_gap_s is None else max_gap_s)
        self._states[LAST_ROW] = State(since=float(moments[-1]))
        turns = [turn for finding in findings for turn in self._live_through(finding, moments, gaps)]
        return self._together.take(turns, findings) if turns else []

    def _live_through(self, finding: Finding, times: NDArray[np.float64], gaps: NDArray[np.bool_]) -> list[Turn]:
        """Take one condition through rows at `times` (n,), before which there are `gaps` (n,)."""
        condition, turns = finding.condition, []
        before = state = self._states.get(condition, CALM)
        wrong = finding.wrong & finding.known
        if finding.starts is not None:
            wrong &= _begun(wrong, finding, state)
        quiet = _stays_quiet(state, times, wrong, gaps, finding.settings)
        if quiet is not None:
            state = quiet
        else:
            rows = zip(times.tolist(), wrong.tolist(), finding.known.tolist(), gaps.tolist(), strict=True)
            for number, (moment, is_wrong, known, gap) in enumerate(rows):
                if (gap or not known) and not state.active:
                    state = CALM
                if not known:
                    continue
                state, change = step(state, moment, 0.0 if is_wrong else 1.0, finding.settings)
                if change is not None:
                    turns.append(Turn(number, finding, change))
        if state != before or condition in self._states:  # the many that are well take no room in the store
            self._states[condition] = state
        return turns

    def _wrong(self, seen: Seen, now: float) -> dict[str, str]:
        """Condition -> what is wrong, "" for nothing; without the conditions of which this turn shows nothing."""
        found = {"source": seen.trouble, "provider": seen.provider, "store": seen.store, "release": seen.release}
        if seen.records or seen.rejected or seen.alive or now < self._last:
            self._last = now  # a clock set back must not make a long silence of it
        silent = self._silent_after_s is not None and now - self._last >= self._silent_after_s
        found["silent"] = f"no record for {self._silent_after_s:g} s" if silent else ""
        if seen.frozen is not None:
            found["frozen"] = seen.frozen
        if seen.beyond is not None:
            found["range"] = seen.beyond
        if seen.records or seen.rejected:
            self._recent.extend(_in_proportion(seen.records, seen.rejected))
            bad = sum(self._recent)
            if len(self._recent) == BAD_DATA_OF:  # fewer tell nothing, nor that an alarm from before a restart is over
                full = bad >= BAD_DATA_SHARE * BAD_DATA_OF
                found["rubbish"] = f"{bad} of the last {BAD_DATA_OF} records could not be read" if full else ""
        return found

    def _event(self, condition: str, change: Transition) -> Event:
        opened = change.kind == "opened"
        alarm = alarm_id(self._line, condition, change.began, condition) if opened else self._alarms.get(condition)
        self._alarms[condition] = alarm if opened else None
        data = {
            "class": "data quality",
            "condition": condition,
            "reason": self._reasons.get(condition, ""),
            "began": iso(change.began),
        }
        extra = {} if opened else {"lasted_s": change.time - change.began}
        return make_event(change.kind, self._line, alarm or condition, change.time, data | extra)


def mostly_unread(records: int, rejected: int) -> bool:
    """Whether so many records were set aside that what was judged is not the whole picture."""
    return rejected > 0 and rejected >= BAD_DATA_SHARE * (records + rejected)


def _in_proportion(records: int, rejected: int) -> list[bool]:
    """One entry a record, True for one that was set aside: of more than BAD_DATA_OF at once as many, in the same proportion.

    In which order they came is not known: thirty bad rows among a thousand are not the last thirty.
    """
    total = records + rejected
    if total > BAD_DATA_OF:
        rejected = int(rejected * BAD_DATA_OF / total + 0.5)
        records = BAD_DATA_OF - rejected
    return [False] * records + [True] * rejected


def _begun(wrong: NDArray[np.bool_], finding: Finding, state: State) -> NDArray[np.bool_]:
    """Rows (n,) at which a run of wrong rows has begun as it must, here or in the rows before."""
    assert finding.starts is not None
    rows = np.arange(len(wrong))
    start = np.maximum.accumulate(np.where(wrong & finding.starts, rows, -1))
    right = np.maximum.accumulate(np.where(finding.known & ~wrong, rows, -1))
    before = state.active or state.since is not None
    return (start > right) | (before & (right < 0))


def _stays_quiet(
    state: State,
    times: NDArray[np.float64],
    wrong: NDArray[np.bool_],
    gaps: NDArray[np.bool_],
    settings: Settings,
) -> State | None:
    """The state after rows (n,) in which a calm condition plainly does not become an alarm, in place of a step for each; None otherwise."""
    since = times[0] if state.since is None else state.since
    if state.active or gaps.any() or since > times[0] or (np.diff(times) < 0).any():
        return None
    right = np.maximum.accumulate(np.where(wrong, -1, np.arange(len(times))))  # the last right row up to each
    began = np.where(right < 0, since, times[np.minimum(right + 1, len(times) - 1)])
    if (wrong & (times - began >= settings.on_delay_s)).any():
        return None
    return State(since=float(began[-1]), worst=0.0) if wrong[-1] else CALM


# --- what is looked at: pure functions that give words for what is wrong, "" where nothing is ---


class Repeats(NamedTuple):
    """The last picture, and how many equal ones came in a row up to it."""

    picture: NDArray[Any] | None = None
    in_a_row: int = 0


def repeated_pictures(before: Repeats, pictures: Sequence[NDArray[Any]]) -> tuple[Repeats, str]:
    """Count on over further pictures (H, W, C): a camera that hangs sends the same picture again and again.

    >>> still = np.zeros((2, 2, 3), np.uint8)
    >>> repeated_pictures(Repeats(), [still] * 5)[1]
    'the same picture came 5 times'
    """
    last, count = before
    for picture in pictures:
        same = last is not None and last.shape == picture.shape and np.array_equal(last, picture)
        last, count = picture, count + 1 if same else 1
    return Repeats(last, count), f"the same picture came {count} times" if count >= FROZEN_PICTURES else ""


def constant_rows(window: NDArray[np.float32], rows: int) -> str:
    """Whether several sensors all stand still over the last rows of a window (T, C): the last `rows`, and at least FROZEN_ROWS.

    A missing reading (NaN) shows nothing, nor does a single sensor: it may well be constant.
    """
    window = window[-max(FROZEN_ROWS, rows) :]
    known = np.isfinite(window)
    still = len(window) >= FROZEN_ROWS and known.all() and window.shape[1] > 1 and bool((window == window[-1]).all())
    return f"every sensor has given the same reading for {len(window)} rows" if still else ""


def lost_provider(last: str, current: str, refused: str, order: Sequence[str]) -> str:
    """Whether a line that ran on a GPU at its last start cannot now. It is no loss where the CPU was asked for.

    `last` and `current` are providers out of `order`, the quickest first. `refused`: why a quicker one was not taken, "" if none was.
    """
    lost = bool(refused) and last in order
    worse = lost and order.index(current) > order.index(last)
    return f"runs on {current}, no longer on {last}: {refused}" if worse else ""
