"""Where records come from at the edge: a watched folder of pictures, a growing CSV.

A source is polled and never blocks. Each poll gives what is new, what could not be read, and the position that a restart
resumes from; the monitor stores all three in one transaction.
"""

from __future__ import annotations

import csv
import io
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from anomaly.bundle.manifest import InputSchema
from anomaly.data.images import SUFFIXES, Color, read_image
from anomaly.data.records import Record, Rejected
from anomaly.data.sensors import TIME_NAMES, Channel, check_header, parse_cells, sniff_separator, time_divisor
from anomaly.errors import DataError, RecordError

SETTLED_S = 2.0  # a file not touched for this long is complete, whatever its size did


@dataclass
class Poll:
    """What one poll gave. `position` is what to resume from once all of it is stored; `waiting` tells that more is on its way."""

    records: list[Record[NDArray[Any]]] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    position: dict[str, Any] = field(default_factory=dict)
    waiting: bool = False


class Source(Protocol):
    """A place that records come from."""

    def poll(self, limit: int) -> Poll:
        """Up to `limit` new records. Never raises for one bad record."""
        ...


class FolderSource:
    """A folder that pictures are dropped into, also in subfolders. Oldest first; a file still being written waits.

    A record's id is its name and time of change, so a picture written again under its old name is a new record.
    """

    def __init__(self, folder: Path, schema: InputSchema, known: Callable[[str], bool], clock: Callable[[], float] = time.time) -> None:
        """Raises DataError when the folder is not there. `known(id)` tells records handled before a restart."""
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder to watch; create it or correct --source")
        self._folder = folder
        self._color: Color = "gray" if schema.channels == 1 else "rgb"
        self._deep = schema.dtype == "uint16"
        self._known = known
        self._clock = clock
        self._handled: set[str] = set()
        self._sizes: dict[str, int] = {}

    def poll(self, limit: int) -> Poll:
        found = Poll()
        new, present = self._scan(found)
        self._handled &= present  # forget files that are gone
        for record, path, when in sorted(new, key=lambda item: (item[2], item[0]))[:limit]:
            self._handled.add(record)
            if self._known(record):
                continue
            try:
                found.records.append(Record(record, when, read_image(path, self._color, deep=self._deep)))
            except RecordError as error:
                found.rejected.append(Rejected(record, when, str(error), path))
        found.waiting = found.waiting or len(new) > limit
        return found

    def _scan(self, found: Poll) -> tuple[list[tuple[str, Path, float]], set[str]]:
        new, present, sizes = [], set(), {}
        for root, _, names in os.walk(self._folder):
            for name in names:
                path = Path(root) / name
                if path.suffix.lower() not in SUFFIXES or name.startswith("."):
                    continue
                try:
                    stat = path.stat()
                except OSError:
                    continue  # gone between listing and looking
                record = f"{path.relative_to(self._folder).as_posix()}@{stat.st_mtime_ns // 1_000_000}"
                present.add(record)
                if record in self._handled:
                    continue
                sizes[record] = stat.st_size
                if self._sizes.get(record) == stat.st_size or self._clock() - stat.st_mtime >= SETTLED_S:
                    new.append((record, path, stat.st_mtime))
                else:
                    found.waiting = True
        self._sizes = sizes
        return new, present


