"""Sensors that report less often than a table has rows: their last reading stands for a stated time (zero-order hold, per sensor)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from anomaly.schema import Channel

HELD_FOR = 2.5  # usual intervals between two readings of a slow sensor: one reading may fail
FEWEST = 20  # readings of a slow sensor, at least, that its interval is known by
_LOST_BITS = 256  # float32 must tell apart at least so many steps within a sensor's usual spread


class Holder:
    """Fills the empty cells of slow sensors by their last reading, over blocks of rows that follow each other.

    >>> holder = Holder([Channel(name="fast"), Channel(name="slow", hold_s=3.0)])
    >>> rows = np.array([[1, 7], [np.nan, np.nan], [3, np.nan], [4, np.nan], [5, np.nan]], np.float32)
    >>> holder.fill(np.arange(5.0), rows)[:, 1].tolist()
    [7.0, 7.0, 7.0, 7.0, nan]
    """

    def __init__(self, channels: Sequence[Channel]) -> None:
        self._held = [(index, channel.hold_s) for index, channel in enumerate(channels) if channel.hold_s > 0]
        self.longest_s = max((hold for _, hold in self._held), default=0.0)
        self._last = {index: (-np.inf, np.float32(np.nan)) for index, _ in self._held}

    def fill(self, times: NDArray[np.float64], values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Rows (n,), (n, C) in order of time -> the same with the empty cells of slow sensors filled. The input is not changed."""
        if not self._held or not len(times):
            return values
        filled = values.copy()
        for index, hold_s in self._held:
            since, reading = self._last[index]
            moments = np.concatenate([[since], times])
            column = np.concatenate([[reading], values[:, index]])
            known = np.isfinite(column)
            at = np.maximum.accumulate(np.where(known, np.arange(len(column)), 0))
            fresh = np.concatenate([[0.0], times]) - moments[at] <= hold_s
            filled[:, index] = np.where(fresh, column[at], np.nan)[1:]
            self._last[index] = (float(moments[at[-1]]), column[at[-1]])
        return filled


def fit_channels(
    channels: Sequence[Channel], times: NDArray[np.float64], numbers: NDArray[np.float64], period_s: float
) -> tuple[tuple[Channel, ...], list[str]]:
    """Channels with what must be known of their readings (n, C) in float64 before they become float32, and a line of text for each.

    A sensor with a level so large that float32 would round its usual spread gets an offset: its median. One that reports at intervals
    longer than the table's period is held. Offsets and holds that are given are kept.
    """
    found, said = [], []
    for channel, column in zip(channels, numbers.T, strict=True):
        known = np.isfinite(column)
        changes: dict[str, float] = {}
        if known.any() and channel.offset == 0.0:
            middle, spread = _level(column[known])
            if 0 < spread < _LOST_BITS * float(np.spacing(np.float32(np.abs(column[known]).max()))):
                changes["offset"] = middle
                said.append(
                    f"sensor {channel.name!r}: {middle:.10g} is taken off in double precision, for its spread of {spread:.3g} to be seen"
                )
        interval = slow_interval(times[known], period_s)
        if channel.hold_s == 0.0 and interval is not None:
            changes["hold_s"] = round(HELD_FOR * interval, 6)
            said.append(f"sensor {channel.name!r}: a reading every {interval:g} s only; each stands for up to {changes['hold_s']:g} s")
        found.append(channel.model_copy(update=changes) if changes else channel)
    return tuple(found), said


def slow_interval(times: NDArray[np.float64], period_s: float) -> float | None:
    """Usual seconds between two readings of a sensor, None unless it is well above the table's period.

    >>> slow_interval(np.arange(0.0, 600.0, 12.0), 1.0), slow_interval(np.arange(100.0), 1.0)
    (12.0, None)
    """
    if len(times) < FEWEST:
        return None
    usual = float(np.median(np.diff(np.sort(times))))
    return usual if usual > 1.5 * period_s else None


def _level(column: NDArray[np.float64]) -> tuple[float, float]:
    """Median, and the larger of the scaled median absolute deviation and half the standard deviation."""
    middle = float(np.median(column))
    away = column - middle
    return middle, max(1.4826 * float(np.median(np.abs(away))), 0.5 * float(away.std()))
