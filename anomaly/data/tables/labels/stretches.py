"""Labelled faults of a machine of sensors: tables with a label column, or a table of stretches that points into others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from anomaly.data.files import TABLES, find_files
from anomaly.data.spreadsheet import read_cell
from anomaly.data.tables.dialect.find import column_names, find_dialect
from anomaly.data.tables.dialect.load import load
from anomaly.data.tables.dialect.times import read_times
from anomaly.data.tables.files import label_of, table_schema
from anomaly.data.tables.reader import SensorTable, TableSchema, read_table
from anomaly.errors import DataError
from anomaly.schema import Dialect
from anomaly.spec import SensorInput

BEGIN, END, KIND = "from", "to", "kind"  # columns of a table of stretches
SHOWN = 5  # stretches that an error names


@dataclass(frozen=True)
class Span:
    """A stretch of time that someone labelled as a fault, in seconds since 1970 UTC, both ends in it; `where` names it for messages."""

    begin: float
    end: float
    kind: str
    where: str


@dataclass(frozen=True)
class LabelledTable:
    """A table with which of its rows (n,) lie in a fault, and the kind of each stretch by the row it begins at."""

    table: SensorTable
    faulty: NDArray[np.bool_]
    kinds: dict[int, str]


def fault_files(faults: Path) -> tuple[list[Path], list[Path]]:
    """(tables of stretches, tables of readings) of what [transfer] faults names. Raises DataError when there is no table."""
    paths = [faults] if faults.is_file() else find_files(faults, TABLES, deep=True)
    if not paths:
        raise DataError(
            f"{faults}: no table in it ({', '.join(sorted(TABLES))}); [transfer] faults names labelled tables, or one of stretches"
        )
    spans = [path for path in paths if _ends(column_names(path))]
    return spans, [path for path in paths if path not in spans]


def _ends(names: Sequence[str]) -> tuple[str, str] | None:
    """The columns of begin and end in a table of stretches, None for another table."""
    lowered = {name.strip().lower(): name for name in names}
    return (lowered[BEGIN], lowered[END]) if {BEGIN, END} <= set(lowered) else None


def read_spans(path: Path, asked: Dialect, forms: Sequence[str]) -> list[Span]:
    """The stretches of one table of them. Times are read by `forms`, those of the machine's own tables, else by what is found.

    Raises DataError naming the line for a time that cannot be read, or an end before its begin.
    """
    names = _ends(column_names(path))
    assert names is not None
    told = asked.model_copy(update={"time": names[:1], "time_format": tuple(forms), "decimal": ".", "thousands": ""})
    dialect = find_dialect([path], told.model_copy(update={"delimiter": None, "skip_rows": None, "units_rows": None, "encoding": None}))
    raw = load(path, dialect)
    columns = [raw.columns[name] for name in names]
    times = [read_times([column], dialect) for column in columns]
    if any(np.isnan(found).any() for found in times):  # written otherwise than the machine's own tables
        dialect = find_dialect([path], dialect.model_copy(update={"time_format": (), "encoding": None}))
        times = [read_times([column], dialect) for column in columns]
    kind = next((name for name in raw.columns if name.strip().lower() == KIND), None)
    kinds = ["" if kind is None else read_cell(str(cell or "").strip()) for cell in _words(raw.columns[kind] if kind else columns[0])]
    spans = []
    for line, begin, end, what, cells in zip(raw.lines, *times, kinds, zip(*map(_words, columns), strict=True), strict=True):
        where = f"{path}: line {line}: {cells[0]} to {cells[1]}"
        if not np.isfinite([begin, end]).all():
            forms = " or ".join(dialect.time_format)
            raise DataError(
                f"{where}: cannot be read as {forms}; write times as in the machine's own tables, or correct [input] time_format"
            )
        if end < begin:
            raise DataError(f"{where}: the end comes before the begin; swap them")
        spans.append(Span(float(begin), float(end), what, where))
    return spans


def _words(column: pa.Array) -> list[str | None]:
    found: list[str | None] = pc.cast(column, pa.string()).to_pylist()
    return found


def labelled_among(paths: Sequence[Path], faults: Path) -> list[Path]:
    """Those of a machine's tables that [transfer] faults labels: all of them where it has stretches, for these may point into any."""
    lists, tables = fault_files(faults)
    given = {path.resolve() for path in tables}
    return [path for path in paths if lists or path.resolve() in given]


