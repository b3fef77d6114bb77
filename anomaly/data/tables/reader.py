"""Reading sensor tables: CSV or Parquet, one time column, one column per sensor. What is wrong with them is counted, not hidden.

Plain NumPy and pandas: the edge parses the rows of a growing CSV with the same functions.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from anomaly.errors import DataError, RecordError
from anomaly.schema import Channel, within_limits

TIME_NAMES = ("time", "timestamp", "datetime", "date", "ts", "date_time", "date time")
BLANKS = ("", "nan", "null", "none", "na", "n/a")  # how a missing reading is written, in lower case
_SHOWN = 3  # examples of each kind of trouble that are quoted in full


@dataclass
class ReadReport:
    """Counts of what was found wrong in a table; `notes` quotes the first few places and says what was done."""

    rows: int = 0
    missing_cells: int = 0
    bad_cells: int = 0
    out_of_limits: int = 0
    duplicate_times: int = 0
    out_of_order: int = 0
    gaps: int = 0
    bad_rows: int = 0
    notes: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        if len(self.notes) < 20:
            self.notes.append(text)

    def summary(self) -> dict[str, int]:
        return {name: value for name, value in vars(self).items() if name != "notes" and value}


@dataclass(frozen=True)
class SensorTable:
    """Readings in time order. `times` (n,) seconds since 1970 UTC, `values` (n, C) float32 with NaN = missing,
    `usable` (n,) False where the operating mode is not one to judge, `labels` by column name (n,)."""

    path: Path
    channels: tuple[Channel, ...]
    times: NDArray[np.float64]
    values: NDArray[np.float32]
    usable: NDArray[np.bool_]
    labels: dict[str, NDArray[np.float64]]
    period_s: float
    max_gap_s: float
    report: ReadReport


@dataclass(frozen=True)
class TableSchema:
    """What to take from a table. Empty `channels` = every numeric column that is neither time, label nor mode."""

    channels: tuple[Channel, ...] = ()
    time: str | None = None
    labels: tuple[str, ...] = ()
    mode_column: str | None = None
    modes: tuple[str, ...] = ()
    period_s: float | None = None
    max_gap_s: float | None = None


def read_table(path: Path, schema: TableSchema) -> SensorTable:
    """Read one table. Raises DataError for what makes the whole file unusable, naming file, row or column and fix.

    Text in a number's cell becomes missing; rows out of order are sorted; of rows with the same time the last is kept;
    gaps are kept as they are (no window spans one). All of it is counted in the table's `report`.

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
    frame = _read_frame(path, report)
    time_column = schema.time or find_time_column(frame, path)
    if time_column not in frame:
        raise DataError(f"{path}: no time column {time_column!r}; columns are {list(frame)}")
    times = parse_times(frame[time_column], path, report)
    channels = schema.channels or _find_channels(frame, schema, time_column, path)
    numbers = np.column_stack([_numbers(frame, channel, path, report) for channel in channels])
    values = within_limits(numbers, channels)
    report.out_of_limits = int(np.isnan(values).sum() - np.isnan(numbers).sum())
    labels = {name: _label(frame[name]) for name in schema.labels if name in frame}
    usable = _usable(frame, schema, path)
    keep = ~np.isnan(times)
    times, values, usable = times[keep], values[keep], usable[keep]
    labels = {name: label[keep] for name, label in labels.items()}
    order = _time_order(times, report)
    times, values, usable = times[order], values[order], usable[order]
    if len(times) == 0:
        raise DataError(f"{path}: no row with a readable time; check the time column {time_column!r}")
    period = schema.period_s or (float(np.median(np.diff(times))) if len(times) > 1 else 1.0)
    max_gap = schema.max_gap_s or 10 * period
    report.rows = len(times)
    report.gaps = int((np.diff(times) > max_gap).sum())
    report.missing_cells = int(np.isnan(values).sum())
    sorted_labels = {name: label[order] for name, label in labels.items()}
    return SensorTable(path, channels, times, values, usable, sorted_labels, period, max_gap, report)


