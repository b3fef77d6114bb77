"""THE reader of sensor tables: CSV, Excel or Parquet by their dialect, one time, one column per sensor. What is wrong is counted and said.

Plain NumPy, pandas and Arrow: the edge reads a growing CSV by the same functions (`anomaly.edge.sources.csv_file`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from anomaly.data.tables.dialect.cells import read_numbers
from anomaly.data.tables.dialect.find import dialect_of
from anomaly.data.tables.dialect.load import RawTable, load
from anomaly.data.tables.dialect.refused import LOST, as_written, check_lost, hold_digits, mend, otherwise
from anomaly.data.tables.dialect.times import name_no_zone, read_times, usual_period
from anomaly.data.tables.hold import FEWEST, Holder, fit_channels, slow_interval
from anomaly.data.tables.order import RepeatedHour, RowOrder, back_an_hour
from anomaly.data.tables.pattern.take_off import without_pattern
from anomaly.data.tables.units import unit_in
from anomaly.errors import DataError
from anomaly.schema import Channel, Dialect, within_limits

SHUFFLED = 0.2  # of the steps from row to row that go back in time, from which on rows are in no order
_SHOWN = 3  # examples of each kind of trouble that are quoted in full
_TRUE = ("true", "yes", "ja", "anomaly", "anomalous", "fault", "faulty", "abnormal", "bad", "ng")


@dataclass
class ReadReport:
    """Counts of what was found wrong in a table; `notes` quotes the first few places and says what was done.

    `encoding` says that the file was read in another encoding than its dialect tells, "" where it was not. `no_zone`: its times are of a
    clock whose zone nobody has told; they are taken as UTC.
    """

    rows: int = 0
    missing_cells: int = 0
    bad_cells: int = 0
    out_of_limits: int = 0
    duplicate_times: int = 0
    out_of_order: int = 0
    gaps: int = 0
    bad_rows: int = 0
    notes: list[str] = field(default_factory=list)
    encoding: str = ""
    no_zone: bool = False
    words: Counter[str] = field(default_factory=Counter)  # words in columns of numbers that were not known to mean "no reading"

    def note(self, text: str) -> None:
        if len(self.notes) < 20:
            self.notes.append(text)

    def read_by(self, path: Path, schema: TableSchema) -> Dialect:
        """The dialect of a file, with a note where it is in another encoding than the schema says. Raises DataError as `find_dialect`."""
        dialect, self.encoding = dialect_of(path, schema.asked, [channel.name for channel in schema.channels])
        if self.encoding:
            self.note(self.encoding)
        return dialect

    def summary(self) -> dict[str, int]:
        return {name: value for name, value in vars(self).items() if name not in ("notes", "words", "encoding", "no_zone") and value}


@dataclass(frozen=True)
class SensorTable:
    """Readings in time order.

    `times` (n,) seconds since 1970 UTC, `values` (n, C) float32 with NaN = missing, less each channel's offset and pattern, `usable` (n,)
    False where the operating mode is not one to judge and in a row before which an hour was left out, `labels` by column name (n,),
    `lines` (n,) each row's line in its file. `readings` (n, C) are the same with the pattern in them: what people and the rules for
    sensors look at.
    """

    path: Path
    channels: tuple[Channel, ...]
    times: NDArray[np.float64]
    values: NDArray[np.float32]
    usable: NDArray[np.bool_]
    labels: dict[str, NDArray[np.float64]]
    period_s: float
    max_gap_s: float
    report: ReadReport
    lines: NDArray[np.int64]
    dialect: Dialect
    readings: NDArray[np.float32]


@dataclass(frozen=True)
class TableSchema:
    """What to take from a table. Empty `channels` = every numeric column that is neither time, label nor mode.

    What `dialect` leaves open is found in the table itself.
    """

    channels: tuple[Channel, ...] = ()
    time: str | None = None
    labels: tuple[str, ...] = ()
    mode_column: str | None = None
    modes: tuple[str, ...] = ()
    period_s: float | None = None
    max_gap_s: float | None = None
    dialect: Dialect = field(default_factory=Dialect)

    @property
    def learnt(self) -> bool:
        """Whether this is a bundle's, which tells all: there is no spec to change."""
        return self.dialect.complete and bool(self.channels)

    def to_mend(self, path: Path, keys: str) -> str:
        """What to do about a file that cannot be read by this."""
        return mend(self.learnt, keys) + otherwise(path, self.asked)

    @property
    def asked(self) -> Dialect:
        """The dialect, with the time column that a schema without one names."""
        return self.dialect.model_copy(update={"time": (self.time,)}) if self.time and not self.dialect.time else self.dialect


