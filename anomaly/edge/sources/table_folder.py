"""A folder that whole tables are dropped into: Parquet or CSV files, each of which continues the one before."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from anomaly.data.files import TABLES, is_data_name
from anomaly.data.records import Rejected
from anomaly.data.tables.files import table_schema
from anomaly.data.tables.reader import SensorTable, read_table
from anomaly.edge.sources.arrival import stamp_of
from anomaly.edge.sources.base import EARLIEST, LATEST, SETTLED_S, Poll, check_plain, is_folder
from anomaly.edge.sources.window_buffer import WindowBuffer
from anomaly.errors import DataError, SourceError, in_words
from anomaly.names import record_name
from anomaly.schema import InputSchema

LATE = "its time is not after the row before; rows must come in order"
STRANGE = "its time is beyond the years 1 to 9999"
Key = tuple[int, str]  # time of change in ns, name: the order files are read in


class TableFolder:
    """Files are read whole, oldest first, once they have not changed for two seconds. One that cannot be read is set aside.

    A file that appears while this runs is read whatever its time of change says: the clock may have been set back, or a copy kept the time
    of the original. The position holds the file and the row to go on from, and the file that the next window begins in.
    """

    def __init__(self, folder: Path, schema: InputSchema, position: dict[str, Any], clock: Callable[[], float] = time.time) -> None:
        """Raises SourceError when the folder is not there."""
        if not is_folder(folder):
            raise SourceError(f"{folder}: no such folder of tables to watch; create it or correct --source")
        self._folder, self._clock = folder, clock
        self._schema = table_schema(schema)
        self._windows = WindowBuffer(schema)
        self._table: SensorTable | None = None
        self._sizes: list[tuple[Key, int]] = []  # rows taken of each file that the next window reaches into
        self._at: Key = (-1, "")
        self._row = 0
        self._handled: set[Key] = set()
        self._unsettled: dict[Key, float] = {}  # changed in the future, by this machine's clock: when that was first seen
        if position:
            self._resume(position)
            until = _key(position.get("until", position["file"]))
            self._handled = {key for key, _ in self._files(through=max(until, self._at))}

    def close(self) -> None:
        """Nothing is held open."""

    def poll(self, limit: int) -> Poll:
        """Up to `limit` rows further, never over the end of a file."""
        found = Poll()
        if not is_folder(self._folder):
            found.trouble = f"{self._folder}: the folder is gone (a share that is not mounted?)"
            return found
        if self._table is None:
            try:
                self._next(found)
            except OSError as error:
                found.trouble = f"{self._folder}: cannot be read ({error.strerror})"
                return found
        if self._table is not None:
            table, rows = self._table, slice(self._row, self._row + limit)
            times = table.times[rows]
            late = ~(times > self._windows.last_time)
            strange = ~((times >= EARLIEST) & (times <= LATEST))
            ids = [f"{table.path.name}:{line}" for line in table.lines[rows].tolist()]
            found.rejected += [
                Rejected(ids[i], _moment(self._at) if strange[i] else float(times[i]), f"{ids[i]}: {STRANGE if strange[i] else LATE}")
                for i in np.flatnonzero(late | strange).tolist()
            ]
            kept = np.flatnonzero(~(late | strange))
            found.records = self._windows.extend(
                [ids[i] for i in kept], table.times[rows][kept], table.readings[rows][kept], table.usable[rows][kept]
            )
            self._row = min(self._row + limit, len(table.times))
            self._count(self._at, self._row)
            if self._row == len(table.times):
                self._table = None
            found.waiting = True
        first = self._sizes[0][0] if self._sizes else self._at
        found.position = {"file": list(self._at), "row": self._row, "done": self._table is None, "from": list(first)}
        found.position["until"] = list(max(self._handled, default=self._at))
        return found

    def _count(self, key: Key, rows: int) -> None:
        self._sizes = [item for item in self._sizes if item[0] != key] + [(key, rows)]
        while len(self._sizes) > 1 and sum(rows for _, rows in self._sizes[1:]) >= self._windows.kept:
            self._sizes.pop(0)

    def _files(self, through: Key | None = None) -> list[tuple[Key, Path]]:
        found: list[tuple[Key, Path]] = []
        for path in (p for p in self._folder.iterdir() if is_data_name(p.name) and p.suffix.lower() in TABLES):
            stamp = stamp_of(path)
            key = (stamp[1] if stamp else -1, record_name(path.name))
            if stamp and (through is None or key <= through):
                found.append((key, path))
        return sorted(found)

    def _next(self, found: Poll) -> None:
        """Open the next file that is whole."""
        files = self._files()
        self._handled &= {key for key, _ in files}
        self._unsettled = {key: since for key, since in self._unsettled.items() if key not in self._handled}
        for key, path in files:
            if key in self._handled:
                continue
            if not self._settled(key):
                found.waiting = True
                return
            self._handled.add(key)
            self._at, self._row = key, 0
            try:
                check_plain(path.stat())
                self._table = read_table(path, self._schema)
                found.notes += [self._table.report.encoding] if self._table.report.encoding else []
                return
            except Exception as error:  # DataError, or what a reader raises that nobody thought of: one file never stops the others
                found.rejected.append(Rejected(f"{key[1]}@{key[0] // 1_000_000}", _moment(key), in_words(error), path))

    def _settled(self, key: Key) -> bool:
        """Whether a file has not changed for a while: by its time of change, or since it was first seen where that lies ahead."""
        now = self._clock()
        age = now - key[0] / 1e9
        if age >= 0:
            return age >= SETTLED_S
        since = self._unsettled.setdefault(key, now)
        return abs(now - since) >= SETTLED_S

    def _resume(self, position: dict[str, Any]) -> None:
        """Read again what the next window needs of files handled before a restart. One that is gone, or changed, gives none."""
        last, first = _key(position["file"]), _key(position["from"])
        for key, path in self._files():
            if not (first <= key <= last or key == last):
                continue
            try:
                check_plain(path.stat())
                table = read_table(path, self._schema)
            except (DataError, OSError):
                continue
            rows = int(position["row"]) if key == last else len(table.times)
            keep = table.times[:rows] > self._windows.last_time
            self._windows.extend([""] * int(keep.sum()), table.times[:rows][keep], table.readings[:rows][keep], table.usable[:rows][keep])
            self._count(key, rows)
            if key == last and not position["done"]:
                self._table = table
        self._at, self._row = last, int(position["row"])


def _key(stored: Sequence[Any]) -> Key:
    return int(stored[0]), str(stored[1])


def _moment(key: Key) -> float:
    """When a file was changed."""
    return min(max(key[0] / 1e9, EARLIEST), LATEST)
