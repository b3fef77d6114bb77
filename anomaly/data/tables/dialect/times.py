"""Times as they are written in tables and messages: formats, units of epoch numbers, zones, and the hour that comes twice.

A format is written in strptime's directives, with a few liberties that tables take: `%S` may have a fraction, `%H` may be 24 with nothing
after it, `%b` is a month's name in English or German, `%z` may be Z, UTC or an offset that differs from row to row. Columns of text are
parsed at once by one regular expression of Arrow's (RE2), since pandas and Arrow know neither 24:00 nor offsets that change.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from anomaly.errors import RecordError
from anomaly.schema import Dialect

ISO = "ISO8601"
EPOCHS = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}  # units of a number that counts from 1970
TIME_NAMES = ("time", "timestamp", "datetime", "date", "ts", "date_time", "date time")
_MONTHS = {"jan": 1, "feb": 2, "mar": 3, "mär": 3, "mrz": 3, "apr": 4, "may": 5, "mai": 5, "jun": 6, "jul": 7, "aug": 8, "sep": 9}
_MONTHS |= {"oct": 10, "okt": 10, "nov": 11, "dec": 12, "dez": 12}
_ZONE = r"Z|z|UTC|GMT|[+-]\d{2}(?::?\d{2})?"
_PATTERNS = {
    "Y": r"(?P<Y>\d{4})", "y": r"(?P<y>\d{2})", "b": r"(?P<b>[A-Za-zä]{3})[A-Za-zä]*\.?", "p": r"(?P<p>[AaPp])\.?[Mm]\.?",
    "S": r"(?P<S>\d{1,2}(?:[.,:]\d+)?)", "z": rf"(?P<z>{_ZONE})", "M": r"(?P<M>\d{1,2})",
    "a": r"[A-Za-zä]{2,}\.?", "m": r"(?P<m>\d{1,2})", "d": r"(?P<d>\d{1,2})", "H": r"(?P<H>\d{1,2})", "I": r"(?P<H>\d{1,2})",
}  # fmt: skip
_TIGHT = {key: rf"(?P<{key}>\d{{2}})" for key in "mdHM"} | {"I": r"(?P<H>\d{2})", "S": r"(?P<S>\d{2}(?:[.,]?\d+)?)"}
_ISO_PATTERN = (
    r"^\s*(?P<Y>\d{4})-(?P<m>\d{2})-(?P<d>\d{2})"
    rf"(?:[T ](?P<H>\d{{2}}):(?P<M>\d{{2}})(?::(?P<S>\d{{2}}(?:[.,]\d+)?))?\s*(?P<z>{_ZONE})?)?\s*$"
)


@cache
def pattern_of(form: str) -> str:
    r"""The regular expression of a format. Raises ValueError for a directive that is not known here.

    >>> pattern_of("%d.%m.%Y")
    '^\\s*(?P<d>\\d{1,2})\\.(?P<m>\\d{1,2})\\.(?P<Y>\\d{4})\\s*$'
    """
    if form == ISO:
        return _ISO_PATTERN
    parts = re.findall(r"%(.)|([^%]+)", form)
    if not parts or "".join(f"%{key}" if key else text for key, text in parts) != form:
        raise ValueError(f"{form!r} is no time format")
    found = ""
    for at, (key, text) in enumerate(parts):
        if text:
            found += re.sub(r"(?:\\ )+", r"\\s+", re.escape(text))
        elif key in _PATTERNS:
            beside = [parts[i][0] for i in (at - 1, at + 1) if 0 <= i < len(parts)]
            glued = any(each in "YymdHIMS" for each in beside if each)  # digits with nothing between them
            found += (_TIGHT if glued else _PATTERNS).get(key, _PATTERNS[key])
        else:
            raise ValueError(f"{form!r}: the directive %{key} is not known; known are {', '.join('%' + k for k in _PATTERNS)}, or {ISO}")
    return rf"^\s*{found}\s*$"


def parse_text(cells: pa.Array, form: str) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Text -> (seconds (n,) since 1970, NaN where it does not fit the format; whether (n,) it named a zone, so that the seconds are UTC).

    >>> parse_text(pa.array(["1.1.1970 24:00", "29.2.1970 00:00"]), "%d.%m.%Y %H:%M")[0].tolist()
    [86400.0, nan]
    """
    if form == ISO:
        try:  # Arrow's own parser knows the common form, and nothing it reads is read otherwise below
            stamps = pc.cast(cells, pa.timestamp("ns"))
            return _from_stamps(stamps), np.zeros(len(cells), bool)
        except pa.ArrowInvalid:
            pass
    fields = pc.extract_regex(cells, pattern_of(form))
    names = [field.name for field in fields.type]
    known = ~np.asarray(pc.is_null(fields))

    def number(name: str, default: float) -> NDArray[np.float64]:
        if name not in names:
            return np.full(len(cells), default)
        text = fields.field(name)
        if name == "S":
            text = pc.replace_substring_regex(text, "[,:]", ".")
        return _floats(pc.cast(pc.if_else(pc.equal(text, ""), None, text), pa.float64()), default)

    year = number("Y", np.nan) if "Y" in names else number("y", np.nan) + 2000
    year = np.where(year >= 2070, year - 100, year) if "y" in names else year  # as POSIX: 69 is 1969, 68 is 2068
    month = _months(fields.field("b")) if "b" in names else number("m", 1)
    day, hour, minute = number("d", 1), number("H", 0), number("M", 0)
    second = _compact_seconds(number("S", 0))
    if "p" in names:
        known &= (hour >= 1) & (hour <= 12)
        late = np.asarray(pc.equal(pc.utf8_lower(fields.field("p")), "p").fill_null(False))
        hour = hour % 12 + 12 * late
    with np.errstate(invalid="ignore"):
        known &= (month >= 1) & (month <= 12) & (day >= 1) & (minute < 60) & (second < 61)
        known &= (hour < 24) | ((hour == 24) & (minute == 0) & (second == 0))
    days, fits = _days(np.where(known, year, 1970), np.where(known, month, 1), np.where(known, day, 1))
    seconds = days * 86400.0 + hour * 3600 + minute * 60 + second
    zoned = np.zeros(len(cells), bool)
    if "z" in names:
        away, zoned = _offsets(fields.field("z"))
        seconds = seconds - away
    return np.where(known & fits, seconds, np.nan), zoned & known & fits


