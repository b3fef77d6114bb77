"""Rows of an SQL query, some at a time, so that one of any size is read in little memory."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet

from anomaly.atomic import replacing
from anomaly.errors import DataError
from anomaly.names import masked

DRIVERS = {"psycopg": "psycopg[binary]", "MySQLdb": "mysqlclient"}  # packages that are not called as what they hold is
ROWS = 100_000  # that are read at a time


def query_chunks(url: str, query: str, rows: int = ROWS) -> Iterator[pd.DataFrame]:
    """The rows of an SQL query in frames of so many. Raises DataError where it fails; its words hold no password.

    `url` is SQLAlchemy's, or `env:NAME` for the one in an environment variable, so that no secret is typed.
    """
    try:
        from sqlalchemy import create_engine, text
        from sqlalchemy.exc import SQLAlchemyError
    except ImportError as error:
        raise DataError(f"{masked(url)}: needs SQLAlchemy; run: pip install 'anomaly-pipeline[sql]'") from error
    target = database_url(url)
    try:
        engine = create_engine(target)
        try:
            with engine.connect().execution_options(stream_results=True) as connection:  # else some drivers fetch all rows first
                yield from pd.read_sql(text(query), connection, chunksize=rows)
        finally:
            engine.dispose()
    except ModuleNotFoundError as error:
        driver = DRIVERS.get(error.name or "", error.name)
        raise DataError(
            f"{masked(url)}: the driver of this database is not installed, so nothing was asked yet; run: pip install '{driver}'"
        ) from error
    except (SQLAlchemyError, pd.errors.DatabaseError, ValueError) as error:  # ValueError: a port that is no number
        raise DataError(f"{masked(url)}: the query failed: {first_line(error, target)}") from error


def database_url(address: str) -> str:
    """The URL of a database, which may stand in an environment variable (`env:NAME`). Raises DataError where that is not set."""
    variable = address.removeprefix("env:")
    url = os.environ.get(variable) if variable != address else address
    if url is None:
        raise DataError(f"{address}: the environment variable {variable} is not set; set it to the database's URL")
    return url


def first_line(error: Exception, url: str) -> str:
    """What a driver says, at most 300 letters, without what is secret in the URL that it was given."""
    words = masked(str(error), url)
    return next(iter(words.splitlines()), type(error).__name__)[:300]


def write_query(url: str, query: str, path: Path, rows: int = ROWS) -> int:
    """Write the rows of a query as one Parquet file, in row groups of so many; returns how many there are.

    A column's type is that of all its rows: whole numbers in some and none or fractions in others are float64. Raises DataError for a query
    without rows, and for a column that is text in some rows and numbers in others.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".query-", dir=path.parent) as folder:
        pieces = []
        for number, frame in enumerate(query_chunks(url, query, rows)):
            if len(frame):
                pieces.append(Path(folder) / f"{number}.parquet")
                pyarrow.parquet.write_table(pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(), pieces[-1])
        if not pieces:
            raise DataError(f"{masked(url)}: the query found no rows; correct --query")
        try:
            schema = pa.unify_schemas([pyarrow.parquet.read_schema(piece) for piece in pieces], promote_options="permissive")
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise DataError(f"{masked(url)}: a column is text in some rows and numbers in others ({error}); cast it in --query") from error
        count = 0
        with replacing(path) as part, pyarrow.parquet.ParquetWriter(part, schema) as writer:
            for piece in pieces:
                table = pyarrow.parquet.read_table(piece).cast(schema)
                writer.write_table(table)
                count += len(table)
    return count
