"""What to do first where data has an address and no file: a stream has no past to learn from, and a database holds more than one table."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from anomaly.errors import DataError
from anomaly.names import masked

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9.+-]+:")  # of two letters or more: one is a drive of Windows
CAMERAS = ("rtsp", "rtsps", "http", "https", "camera", "gst")
STREAMS = ("mqtt", "mqtts", "kafka", "kafkas", "opc.tcp")
FILES = ("folder", "csv", "tables")  # sources of `anomaly monitor` that are plain paths
DATABASES = (".db", ".sqlite", ".sqlite3")
VARIABLE = "PLANT_DB"
TABLES, COLUMNS = 12, 8  # of a database that are named
TIMES = re.compile(r"time|zeit|date|datum|stamp|\bts\b", re.IGNORECASE)
KEYS = re.compile(r"tag|sensor|signal|name|point|channel|variable|item", re.IGNORECASE)


def is_address(text: str) -> bool:
    """Whether a text is the address of a stream or a database, or a database's file, and not data as files.

    >>> [is_address(text) for text in ("mqtt://broker/plant", "postgresql://db/plant", "env:PLANT", "good/", "C:/good")]
    [True, True, True, False, False]
    """
    if os.path.lexists(text):
        return Path(text).is_file() and Path(text).suffix.lower() in DATABASES
    return _SCHEME.match(text) is not None


def first_step(address: str) -> list[str]:
    """What an address is, and what to do before anything can be learnt from it. Raises DataError for a database that is away."""
    scheme = address.partition(":")[0].lower()
    if os.path.lexists(address):
        return _database(f"sqlite:///{address}")
    if scheme in CAMERAS:
        return [
            f"{address}: a live camera, which has no past to learn from. First save pictures of good parts, a few hundred of them:",
            "  with the camera's own software, or such as: ffmpeg -i ADDRESS -vf fps=1 good/%05d.png",
            f"  then: anomaly fit good, and: anomaly monitor NAME.anomaly --source {address}",
        ]
    if scheme in STREAMS:
        return [
            f"{address}: a live stream of readings, which has no past to learn from. First get some hours of normal running as a table:",
            "  export them from the historian, or record the stream to a CSV file with a time column and one column a sensor",
            "  (one reading a row is made such a table by: anomaly table EXPORT --long SENSOR,VALUE --out readings.parquet)",
            f"  then: anomaly fit readings.parquet, and: anomaly monitor NAME.anomaly --source {address}",
        ]
    if scheme in FILES:
        return [f"{address}: give the plain path, {address.partition(':')[2] or 'PATH'}"]
    return _database(address)


def _database(address: str) -> list[str]:
    """The tables of a database, and how one becomes a table that a fit reads."""
    lines = [f"{masked(address)}: a database. First make a table of the normal readings:"]
    found = _tables(address)
    if masked(address) != address:  # a password that is typed stays in the shell's history
        lines.append(f"  keep the address in an environment variable: export {VARIABLE}=…")
        address = f"env:{VARIABLE}"
    for name, columns in found:
        lines += [
            f"  {name}: {', '.join(columns[:COLUMNS])}{' …' if len(columns) > COLUMNS else ''}",
            f"    {_command(address, name, columns)}",
        ]
    return [*lines, "  then: anomaly init readings.parquet"]


def _tables(address: str) -> list[tuple[str, list[str]]]:
    """Tables and views with their columns. Raises DataError where there are none, or the database cannot be asked."""
    from sqlalchemy import create_engine, inspect
    from sqlalchemy.exc import SQLAlchemyError

    from anomaly.data.database import database_url, first_line

    target = database_url(address)
    if target.startswith("sqlite:///") and not Path(target.removeprefix("sqlite:///")).is_file():
        raise DataError(f"{address}: no such database file")
    try:
        engine = create_engine(target)
        asked = inspect(engine)
        names: Sequence[str] = [*asked.get_table_names(), *asked.get_view_names()]
        found = [(name, [str(column["name"]) for column in asked.get_columns(name)]) for name in names[:TABLES]]
        engine.dispose()
    except (SQLAlchemyError, ModuleNotFoundError, ValueError) as error:
        raise DataError(
            f"{masked(address)}: not an address known here, or a database that cannot be asked: {first_line(error, target)}"
        ) from error
    if not found:
        raise DataError(f"{masked(address)}: a database without a table")
    return found


def _command(address: str, name: str, columns: Sequence[str]) -> str:
    time = next((column for column in columns if TIMES.search(column)), None)
    key = next((column for column in columns if KEYS.search(column)), None)
    value = next((column for column in columns if re.search("value|wert|reading", column, re.IGNORECASE)), None)
    parts: list[Any] = ["anomaly", "table", address, "--query", f"SELECT * FROM {name}"]  # noqa: S608 - words for a person, run by nobody here
    parts += ["--time", time] if time else []
    parts += ["--long", f"{key},{value}"] if key and value and key != value else []
    return shlex.join([*map(str, parts), "--out", "readings.parquet"])
