"""Times as people read them: of a clock, or counted from the begin of a record."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from anomaly.schema import DAY_S

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


def span_words(seconds: float) -> str:
    """A length of time in words.

    >>> span_words(90), span_words(7200), span_words(200_000)
    ('90 s', '2 h', '2.3 days')
    """
    if seconds < 120:
        return f"{seconds:.3g} s"
    if seconds < 7200:
        return f"{seconds / 60:.3g} min"
    return f"{seconds / 3600:.3g} h" if seconds < 2 * DAY_S else f"{seconds / DAY_S:.2g} days"


def rate_words(per_day: float) -> str:
    """False alarms a day, as a person counts them: by the week or the year where they are few.

    >>> rate_words(2), rate_words(1 / 7), rate_words(1 / 365)
    ('2 false alarms a day', '1 false alarm a week', '1 false alarm a year')
    """
    per, days = next(((name, days) for name, days in (("day", 1), ("week", 7)) if per_day * days > 0.995), ("year", 365))
    count = f"{per_day * days:.3g}"
    return f"{count} false alarm{'' if count == '1' else 's'} a {per}"
