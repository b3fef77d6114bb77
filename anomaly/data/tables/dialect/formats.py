"""Which column holds the time and in which format, found over the whole column: what can be read in two ways is an error."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from anomaly.data.tables.dialect.load import RawTable
from anomaly.data.tables.dialect.times import EPOCHS, ISO, TIME_NAMES, epoch_numbers, joined, parse_text, pattern_of, time_divisor
from anomaly.errors import DataError, UnclearError
from anomaly.schema import Dialect

_WORDS = frozenset(re.sub(r"\W|_", "", name) for name in TIME_NAMES) | {
    "utc", "timeutc", "utctime", "timestamputc", "datetimeutc", "localtime", "sampletime", "recordtime", "datum", "zeit", "zeitpunkt",
    "zeitstempel", "datumuhrzeit", "datumzeit", "uhrzeit", "messzeit", "fecha", "fechahora", "hora", "horodatage", "dateheure", "heure",
    "tijd", "tijdstip", "datumtijd", "dato", "tid", "datahora", "dataora",
}  # fmt: skip
_DAY_FIRST, _MONTH_FIRST, _YEAR_FIRST = "day first", "month first", "year first"
_DATE = re.compile(r"^(\d{1,4})([./-])(\d{1,2})\2(\d{4}|\d{1,2})(?!\d)")
_NAMED_DATE = re.compile(r"^(\d{1,2})([ .-]+|/)([A-Za-zä]{3,}\.?)([ .,-]+|/)(\d{4}|\d{2})(?!\d)")
_AMERICAN = re.compile(r"^[A-Za-z]{3,}(\.?) \d{1,2}(,?) \d{4}")
_CLOCK = re.compile(r"^(\d{1,2}):(\d{2})(:\d{2}(?:[.,:]\d+)?)?(\s*[AaPp]\.?[Mm]\.?)?(\s*(?:Z|UTC|GMT|[+-]\d{2}(?::?\d{2})?))?\s*$")
_COMPACT = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S", 17: "%Y%m%d%H%M%S"}
_KINDS = (pa.types.is_string, pa.types.is_large_string)


def could_be_time(name: str) -> bool:
    """Whether a column's name is one of those that time columns bear.

    >>> [could_be_time(name) for name in ("Timestamp", "Datum/Uhrzeit", "time [s]", "run_time")]
    [True, True, True, False]
    """
    bare = re.sub(r"[\[(].*?[\])]", "", name.lower())
    return re.sub(r"\W|_", "", bare) in _WORDS


def format_of(cell: str, order: str) -> str | None:
    """The format in which one cell is written, its date in the given order; None for what is no date.

    >>> format_of("5/1/26 1:30 PM", "month first"), format_of("2026-01-05T01:30:00Z", "day first")
    ('%m/%d/%y %I:%M %p', 'ISO8601')
    """
    cell = cell.strip()
    if re.match(pattern_of(ISO), cell):
        return ISO
    weekday = re.match(r"^[A-Za-z]{2,9}(\.?,?) (?=\d)", cell)
    after = format_of(cell[weekday.end() :], order) if weekday else None
    if weekday and after not in (None, ISO):
        return f"%a{weekday[1].lstrip('.')} {after}"
    compact = re.match(r"^(\d{8})T(\d{6})(\.\d+)?(Z|[+-]\d{2}:?\d{2})?$", cell)
    if compact:
        return "%Y%m%dT%H%M%S" + ("%z" if compact[4] else "")
    found = _date_format(cell, order)
    if found is None:
        return None
    form, rest = found
    if not rest.strip():
        return form
    between = re.match(r"^(T|[ ,]+|\s*-\s*|:)", rest)
    clock = clock_format(rest[between.end() :]) if between else None
    return form + between[1] + clock if between and clock else None


def day_order(dialect: Dialect) -> str:
    """In which order dates are written where there is more than one, "" where there is not.

    >>> day_order(Dialect(time_format=("%d.%m.%Y %H:%M",))), day_order(Dialect(time_format=("ISO8601",)))
    ('day first', '')
    """
    form = dialect.time_format[0] if dialect.time_format else ""
    if "%d" not in form or "%m" not in form or form.startswith("%Y"):
        return ""
    return _DAY_FIRST if form.index("%d") < form.index("%m") else _MONTH_FIRST


def clock_format(cell: str) -> str | None:
    """The format of a time of day, None for what is none.

    >>> clock_format("12:30:01.5 am"), clock_format("24:00"), clock_format("flow")
    ('%I:%M:%S %p', '%H:%M', None)
    """
    found = _CLOCK.match(cell.strip())
    if found is None:
        return None
    _, _, second, half, zone = found.groups()
    form = ("%I" if half else "%H") + ":%M" + (":%S" if second else "")
    for part, directive in ((half, "%p"), (zone, "%z")):
        if part:
            form += (" " if part[0].isspace() else "") + directive
    return form


def is_moment(cell: str) -> bool:
    """Whether the whole of a cell is a date or a time of day.

    >>> [is_moment(cell) for cell in ("05.01.2026 12:00", "12:30", "05.01.2026 12:00;flow")]
    [True, True, False]
    """
    return clock_format(cell) is not None or format_of(cell, _DAY_FIRST) is not None


def _date_format(cell: str, order: str) -> tuple[str, str] | None:
    """(format of the date, what follows it)."""
    found = _DATE.match(cell)
    if found:
        first, mark, _, last = found.groups()
        if len(first) == 4:
            return f"%Y{mark}%m{mark}%d", cell[found.end() :]
        if len(first) == 3 or (len(last) not in (2, 4) and order != _YEAR_FIRST):
            return None
        year = "%Y" if len(last) == 4 else "%y"
        if order == _YEAR_FIRST:
            return (f"%y{mark}%m{mark}%d", cell[found.end() :]) if len(first) == 2 and len(last) <= 2 else None
        parts = ("%d", "%m") if order == _DAY_FIRST else ("%m", "%d")
        return mark.join((*parts, year)), cell[found.end() :]
    found = _NAMED_DATE.match(cell)
    if found:
        _, before, _, after, year = found.groups()
        return f"%d{before}%b{after}" + ("%Y" if len(year) == 4 else "%y"), cell[found.end() :]
    found = _AMERICAN.match(cell)
    return (f"%b %d{found[2]} %Y", cell[found.end() :]) if found else None


def is_text(column: pa.Array) -> bool:
    """Whether the column's cells are text."""
    return any(kind(column.type) for kind in _KINDS)


