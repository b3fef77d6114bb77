"""Which tables a path holds, and how a spec or a bundle says to read them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from anomaly.data.files import TABLES, find_files
from anomaly.data.tables.dialect.find import find_dialect
from anomaly.data.tables.reader import SensorTable, TableSchema, read_table
from anomaly.errors import DataError
from anomaly.schema import Dialect, InputSchema
from anomaly.spec import SensorInput

MOST_WORDS = 20  # that a dialect remembers
BINARY_LABELS = ("anomaly", "label", "is_anomaly", "fault")


def find_tables(data: Path) -> tuple[list[Path], list[Path]]:
    """(training, labelled test) tables of a path: a file; or a folder with train* and test*; or a folder of normals."""
    if data.is_file():
        return [data], []
    if not data.is_dir():
        raise DataError(f"{data}: no such file or folder; give a CSV or Parquet table, or a folder of them")
    found = find_files(data, TABLES)
    if not found:
        raise DataError(f"{data}: no table in it ({', '.join(sorted(TABLES))}); put the normal readings there as CSV or Parquet")
    train = [p for p in found if p.stem.lower().startswith("train")]
    test = [p for p in found if p.stem.lower().startswith("test")]
    return (train, test) if train else ([p for p in found if p not in test], test)


def read_normals(paths: list[Path], schema: TableSchema, train_rows: int | None, *, learn: bool = True) -> list[SensorTable]:
    """Tables to learn from, all with the first one's sensors; rows past `train_rows`, and rows labelled as faults, are not usable.

    Their dialect is found over all of them, with the words in their columns of numbers that mean "no reading". With `learn` the sensors get
    offset and hold by the readings of the first table.
    """
    if not paths:
        return []
    schema = replace(schema, dialect=find_dialect(paths, schema.asked))
    tables: list[SensorTable] = []
    for path in paths:
        table = read_table(path, schema, learn=learn and not tables)
        schema = replace(schema, channels=table.channels, period_s=table.period_s, max_gap_s=table.max_gap_s)
        label = label_of(table)
        if label is not None:
            table.usable[table.labels[label] > 0] = False
        if train_rows is not None:
            table.usable[train_rows:] = False
        tables.append(table)
    words = [word for table in tables for word, _ in table.report.words.most_common(MOST_WORDS)]
    missing = tuple(dict.fromkeys((*schema.dialect.missing, *words)))[:MOST_WORDS]
    return [replace(table, dialect=table.dialect.model_copy(update={"missing": missing})) for table in tables]


def table_schema(source: InputSchema | SensorInput) -> TableSchema:
    """How a bundle's input schema, or a spec's [input], says to read a table."""
    if isinstance(source, InputSchema):
        column, modes, dialect = source.mode_column, source.modes, source.dialect or Dialect()
    else:
        column, modes = (source.modes.column, source.modes.use) if source.modes else (None, ())
        dialect = source.dialect
    time = source.time if isinstance(source.time, str) else None
    return TableSchema(source.sensors, time, source.labels, column, modes, source.period_s, source.max_gap_s, dialect)


def label_of(table: SensorTable) -> str | None:
    """The column that tells faults from normal rows, if the table has one."""
    return next((name for name in BINARY_LABELS if name in table.labels), next(iter(table.labels), None))
