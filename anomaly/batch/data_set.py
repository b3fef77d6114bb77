"""A Parquet data set (many files that are one table, on a disk or in an object store) as one file, in little memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet

from anomaly.atomic import replacing
from anomaly.batch.store import is_stored, listed, store_of
from anomaly.data.files import find_files
from anomaly.data.tables.dialect.load import PARQUET
from anomaly.errors import DataError

ROWS = 100_000  # of a row group, at most


def data_set_files(source: str, out: Path) -> list[tuple[str, int, int]]:
    """(path or address, bytes, when it was changed in ns since 1970) of all Parquet files under a folder or address, in name order.

    What lies in `out` is no part of the data set. Raises DataError where there is no Parquet file.
    """
    if is_stored(source):
        return listed(source, PARQUET)
    ours = out.resolve()
    files = [file for file in find_files(Path(source), PARQUET, deep=True) if ours not in file.resolve().parents]
    if not files:
        raise DataError(f"{source}: no Parquet file in it; leave --one-table out for CSV and Excel, which are a table each")
    return [(str(file), (state := file.stat()).st_size, state.st_mtime_ns) for file in files]


def write_data_set(source: str, columns: Sequence[str], out: Path, path: Path, rows: int = ROWS) -> int:
    """Write the rows of all Parquet files under a folder or address as one file, in name order; returns how many there are.

    `columns` are those that are kept, where the data set has them (all for none given); what stands in the names of folders (`machine=3/`)
    is a column too. A column's type is that of all files. What lies in `out` is no part of the data set.
    Raises DataError where there is no Parquet file, or the files cannot be one table.
    """
    files = data_set_files(source, out)
    try:
        parts = [_opened(file) for file, _, _ in files]
        schema = pa.unify_schemas([part.schema.remove_metadata() for part in parts], promote_options="permissive")
        kept = pa.schema([field for field in schema if field.name in columns or not columns])
        with replacing(path) as beside, pyarrow.parquet.ParquetWriter(beside, kept) as writer:
            return sum(_append(writer, batch) for part in parts for batch in _batches(part, kept, rows))
    except (OSError, pa.ArrowException) as error:
        said = str(error).splitlines()[0][:300]
        raise DataError(f"{source}: its files cannot be read as one table ({said}); correct them, or leave --one-table out") from error


def _opened(file: str) -> pyarrow.dataset.Dataset:
    where, store = (file.partition("://")[2], store_of(file)) if is_stored(file) else (file, None)
    return pyarrow.dataset.dataset(where, format="parquet", partitioning="hive", filesystem=store)


def _batches(part: pyarrow.dataset.Dataset, schema: pa.Schema, rows: int) -> Iterator[pa.Table]:
    """The rows of one file, some at a time, with all columns of the schema: those that the file lacks are missing."""
    own = [name for name in schema.names if name in part.schema.names]
    for batch in part.to_batches(columns=own, batch_size=rows, batch_readahead=1, fragment_readahead=1):
        if len(batch):
            given = pa.Table.from_batches([batch])
            yield pa.table([given[name] if name in own else pa.nulls(len(batch)) for name in schema.names], schema.names).cast(schema)


def _append(writer: pyarrow.parquet.ParquetWriter, table: pa.Table) -> int:
    writer.write_table(table)
    return len(table)