def read_table(path: Path, schema: TableSchema, *, learn: bool = False) -> SensorTable:
    """Read one table. Raises DataError for what makes the whole file unusable, naming file, row or column and fix.

    A cell that is neither a number nor a known word becomes missing; rows out of order are sorted; of rows with the same time the last is
    kept; a row stamped far ahead of those after it is left out; gaps are kept as they are (no window spans one). All of it is counted in
    the table's `report`. With `learn` the channels get offset and hold by their readings (`hold.fit_channels`), unless they are given.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder) / "pump.csv"
    ...     _ = path.write_text("time;flow\\n2026-01-01T00:00:00Z;1.5\\n2026-01-01T00:00:02Z;fault\\n2026-01-01T00:00:01Z;1.7\\n")
    ...     table = read_table(path, TableSchema())
    >>> table.channels[0].name, table.values[:, 0].tolist(), table.period_s
    ('flow', [1.5, 1.7000000476837158, nan], 1.0)
    >>> table.report.summary()
    {'rows': 3, 'missing_cells': 1, 'bad_cells': 1, 'out_of_order': 1}
    """
    report = ReadReport()
    dialect = report.read_by(path, schema)
    raw = load(path, dialect)
    times, order, anew = read_order(raw, schema, dialect, report)
    period, max_gap = spacing(times, schema)
    channels, numbers = _readings(raw, schema, dialect, times, order, period, report)
    if learn:
        channels, said = fit_channels(channels, times, numbers, period)
        for text in said:
            report.note(f"{path}: {text}")
    limited = within_limits(numbers, channels)
    report.out_of_limits = int(np.isnan(limited).sum() - np.isnan(numbers).sum())
    _tell_silent(path, channels, limited, report)
    readings = Holder(channels).fill(times, limited)
    labels = {name: _label(raw.columns[name], dialect)[order] for name in schema.labels if name in raw.columns}
    usable = usable_rows(raw, schema)[order] & ~anew
    report.rows = len(times)
    report.gaps = int((np.diff(times) > max_gap).sum())
    report.missing_cells = int(np.isnan(readings).sum())
    values, lines = without_pattern(times, readings, channels), raw.lines[order]
    return SensorTable(path, channels, times, values, usable, labels, period, max_gap, report, lines, dialect, readings)


def _tell_silent(path: Path, channels: Sequence[Channel], values: NDArray[np.float32], report: ReadReport) -> None:
    """Note the sensors without any reading among the values (n, C). Raises DataError where none has one."""
    read = np.isfinite(values).sum(axis=0)
    silent = [channel.name for channel, count in zip(channels, read, strict=True) if not count]
    if len(silent) == len(channels):
        raise DataError(f"{path}: no sensor has a reading in any of its {len(values)} rows (empty cells, infinities, beyond limits)")
    for name in silent:
        report.note(f"{path}: sensor {name!r} has no reading in any of {len(values)} rows; it is judged by the others alone")


def read_order(
    raw: RawTable, schema: TableSchema, dialect: Dialect, report: ReadReport
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.bool_]]:
    """The times (n,) of the rows that are kept, in order, in seconds since 1970 UTC; which rows (n,) these are; and which begin anew.

    Before a row (n,) that begins anew an hour was left out, which its time does not show: no window may span it. Raises DataError where no
    row is kept.
    """
    for line, cells in raw.bad[:_SHOWN]:
        report.note(f"{raw.path}: row {line} has {cells} fields instead of {len(raw.columns)}; left out")
    report.bad_rows += len(raw.bad)
    times = _times(raw, dialect, schema, report)
    keep = np.flatnonzero(np.isfinite(times))
    within, anew = _time_order(times[keep], raw.lines[keep], schema, dialect, raw.path, report)
    order = keep[within]
    if not len(order):
        raise DataError(f"{raw.path}: no row with a readable time; check the time column {' + '.join(dialect.time)!r}")
    return times[order], order, anew[within]


