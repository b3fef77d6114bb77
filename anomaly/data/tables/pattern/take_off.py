"""A sensor's daily or weekly pattern, taken off its readings before they are scored, and added back where a person reads them.

Plain NumPy: a file, a table that grows and a live source all come through `without_pattern`, so that the same row gives the same number.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from anomaly.schema import DAY_S, Channel, Pattern

_QUARTER_S = 900.0  # no clock is changed within a quarter of an hour
_MONDAY_S = 3 * DAY_S  # 1970 began on a Thursday: so much later than a Monday
_NONE = timedelta(0)
_FIRST_S, _LAST_S = -62_000_000_000.0, 253_000_000_000.0  # what a calendar holds with room for a zone


def wall_clock(times: NDArray[np.float64], zone: str) -> NDArray[np.float64]:
    """Seconds (n,) since 1970 UTC -> seconds since a Monday's midnight in 1969, as a clock in `zone` shows them; "" is UTC.

    The hour that such a clock leaves out in spring is left out, the one that it shows twice in autumn comes twice.

    >>> wall_clock(np.array([1_774_746_000.0]), "Europe/Berlin") - wall_clock(np.array([1_774_742_400.0]), "Europe/Berlin")
    array([7200.])
    """
    if not zone:
        return times + _MONDAY_S
    quarters, own = np.unique(np.floor(np.clip(times, _FIRST_S, _LAST_S) / _QUARTER_S), return_inverse=True)
    clock = ZoneInfo(zone)
    ahead = [(datetime.fromtimestamp(quarter * _QUARTER_S, clock).utcoffset() or _NONE).total_seconds() for quarter in quarters.tolist()]
    return times + np.array(ahead, np.float64)[own] + _MONDAY_S


def pattern_at(times: NDArray[np.float64], channels: Sequence[Channel]) -> NDArray[np.float64] | None:
    """What the patterns of all sensors come to at `times` (n,): (n, C) in engineering units, 0 for a sensor without; None without any."""
    kinds: dict[tuple[float, str, int], list[tuple[int, Pattern]]] = {}
    for index, channel in enumerate(channels):
        if channel.pattern is not None:
            key = (channel.pattern.period_s, channel.pattern.zone, len(channel.pattern.knots))
            kinds.setdefault(key, []).append((index, channel.pattern))
    if not kinds:
        return None
    found = np.zeros((len(times), len(channels)))
    for (period_s, zone, count), patterns in kinds.items():
        at, after, share = between_knots(wall_clock(times, zone), period_s, count)
        knots = np.array([pattern.knots for _, pattern in patterns]).T
        found[:, [index for index, _ in patterns]] = (1 - share[:, None]) * knots[at] + share[:, None] * knots[after]
    return found


def between_knots(
    clock: NDArray[np.float64], period_s: float, count: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """The knot (n,) before each time of a clock and the one after it, of `count` over the period, and how far (0 to 1) it lies between."""
    place = clock % period_s * (count / period_s)
    before = np.floor(place)
    at = before.astype(np.int64) % count
    return at, (at + 1) % count, place - before


def without_pattern(times: NDArray[np.float64], readings: NDArray[np.float32], channels: Sequence[Channel]) -> NDArray[np.float32]:
    """Readings (n, C) at `times` (n,) less each sensor's pattern; the same array where no sensor has one. NaN stays NaN.

    >>> daily = Pattern(period_s=86400, knots=(1.0, -1.0))
    >>> without_pattern(np.array([0.0, 21600.0, 43200.0]), np.full((3, 1), 5, np.float32), [Channel(name="load", pattern=daily)])[:, 0]
    array([4., 5., 6.], dtype=float32)
    """
    pattern = pattern_at(times, channels)
    return readings if pattern is None else (readings - pattern).astype(np.float32)


def with_pattern(times: NDArray[np.float64], values: NDArray[np.float32], channels: Sequence[Channel]) -> NDArray[np.float32]:
    """The reverse of `without_pattern`, to the last digits of float32."""
    pattern = pattern_at(times, channels)
    return values if pattern is None else (values + pattern).astype(np.float32)
