"""What tables of readings hold, told in a page before anything is learnt from them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from anomaly.data.clock import when
from anomaly.data.tables.dialect.formats import day_order
from anomaly.data.tables.dialect.times import EPOCHS
from anomaly.data.tables.normal_range import longest_still
from anomaly.data.tables.pattern.take_off import wall_clock
from anomaly.data.tables.reader import SensorTable
from anomaly.schema import DAY_S, Dialect

FROZEN_ROWS, FROZEN_SHARE = 30, 0.02  # a sensor that otherwise moves stands still for so many rows, and this share of them
EVEN = 1e-3  # steps that differ by less than this share of the period count as equal
DRIFTS = 3.0  # the last tenth of a record lies so many usual spreads away from its first
MANY_GAPS, MANY_PATTERNS = 3, 5  # gaps, and sensors with a pattern, named at most
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MARKS = {"\t": "tab", " ": "space", "\u00a0": "space", "\u202f": "space", "": "none"}
_EPOCH_WORDS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}


def describe_dialect(dialect: Dialect) -> str:
    """How a table is cut into numbers, in one line.

    >>> describe_dialect(Dialect(encoding="utf-8", delimiter=";", decimal=",", skip_rows=2, units_rows=1, missing=("defekt",)))
    "UTF-8, cells between ';', decimal comma, 2 lines before the header, 1 line between it and the readings; no reading: 'defekt'"
    """
    if dialect.delimiter is None:
        return "cells have types of their own"
    parts = ["UTF-8" if dialect.encoding in ("utf-8", "ascii") else str(dialect.encoding)]
    parts.append(f"cells between {_MARKS.get(dialect.delimiter, repr(dialect.delimiter))}")
    parts.append("decimal comma" if dialect.decimal == "," else "decimal point")
    if dialect.thousands:
        parts.append(f"thousands set off by {_MARKS.get(dialect.thousands, repr(dialect.thousands))}")
    if dialect.skip_rows:
        parts.append(f"{dialect.skip_rows} line{'s' if dialect.skip_rows > 1 else ''} before the header")
    if dialect.units_rows:
        header = "it" if dialect.skip_rows else "the header"
        parts.append(f"{dialect.units_rows} line{'s' if dialect.units_rows > 1 else ''} between {header} and the readings")
    words = f"; no reading: {', '.join(map(repr, dialect.missing))}" if dialect.missing else ""
    guess = "; not UTF-8, so taken for cp1252: where names look odd, set [input] encoding" if dialect.encoding == "cp1252" else ""
    return ", ".join(parts) + words + guess


def describe_time(dialect: Dialect, tables: Sequence[SensorTable]) -> str:
    """Which column holds the time, in which format, and from when to when."""
    forms = [f"{_EPOCH_WORDS[form]} since 1970" if form in EPOCHS else form for form in dialect.time_format]
    order = f" ({day_order(dialect)})" if day_order(dialect) else ""
    no_zone = any(table.report.no_zone for table in tables)
    zone = f"local time of {dialect.zone}" if dialect.zone else "UTC, for they name no zone" if no_zone else "UTC"
    first, last = (_moment(pick(table.times[at] for table in tables), dialect.zone) for pick, at in ((min, 0), (max, -1)))
    written = f"{' + '.join(dialect.time)} as {' or '.join(forms) or 'times'}{order}, {zone}"
    return f"{written}: {first} to {last}, every {tables[0].period_s:g} s"


def assumed_of_times(tables: Sequence[SensorTable]) -> list[str]:
    """What is assumed of the times of tables, a line each, with the key of a spec that says it otherwise; [] where they tell all."""
    dialect, words = tables[0].dialect, []
    if day_order(dialect):
        words.append(
            f"dates: {day_order(dialect)} ({dialect.time_format[0]}), which fits all of them; if it is another: [input] time_format"
        )
    if any(table.report.no_zone for table in tables):
        words.append('zone: the times name none and are taken as UTC; are they local, say where: [input] zone = "Europe/Berlin"')
    return words


def _moment(seconds: float, zone: str) -> str:
    try:
        return when(float(seconds), zone)
    except (OverflowError, ValueError, OSError):
        return f"{seconds:g} s"


def describe_tables(tables: Sequence[SensorTable]) -> list[str]:
    """The page: dialect, time, rows and gaps, a line a sensor, and what a person should look at. `tables` are of one machine."""
    dialect = tables[0].dialect
    values = np.concatenate([table.readings for table in tables]).astype(np.float64)
    values += np.array([channel.offset for channel in tables[0].channels])
    lines = [f"read as: {describe_dialect(dialect)}", f"time: {describe_time(dialect, tables)}", *_rows_and_gaps(tables)]
    width = max(len(channel.name) for channel in tables[0].channels)
    for index, channel in enumerate(tables[0].channels):
        column = values[:, index]
        known = column[np.isfinite(column)]
        remarks = [f"{np.isnan(column).mean():.1%} missing"] if np.isnan(column).any() else []
        remarks += sensor_remarks(column, [table.readings[:, index] for table in tables])
        twin = next(
            (other.name for i, other in enumerate(tables[0].channels[:index]) if np.array_equal(values[:, i], column, equal_nan=True)), ""
        )
        remarks += [f"the same as {twin}"] if twin else []
        remarks += [f"held for {channel.hold_s:g} s"] if channel.hold_s else []
        remarks += [f"less {channel.offset:.10g}"] if channel.offset else []
        digits = 14 if channel.offset else 6
        span = f"{known.min():.{digits}g} to {known.max():.{digits}g}, median {np.median(known):.{digits}g}" if len(known) else "no reading"
        lines.append(f"  {channel.name:{width}}  {span} {channel.unit}".rstrip() + (f"; {', '.join(remarks)}" if remarks else ""))
    return [*lines, *describe_patterns(tables)]


def describe_patterns(tables: Sequence[SensorTable]) -> list[str]:
    """Which sensors have a daily or a weekly pattern, how much it explains, and which days of the week it does not know; [] without any."""
    lines = []
    for word in ("daily", "weekly"):
        shares = {c.name: c.pattern for c in tables[0].channels if c.pattern is not None and c.pattern.word == word}
        if not shares:
            continue
        most = sorted(shares.items(), key=lambda item: -item[1].share)
        named = _listed([f"{pattern.share:.0%} of {name}" for name, pattern in most[:MANY_PATTERNS]])
        more = f", and a part of {len(most) - MANY_PATTERNS} more sensors" if len(most) > MANY_PATTERNS else ""
        line = f"a {word} pattern explains {named}{more}; it is taken off before scoring"
        zone = most[0][1].zone
        seen = np.concatenate([wall_clock(table.times[table.usable], zone) // DAY_S % 7 for table in tables])
        unknown = [day for number, day in enumerate(_DAYS) if not (seen == number).any()]
        if word == "daily" and unknown:
            line += f"; the record holds no {_listed(unknown, 'or')}: learn from a whole week where that is run otherwise"
        lines.append(line)
    return lines


def _listed(parts: Sequence[str], word: str = "and") -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} {word} {parts[-1]}"


def _rows_and_gaps(tables: Sequence[SensorTable]) -> list[str]:
    steps = np.concatenate([np.diff(table.times) for table in tables])
    rows, period = sum(len(table.times) for table in tables), tables[0].period_s
    near = steps[steps <= tables[0].max_gap_s]
    files = f" in {len(tables)} files" if len(tables) > 1 else ""
    learnt = sum(int(table.usable.sum()) for table in tables)
    lines = [f"rows: {rows}{files}, {learnt} to learn from; {_steps_words(near, period)}"]
    gaps = [
        (float(step), float(table.times[at]))
        for table in tables
        for at, step in enumerate(np.diff(table.times))
        if step > table.max_gap_s
    ]  # fmt: skip
    if gaps:
        named = ", ".join(f"{step:g} s after {_moment(at, tables[0].dialect.zone)}" for step, at in sorted(gaps, reverse=True)[:MANY_GAPS])
        lines.append(f"gaps: {len(gaps)} longer than {tables[0].max_gap_s:g} s, which no window spans; the longest {named}")
    return lines


def _steps_words(steps: NDArray[np.float64], period: float) -> str:
    """How even the steps (n,) between rows are, in seconds.

    >>> _steps_words(np.full(20, 10.0), 10.0), _steps_words(np.append(np.full(99, 10.0), 20.0), 10.0)
    ('steps of 10 s, all equal', 'steps of 10 s, all but 1 in 100 equal')
    >>> _steps_words(np.linspace(9.5, 10.5, 21), 10.0)
    'steps of about 10 s, 95 in 100 to within 0.5 s'
    """
    off = np.abs(steps - period)
    other = float((off > EVEN * period).mean()) if len(steps) else 0.0
    if other == 0:
        return f"steps of {period:g} s, all equal"
    if other <= 0.05:
        return f"steps of {period:g} s, all but {max(0.1, 100 * other):.2g} in 100 equal"
    return f"steps of about {period:g} s, 95 in 100 to within {float(np.quantile(off, 0.95)):.2g} s"


def sensor_remarks(column: NDArray[np.float64], parts: Sequence[NDArray[np.float32]]) -> list[str]:
    """What stands out in one sensor's readings (n,), which come from several tables.

    >>> column = np.arange(100) % 2.0
    >>> sensor_remarks(column, [column.astype(np.float32)])
    ['only 0 and 1: a switch, or a label to name in [input] labels']
    """
    known = column[np.isfinite(column)]
    if not len(known):
        return []
    distinct = np.unique(known)
    if len(distinct) == 1:
        return ["constant"]
    if len(distinct) == 2 and set(distinct) == {0.0, 1.0}:
        return ["only 0 and 1: a switch, or a label to name in [input] labels"]
    remarks = []
    still, where = max((longest_still(part) for part in parts), default=(0, 0))
    moving = float(np.mean(np.diff(known) != 0))
    if still >= max(FROZEN_ROWS, FROZEN_SHARE * len(column)) and moving > 0.5:
        remarks.append(f"frozen for {still} rows from row {where + 1}")
    tenth = len(known) // 10
    if tenth >= 20:
        first, last = known[:tenth], known[-tenth:]
        spread = 1.4826 * np.median([np.median(np.abs(chunk - np.median(chunk))) for chunk in np.array_split(known, 10)])
        if spread > 0 and abs(np.median(last) - np.median(first)) > DRIFTS * spread:
            remarks.append(f"drifts from {np.median(first):.4g} to {np.median(last):.4g}")
    return remarks