def spacing(times: NDArray[np.float64], schema: TableSchema) -> tuple[float, float]:
    """The usual seconds between rows in time order, and from how many on there is a gap: as the schema says, else by the times."""
    period = schema.period_s or (float(np.median(np.diff(times))) if len(times) > 1 else 1.0)
    return period, schema.max_gap_s or 10 * period


def _times(raw: RawTable, dialect: Dialect, schema: TableSchema, report: ReadReport) -> NDArray[np.float64]:
    """Times (n,) in seconds since 1970 UTC; NaN where unreadable (counted). Raises DataError where that is more than `LOST` of them."""
    gone = [name for name in dialect.time if name not in raw.columns]
    if gone:
        raise DataError(f"{raw.path}: no time column {gone[0]!r}; columns are {raw.names}")
    columns = [raw.columns[name] for name in dialect.time]
    times = read_times(columns, dialect, schema.period_s)
    report.no_zone = name_no_zone(columns, dialect)
    unread = np.flatnonzero(np.isnan(times))
    filled = unread[np.asarray(pc.is_valid(columns[0]))[unread]]
    example = [f"line {raw.lines[at]}: time {str(columns[0][int(at)].as_py())!r}" for at in filled[:_SHOWN]]
    if len(filled) > LOST * len(times) and len(filled) > 1:
        written = as_written(columns[0], int(filled[0]), dialect)
        raise DataError(
            f"{raw.path}: {len(filled)} of {len(times)} times cannot be read as {' or '.join(dialect.time_format)}"
            f"{f' in {dialect.zone}' if dialect.zone else ''} ({example[0]}{written}); {mend(schema.learnt, 'time_format and zone')}"
        )
    report.bad_rows += len(unread)
    for text in example:
        report.note(f"{raw.path}: {text} cannot be read; row left out")
    return times