class CsvSource:
    """A CSV that grows at its end. A row is read once its line end is there; a shrunk or replaced file is begun anew.

    Each record is the window that ends at a row, with as much context before it as there is (NaN where there is none). Neither spans
    gaps, rows out of their time order or rows in other operating modes. The position holds the byte to go on from and the byte its
    oldest row begins at.
    """

    def __init__(self, path: Path, schema: InputSchema, position: dict[str, Any]) -> None:
        """Raises DataError when the file is not there, or its header lacks a sensor of the bundle."""
        self._path = path
        self._schema = schema
        self._channels = [Channel(s.name, s.unit, s.low, s.high) for s in schema.sensors]
        self._rows = schema.window or 1
        self._whole = self._rows + schema.context
        self._begin(position)

    def _begin(self, position: dict[str, Any]) -> None:
        self._recent: list[tuple[int, int, NDArray[np.float32]]] = []  # (byte, row number, readings) of the last rows
        self._last_time = -np.inf
        self._offset, self._row = self._read_header()
        self._inode = self._path.stat().st_ino
        if position and position["inode"] == self._inode and position["offset"] <= self._path.stat().st_size:
            self._offset, self._row = int(position["start"]), int(position["start_row"])
            self._take(Poll(), 1 << 30, until=int(position["offset"]))  # context: rows scored before the restart

    def _read_header(self) -> tuple[int, int]:
        try:
            with self._path.open("rb") as stream:
                raw = stream.readline()
        except OSError as error:
            raise DataError(f"{self._path}: cannot be read ({error.strerror}); create it or correct --source") from error
        header = raw.decode("utf-8-sig", errors="replace")
        if not header.endswith("\n"):
            raise DataError(f"{self._path}: no complete header line yet; write the column names first")
        self._separator = sniff_separator(header)
        self._names = [name.strip() for name in next(csv.reader([header], delimiter=self._separator))]
        check_header(self._names, self._path)
        missing = [c.name for c in self._channels if c.name not in self._names]
        if missing:
            raise DataError(f"{self._path}: columns {missing} are missing, which the bundle needs; its header has {self._names}")
        named = self._schema.time or next((n for n in self._names if n.lower() in TIME_NAMES), None)
        if named not in self._names:
            raise DataError(f"{self._path}: no time column ({named or 'time, timestamp, datetime …'}); its header has {self._names}")
        self._time_at = self._names.index(named)
        self._at = [self._names.index(c.name) for c in self._channels]
        self._mode_at = self._names.index(self._schema.mode_column) if self._schema.mode_column in self._names else None
        return len(raw), 1

    def poll(self, limit: int) -> Poll:
        found = Poll()
        try:
            stat = self._path.stat()
        except OSError:
            return found  # rotated away: wait for the next one
        if stat.st_ino != self._inode or stat.st_size < self._offset:
            try:
                self._begin({})
            except DataError as error:
                found.rejected.append(Rejected(f"{self._path.name}@{stat.st_mtime_ns}", stat.st_mtime, str(error)))
                self._inode, self._offset = stat.st_ino, stat.st_size
                return found
        self._take(found, limit)
        context = self._recent[-(self._whole - 1) :] if self._whole > 1 else []
        start, start_row = (context[0][0], context[0][1] - 1) if context else (self._offset, self._row)
        found.position = {"inode": self._inode, "offset": self._offset, "row": self._row, "start": start, "start_row": start_row}
        return found

    def _take(self, found: Poll, limit: int, until: int | None = None) -> None:
        """Read whole lines from the offset on, at most `limit` of them, or up to byte `until`."""
        size = (until - self._offset) if until is not None else min(1 << 22, limit * 4096)
        with self._path.open("rb") as stream:
            stream.seek(self._offset)
            block = stream.read(size)
        lines = block[: block.rfind(b"\n") + 1].splitlines(keepends=True)
        found.waiting = len(lines) > limit or len(block) == size
        for raw in lines[:limit]:
            self._row += 1
            at, self._offset = self._offset, self._offset + len(raw)
            if raw.strip():
                self._line(found, raw, at)

    def _line(self, found: Poll, raw: bytes, at: int) -> None:
        record = f"{self._path.name}:{self._row}"
        text = raw.decode("utf-8", errors="replace").rstrip("\r\n")
        try:
            cells = next(csv.reader(io.StringIO(text), delimiter=self._separator))
            if len(cells) != len(self._names):
                raise RecordError(f"{record}: {len(cells)} fields instead of {len(self._names)}")
            moment = _parse_time(cells[self._time_at], record)
            if moment <= self._last_time:
                raise RecordError(f"{record}: its time is not after the row before; rows must come in order")
            readings = parse_cells([cells[i] for i in self._at], self._channels, record)
        except (RecordError, csv.Error) as error:
            found.rejected.append(Rejected(record, max(self._last_time, 0.0), f"{error}; the row: {text[:500]}"))
            return
        gap = moment - self._last_time > (self._schema.max_gap_s or np.inf)
        self._last_time = moment
        if gap:
            self._recent.clear()
        if self._mode_at is not None and cells[self._mode_at].strip() not in self._schema.modes:
            self._recent.clear()
            return
        self._recent.append((at, self._row, readings))
        del self._recent[: -self._whole]
        if len(self._recent) >= self._rows:
            payload = np.full((self._whole, len(self._channels)), np.nan, dtype=np.float32)
            payload[-len(self._recent) :] = [row[2] for row in self._recent]
            found.records.append(Record(record, moment, payload))


def _parse_time(text: str, record: str) -> float:
    """Seconds since 1970 UTC from a number (s, ms, us, ns) or a date."""
    try:
        value = float(text)
    except ValueError:
        stamp = pd.to_datetime(text, errors="coerce", utc=True)
        if pd.isna(stamp):
            raise RecordError(f"{record}: time {text!r} cannot be read") from None
        return float(stamp.timestamp())
    if not np.isfinite(value):
        raise RecordError(f"{record}: time {text!r} is not a number of seconds")
    return value / time_divisor(abs(value))


def open_source(uri: str, schema: InputSchema, known: Callable[[str], bool], position: dict[str, Any]) -> Source:
    """A source by URI: `folder:PATH`, `csv:PATH`, or a plain path, told apart by what is there and what the bundle takes."""
    kind, _, rest = uri.partition(":")
    path = Path(rest if kind in ("folder", "csv") else uri)
    kind = kind if kind in ("folder", "csv") else ("folder" if path.is_dir() else "csv")
    wanted = "folder" if schema.name == "image" else "csv"
    if kind != wanted:
        raise DataError(
            f"--source {uri}: this bundle takes {'pictures: give a folder' if wanted == 'folder' else 'sensor rows: give a CSV'}"
        )
    return FolderSource(path, schema, known) if kind == "folder" else CsvSource(path, schema, position)