def _read_frame(path: Path, report: ReadReport) -> pd.DataFrame:
    if not path.is_file():
        raise DataError(f"{path}: no such table; give a CSV or Parquet file")
    if path.stat().st_size == 0:
        raise DataError(f"{path}: the file is empty (0 bytes); export it again")
    if path.suffix.lower() in (".parquet", ".pq"):
        try:
            return pd.read_parquet(path)
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: not a readable Parquet file ({error}); export it again") from error
    return _read_csv(path, report)


def sniff_separator(header: str) -> str:
    """The separator of a CSV by its first line: of `;`, tab and `,` the one that occurs most.

    >>> sniff_separator("time;flow, l/min;pressure, bar")
    ';'
    """
    return max(";\t,", key=header.count)


def check_header(names: Sequence[str], path: Path) -> None:
    """Raise DataError unless `names` looks like column names: given, all different, not numbers."""
    if all(_is_number(name) for name in names):
        raise DataError(f"{path}: the first line holds numbers, not column names ({', '.join(names[:4])} …); add a header line")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"{path}: column names occur twice: {twice}; rename them")


def _read_csv(path: Path, report: ReadReport) -> pd.DataFrame:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            first = stream.readline()
            separator = sniff_separator(first)
            names = [name.strip() for name in next(csv.reader([first], delimiter=separator), [])]
            check_header(names, path)
            rows: list[list[str]] = []
            for number, row in enumerate(csv.reader(stream, delimiter=separator), start=2):
                if len(row) == len(names):
                    rows.append(row)
                elif row:
                    _bad_row(path, report, number, len(row), names, any_good=bool(rows))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not readable as UTF-8 CSV ({error}); export it as CSV with UTF-8") from error
    if not rows:
        raise DataError(f"{path}: a header but no rows; export it again")
    return pd.DataFrame(rows, columns=names, dtype=object)


def _bad_row(path: Path, report: ReadReport, number: int, fields: int, names: list[str], *, any_good: bool) -> None:
    """A header that is shifted against its rows shows in the first rows; a later row of another length is one bad record."""
    if not any_good and report.bad_rows >= 2:
        raise DataError(
            f"{path}: row {number} has {fields} fields but the header names {len(names)} "
            f"({', '.join(names[:4])} …); the header is shifted or a column name is missing"
        )
    report.bad_rows += 1
    if report.bad_rows <= _SHOWN:
        report.note(f"{path}: row {number} has {fields} fields instead of {len(names)}; left out")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def find_time_column(frame: pd.DataFrame, path: Path) -> str:
    """The time column: one of the usual names, or else the first column that reads as dates. Raises DataError if none."""
    for name in frame.columns:
        if str(name).strip().lower() in TIME_NAMES:
            return str(name)
    for name in frame.columns:
        if pd.api.types.is_datetime64_any_dtype(frame[name]):
            return str(name)
        head = frame[name].head(50)
        if not head.map(lambda cell: _is_number(str(cell))).any() and pd.to_datetime(head, errors="coerce", format="mixed").notna().all():
            return str(name)
    raise DataError(f'{path}: no time column found among {list(frame.columns)}; name it in the spec: [input] time = "…"')


def time_divisor(size: float) -> float:
    """By what a time since 1970 is divided to give seconds. Its unit (s, ms, us or ns) shows in its size.

    >>> time_divisor(1_767_225_600.0), time_divisor(1_767_225_600_000.0)
    (1.0, 1000.0)
    """
    return next((divisor for limit, divisor in ((1e17, 1e9), (1e14, 1e6), (1e11, 1e3)) if size > limit), 1.0)


