"""A CSV that grows at its end."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from anomaly.data.records import Rejected
from anomaly.data.tables.dialect.cells import blank_lines, cut_cells, lines_of, read_numbers, without_trailing
from anomaly.data.tables.dialect.encoding import decoded, find_encoding
from anomaly.data.tables.dialect.find import find_dialect
from anomaly.data.tables.dialect.formats import could_be_time
from anomaly.data.tables.dialect.load import Header, as_written, is_typed, read_header
from anomaly.data.tables.dialect.times import read_times
from anomaly.data.tables.hold import Holder
from anomaly.data.tables.order import LateRows, RepeatedHour, RowOrder
from anomaly.edge.sources.base import EARLIEST, LATEST, Poll, check_plain, open_plain
from anomaly.edge.sources.line_ends import LastLine, encoded_as
from anomaly.edge.sources.window_buffer import WindowBuffer
from anomaly.errors import DataError, SourceError
from anomaly.schema import Dialect, InputSchema, within_limits

HEAD = 1 << 20  # bytes in which the header must lie
MARK = 1024  # bytes from its beginning by which a file is known again: another one may have its name, and its inode
LONGEST = 1 << 24  # bytes of a line: what is longer is no table


class Row(NamedTuple):
    """A row that is kept for the windows of those to come: the byte it begins at, its line, its time."""

    byte: int
    line: int
    time: float


class CsvSource:
    """A row is read once its line is complete; of a file that is `finished` the last one also without a line end.

    A file that was replaced, or has shrunk, is read from its beginning. While it is away, or has no header that fits, the poll says so as
    `trouble`; it is looked at again when it changes.

    Lines are read by the bundle's dialect, as `read_table` reads a whole file. Each record is the window that ends at a row. The position
    holds the byte to go on from, and the byte at which the oldest row that is kept begins.
    """

    def __init__(self, path: Path, schema: InputSchema, position: dict[str, Any], *, finished: bool = False) -> None:
        """Raises SourceError when the file or its header is not there yet, DataError when the header lacks a sensor of the bundle."""
        if is_typed(path):
            raise DataError(
                f"{path}: an Excel or Parquet file does not grow; put such files into a folder and watch that: --source tables:FOLDER"
            )
        self._path = path
        self._schema = schema
        self._channels = schema.sensors
        self._windows = WindowBuffer(schema)
        self._line_bytes = 256  # estimated length of a line: a quarter more than the mean of the last block
        self._other = ""  # the words for an encoding other than the bundle's, until they are told
        self._unfit: tuple[int, int, int] | None = None  # inode, size and time of change of the file that could not be begun
        self._last_line = LastLine(finished)
        self._open_end = False  # the line before the offset was taken without an end, which may still come
        self._why, self._told = "", 0  # why not, and the inode of the one that was set aside for it
        self._begin(position)

    def close(self) -> None:
        """Nothing is held open."""

    def _begin(self, position: dict[str, Any]) -> None:
        self._follow()
        self._open_end = False
        self._offset, self._row = self._read_header()
        found = self._stat()
        self._inode, self._changed = found.st_ino, found.st_mtime
        length, mark = position.get("mark", (0, 0))
        same = position and position["inode"] == self._inode and crc32(self._mark[:length]) == mark
        if same and position["offset"] <= found.st_size:
            self._offset, self._row = int(position["start"]), int(position["start_row"])
            self._take(Poll(), 1 << 30, until=int(position["offset"]))  # rows scored before the restart

    def _follow(self) -> None:
        """The rows to come are not connected with those before."""
        self._windows.clear()
        self._holder = Holder(self._channels)
        self._order, self._late = RowOrder(self._schema.max_gap_s or np.inf), LateRows()
        self._hour = RepeatedHour(self._schema.max_gap_s or np.inf)
        self._kept: list[Row] = []

    def _read_header(self) -> tuple[int, int]:
        """(byte, line) after the header. Raises DataError for a header that does not fit the bundle."""
        asked = self._schema.dialect or Dialect()
        if self._schema.time and not asked.time:
            asked = asked.model_copy(update={"time": (self._schema.time,)})
        try:
            with open_plain(self._path) as stream:
                raw = stream.read(HEAD)
        except OSError as error:
            raise SourceError(f"{self._path}: cannot be read ({error.strerror}); create it or correct --source") from error
        self._mark = raw[:MARK]
        if not raw.strip():
            raise SourceError(f"{self._path}: no complete header line yet; write the column names first")
        # A bundle that was fitted to Parquet or Excel tells nothing of CSV: that is found in the file as it stands, at every start anew.
        if asked.complete:
            self._dialect, self._other = as_written(raw, asked, [*asked.time, *(channel.name for channel in self._channels)])
        else:
            self._dialect = find_dialect([self._path], asked) if _has_rows(raw) else _of_header(raw, asked)
        self._encoded = encoded_as(self._dialect.encoding or "utf-8", raw)
        ends = self._encoded.line_ends(raw)
        lines = (self._dialect.skip_rows or 0) + 1 + (self._dialect.units_rows or 0)
        if len(ends) < lines:
            raise SourceError(f"{self._path}: no complete header line yet; write the column names first")
        self._header = read_header(self._encoded.decode(raw[: ends[lines - 1]], str(self._path)), self._dialect, str(self._path))
        self._check(self._header)
        return int(ends[lines - 1]), lines

    def _check(self, header: Header) -> None:
        names, needed = header.names, [c.name for c in self._channels]
        missing = [name for name in needed if name not in names]
        if missing:
            raise DataError(f"{self._path}: columns {missing} are missing, which the bundle needs; its header has {names}")
        gone = [name for name in self._dialect.time if name not in names]
        if gone:
            raise DataError(f"{self._path}: no time column {gone[0]!r}; its header has {names}")
        mode = self._schema.mode_column
        self._mode = mode if mode in names else None

    def _stat(self) -> os.stat_result:
        """What there is at the path. Raises SourceError when that is no plain file."""
        try:
            found = self._path.stat()
            check_plain(found)
        except OSError as error:
            raise SourceError(f"{self._path}: {error.strerror}") from error
        return found

    def poll(self, limit: int) -> Poll:
        """Up to `limit` rows further."""
        found = Poll()
        try:
            stat = self._stat()  # rotated away: wait for the next one
            not_yet_known = not self._dialect.complete and stat.st_size > self._offset  # the first rows have come
            replaced = stat.st_ino != self._inode or stat.st_size < self._offset or not self._is_marked()
            if self._unfit or replaced or not_yet_known:
                self._begin_anew(stat, found)
            if self._unfit:
                found.trouble = self._why
                return found
            if self._other:
                found.notes.append(f"{self._path}: {self._other}")
                self._other = ""
            self._take(found, limit)
        except (SourceError, OSError) as error:
            found.trouble = str(error) if isinstance(error, SourceError) else f"{self._path}: cannot be read ({error.strerror})"
            return found
        start, start_row = (self._kept[0].byte, self._kept[0].line) if self._kept else (self._offset, self._row + 1)
        found.position = {"inode": self._inode, "offset": self._offset, "row": self._row, "start": start, "start_row": start_row - 1}
        found.position["mark"] = [len(self._mark), crc32(self._mark)]
        return found

    def _is_marked(self) -> bool:
        """Whether the file begins as it did."""
        with open_plain(self._path) as stream:
            begin = stream.read(MARK)
        marked = begin.startswith(self._mark)
        self._mark = begin if marked else self._mark
        return marked

    def _begin_anew(self, stat: os.stat_result, found: Poll) -> None:
        """Read from the beginning. A file whose header does not fit is set aside once, and looked at again when it has changed."""
        stamp = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
        if self._unfit == stamp:
            return
        self._unfit = stamp
        try:
            self._begin({})
            self._unfit, self._told = None, 0
        except SourceError as error:
            self._why = str(error)
        except DataError as error:
            self._why = str(error)
            if self._told != stat.st_ino:
                found.rejected.append(Rejected(f"{self._path.name}@{stat.st_mtime_ns}", stat.st_mtime, self._why))
            self._told = stat.st_ino

    def _take(self, found: Poll, limit: int, until: int | None = None) -> None:
        """Read whole lines from the offset on, at most `limit` of them, or up to byte `until`."""
        size = (until - self._offset) if until is not None else limit * self._line_bytes
        size += -size % self._encoded.unit
        with open_plain(self._path) as stream:
            stream.seek(self._offset)
            raw = stream.read(size)
            while len(raw) == size and size < LONGEST and not len(self._encoded.line_ends(raw)):  # a line longer than all of it
                size *= 2
                raw += stream.read(size - len(raw))
        full = len(raw) == size  # there may be more
        raw = self._after_open_end(raw)
        ends = self._encoded.line_ends(raw)
        if len(ends):
            self._line_bytes = 1 + max(64, 5 * len(raw) // (4 * len(ends)))
        elif len(raw) >= LONGEST:
            self._skip(len(raw), found)
            return
        found.waiting = len(ends) >= limit or full
        if until is not None or not found.waiting:
            ends = self._with_last_line(raw, ends, found, until is not None)
        ends = ends[:limit]
        if not len(ends):
            return
        self._read(raw[: ends[-1]], np.concatenate([[0], ends[:-1]]).astype(np.int64) + self._offset, found)
        self._row += len(ends)
        self._offset += int(ends[-1])

    def _after_open_end(self, raw: bytes) -> bytes:
        """Bytes without the end of the line before them, where that was taken before its end had come."""
        ends = self._encoded.line_ends(raw[:64])
        if self._open_end and len(ends) and not self._encoded.decode(raw[: ends[0]], "", lenient=True).strip():
            self._offset += int(ends[0])
            raw = raw[ends[0] :]
        self._open_end &= not raw
        return raw

    def _with_last_line(self, raw: bytes, ends: NDArray[np.int64], found: Poll, taken_before: bool) -> NDArray[np.int64]:
        """Ends of lines (n,) with that of a last line which nothing ends, where it counts."""
        begin = int(ends[-1]) if len(ends) else 0
        if not self._encoded.decode(raw[begin:], "", lenient=True).strip():
            return ends
        counts = taken_before or self._last_line.look(self._stat())
        found.waiting |= counts is None
        self._open_end = bool(counts)
        return np.append(ends, len(raw)) if counts else ends

    @property
    def _moment(self) -> float:
        """When a row came that has no time of its own: with the last that had one, before the first when the file was changed."""
        return max(self._order.last, 0.0) if np.isfinite(self._order.last) else self._changed

    def _skip(self, size: int, found: Poll) -> None:
        """Go past bytes in which no line ends."""
        record = f"{self._path.name}:{self._row + 1}"
        reason = f"{record}: no line ends in {size:,} bytes from byte {self._offset:,} on; they are skipped"
        found.rejected.append(Rejected(record, self._moment, reason))
        self._offset += size
        found.waiting = True

    def _read(self, raw: bytes, begins: NDArray[np.int64], found: Poll) -> None:
        """The records of whole lines, of which each begins at a byte (n,) of the file."""
        dialect, width = self._dialect, len(self._header.names)
        text = self._encoded.decode(raw, "", lenient=True)
        lines = lines_of(text, dialect.delimiter or ",", dialect.quote)
        trimmed = without_trailing(text, lines, dialect.delimiter or ",", width)
        filled = ~blank_lines(text, lines, dialect.delimiter or ",")
        good = np.flatnonzero(filled & (trimmed.cells == width))
        reasons = {
            int(at): f"{max(int(trimmed.cells[at]), 1)} fields instead of {width}"
            for at in np.flatnonzero(filled & (trimmed.cells != width))
        }
        table = cut_cells(text, trimmed, good, width, dialect, shortened=bool((trimmed.ends != lines.ends).any()))
        columns = {name: table.column(i).combine_chunks() for i, name in enumerate(self._header.names) if name}
        times = read_times([columns[name] for name in dialect.time], dialect, self._schema.period_s, self._order.last)
        readable = (times >= EARLIEST) & (times <= LATEST)
        for at in np.flatnonzero(~readable):
            reasons[int(good[at])] = f"time {str(columns[dialect.time[0]][int(at)].as_py() or '')!r} cannot be read"
        rows, anew = self._in_order(np.flatnonzero(readable), good, times, reasons, found)
        self._reject(reasons, lines.starts, lines.ends, text, found)
        if len(rows):
            self._extend(rows, anew, good, begins, times, columns, found)
        if self._late.enough:
            self._follow()

    def _in_order(
        self, rows: NDArray[np.int64], good: NDArray[np.int64], times: NDArray[np.float64], reasons: dict[int, str], found: Poll
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Those of the rows whose time is after the row before, and which of them windows begin anew at; the others get a reason."""
        before = self._order.last
        taken = self._order.take(times[rows])
        self._late.take(times[rows], taken)
        anew = self._hour.take(times[rows], taken) & (not self._dialect.zone)
        if taken.rewind is not None:
            for row in [row for row in self._kept if row.time > taken.rewind]:
                reason = f"{self._path.name}:{row.line}: its time is far ahead of the rows after it"
                found.rejected.append(Rejected(f"{self._path.name}:{row.line}", max(taken.rewind, 0.0), reason))
            self._kept = [row for row in self._kept if row.time <= taken.rewind]
            self._windows.rewind(taken.rewind)
        for at in np.flatnonzero(~taken.kept):
            if taken.stray[at]:
                reasons[int(good[rows[at]])] = "its time is far ahead of the rows after it"
                continue
            back = max([before, *times[rows[:at]]]) - times[rows[at]]
            if back == 0:
                reasons[int(good[rows[at]])] = "its time is that of the row before, which has been judged"
                continue
            hint = (
                ""
                if self._dialect.zone or abs(back - 3600) > 360
                else '; local time? name its zone in the spec: [input] zone = "Europe/Berlin"'
            )
            reasons[int(good[rows[at]])] = f"its time is not after the row before; rows must come in order{hint}"
        return rows[taken.kept], anew[taken.kept]

    def _reject(self, reasons: dict[int, str], starts: NDArray[np.int64], ends: NDArray[np.int64], text: bytes, found: Poll) -> None:
        for at in sorted(reasons):
            record = f"{self._path.name}:{self._row + 1 + at}"
            line = text[starts[at] : ends[at]].decode(errors="replace")
            found.rejected.append(Rejected(record, self._moment, f"{record}: {reasons[at]}; the row: {line[:500]}"))

    def _extend(
        self,
        rows: NDArray[np.int64],
        anew: NDArray[np.bool_],
        good: NDArray[np.int64],
        begins: NDArray[np.int64],
        times: NDArray[np.float64],
        columns: dict[str, pa.Array],
        found: Poll,
    ) -> None:
        """Add rows to the windows, with their readings."""
        at, moments = good[rows], times[rows]
        numbers = np.empty((len(rows), len(self._channels)))
        chosen = pa.array(rows)
        for index, channel in enumerate(self._channels):
            cells = columns[channel.name].take(chosen)
            numbers[:, index], unread = read_numbers(cells, self._dialect)
            if unread.any():
                first = int(np.flatnonzero(unread)[0])
                found.unread[channel.name] = (int(unread.sum()), str(cells[first].as_py()), float(moments[first]))
        values = self._holder.fill(moments, within_limits(numbers, self._channels))
        usable = ~anew
        if self._mode is not None:
            words = pc.utf8_trim_whitespace(columns[self._mode].take(chosen))
            found.mode = words[-1].as_py()
            usable &= np.asarray(pc.is_in(words, value_set=pa.array(list(self._schema.modes), pa.string())).fill_null(False))
        numbered = self._row + 1 + at
        found.records += self._windows.extend([f"{self._path.name}:{line}" for line in numbered.tolist()], moments, values, usable)
        self._kept += [Row(*each) for each in zip(begins[at].tolist(), numbered.tolist(), moments.tolist(), strict=True)]
        self._forget()

    def _forget(self) -> None:
        """Let go of rows that neither a window nor a held reading needs any more."""
        spare = len(self._kept) - self._windows.kept
        since = self._windows.first_time - self._holder.longest_s
        while spare > 0 and self._kept[spare - 1].time >= since:
            spare -= 1
        del self._kept[: max(spare, 0)]


def _has_rows(head: bytes) -> bool:
    """Whether more than one line of a file is complete."""
    return sum(bool(line.strip()) for line in head.split(b"\n")[:-1]) > 1


def _of_header(head: bytes, asked: Dialect) -> Dialect:
    """What a header alone tells, until the first row comes: the delimiter, and which column has a name of time columns."""
    encoding = asked.encoding or find_encoding(head)
    line = decoded(head, encoding).decode()
    delimiter = asked.delimiter or max(";\t,", key=line.count)
    found = asked.model_copy(update={"encoding": encoding, "delimiter": delimiter, "skip_rows": 0, "units_rows": 0})
    names = read_header(line.encode(), found, "the header").names
    time = asked.time or tuple(name for name in names if could_be_time(name))[:1]
    return found.model_copy(update={"time": time, "time_format": ()})