def _samples(column: pa.Array, most: int = 50) -> list[str]:
    """The first cells that are not blank."""
    return [str(cell) for cell in column[: 20 * most].drop_null().to_pylist() if str(cell).strip()][:most]


def _holds(column: pa.Array) -> str:  # noqa: PLR0911 - one a kind
    """What the first cells of a column are: "moment" (date and time of day), "date", "clock", "number", or "" for others."""
    if pa.types.is_timestamp(column.type):
        return "moment"
    if pa.types.is_date(column.type):
        return "date"
    if pa.types.is_time(column.type):
        return "clock"
    if not is_text(column):
        return "number" if pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_decimal(column.type) else ""
    cells = _samples(column)
    if not cells:
        return ""
    need = 0.8 * len(cells)  # a footer or a word among them changes nothing
    if sum(clock_format(cell) is not None for cell in cells) >= need:
        return "clock"
    forms = [format_of(cell, order) for cell in cells for order in (_DAY_FIRST,)]
    if sum(form is not None for form in forms) >= need:
        return (
            "moment"
            if any(form and ((form == ISO and len(cell) > 10) or "%M" in form) for form, cell in zip(forms, cells, strict=True))
            else "date"
        )
    return "number" if sum(bool(re.match(r"^[+-]?\d+([.,]\d+)?([eE][+-]?\d+)?$", cell)) for cell in cells) >= need else ""


