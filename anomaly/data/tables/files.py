"""Which tables a path holds, and how a spec or a bundle says to read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from anomaly.data.files import TABLES, find_files
from anomaly.data.tables.dialect.find import find_dialect
from anomaly.data.tables.pattern.learn import Rows, fit_patterns, may_have_patterns
from anomaly.data.tables.pattern.take_off import without_pattern
from anomaly.data.tables.reader import SensorTable, TableSchema, read_table
from anomaly.errors import DataError
from anomaly.schema import Channel, Dialect, InputSchema, Pattern
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


def read_normals(
    paths: list[Path], schema: TableSchema, train_rows: int | None, *, learn: bool = True, pattern: bool = True
) -> list[SensorTable]:
    """Tables to learn from, all with the first one's sensors; rows past `train_rows`, and rows labelled as faults, are not usable.

    Their dialect is found over all of them, with the words in their columns of numbers that mean "no reading". With `learn` the sensors get
    offset and hold by the readings of the first table; with `pattern` a daily or weekly pattern by all tables, where it pays.
    """
    if not paths:
        return []
    given = schema.channels
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
    tables = [replace(table, dialect=table.dialect.model_copy(update={"missing": missing})) for table in tables]
    return learn_patterns(tables, given) if pattern else tables


def learn_patterns(tables: Sequence[SensorTable], given: Sequence[Channel] = ()) -> list[SensorTable]:
    """Normal tables of one machine with the patterns that their usable rows show, taken off; the same tables where there is none.

    What is taken off a row's `values` here was learnt on other periods. So these rows look as rows to come will, which a pattern fits less
    well than those it was learnt from, and a threshold that is set by them holds. A pattern that is `given` stays, any other is forgotten.
    """
    known = {channel.name: channel.pattern for channel in given}
    tables = [_with_patterns(table, known) for table in tables]
    used = [np.flatnonzero(table.usable) for table in tables]
    moments = [table.times[at[[0, -1]]] for table, at in zip(tables, used, strict=True) if len(at)]
    if not moments or not may_have_patterns(float(np.min(moments)), float(np.max(moments)) + tables[0].period_s):
        return tables
    first = tables[0]
    rows = Rows(*(np.concatenate([getattr(t, name)[at] for t, at in zip(tables, used, strict=True)]) for name in Rows._fields))
    found = {
        channel.name: one
        for channel, one in zip(first.channels, fit_patterns(first.channels, rows, first.dialect.zone, first.period_s), strict=True)
        if one is not None
    }
    if not found:
        return tables
    patterns = known | {name: one.pattern for name, one in found.items()}
    learnt, begin = [], 0
    for table, at in zip(tables, used, strict=True):
        own, end = _with_patterns(table, patterns), begin + len(at)
        values = own.values.copy()
        for index, channel in enumerate(own.channels):
            if channel.name in found:
                pattern = found[channel.name].by_others(table.times[at], slice(begin, end))
                values[at, index] = table.readings[at, index] - pattern
        learnt.append(replace(own, values=values))
        begin = end
    return learnt


def _with_patterns(table: SensorTable, patterns: Mapping[str, Pattern | None]) -> SensorTable:
    """A table with these patterns of its sensors, and no others, taken off."""
    if all(channel.pattern == patterns.get(channel.name) for channel in table.channels):
        return table
    channels = tuple(channel.model_copy(update={"pattern": patterns.get(channel.name)}) for channel in table.channels)
    return replace(table, channels=channels, values=without_pattern(table.times, table.readings, channels))


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
