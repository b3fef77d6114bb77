"""Times as people read them: of the clock where the line is, or counted from the begin of a record.

The one rule: what people read shows the record's time in the zone of the line, with its offset (UTC and Z where no zone is known). What
machines read (events, JSON, the store) is UTC.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from anomaly.schema import DAY_S

_STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z")
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
    """A time of a record as people read it.

    >>> moment(1767225600.0), moment(1767225600.0, "Europe/Berlin"), moment(12.5)
    ('2026-01-01 00:00:00Z', '2026-01-01 01:00:00+01:00', '12.5 s')
    """
    return f"{time:g} s" if time < _EPOCH_ENDS else when(time, zone)


def when(seconds: float, zone: str = "") -> str:
    """Seconds since 1970 as people read them, on the clock of a zone.

    >>> when(0.0)
    '1970-01-01 00:00:00Z'
    """
    return datetime.fromtimestamp(seconds // 1, zone_of(zone)).isoformat(" ").replace("+00:00", "Z" if not zone else "+00:00")


def in_zone(text: str, zone: str) -> str:
    """A text with the times in it, RFC 3339 in UTC, on the clock of a zone; as it is where no zone is known.

    >>> in_zone("since 2026-06-30T22:00:00Z", "Europe/Berlin"), in_zone("since 2026-06-30T22:00:00Z", "")
    ('since 2026-07-01T00:00:00+02:00', 'since 2026-06-30T22:00:00Z')
    """
    return _STAMP.sub(lambda found: _told(found[0], zone), text) if zone else text


def _told(stamp: str, zone: str) -> str:
    try:
        return datetime.fromisoformat(stamp).astimezone(zone_of(zone)).replace(microsecond=0).isoformat()
    except (ValueError, OverflowError):  # no time, though it looks like one
        return stamp


def span_words(seconds: float) -> str:
    """A length of time in words.

    >>> span_words(90), span_words(7200), span_words(200_000), span_words(365 * DAY_S)
    ('90 s', '2 h', '2.3 days', '365 days')
    """
    days = seconds / DAY_S
    if seconds < 120:
        return f"{seconds:.3g} s"
    if seconds < 7200:
        return f"{seconds / 60:.3g} min"
    if days < 2:
        return f"{seconds / 3600:.3g} h"
    return f"{days:.2g} days" if days < 100 else f"{days:,.0f} days"


def rate_words(per_day: float) -> str:
    """False alarms a day, as a person counts them: by the week or the year where they are few.

    >>> rate_words(2), rate_words(1 / 7), rate_words(1 / 365)
    ('2 false alarms a day', '1 false alarm a week', '1 false alarm a year')
    """
    per, days = next(((name, days) for name, days in (("day", 1), ("week", 7)) if per_day * days > 0.995), ("year", 365))
    count = f"{per_day * days:.3g}"
    return f"{count} false alarm{'' if count == '1' else 's'} a {per}"
