"""When the scores of a line become one alarm, which sensors it is about, and when they have come back.

A run of flagged records opens an alarm once it has lasted for the on-delay, and names the sensors that it is about. From then on the alarm
lives by these sensors alone: it closes when they are calm for the off-delay, or have come back by half of their own peak and stay there
for as long (an excursion is over, though a machine seldom comes back to exactly where it was). A record in which another sensor stands out
most shows nothing of them, so that a glitch elsewhere neither keeps an alarm open nor closes it. A sensor that stays flagged joins it.

Pure: records in order in, changes out. No clock, no store, no thread. The state is JSON, so that a restart goes on where it was.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from anomaly.alarms.life import Settings, State

BACK = 0.5  # come back: at or below this share of the peak
INVOLVED = 0.5  # a sensor is involved in a record when it contributes at least this share of what the one that stands out most does
TOLD_AGAIN = 10.0  # what stays flagged after it came back by half is told again after so many off-delays, and as long as it had lasted

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Rules:
    """`glitch_s`: for so long a single wild reading may keep records flagged (the length of a window), 0 for pictures.

    `detector`: the hash of the bundle that scores.
    """

    settings: Settings
    glitch_s: float = 0.0
    detector: str = ""

    @property
    def join_delay_s(self) -> float:
        """How long another sensor has to stay flagged before it belongs to an open alarm: longer than a glitch of it would be."""
        return max(self.settings.on_delay_s, self.glitch_s)


@dataclass(frozen=True, slots=True)
class Change:
    """An alarm opens, closes, or `sensors` join it. `began`: its first flagged record. `worst`, `score`: its least p-value, its top score.

    Sensors are numbers of columns: those that it is about, the most involved first; for `joined`, the new ones alone.
    """

    kind: Literal["opened", "joined", "closed"]
    time: float
    began: float
    worst: float
    score: float
    sensors: tuple[int, ...] = ()
    flagged: int = 1
    why: Literal["", "calm", "came back by half"] = ""


@dataclass
class _Track:
    """What is known of a line. While no alarm is open, `since` is when the run of flagged records began; else that of calm ones.

    shares: while a run lasts that may open an alarm, the sum of each sensor's shares
    joining: sensor -> since when it is involved without a break
    peaks: of each of the alarm's sensors what it added at most, and at the end their sum; what held no longer than a glitch does not
        count. They are found in blocks: `block` is when the current one began, `least` the smallest values in it. A glitch fills no block.
    closed, lasted, limit: of the last alarm that closed while it was still flagged: when, how long it was open, and up to which sum of its
        `sensors` flagged records still belong to it
    """

    active: bool = False
    since: float | None = None
    opened: float | None = None
    worst: float = 1.0
    score: float = 0.0
    calm: int = 0
    flagged: int = 0
    sensors: list[int] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)
    joining: dict[int, float] = field(default_factory=dict)
    peaks: list[float] = field(default_factory=list)
    block: float | None = None
    least: list[float] = field(default_factory=list)
    closed: float | None = None
    lasted: float = 0.0
    limit: float = 0.0


class ProcessAlarm:
    """The process alarm of one line, of which there is at most one at a time.

    >>> rules = Rules(Settings(threshold=0.01, on_delay_s=2.0, off_delay_s=1.0))
    >>> alarm = ProcessAlarm(rules)
    >>> [change.kind for t, p in enumerate([0.5, 0.001, 0.001, 0.001, 0.5, 0.5]) for change in alarm.take(float(t), p)]
    ['opened', 'closed']
    """

    def __init__(self, rules: Rules, kept: str = "", state: State | None = None) -> None:
        """`kept`: what `self.kept` said at the last commit, "" for a new line. `state`: all that older stores know of a line."""
        self.rules = rules
        self._track, detector = _restored(kept)
        if not kept and state is not None:
            self._track = _Track(state.active, state.since, state.opened, state.worst)
        if detector != rules.detector:
            self._forget_peaks()

    @property
    def kept(self) -> str:
        """The state as JSON, for the store."""
        known = {name: value for name, value in asdict(self._track).items() if value != getattr(_NEW, name)}
        return json.dumps({"detector": self.rules.detector} | known)

    @property
    def state(self) -> State:
        """What matters to others of the state."""
        track = self._track
        return State(track.active, track.since, track.opened, track.worst)

    @property
    def flagged(self) -> int:
        """How many flagged records the open alarm has, or the run that may open one."""
        return self._track.flagged

    def use(self, rules: Rules) -> None:
        """Go on by these rules."""
        if rules.detector != self.rules.detector:
            self._forget_peaks()
        self.rules = rules

    def _forget_peaks(self) -> None:
        """What another detector said cannot be compared with what this one says."""
        self._track.peaks, self._track.block, self._track.closed = [], None, None

    def take_all(
        self, times: Sequence[float], p_values: Floats, scores: Floats, contributions: Sequence[Floats] | Floats | None
    ) -> list[tuple[int, Change]]:
        """Take in records (n,) in order; `contributions` (n, C) or None. Returns (number of the record, change)."""
        found: list[tuple[int, Change]] = []
        number, threshold = 0, self.rules.settings.threshold
        near = np.flatnonzero(p_values <= threshold)
        while number < len(times):
            if self._rests:  # nothing happens up to the next flagged record
                ahead = np.searchsorted(near, number)
                if ahead == len(near):
                    break
                number = int(near[ahead])
            contribution = None if contributions is None else contributions[number]
            found += [(number, change) for change in self.take(times[number], float(p_values[number]), float(scores[number]), contribution)]
            number += 1
        return found

    def take(self, time: float, p_value: float, score: float = 0.0, contribution: Floats | None = None) -> list[Change]:
        """Take in one record. `contribution` (C,): what each sensor adds to the score; None where there are no sensors."""
        self._clock_set_back(time)
        shares = _known(contribution)
        if self._track.active:
            return self._while_active(time, p_value, score, shares)
        return self._while_calm(time, p_value, score, shares)

    @property
    def _rests(self) -> bool:
        return not self._track.active and self._track.since is None and self._track.closed is None

    def _clock_set_back(self, time: float) -> None:
        """A delay begins again; nothing opens or closes by it."""
        track = self._track
        track.since = None if track.since is None else min(track.since, time)
        track.block = None if track.block is None else min(track.block, time)
        track.closed = None if track.closed is None else min(track.closed, time)
        for sensor, since in track.joining.items():
            track.joining[sensor] = min(since, time)

    # --- while no alarm is open ---

    def _while_calm(self, time: float, p_value: float, score: float, shares: Floats | None) -> list[Change]:
        track, settings = self._track, self.rules.settings
        if p_value > settings.threshold or self._still_comes_back(time, shares):
            if track.closed is not None and p_value > settings.threshold:
                self._calm_after(time)
            track.since, track.worst, track.score, track.flagged, track.shares = None, 1.0, 0.0, 0, []
            return []
        track.block = None
        began = time if track.since is None else track.since
        track.since, track.flagged = began, track.flagged + 1
        track.worst, track.score = min(track.worst, p_value), max(track.score, score)
        if shares is not None:
            track.shares = (np.asarray(track.shares or np.zeros(len(shares))) + shares / max(float(shares.sum()), 1e-12)).tolist()
        if time - began < settings.on_delay_s:
            return []
        sensors = _involved(np.asarray(track.shares)) if track.shares else []
        sensors += [sensor for sensor in (_involved(shares) if shares is not None else []) if sensor not in sensors]
        self._track = _Track(True, None, began, track.worst, track.score, flagged=track.flagged, sensors=sensors)
        return [Change("opened", time, began, track.worst, track.score, tuple(sensors), track.flagged)]

    def _still_comes_back(self, time: float, shares: Floats | None) -> bool:
        """Whether a flagged record belongs to the alarm that came back by half before."""
        track = self._track
        if track.closed is None or shares is None:
            return False
        patience = max(track.lasted, TOLD_AGAIN * self.rules.settings.off_delay_s)
        if time - track.closed > patience:
            track.closed = None
            return False
        track.block = None  # not calm
        return int(shares.argmax()) in track.sensors and float(shares[track.sensors].sum()) <= track.limit

    def _calm_after(self, time: float) -> None:
        """Calm for the off-delay after it came back by half: what is flagged from now on is new."""
        track = self._track
        track.block = time if track.block is None else track.block
        if time - track.block >= self.rules.settings.off_delay_s:
            track.closed, track.block, track.sensors = None, None, []

    # --- while an alarm is open ---

    def _while_active(self, time: float, p_value: float, score: float, shares: Floats | None) -> list[Change]:
        track, settings = self._track, self.rules.settings
        track.worst, track.score, flagged = min(track.worst, p_value), max(track.score, score), p_value <= settings.threshold
        track.flagged += flagged
        if shares is not None and not track.sensors and flagged:
            track.sensors = _involved(shares)  # of an alarm that an older version opened
        joined = self._join(time, shares, flagged)
        over = self._is_over(time, p_value, shares)
        if over == "":
            track.since, track.calm = None, 0
        elif over is not None:
            track.since, track.calm = time if track.since is None else track.since, track.calm + 1
            if time - track.since >= settings.off_delay_s and track.calm >= settings.off_records:
                return [*joined, self._close(time, over)]
        return joined

    def _is_over(self, time: float, p_value: float, shares: Floats | None) -> Literal["", "calm", "came back by half"] | None:
        """Whether a record shows the alarm's sensors to be over it, and how; None when it shows nothing of them."""
        track, settings = self._track, self.rules.settings
        if p_value > settings.threshold * settings.deadband:
            return "calm"
        if shares is None:
            return ""
        if int(shares.argmax()) not in track.sensors:
            return None
        level = [*(float(shares[sensor]) for sensor in track.sensors), float(shares[track.sensors].sum())]
        track.peaks = track.peaks or [0.0] * len(level)
        if track.block is None:
            track.block, track.least = time, level
        track.least = list(map(min, track.least, level))
        if time - track.block >= self.rules.glitch_s:
            track.peaks, track.block = list(map(max, track.peaks, track.least)), None
        involved = INVOLVED * max(level[:-1])
        back = all(now <= BACK * peak or now < involved for now, peak in zip(level, track.peaks, strict=True))
        return "came back by half" if back else ""

    def _join(self, time: float, shares: Floats | None, flagged: bool) -> list[Change]:
        """Sensors that are involved in every flagged record for long enough belong to the alarm from now on."""
        track = self._track
        if shares is None or not flagged:
            track.joining = {}
            return []
        others = [sensor for sensor in _involved(shares) if sensor not in track.sensors]
        track.joining = {sensor: track.joining.get(sensor, time) for sensor in others}
        new = tuple(sensor for sensor, since in track.joining.items() if time - since >= self.rules.join_delay_s)
        if not new or track.opened is None:
            return []
        track.sensors += new
        track.peaks, track.block = [*track.peaks[:-1], *[0.0] * len(new), *track.peaks[-1:]] if track.peaks else [], None
        track.joining = {sensor: since for sensor, since in track.joining.items() if sensor not in new}
        return [Change("joined", time, track.opened, track.worst, track.score, new, track.flagged)]

    def _close(self, time: float, why: Literal["calm", "came back by half"]) -> Change:
        track = self._track
        assert track.opened is not None
        change = Change("closed", time, track.opened, track.worst, track.score, tuple(track.sensors), track.flagged, why)
        after = _Track()
        if why == "came back by half":
            after = _Track(sensors=track.sensors, closed=time, lasted=time - track.opened, limit=BACK * track.peaks[-1])
        self._track = after
        return change


_NEW = _Track()


def _known(contribution: Floats | None) -> Floats | None:
    """Contributions (C,) as they can be summed; None where they say nothing."""
    if contribution is None:
        return None
    known: Floats = np.nan_to_num(np.asarray(contribution, np.float64), nan=0.0, posinf=1e30, neginf=0.0).clip(min=0.0)
    return known if known.any() else None


def _involved(shares: NDArray[Any]) -> list[int]:
    """The sensors that stand out about as far as the one that does most, in falling order."""
    order = np.argsort(-shares, kind="stable")
    return [int(sensor) for sensor in order if shares[sensor] >= INVOLVED * shares[order[0]] and shares[sensor] > 0]


def _restored(kept: str) -> tuple[_Track, str]:
    """(track, hash of the detector by which it came about)."""
    known = json.loads(kept or "{}")
    detector = known.pop("detector", "")
    track = _Track(**known)
    track.joining = {int(sensor): since for sensor, since in track.joining.items()}
    return track, detector