def parse_times(column: pd.Series, path: Path, report: ReadReport) -> NDArray[np.float64]:
    """Times (n,) in seconds since 1970 UTC; NaN where unreadable (counted). Numbers are taken as seconds (or ms, us, ns)."""
    numbers = pd.to_numeric(column, errors="coerce") if not pd.api.types.is_datetime64_any_dtype(column) else None
    if numbers is not None and numbers.notna().mean() > 0.5:
        times = numbers.to_numpy(dtype=np.float64)
        times = times / time_divisor(float(np.nanmedian(np.abs(times))))
    else:
        stamps = pd.to_datetime(column, errors="coerce", utc=True, format="mixed").to_numpy(dtype="datetime64[ns]")
        times = stamps.astype(np.int64) / 1e9
        times[np.isnat(stamps)] = np.nan
    unreadable = np.flatnonzero(np.isnan(times))
    report.bad_rows += len(unreadable)
    for index in unreadable[:_SHOWN]:
        report.note(f"{path}: data row {index + 1}: time {str(column.iloc[index])!r} cannot be read; row left out")
    return times


def _find_channels(frame: pd.DataFrame, schema: TableSchema, time_column: str, path: Path) -> tuple[Channel, ...]:
    skip = {time_column, schema.mode_column, *schema.labels}
    lowered = {str(name).lower() for name in schema.labels}
    found = []
    for name in frame.columns:
        if name in skip or str(name).lower() in lowered:
            continue
        numbers = pd.to_numeric(frame[name], errors="coerce")
        if numbers.notna().mean() >= 0.5:  # a column of mostly text is a remark, not a sensor
            found.append(Channel(name=str(name)))
    if not found:
        raise DataError(f"{path}: no numeric column besides time and labels; columns are {list(frame.columns)}")
    return tuple(found)


def _numbers(frame: pd.DataFrame, channel: Channel, path: Path, report: ReadReport) -> NDArray[np.float64]:
    if channel.name not in frame:
        raise DataError(f"{path}: column {channel.name!r} is missing; columns are {list(frame.columns)}")
    column = frame[channel.name]
    values = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, copy=True)
    blank = column.isna() | column.astype(str).str.strip().str.lower().isin(BLANKS)
    bad = np.flatnonzero(np.isnan(values) & ~blank.to_numpy())
    report.bad_cells += len(bad)
    for index in bad[:_SHOWN]:
        report.note(f"{path}: data row {index + 1}, column {channel.name!r}: {str(column.iloc[index])!r} is not a number; taken as missing")
    return values


def _label(column: pd.Series) -> NDArray[np.float64]:
    return pd.to_numeric(column, errors="coerce").fillna(0).to_numpy(dtype=np.float64)


def _usable(frame: pd.DataFrame, schema: TableSchema, path: Path) -> NDArray[np.bool_]:
    if schema.mode_column is None:
        return np.ones(len(frame), dtype=bool)
    if schema.mode_column not in frame:
        raise DataError(f"{path}: mode column {schema.mode_column!r} is missing; columns are {list(frame.columns)}")
    return frame[schema.mode_column].astype(str).str.strip().isin(schema.modes).to_numpy()


def _time_order(times: NDArray[np.float64], report: ReadReport) -> NDArray[np.int64]:
    """Positions in time order, the last of equal times kept; disorder and duplicates counted."""
    report.out_of_order += int((np.diff(times) < 0).sum())
    order = np.argsort(times, kind="stable")
    ordered = times[order]
    last = np.ones(len(order), dtype=bool)
    last[:-1] = ordered[1:] != ordered[:-1]
    report.duplicate_times += int((~last).sum())
    return order[last]


def parse_cells(cells: Iterable[str], channels: Sequence[Channel], where: str) -> NDArray[np.float32]:
    """One row's readings (C,) float32 from text cells; a blank is NaN. Raises RecordError naming the column for other text in a cell.

    >>> parse_cells(["1.5", " n/a ", "70"], [Channel(name="a"), Channel(name="b"), Channel(name="c", high=50)], "row 2")
    array([1.5, nan, nan], dtype=float32)
    """
    values = np.empty(len(channels))
    for index, (cell, channel) in enumerate(zip(cells, channels, strict=True)):
        text = cell.strip()
        try:
            values[index] = np.nan if text.lower() in BLANKS else float(text)
        except ValueError as error:
            raise RecordError(f"{where}, column {channel.name!r}: {text!r} is not a number") from error
    return within_limits(values, channels)
