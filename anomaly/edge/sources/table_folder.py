"""A folder that whole tables are dropped into: Parquet or CSV files, each of which continues the one before."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from anomaly.data.files import TABLES, find_files
from anomaly.data.records import Rejected
from anomaly.data.tables.files import table_schema
from anomaly.data.tables.reader import SensorTable, read_table
from anomaly.edge.sources.base import Poll
from anomaly.edge.sources.picture_folder import SETTLED_S
from anomaly.edge.sources.window_buffer import WindowBuffer
from anomaly.errors import DataError
from anomaly.schema import InputSchema

Key = tuple[int, str]  # time of change in ns, name: the order files are read in


class TableFolder:
    """Files are read whole, oldest first, once they have not changed for two seconds. One that cannot be read is set aside.

    The position holds the file and the row to go on from, and the file that the context begins in.
    """

    def __init__(self, folder: Path, schema: InputSchema, position: dict[str, Any], clock: Callable[[], float] = time.time) -> None:
        """Raises DataError when the folder is not there."""
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder of tables to watch; create it or correct --source")
        self._folder, self._clock = folder, clock
        self._schema = table_schema(schema)
        self._windows = WindowBuffer(schema)
        self._table: SensorTable | None = None
        self._sizes: list[tuple[Key, int]] = []  # rows taken of each file that the context reaches into
        self._at: Key = (-1, "")
        self._row = 0
        if position:
            self._resume(position)

    def close(self) -> None:
        """Nothing is held open."""

    def poll(self, limit: int) -> Poll:
        """Up to `limit` rows further, never over the end of a file."""
        found = Poll()
        if not self._folder.is_dir():
            found.trouble = f"{self._folder}: the folder is gone (a share that is not mounted?)"
            return found
        if self._table is None:
            self._next(found)
        if self._table is not None:
            table, rows = self._table, slice(self._row, self._row + limit)
            late = table.times[rows] <= self._windows.last_time
            ids = [f"{table.path.name}:{line}" for line in table.lines[rows].tolist()]
            found.rejected += [
                Rejected(record, float(moment), f"{record}: its time is not after the row before; rows must come in order")
                for record, moment, bad in zip(ids, table.times[rows].tolist(), late.tolist(), strict=True)
                if bad
            ]
            kept = np.flatnonzero(~late)
            found.records = self._windows.extend(
                [ids[i] for i in kept], table.times[rows][kept], table.values[rows][kept], table.usable[rows][kept]
            )
            self._row = min(self._row + limit, len(table.times))
            self._count(self._at, self._row)
            if self._row == len(table.times):
                self._table = None
            found.waiting = True
        first = self._sizes[0][0] if self._sizes else self._at
        found.position = {"file": list(self._at), "row": self._row, "done": self._table is None, "from": list(first)}
        return found

    def _count(self, key: Key, rows: int) -> None:
        self._sizes = [item for item in self._sizes if item[0] != key] + [(key, rows)]
        while len(self._sizes) > 1 and sum(rows for _, rows in self._sizes[1:]) >= self._windows.kept:
            self._sizes.pop(0)

    def _files(self, after: Key, through: Key | None = None) -> list[tuple[Key, Path]]:
        found: list[tuple[Key, Path]] = []
        for path in find_files(self._folder, TABLES):
            key = (path.stat().st_mtime_ns, path.name)
            if key > after and (through is None or key <= through):
                found.append((key, path))
        return sorted(found)

    def _next(self, found: Poll) -> None:
        """Open the next file that is whole."""
        for key, path in self._files(self._at):
            if self._clock() - key[0] / 1e9 < SETTLED_S:
                found.waiting = True
                return
            self._at, self._row = key, 0
            try:
                self._table = read_table(path, self._schema)
                return
            except (DataError, OSError) as error:
                found.rejected.append(Rejected(f"{path.name}@{key[0] // 1_000_000}", key[0] / 1e9, str(error), path))

    def _resume(self, position: dict[str, Any]) -> None:
        """Read again what the context needs of files handled before a restart."""
        last, first = tuple(position["file"]), tuple(position["from"])
        for key, path in self._files((first[0], first[1][:-1]) if first[1] else first, last):
            table = read_table(path, self._schema)
            rows = int(position["row"]) if key == last else len(table.times)
            keep = table.times[:rows] > self._windows.last_time
            self._windows.extend([""] * int(keep.sum()), table.times[:rows][keep], table.values[:rows][keep], table.usable[:rows][keep])
            self._count(key, rows)
            if key == last and not position["done"]:
                self._table = table
        self._at, self._row = last, int(position["row"])
