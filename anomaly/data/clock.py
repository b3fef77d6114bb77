"""Times as people read them: of a clock, or counted from the begin of a record."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

_EPOCH_ENDS = 1e8  # times below count from the begin of the record, not from 1970


def has_clock(times: NDArray[np.float64]) -> bool:
    """Whether times (n,) in seconds are those of a clock, and not counted from the begin of a record."""
    return bool(len(times)) and float(times[0]) >= _EPOCH_ENDS


def zone_of(name: str) -> tzinfo:
    """The zone in which people on site read the clock, UTC where none is known."""
    try:
        return ZoneInfo(name) if name else UTC
    except (ValueError, OSError, KeyError):
        return UTC


def moment(time: float, zone: str = "") -> str:
    """A time as people read it.

    >>> moment(1767225600.0), moment(12.5)
    ('2026-01-01 00:00:00 UTC', '12.5 s')
    """
    if time < _EPOCH_ENDS:
        return f"{time:g} s"
    told = datetime.fromtimestamp(time, zone_of(zone))
    return f"{told:%Y-%m-%d %H:%M:%S} {told.tzname() or ''}".rstrip()