def _floats(array: pa.Array, default: float = np.nan) -> NDArray[np.float64]:
    return np.asarray(pc.fill_null(array, default).to_numpy(zero_copy_only=False), dtype=np.float64)


def _compact_seconds(second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Seconds as they are; in a compact time without a mark (30123 for 30.123 s) the digits after two are its fraction."""
    with np.errstate(invalid="ignore", divide="ignore"):
        digits = np.where(second >= 100, 10.0 ** (np.floor(np.log10(np.maximum(second, 1))) - 1), 1.0)
    return np.asarray(second / digits)


def _months(names: pa.Array) -> NDArray[np.float64]:
    unique = pc.unique(names)
    numbers = [float(_MONTHS.get((name or "").lower(), np.nan)) for name in unique.to_pylist()]
    return np.asarray(np.array(numbers or [np.nan])[_floats(pc.index_in(names, unique), 0).astype(int)])


def _offsets(zones: pa.Array) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """(seconds (n,) that a named zone is ahead of UTC, whether (n,) one is named)."""
    unique = pc.unique(zones)
    ahead = []
    for name in unique.to_pylist():
        digits = re.sub(r"\D", "", name or "")
        size = int(digits[:2] or 0) * 3600 + int(digits[2:] or 0) * 60
        ahead.append(-size if (name or "").startswith("-") else size)
    named = np.array([bool(name) for name in unique.to_pylist()])
    at = _floats(pc.index_in(zones, unique), 0).astype(int)
    return np.array(ahead, np.float64)[at], named[at]


def _days(year: NDArray[np.float64], month: NDArray[np.float64], day: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Days since 1970-01-01 (n,) of civil dates, and whether (n,) there is such a day."""
    months = (year.astype(np.int64) - 1970) * 12 + month.astype(np.int64) - 1
    first = months.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    after = (months + 1).astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    return first + day - 1.0, day <= after - first


def _from_stamps(stamps: pa.Array) -> NDArray[np.float64]:
    """Arrow timestamps -> seconds (n,), NaN for null."""
    micro = pc.cast(stamps, pa.timestamp("us", tz=stamps.type.tz), safe=False)
    values = np.asarray(pc.fill_null(pc.cast(micro, pa.int64()), 0).to_numpy(zero_copy_only=False)) / 1e6
    return np.where(np.asarray(pc.is_valid(stamps)), values, np.nan)


def parse_cells_of_time(column: pa.Array, dialect: Dialect) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """A time column, text or typed -> (seconds (n,), NaN where it cannot be read; whether (n,) they are UTC already)."""
    kind = column.type
    if pa.types.is_timestamp(kind):
        return _from_stamps(column), np.full(len(column), kind.tz is not None)
    if pa.types.is_date(kind):
        return _from_stamps(pc.cast(column, pa.timestamp("ms"))), np.zeros(len(column), bool)
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        units = [form for form in dialect.time_format if form in EPOCHS]
        numbers = pc.cast(column, pa.float64() if pa.types.is_decimal(kind) else kind)
        seconds = np.asarray(numbers.to_numpy(zero_copy_only=False), dtype=np.float64) / EPOCHS[units[0] if units else "s"]
        return np.where(np.isfinite(seconds), seconds, np.nan), np.ones(len(column), bool)
    seconds, utc = np.full(len(column), np.nan), np.zeros(len(column), bool)
    for form in dialect.time_format:
        left = np.flatnonzero(np.isnan(seconds))
        if not len(left):
            break
        part = column if len(left) == len(column) else column.take(pa.array(left))
        if form in EPOCHS:
            found, named = epoch_numbers(part, dialect.decimal or ".") / EPOCHS[form], np.ones(len(left), bool)
        else:
            found, named = parse_text(part, form)
        seconds[left], utc[left] = found, named
    return seconds, utc


def name_no_zone(columns: Sequence[pa.Array], dialect: Dialect, most: int = 100) -> bool:
    """Whether the first times of a table, in one column or in two, are of a clock whose zone neither they nor the dialect tell."""
    if dialect.zone:
        return False
    first = [column[:most] for column in columns]
    seconds, utc = parse_cells_of_time(first[0] if len(first) == 1 else joined(first[0], first[1]), dialect)
    return bool((np.isfinite(seconds) & ~utc).any())


def epoch_numbers(cells: pa.Array, decimal: str) -> NDArray[np.float64]:
    """Text of plain numbers -> float64 (n,), NaN for other text."""
    text = pc.replace_substring(pc.utf8_trim_whitespace(cells), decimal, ".")
    fits = pc.match_substring_regex(text, r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$")
    return _floats(pc.cast(pc.if_else(fits, text, None), pa.float64()))


def to_utc(seconds: NDArray[np.float64], utc: NDArray[np.bool_], zone: str, period_s: float | None, last: float) -> NDArray[np.float64]:
    """Seconds (n,) on a local clock -> UTC; those that are `utc` (n,) stay.

    An hour that the clock skips makes NaN. In the hour that it shows twice, a row is taken for the time that is nearest to one period
    after the row before: `last` is the time in UTC of the row before the first, minus infinity when there is none.

    >>> local = pd.to_datetime(["2026-10-25 02:30", "2026-10-25 02:00", "2026-10-25 02:30"]).as_unit("ns").astype("int64") / 1e9
    >>> found = to_utc(np.asarray(local), np.zeros(3, bool), "Europe/Berlin", 1800.0, -np.inf)
    >>> np.diff(found).tolist()
    [1800.0, 1800.0]
    """
    local = np.isfinite(seconds) & ~utc
    if not zone or not local.any():
        return seconds
    moments = pd.DatetimeIndex((seconds[local] * 1e6).round().astype("datetime64[us]"))
    result, early, late = seconds.copy(), np.full(len(seconds), np.nan), np.full(len(seconds), np.nan)
    for summer, target in ((True, early), (False, late)):
        found = moments.tz_localize(zone, ambiguous=np.full(len(moments), summer), nonexistent="NaT").tz_convert("UTC").as_unit("us")
        target[local] = np.where(found.isna(), np.nan, found.asi8 / 1e6)
    result[local] = early[local]
    twice = np.flatnonzero(local & (early != late) & np.isfinite(early))
    if len(twice):
        usual = period_s or usual_period(seconds)
        for row in twice.tolist():
            before = result[:row][np.isfinite(result[:row])][-1:] if row and not np.isfinite(result[row - 1]) else result[row - 1 : row]
            expected = (float(before[0]) if len(before) else last) + usual
            if np.isfinite(expected) and abs(late[row] - expected) < abs(early[row] - expected):
                result[row] = late[row]
    return result


def usual_period(seconds: NDArray[np.float64]) -> float:
    """The median step between times (n,) that can be read and differ; 1 when there is none."""
    steps = np.diff(seconds[np.isfinite(seconds)])
    steps = steps[steps > 0]
    return float(np.median(steps)) if len(steps) else 1.0


def read_times(columns: Sequence[pa.Array], dialect: Dialect, period_s: float | None = None, last: float = -np.inf) -> NDArray[np.float64]:
    """The time column, or date and time of day in two, -> seconds (n,) since 1970 UTC, NaN where they cannot be read.

    `period_s` and `last` (the time of the row before) decide in the hour that summer time repeats.
    """
    column = columns[0] if len(columns) == 1 else joined(columns[0], columns[1])
    seconds, utc = parse_cells_of_time(column, dialect)
    return to_utc(seconds, utc, dialect.zone, period_s, last)


def joined(date: pa.Array, clock: pa.Array) -> pa.Array:
    """A date column and a time-of-day column as one column of text."""
    if pa.types.is_timestamp(date.type) or pa.types.is_date(date.type):
        date = pc.strftime(pc.cast(date, pa.timestamp("s"), safe=False), format="%Y-%m-%d")
    if pa.types.is_time(clock.type):
        clock = pc.cast(clock, pa.string())
    return pc.binary_join_element_wise(pc.cast(date, pa.string()), pc.cast(clock, pa.string()), " ")


def time_divisor(size: float) -> float:
    """By what a time since 1970 is divided to give seconds. Its unit (s, ms, us or ns) shows in its size.

    >>> time_divisor(1_767_225_600.0), time_divisor(1_767_225_600_000.0)
    (1.0, 1000.0)
    """
    return next((divisor for limit, divisor in ((1e17, 1e9), (1e14, 1e6), (1e11, 1e3)) if size > limit), 1.0)


def parse_time(text: str, record: str, dialect: Dialect | None = None, last: float = -np.inf, period_s: float | None = None) -> float:
    """Seconds since 1970 UTC of a message: a number (s, ms, us, ns by its size), ISO 8601, or the dialect's format and zone.

    Raises RecordError naming `record` for anything else: what is written in another way could be read in two.

    >>> parse_time("1700000000500", "row 1"), parse_time("1970-01-02T00:00:00+01:00", "row 1")
    (1700000000.5, 82800.0)
    """
    try:
        value = float(text)
    except ValueError:
        forms = (ISO, *(form for form in (dialect.time_format if dialect else ()) if form not in EPOCHS))
        asked = Dialect(time_format=forms, zone=dialect.zone if dialect else "")
        found = read_times([pa.array([text])], asked, period_s or 1.0, last)[0]
        if np.isfinite(found):
            return float(found)
        raise RecordError(
            f"{record}: time {text!r} cannot be read; write seconds since 1970 or ISO 8601, such as 2026-01-31T12:00:00Z"
        ) from None
    if not np.isfinite(value):
        raise RecordError(f"{record}: time {text!r} is not a number of seconds")
    return value / time_divisor(abs(value))