def _time_order(
    times: NDArray[np.float64], lines: NDArray[np.int64], schema: TableSchema, dialect: Dialect, path: Path, report: ReadReport
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Positions in time order, without stray rows, the last of equal times kept; and which of all rows (n,) begin anew.

    Disorder and duplicates are counted.
    """
    anew = np.zeros(len(times), bool)
    if not len(times):
        return np.empty(0, np.int64), anew
    steps = np.diff(times)
    positions = np.arange(len(times))
    if len(steps) > 2 and (steps < 0).mean() > 0.9:
        report.note(f"{path}: the newest row comes first; read from the end")
        positions = positions[::-1]
    if len(steps) > 2 and (np.diff(times[positions]) < 0).mean() > SHUFFLED:
        report.note(f"{path}: its rows are in no order of time; sorted")
    else:
        positions, anew = _without_stray(positions, times, lines, schema, dialect, path, report)
    report.out_of_order += int((np.diff(times[positions]) < 0).sum())
    order = positions[np.argsort(times[positions], kind="stable")]
    ordered = times[order]
    if len(order) > 1 and ordered[0] == ordered[-1]:
        raise DataError(
            f"{path}: all {len(order)} rows have the same time, {np.datetime64(int(ordered[0]), 's')}; is {' + '.join(dialect.time)!r} the "
            "time column, and its clock fine enough? Export a time for each row"
        )
    last = np.ones(len(order), dtype=bool)
    last[:-1] = ordered[1:] != ordered[:-1]
    twice = int((~last).sum())
    report.duplicate_times += twice
    if twice:
        first = lines[order[np.flatnonzero(~last)[0]]]
        report.note(
            f"{path}: {twice} {'row has' if twice == 1 else 'rows have'} the time of a later row, the first is row {first}; left out"
        )
    return order[last], anew


def _without_stray(
    positions: NDArray[np.int64],
    times: NDArray[np.float64],
    lines: NDArray[np.int64],
    schema: TableSchema,
    dialect: Dialect,
    path: Path,
    report: ReadReport,
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The positions without rows that are stamped far ahead of those after them, or in an hour that is there twice; counted and noted.

    And which of all rows (n,) come after such an hour. Only rows that are in order but for a few can tell which of them are wrong.
    """
    gap = schema.max_gap_s or 10 * (schema.period_s or usual_period(times[positions]))
    taken = RowOrder(gap).take(times[positions])
    left_out = taken.stray | _repeated_hour(times[positions], taken.kept | taken.stray, dialect, path, report)
    for at in positions[taken.stray][:_SHOWN]:
        moment = np.datetime64(int(times[at]), "s")
        report.note(f"{path}: row {lines[at]} is stamped {moment}, far ahead of the rows after it; left out")
    report.bad_rows += int(left_out.sum())
    anew = np.zeros(len(times), bool)
    if not dialect.zone:
        anew[positions] = RepeatedHour(gap).take(times[positions], taken)
    return positions[~left_out], anew


def _repeated_hour(
    times: NDArray[np.float64], in_order: NDArray[np.bool_], dialect: Dialect, path: Path, report: ReadReport
) -> NDArray[np.bool_]:
    """Rows (n,) of an hour that a local clock showed twice, where no zone says so: they cannot be told from the first hour's."""
    late = np.zeros(len(times), bool)
    if dialect.zone:
        return late
    back = np.flatnonzero(back_an_hour(np.diff(times)) & ~in_order[1:]) + 1
    for start in back:
        stop = start + int(np.argmax(np.append(in_order[start:], True)))
        late[start:stop] = True
        report.note(
            f"{path}: the clock goes back by an hour, and {stop - start} rows repeat times; left out. If it is local time, name its zone "
            'in the spec: [input] zone = "Europe/Berlin"'
        )
    return late


def _readings(
    raw: RawTable,
    schema: TableSchema,
    dialect: Dialect,
    times: NDArray[np.float64],
    order: NDArray[np.int64],
    period: float,
    report: ReadReport,
) -> tuple[tuple[Channel, ...], NDArray[np.float64]]:
    """The channels, those given or found, and their readings (n, C) in float64, in time order."""
    found: list[Channel] = []
    columns: list[NDArray[np.float64]] = []
    skip = {*dialect.time, schema.mode_column, *schema.labels}
    lowered = {str(name).lower() for name in schema.labels}
    check_sensors(raw.path, raw.names, schema)
    candidates = schema.channels or tuple(
        Channel(name=name, unit=raw.units.get(name) or unit_in(name))
        for name in raw.columns
        if name not in skip and name.lower() not in lowered
    )
    for channel in candidates:
        values, unread = read_numbers(raw.columns[channel.name], dialect)
        why = "" if schema.channels else _why_no_sensor(values[order], unread[order], times, period)
        if why:
            report.note(f"{raw.path}: column {channel.name!r} is no sensor: {why}")
            continue
        _tell_unread(raw, channel.name, unread, schema, report)
        _tell_words(raw, channel.name, np.isnan(values) & ~unread, report)
        found.append(channel)
        columns.append(values[order])
    if not found:
        raise DataError(f"{raw.path}: no numeric column besides time and labels; columns are {raw.names}")
    return tuple(found), np.column_stack(columns)


def check_sensors(path: Path, names: Sequence[str], schema: TableSchema) -> None:
    """Raise DataError unless a table with columns of these names has all sensors of the schema."""
    missing = [channel.name for channel in schema.channels if channel.name not in names]
    if missing:
        what = f"column {missing[0]!r} is" if len(missing) == 1 else f"columns {missing} are"
        raise DataError(f"{path}: {what} missing; columns are {list(names)}{otherwise(path, schema.asked)}")


def _why_no_sensor(values: NDArray[np.float64], unread: NDArray[np.bool_], times: NDArray[np.float64], period: float) -> str:
    """Why a column that nobody has named is not a sensor, "" when it is one."""
    known = np.isfinite(values)
    if unread.sum() > known.sum():
        return "most of its cells are text"
    if not known.any():
        return "it holds no reading"
    if known.mean() < 0.5 and slow_interval(times[known], period) is None:
        few = "too few to tell how often it reports" if known.sum() < FEWEST else "at no steady interval"
        return f"{known.sum()} readings in {len(values)} rows, {few}; name it in [input] sensors to use it all the same"
    return ""


def column_numbers(
    raw: RawTable, name: str, dialect: Dialect, report: ReadReport, schema: TableSchema = TableSchema()
) -> NDArray[np.float64] | None:
    """A column's numbers (n,), None where most of its cells are text. Raises DataError where more than `LOST` of them cannot be read."""
    values, unread = read_numbers(raw.columns[name], dialect)
    if not pa.types.is_string(raw.columns[name].type) and unread.any():
        return None
    if unread.sum() > np.isfinite(values).sum():
        return None
    _tell_unread(raw, name, unread, TableSchema(), report)
    return values


def _tell_unread(raw: RawTable, name: str, unread: NDArray[np.bool_], schema: TableSchema, report: ReadReport) -> None:
    """Note the cells (n,) that could not be read. Raises DataError where more than `LOST` of them hold digits: then they are numbers."""
    at = np.flatnonzero(unread)
    if not len(at):
        return
    report.bad_cells += len(at)
    cells = pc.cast(raw.columns[name].take(pa.array(at)), pa.string())
    digits = hold_digits(cells)
    if digits.any():
        line, cell = raw.lines[at[digits][0]], cells[int(np.flatnonzero(digits)[0])].as_py()
        example = f"{cell!r} in line {line}"
        check_lost(raw.path, name, int(digits.sum()), len(unread), example, lambda: schema.to_mend(raw.path, "decimal and thousands"))
    report.words.update(str(word).strip().lower() for word in cells.filter(pa.array(~digits)).to_pylist())
    for index, cell in zip(at[:_SHOWN], cells[:_SHOWN].to_pylist(), strict=True):
        report.note(f"{raw.path}: line {raw.lines[index]}, column {name!r}: {cell!r} is not a number; taken as missing")
    if len(at) > _SHOWN:
        report.note(f"{raw.path}: sensor {name!r}: {len(at)} cells are no numbers; taken as missing")


def _tell_words(raw: RawTable, name: str, missing: NDArray[np.bool_], report: ReadReport) -> None:
    """Note the words that stand for no reading, such as a historian's `I/O Timeout`; cells (n,) that are `missing` hold one, or nothing."""
    column = raw.columns[name]
    if not missing.any() or not (pa.types.is_string(column.type)):
        return
    words = pc.utf8_trim_whitespace(column.take(pa.array(np.flatnonzero(missing)))).drop_null()
    for word, count in Counter(
        word for word in words.to_pylist() if len(word) > 2 and word.lower() not in ("nan", "null", "none")
    ).most_common(_SHOWN):
        report.note(f"{raw.path}: sensor {name!r} says {word!r} in {count} rows: no reading")


def _label(column: pa.Array, dialect: Dialect) -> NDArray[np.float64]:
    values, unread = read_numbers(column, dialect)
    if unread.any():
        words = pc.utf8_lower(pc.utf8_trim_whitespace(pc.cast(column, pa.string())))
        values = np.where(np.asarray(pc.is_in(words, value_set=pa.array(_TRUE))), 1.0, values)
    return np.nan_to_num(values, nan=0.0)


def usable_rows(raw: RawTable, schema: TableSchema) -> NDArray[np.bool_]:
    """Which rows (n,) are in an operating mode to be judged. Raises DataError without the mode's column."""
    if schema.mode_column is None:
        return np.ones(len(raw.lines), dtype=bool)
    if schema.mode_column not in raw.columns:
        raise DataError(f"{raw.path}: mode column {schema.mode_column!r} is missing; columns are {raw.names}")
    words = pc.utf8_trim_whitespace(pc.cast(raw.columns[schema.mode_column], pa.string()))
    return np.asarray(pc.is_in(words, value_set=pa.array(list(schema.modes), pa.string())).fill_null(False))
