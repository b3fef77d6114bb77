"""A CSV that grows at its end."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from anomaly.data.records import Rejected
from anomaly.data.tables.reader import BLANKS, TIME_NAMES, check_header, parse_cells, sniff_separator
from anomaly.edge.sources.base import Poll
from anomaly.edge.sources.times import parse_time, parse_time_column
from anomaly.edge.sources.window_buffer import WindowBuffer
from anomaly.errors import DataError, RecordError
from anomaly.schema import InputSchema, within_limits

FEW = 8  # fewer lines than this are quicker read one by one
_BLANK_CELLS = sorted({form for blank in BLANKS for form in (blank, blank.upper(), blank.title(), "NaN")})


class Block(NamedTuple):
    """Rows (n,) read from a block of lines: row number, byte it begins at, time, readings (n, C), in a mode to be scored."""

    rows: NDArray[np.int64]
    bytes: NDArray[np.int64]
    times: NDArray[np.float64]
    values: NDArray[np.float32]
    usable: NDArray[np.bool_]


class CsvSource:
    """A row is read once its line is complete. A file that was replaced, or has shrunk, is read from its beginning.

    Each record is the window that ends at a row. The position holds the byte to go on from, and the byte at which the oldest row of
    context begins. A block of lines is parsed at once; a block with anything unusual in it is read line by line.
    """

    def __init__(self, path: Path, schema: InputSchema, position: dict[str, Any]) -> None:
        """Raises DataError when the file is not there, or its header lacks a sensor of the bundle."""
        self._path = path
        self._schema = schema
        self._channels = schema.sensors
        self._windows = WindowBuffer(schema)
        self._line_bytes = 256  # estimated length of a line: a quarter more than the mean of the last block
        self._begin(position)

    def close(self) -> None:
        """Nothing is held open."""

    def _begin(self, position: dict[str, Any]) -> None:
        self._windows.clear()
        self._context: list[tuple[int, int]] = []  # (byte, row number) of the rows kept as context
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
        """Up to `limit` rows further."""
        found = Poll()
        try:
            stat = self._path.stat()
        except OSError as error:
            found.trouble = f"{self._path}: {error.strerror}"
            return found  # rotated away: wait for the next one
        if stat.st_ino != self._inode or stat.st_size < self._offset:
            try:
                self._begin({})
            except DataError as error:
                found.rejected.append(Rejected(f"{self._path.name}@{stat.st_mtime_ns}", stat.st_mtime, str(error)))
                self._inode, self._offset = stat.st_ino, stat.st_size
                return found
        self._take(found, limit)
        start, start_row = self._context[0] if self._context else (self._offset, self._row + 1)
        found.position = {"inode": self._inode, "offset": self._offset, "row": self._row, "start": start, "start_row": start_row - 1}
        return found

    def _take(self, found: Poll, limit: int, until: int | None = None) -> None:
        """Read whole lines from the offset on, at most `limit` of them, or up to byte `until`."""
        size = (until - self._offset) if until is not None else limit * self._line_bytes
        with self._path.open("rb") as stream:
            stream.seek(self._offset)
            raw = stream.read(size)
            while len(raw) == size and b"\n" not in raw:  # a line longer than all of it
                size *= 2
                raw += stream.read(size - len(raw))
        lines = raw[: raw.rfind(b"\n") + 1].splitlines(keepends=True)
        if lines:
            self._line_bytes = 1 + max(64, 5 * len(raw) // (4 * len(lines)))
        found.waiting = len(lines) > limit or len(raw) == size
        lines = lines[:limit]
        if not lines:
            return
        block = self._bulk(lines) if len(lines) >= FEW else None
        if block is None:
            block = self._line_by_line(lines, found)
        self._row += len(lines)
        self._offset += sum(map(len, lines))
        if len(block.times):
            ids = [f"{self._path.name}:{row}" for row in block.rows.tolist()]
            found.records += self._windows.extend(ids, block.times, block.values, block.usable)
            self._context += zip(block.bytes.tolist(), block.rows.tolist(), strict=True)
            del self._context[: len(self._context) - self._windows.kept]

    def _bulk(self, lines: Sequence[bytes]) -> Block | None:
        """All lines at once, or None when one of them needs a closer look."""
        joined = b"".join(lines)
        separator = self._separator.encode()
        if b'"' in joined or any(line.count(separator) != len(self._names) - 1 for line in lines):
            return None
        types: dict[int, Any] = dict.fromkeys(self._at, np.float64)
        if self._mode_at is not None and self._mode_at not in types:
            types[self._mode_at] = str
        wanted = sorted({self._time_at, *types})
        try:
            frame: pd.DataFrame = pd.read_csv(  # type: ignore[call-overload]
                io.BytesIO(joined), sep=self._separator, header=None, usecols=wanted, dtype=types, keep_default_na=False,
                na_values=dict.fromkeys(self._at, _BLANK_CELLS), skipinitialspace=True, float_precision="round_trip",
            )  # fmt: skip
            times = parse_time_column(frame[self._time_at])
        except (ValueError, OverflowError, UnicodeDecodeError):
            return None
        if len(frame) != len(lines) or not np.isfinite(times).all():
            return None
        if times[0] <= self._windows.last_time or (np.diff(times) <= 0).any():
            return None
        values = within_limits(frame[self._at].to_numpy(dtype=np.float64), self._channels)
        usable = np.ones(len(lines), bool)
        if self._mode_at is not None:
            usable = frame[self._mode_at].astype(str).str.strip().isin(self._schema.modes).to_numpy(dtype=bool)
        starts = self._offset + np.concatenate([[0], np.cumsum([len(line) for line in lines[:-1]], dtype=np.int64)]).astype(np.int64)
        return Block(self._row + 1 + np.arange(len(lines)), starts, times, values, usable)

    def _line_by_line(self, lines: Sequence[bytes], found: Poll) -> Block:
        """Each line by itself; those that cannot be read are set aside."""
        kept: list[tuple[int, int, float, NDArray[np.float32], bool]] = []
        at, last = self._offset, self._windows.last_time
        for number, raw in enumerate(lines, self._row + 1):
            record = f"{self._path.name}:{number}"
            text = raw.decode("utf-8", errors="replace").rstrip("\r\n")
            if text.strip():
                try:
                    moment, readings, usable = self._line(text, record, last)
                    kept.append((number, at, moment, readings, usable))
                    last = moment
                except (RecordError, csv.Error) as error:
                    found.rejected.append(Rejected(record, max(last, 0.0), f"{error}; the row: {text[:500]}"))
            at += len(raw)
        rows, starts, times, values, modes = zip(*kept, strict=True) if kept else ((), (), (), (), ())
        readings_of = np.array(values, dtype=np.float32).reshape(len(kept), len(self._channels))
        return Block(np.array(rows, np.int64), np.array(starts, np.int64), np.array(times, np.float64), readings_of, np.array(modes, bool))

    def _line(self, text: str, record: str, last: float) -> tuple[float, NDArray[np.float32], bool]:
        cells = next(csv.reader(io.StringIO(text), delimiter=self._separator))
        if len(cells) != len(self._names):
            raise RecordError(f"{record}: {len(cells)} fields instead of {len(self._names)}")
        moment = parse_time(cells[self._time_at], record)
        if moment <= last:
            raise RecordError(f"{record}: its time is not after the row before; rows must come in order")
        readings = parse_cells([cells[i] for i in self._at], self._channels, record)
        return moment, readings, self._mode_at is None or cells[self._mode_at].strip() in self._schema.modes
