"""Alarms of the data-quality class: a source that is away, silent, frozen or sends rubbish is never a quiet gap.

Each condition has a life of its own, by the same state machine as process alarms (`life`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from anomaly.alarms.life import Settings, State, step

AWAY_S = 10.0  # a source may be away so long before it is an alarm
RUBBISH_OF, RUBBISH_SHARE = 20, 0.5  # of the last records, the share set aside
CONDITIONS = {
    "source": Settings(threshold=0.5, on_delay_s=AWAY_S),
    "silent": Settings(threshold=0.5),
    "frozen": Settings(threshold=0.5),
    "rubbish": Settings(threshold=0.5),
    "provider": Settings(threshold=0.5),
}


@dataclass(frozen=True)
class Seen:
    """What one turn showed of a source: words for what is wrong, "" where nothing is; counts of records read and set aside.

    `frozen` is None where no record came to tell.
    """

    records: int = 0
    rejected: int = 0
    trouble: str = ""
    frozen: str | None = None
    provider: str = ""


@dataclass(frozen=True)
class Turn:
    """A condition became an alarm, or is over."""

    kind: str
    condition: str
    reason: str
    time: float
    began: float


class Quality:
    """The conditions of one line. `silent_after_s`: seconds without a record that are an alarm, None for never."""

    def __init__(self, states: Mapping[str, State], silent_after_s: float | None, now: float) -> None:
        self.states = {name: states.get(name, State()) for name in CONDITIONS}
        self._silent_after_s = silent_after_s
        self._last = now
        if silent_after_s is not None and self.states["silent"].active:
            self._last -= silent_after_s  # silent before a restart: still so until a record comes
        self._recent: deque[bool] = deque(maxlen=RUBBISH_OF)
        self._reasons: dict[str, str] = {}

    def look(self, seen: Seen, now: float) -> list[Turn]:
        """Take in one turn; returns what changed by it."""
        now_reasons = self._wrong(seen, now)
        turns = []
        for name, settings in CONDITIONS.items():
            reason = now_reasons.get(name)
            if reason is None:
                continue
            if reason:
                self._reasons[name] = reason
            self.states[name], change = step(self.states[name], now, 0.0 if reason else 1.0, settings)
            if change is not None:
                turns.append(Turn(change.kind, name, self._reasons.get(name, ""), change.time, change.began))
        return turns

    def _wrong(self, seen: Seen, now: float) -> dict[str, str]:
        """Condition -> what is wrong, "" for nothing; a condition that this turn tells nothing of is not in it."""
        found = {"source": seen.trouble, "provider": seen.provider}
        if seen.records or seen.rejected or now < self._last:
            self._last = now  # a clock set back must not make a long silence of it
        silent = self._silent_after_s is not None and now - self._last >= self._silent_after_s
        found["silent"] = f"no record for {self._silent_after_s:g} s" if silent else ""
        if seen.frozen is not None:
            found["frozen"] = seen.frozen
        if seen.records or seen.rejected:
            self._recent.extend([False] * min(seen.records, RUBBISH_OF) + [True] * min(seen.rejected, RUBBISH_OF))
            bad = sum(self._recent)
            full = len(self._recent) == RUBBISH_OF and bad >= RUBBISH_SHARE * RUBBISH_OF
            found["rubbish"] = f"{bad} of the last {RUBBISH_OF} records could not be read" if full else ""
        return found