def find_time(raws: Sequence[RawTable], dialect: Dialect) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(time columns, their formats) of tables, over all their rows.

    Raises DataError naming the spec's key where there is no time column, or its dates can be read in two ways.
    """
    first = raws[0]
    names = dialect.time or _time_columns(first)
    for raw in raws:
        gone = [name for name in names if name not in raw.columns]
        if gone:
            raise DataError(f"{raw.path}: no time column {gone[0]!r}; columns are {raw.names}")
    if len(names) == 1 and not dialect.time:
        beside = _date_or_clock_beside(first, names[0])
        names = beside or names
    if dialect.time_format:
        return names, dialect.time_format
    return names, _formats([_cells(raw, names) for raw in raws], names, first.path, dialect)


def _time_columns(raw: RawTable) -> tuple[str, ...]:
    holds = {name: _holds(column) for name, column in raw.columns.items()}
    named = [name for name in raw.columns if could_be_time(name)]
    for name in named:
        if holds[name] in ("moment", "date", "number"):
            return (name,)
    if named and holds[named[0]] == "clock":
        return (named[0],)
    for kind in ("moment", "date"):
        for name in raw.columns:
            if holds[name] == kind:
                return (name,)
    if named:
        return (named[0],)
    raise DataError(f'{raw.path}: no time column found among {raw.names}; name it in the spec: [input] time = "…"')


def _date_or_clock_beside(raw: RawTable, name: str) -> tuple[str, ...]:
    """A date column goes with a column of times of day, and the other way round."""
    own = _holds(raw.columns[name])
    if own not in ("date", "clock"):
        return ()
    wanted = "clock" if own == "date" else "date"
    other = next((each for each in raw.columns if each != name and _holds(raw.columns[each]) == wanted), None)
    if other is None:
        return ()
    return (name, other) if own == "date" else (other, name)


def _cells(raw: RawTable, names: Sequence[str]) -> pa.Array:
    columns = [raw.columns[name] for name in names]
    return columns[0] if len(columns) == 1 else joined(columns[0], columns[1])


def _formats(columns: Sequence[pa.Array], names: Sequence[str], path: Path, dialect: Dialect) -> tuple[str, ...]:
    texts = [column for column in columns if is_text(column)]
    if not texts:
        column = columns[0]
        if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
            return (ISO,)
        sizes = pc.abs(pc.cast(column, pa.float64(), safe=False))
        return (_epoch(float(np.nanmedian(np.asarray(sizes.to_numpy(zero_copy_only=False), dtype=np.float64)))),)
    cells = pa.concat_arrays(texts).drop_null()
    if not len(cells):
        raise DataError(f"{path}: the time column {' + '.join(names)!r} is empty; name another in the spec: [input] time")
    numbers = epoch_numbers(cells, dialect.decimal or ".")
    if np.isfinite(numbers).mean() > 0.5:
        _refuse_serial_days(numbers[np.isfinite(numbers)], names, path)
        return (_compact(cells) or _epoch(float(np.nanmedian(np.abs(numbers)))),)
    shapes = _shapes(cells)
    readings: dict[str, tuple[str, ...]] = {}
    for order in (_DAY_FIRST, _MONTH_FIRST, _YEAR_FIRST):
        forms = tuple(dict.fromkeys(form for cell in shapes if (form := format_of(cell, order)) is not None))
        if forms and forms not in readings.values():
            readings[order] = forms
    if not readings:
        raise DataError(
            f"{path}: the time column {' + '.join(names)!r} holds {shapes[0] if shapes else ''!r}, which is no time known here; give its "
            'format in the spec: [input] time_format = "%d.%m.%Y %H:%M:%S"'
        )
    return _the_one_that_fits(cells, readings, names, path)


def _the_one_that_fits(cells: pa.Array, readings: dict[str, tuple[str, ...]], names: Sequence[str], path: Path) -> tuple[str, ...]:
    """The order of day and month in which all dates can be read that can be read at all. Raises DataError where that is not one."""
    if len(readings) == 1:
        return next(iter(readings.values()))
    dates = pc.unique(pc.replace_substring_regex(cells, r"(^\s*\S+?)[T ,]+\d{1,2}:.*$", r"\1"))
    days = {order: _read_days(dates, forms) for order, forms in readings.items()}
    any_read = ~np.all([np.isnan(found) for found in days.values()], axis=0)
    fitting = {order: found for order, found in days.items() if not np.isnan(found[any_read]).any()}
    if len(fitting) > 1 and _YEAR_FIRST in fitting and len(np.unique(fitting[_YEAR_FIRST][any_read] // (365.25 * 86400))) > 2:
        del fitting[_YEAR_FIRST]  # another year every day
    key = " + ".join(names)
    if not fitting:
        raise DataError(
            f"{path}: the dates in {key!r} are written in more than one order ({', '.join(readings)}); write them all as 2026-01-31"
        )
    first = next(iter(fitting))
    for order, found in fitting.items():
        differ = np.flatnonzero((found != fitting[first]) & any_read)
        if len(differ):
            example = str(dates[int(differ[0])].as_py())
            raise UnclearError(
                f"{path}: {example!r} in {key!r} may be {first} or {order}, and every row fits both; say which in "
                f'the spec: [input] time_format = "{readings[first][0]}" or "{readings[order][0]}"',
                choices={f"{one} in {example}": {"time_format": readings[one]} for one in (first, order)},
            )
    return readings[first]


def _read_days(dates: pa.Array, forms: Sequence[str]) -> NDArray[np.float64]:
    days = np.full(len(dates), np.nan)
    for form in dict.fromkeys(_date_part(form) for form in forms):
        found = parse_text(dates, form)[0]
        days = np.where(np.isnan(days), found, days)
    return days


def _date_part(form: str) -> str:
    return form if form == ISO else re.split(r"[T ,:-]*%[HI]", form)[0]


def _refuse_serial_days(numbers: NDArray[np.float64], names: Sequence[str], path: Path) -> None:
    """Raise DataError for numbers that look like days with a fraction, as Excel (since 1900) and MATLAB (since year 0) keep times."""
    low, high, steps = numbers.min(), numbers.max(), np.abs(np.diff(numbers))
    within = (low > 20_000 and high < 80_000) or (low > 650_000 and high < 800_000)
    if not within or not len(steps) or not (numbers % 1).any():
        return
    seconds = float(np.median(steps)) * 86400
    if seconds > 0.5 and abs(seconds - round(seconds)) < 0.05:
        raise DataError(
            f"{path}: {' + '.join(names)!r} holds {numbers[0]:.10g}, which looks like days as Excel or MATLAB count them; export dates as "
            'text, such as 2026-01-31 12:00:00. If they are seconds: [input] time_format = "s"'
        )


def _epoch(size: float) -> str:
    divisor = time_divisor(size)
    return next(name for name, each in EPOCHS.items() if each == divisor)


def _compact(cells: pa.Array) -> str | None:
    """The format of dates written as one number (20260131 or 20260131120000), None where they are no dates."""
    lengths = pc.unique(pc.utf8_length(pc.utf8_trim_whitespace(cells))).to_pylist()
    if len(lengths) != 1 or lengths[0] not in _COMPACT:
        return None
    form = _COMPACT[lengths[0]]
    seconds, _ = parse_text(cells, form)
    years = pc.match_substring_regex(cells, r"^\s*(19|20)\d\d")
    return form if np.isfinite(seconds).all() and bool(pc.all(years).as_py()) else None


def _shapes(cells: pa.Array) -> list[str]:
    """One cell of each way in which cells are written, the most frequent ways first."""
    shape = pc.replace_substring_regex(pc.replace_substring_regex(cells, r"[A-Za-zä]+", "a"), r"\d+", "9")
    counts = sorted(pc.value_counts(shape).to_pylist(), key=lambda item: -item["counts"])[:50]
    return [str(cells[pc.index(shape, item["values"]).as_py()].as_py()) for item in counts]
