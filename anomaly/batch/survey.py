"""One pass over a table before it is scored: which rows are kept, in which order, and what of them is set aside.

The order is that of THE reader on the whole table. So it does not depend on where the table is then cut.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from anomaly.batch.blocks import BLOCK_BYTES, Block, Blocks, read_lines
from anomaly.data.tables.dialect.cells import read_numbers
from anomaly.data.tables.dialect.load import RawTable, whole_array
from anomaly.data.tables.dialect.refused import check_lost, hold_digits
from anomaly.data.tables.hold import Holder
from anomaly.data.tables.pattern.take_off import without_pattern
from anomaly.data.tables.reader import (
    ReadReport,
    SensorTable,
    TableSchema,
    check_sensors,
    read_order,
    spacing,
    usable_rows,
)
from anomaly.errors import DataError
from anomaly.schema import Dialect, within_limits

ROW = np.dtype([("line", "<i8"), ("time", "<f8"), ("anew", "?")])


@dataclass(frozen=True)
class Surveyed:
    """What must be known of a table to read any part of it.

    `rows` (n,) of `ROW`: the line in the file and the time (s since 1970 UTC) of each row that is kept, in time order, and whether it
    begins anew (`read_order`). `aside` are the others: (line, reason).
    """

    rows: NDArray[np.void]
    blocks: list[Block]
    dialect: Dialect
    period_s: float
    max_gap_s: float
    aside: list[tuple[int, str]]
    notes: list[str]


def survey(path: Path, schema: TableSchema, size: int = BLOCK_BYTES) -> Surveyed:
    """Go through a table once. Raises DataError as `read_table` does for one that cannot be used as a whole."""
    report = ReadReport()
    dialect = report.read_by(path, schema)
    blocks = Blocks(path, dialect)
    check_sensors(path, blocks.names, schema)
    if schema.mode_column is not None and schema.mode_column not in blocks.names:
        raise DataError(f"{path}: mode column {schema.mode_column!r} is missing; columns are {blocks.names}")
    gone = [name for name in dialect.time if name not in blocks.names]
    if gone:
        raise DataError(f"{path}: no time column {gone[0]!r}; columns are {blocks.names}")
    index: list[Block] = []
    parts: list[RawTable] = []
    unread = _Unread(path)
    sensors = [channel.name for channel in schema.channels]
    for block, raw in blocks.all([*dialect.time, *sensors], size):
        index.append(block)
        unread.take(raw, sensors, dialect)
        parts.append(RawTable(path, {name: raw.columns[name] for name in dialect.time}, raw.lines, raw.bad))
    whole = _joined(parts)
    unread.check(len(whole.lines), schema)
    times, order, anew = read_order(whole, schema, dialect, report)
    rows = np.empty(len(order), ROW)
    rows["line"], rows["time"], rows["anew"] = whole.lines[order], times, anew
    period, gap = spacing(times, schema)
    return Surveyed(rows, index, dialect, period, gap, _aside(whole, order, len(blocks.names)), [*report.notes, *unread.notes()])


class _Unread:
    """Cells of sensors that could not be read, counted over all blocks."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._cells: Counter[str] = Counter()
        self._lost: Counter[str] = Counter()
        self._example: dict[str, str] = {}

    def take(self, raw: RawTable, sensors: list[str], dialect: Dialect) -> None:
        for name in sensors:
            at = np.flatnonzero(read_numbers(raw.columns[name], dialect)[1])
            if not len(at):
                continue
            cells = raw.columns[name].take(pa.array(at))
            digits = np.flatnonzero(hold_digits(cells))
            self._cells[name] += len(at)
            self._lost[name] += len(digits)
            if len(digits):
                example = f"{str(cells[int(digits[0])].as_py())!r} in line {raw.lines[at[digits[0]]]}"
                self._example.setdefault(name, example)

    def check(self, rows: int, schema: TableSchema) -> None:
        """Raise DataError where too many cells of a sensor are lost."""

        def hint() -> str:
            return schema.to_mend(self._path, "decimal and thousands")

        for name, lost in self._lost.items():
            if lost:
                check_lost(self._path, name, lost, rows, self._example[name], hint)

    def notes(self) -> list[str]:
        return [f"{self._path}: sensor {name!r}: {count:,} cells are no numbers; taken as missing" for name, count in self._cells.items()]


def _joined(parts: list[RawTable]) -> RawTable:
    """Tables that follow each other in one file as one."""
    chunks = {name: [part.columns[name] for part in parts if len(part.lines)] for name in parts[0].columns}
    columns = {name: pa.concat_arrays([whole_array(chunk) for chunk in column]) for name, column in chunks.items()}
    lines = np.concatenate([part.lines for part in parts])
    return RawTable(parts[0].path, columns, lines, [each for part in parts for each in part.bad])


def _aside(whole: RawTable, order: NDArray[np.int64], width: int) -> list[tuple[int, str]]:
    """The rows that are not kept, with why."""
    kept = np.zeros(len(whole.lines), bool)
    kept[order] = True
    reason = "left out: its time cannot be read, a later row has the same time, or it is stamped far from the rows around it"
    found = [(line, f"has {max(cells, 1)} fields instead of {width}") for line, cells in whole.bad]
    return sorted([*found, *((int(line), reason) for line in whole.lines[~kept])])


def read_part(path: Path, schema: TableSchema, found: Surveyed, begin: int, end: int, window: int) -> tuple[SensorTable, int]:
    """Rows `begin` to `end` of a surveyed table, and before them those that windows and slow sensors need; and how many these are.

    What is scored of these rows is what is scored of them in the whole table.
    """
    times = found.rows["time"]
    first = max(0, begin - (window - 1))
    holder = Holder(schema.channels)
    if holder.longest_s > 0:
        first = min(first, int(np.searchsorted(times, times[first] - holder.longest_s)))
    rows = np.array(found.rows[first:end])
    names = [channel.name for channel in schema.channels]
    wanted = [*names, *([schema.mode_column] if schema.mode_column is not None else [])]
    raw = read_lines(Blocks(path, found.dialect), found.blocks, rows["line"], wanted)
    numbers = np.column_stack([read_numbers(raw.columns[name], found.dialect)[0] for name in names])
    moments = np.ascontiguousarray(rows["time"])
    readings = holder.fill(moments, within_limits(numbers, schema.channels))
    values = without_pattern(moments, readings, schema.channels)
    table = SensorTable(
        path, schema.channels, moments, values, usable_rows(raw, schema) & ~rows["anew"], {}, found.period_s, found.max_gap_s, ReadReport(),
        raw.lines, found.dialect, readings,
    )  # fmt: skip
    return table, begin - first