def leave_out_faults(tables: Sequence[SensorTable], faults: Path, asked: SensorInput) -> None:
    """Rows of normal tables that lie in a stretch of [transfer] faults are no normals: they are not `usable` any more."""
    for span in (span for path in fault_files(faults)[0] for span in read_spans(path, asked.dialect, tables[0].dialect.time_format)):
        for table in tables:
            table.usable[(table.times >= span.begin) & (table.times <= span.end)] = False


def read_labelled(faults: Path, asked: SensorInput, learnt: Sequence[SensorTable], own: Sequence[Path]) -> list[LabelledTable]:
    """Every table of [transfer] faults with its labels; a table of stretches points into these tables and into the machine's `own`.

    `learnt` are the machine's normal tables, whose sensors, period and gap hold for all. Raises DataError naming file, row or column.
    """
    lists, paths = fault_files(faults)
    schema = replace(
        table_schema(asked), channels=learnt[0].channels, period_s=learnt[0].period_s, max_gap_s=learnt[0].max_gap_s, time=None
    )
    own_dialect = learnt[0].dialect
    spans = [span for path in lists for span in read_spans(path, asked.dialect, own_dialect.time_format)]
    found = [_by_column(_read(path, schema, faults, own_dialect), has_spans=bool(spans), kind=_folder_kind(path, faults)) for path in paths]
    if spans:
        beside = [path for path in own if path.resolve() not in {given.resolve() for given in paths}]
        found += [
            LabelledTable(table, np.zeros(len(table.times), bool), {})
            for table in (_read(path, schema, faults, own_dialect) for path in beside)
        ]
        _mark(found, spans)
    marked = [one for one in found if one.faulty.any()]
    if not marked:
        labels = sorted({str(label_of(one.table)) for one in found})
        raise DataError(f"{faults}: no row is labelled as a fault (column {', '.join(labels)}); write 1 in the rows of a fault")
    return [one for one in found if one.faulty.any() or label_of(one.table) is not None]


def _folder_kind(path: Path, faults: Path) -> str:
    """Tables may lie in folders by kind, as pictures do."""
    return path.parent.name if faults.is_dir() and path.parent != faults else ""


def _read(path: Path, schema: TableSchema, faults: Path, own: Dialect) -> SensorTable:
    """A table by what is found in it, or else as the machine's `own` tables are written."""
    try:
        return read_table(path, schema)
    except DataError as error:
        try:
            return read_table(path, replace(schema, dialect=own))
        except DataError:
            raise DataError(*error.args, f"[transfer] faults ({faults}) must name tables of this machine's sensors") from error


def _by_column(table: SensorTable, *, has_spans: bool, kind: str) -> LabelledTable:
    """A table by its label column. Raises DataError for one without, unless stretches tell its faults, or with nothing but faults."""
    label = label_of(table)
    if label is None:
        if has_spans:
            return LabelledTable(table, np.zeros(len(table.times), bool), {})
        raise DataError(
            f"{table.path}: no label column; write 1 in the rows of a fault and 0 in others, in a column that [input] labels names "
            f"(anomaly, label, …), or give a table of stretches with the columns {BEGIN}, {END} and, if you like, {KIND}"
        )
    faulty = table.labels[label] > 0
    if faulty.all():
        raise DataError(
            f"{table.path}: column {label!r} calls every one of {len(faulty)} rows a fault; 1 is a fault and 0 is normal. Give the normal "
            "rows before and after it too, or name another column in [input] labels"
        )
    begins = np.flatnonzero(np.diff(np.concatenate([[False], faulty]).astype(int)) == 1)
    return LabelledTable(table, faulty, {int(row): kind for row in begins})


def _mark(found: Sequence[LabelledTable], spans: Sequence[Span]) -> None:
    """Mark the rows of every stretch in the tables that it lies in. Raises DataError for stretches that no row lies in."""
    outside = []
    for span in spans:
        hit = False
        for one in found:
            rows = np.flatnonzero((one.table.times >= span.begin) & (one.table.times <= span.end))
            if len(rows):
                hit = True
                one.faulty[rows] = True
                one.kinds.setdefault(int(rows[0]), span.kind)
        if not hit:
            outside.append(span.where)
    if outside:
        known = ", ".join(f"{one.table.path.name} {_moment(one.table.times[0])} to {_moment(one.table.times[-1])}" for one in found[:SHOWN])
        raise DataError(
            *(f"{where}: no row of the machine's tables lies in it" for where in outside[:SHOWN]),
            f"the tables have {known or 'no rows'} (UTC); correct the times, or their zone ([input] zone), or put the table they point "
            "into beside the stretches",
        )


def _moment(seconds: float) -> str:
    return str(np.datetime64(int(seconds), "s"))
