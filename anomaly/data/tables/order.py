"""Rows in the order of their times: one rule for whole tables and for files that grow."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

MOST_STRAY = 100  # rows in a row with a wrong stamp that are forgiven
HOUR_S = 3600.0
BACK_ROWS, BACK_LOOKS = 10, 3  # so many late rows in a row, in order among themselves: the clock that stamps them was set back


class Taken(NamedTuple):
    """Which rows (n,) are kept, and which are stray: stamped far ahead of the rows after them; the others left out came late.

    `rewind` is not None when rows of earlier blocks were stray as well: those after this time are to be withdrawn.
    """

    kept: NDArray[np.bool_]
    stray: NDArray[np.bool_]
    rewind: float | None


class RowOrder:
    """Follows the times of rows as they come. A row must be later than the one before.

    A jump ahead by more than `max_gap_s` is believed until a row comes that is nearer to those before the jump: then the rows since the
    jump were stray, and those after them are not held up by them.

    >>> order = RowOrder(10.0)
    >>> order.take(np.array([1.0, 2.0, 4e9, 3.0, 4.0, 3.5])).kept.tolist()
    [True, True, False, True, True, False]
    """

    def __init__(self, max_gap_s: float, last: float = -np.inf, before: float | None = None) -> None:
        """`last`: time of the last row kept; `before`: time of the row before the last jump ahead, None when there was none."""
        self._gap = max_gap_s
        self.last, self.before = last, before
        self._resumed = bool(np.isfinite(last))
        self._since = 0  # rows since the jump, or since the beginning

    def take(self, times: NDArray[np.float64]) -> Taken:
        """The next rows (n,), none of them NaN."""
        count = len(times)
        kept, stray = np.ones(count, bool), np.zeros(count, bool)
        steps = np.diff(times, prepend=self.last if np.isfinite(self.last) else (times[0] - 1 if count else 0))
        if count and bool((steps > 0).all()) and bool((steps <= self._gap).all()):
            self.last = float(times[-1])
            self._since += count
            return Taken(kept, stray, None)
        rewind, jumped = None, 0
        for row, moment in enumerate(times.tolist()):
            self._since += 1
            if moment > self.last:
                if moment - self.last > self._gap and np.isfinite(self.last):
                    self.before, jumped, self._since = self.last, row, 0
                self.last = moment
            elif self.before is not None and self.before < moment < (self.before + self.last) / 2 and self._since <= MOST_STRAY:
                if self._since > row - jumped:  # it began in an earlier block
                    rewind, jumped = self.before, 0
                stray[jumped:row] = kept[jumped:row]
                kept[jumped:row] = False
                self.last, self.before = moment, None
            elif self._since == 2 and self.before is None and moment < self.last - self._gap and not self._resumed:
                # the very first row was stamped far ahead
                rewind = -np.inf if row == 0 else None
                stray[:row], kept[:row] = True, False
                self.last = moment
            else:
                kept[row] = False
        return Taken(kept, stray, rewind)


def back_an_hour(steps: float | NDArray[np.float64]) -> bool | NDArray[np.bool_]:
    """Which steps in time, in seconds, are those of a local clock that is set back by an hour.

    >>> back_an_hour(np.array([-3600.0, -3500.0, -1800.0, 3600.0])).tolist()
    [True, True, False, False]
    """
    return (steps < -0.9 * HOUR_S) & (steps > -1.1 * HOUR_S)


class RepeatedHour:
    """Tells before which rows an hour lies that is not there: a local clock showed it twice, and the rows of the second time are left out.

    By their times the rows before and after it are neighbours. A window over both would see a jump that the machine never made.

    >>> times = np.array([3600.0, 7195.0, 3600.0, 5400.0, 7195.0, 7200.0, 7205.0])
    >>> RepeatedHour(10.0).take(times, RowOrder(3600.0).take(times)).tolist()
    [False, False, False, False, False, True, False]
    """

    def __init__(self, max_gap_s: float) -> None:
        """`max_gap_s`: rows left out that last no longer than this are a few that came late, not an hour."""
        self._gap = max_gap_s
        self._last = -np.inf  # time of the last row kept
        self._left_out: tuple[float, float] | None = None  # times of the first and the latest row left out since

    def take(self, times: NDArray[np.float64], taken: Taken) -> NDArray[np.bool_]:
        """The next rows (n,), as `RowOrder` took them -> which of them (n,) begin anew."""
        anew = np.zeros(len(times), bool)
        if self._left_out is None and taken.kept.all():
            self._last = float(times[-1]) if len(times) else self._last
            return anew
        for row, (moment, kept, stray) in enumerate(zip(times.tolist(), taken.kept.tolist(), taken.stray.tolist(), strict=True)):
            if kept:
                anew[row] = self._left_out is not None and self._left_out[1] - self._left_out[0] > self._gap
                self._last, self._left_out = moment, None
            elif self._left_out is not None:
                self._left_out = self._left_out[0], max(self._left_out[1], moment)
            elif not stray and back_an_hour(moment - self._last):
                self._left_out = moment, moment
        return anew


class LateRows:
    """Tells a clock that was set back from rows that came late, in a source that goes on for ever.

    The sign of it is that for several looks at the source, and many rows, each row is later than the one before but none in order. From
    then on the new time must be followed, or all rows would be set aside until it has caught up. In what is read in one go rows of the
    same hour twice stay what they are for every other reader: late.
    """

    def __init__(self) -> None:
        self._rows, self._looks, self._last = 0, 0, -np.inf

    def take(self, times: NDArray[np.float64], taken: Taken) -> None:
        """Take in the rows (n,) of one look, and which of them were kept."""
        if taken.kept.all():
            self._rows = self._looks = 0
            return
        for moment, kept in zip(times.tolist(), (taken.kept | taken.stray).tolist(), strict=True):
            if kept or moment <= self._last:
                self._rows = self._looks = 0
            self._rows += not kept
            self._last = moment
        self._looks += self._rows > 0

    @property
    def enough(self) -> bool:
        """Whether by now it is a clock set back."""
        return self._rows >= BACK_ROWS and self._looks >= BACK_LOOKS
