"""A table in blocks of some megabytes, so that one of any size is read in little memory. Each block is read by THE reader's functions.

A text is cut where lines end, a Parquet file into its row groups. An Excel file is one block.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.parquet
from numpy.typing import NDArray

from anomaly.data.tables.dialect.load import (
    EXCEL,
    PARQUET,
    Header,
    RawTable,
    check_file,
    check_not_shifted,
    cut_rows,
    load,
    read_header,
    typed_rows,
    whole_array,
)
from anomaly.edge.sources.line_ends import Encoded, encoded_as
from anomaly.errors import DataError
from anomaly.schema import Dialect

BLOCK_BYTES = 16 << 20
_HEAD = 1 << 16  # bytes that the header and the first line's end are found in, at least


class Block(NamedTuple):
    """Part of a table: its first byte and how many (Parquet: the number of a row group and 0), and how many lines stand before it."""

    at: int
    size: int
    line: int


class Blocks:
    """The blocks of one table. Raises DataError as `load` does."""

    def __init__(self, path: Path, dialect: Dialect) -> None:
        """Reads no more than the header."""
        check_file(path)
        self.path, self._dialect = path, dialect
        self._header: Header | None = None
        self._encoded: Encoded | None = None
        self._file: pyarrow.parquet.ParquetFile | None = None
        self.first_line = 1  # by what `RawTable.lines` counts
        suffix = path.suffix.lower()
        if suffix in PARQUET:
            try:
                self._file = pyarrow.parquet.ParquetFile(path)
            except (OSError, ValueError) as error:
                raise DataError(f"{path}: not a readable Parquet file ({error}); export it again") from error
            self.names, self.first_line = [str(name) for name in self._file.schema_arrow.names], 2
        elif suffix in EXCEL:
            self.names = load(path, dialect).names
        else:
            with path.open("rb") as stream:
                head = stream.read(_HEAD)
                self._encoded = encoded_as(dialect.encoding or "utf-8", head)
                lines = (dialect.skip_rows or 0) + (dialect.units_rows or 0) + 1
                while len(self._encoded.line_ends(head)) < lines and (more := stream.read(_HEAD)):
                    head += more
            ends = self._encoded.line_ends(head)
            head = head if len(ends) < lines else head[: ends[lines - 1]]
            self._header = read_header(self._encoded.decode(head, str(path)), dialect, str(path))
            self.names = [name for name in self._header.names if name]

    def all(self, columns: Sequence[str], size: int = BLOCK_BYTES) -> Iterator[tuple[Block, RawTable]]:
        """Every block with its rows, in order; of Parquet only these columns. Raises DataError for a file without rows, or cut short."""
        rows = 0
        for block in self._cut(size):
            raw = self.read(block, columns)
            if not rows and self._header is not None:
                check_not_shifted(raw, self._header.names)
            rows += len(raw.lines)
            yield block, raw
        if not rows:
            raise DataError(f"{self.path}: a header but no rows; export it again")

    def read(self, block: Block, columns: Sequence[str]) -> RawTable:
        """One block's rows, named by their lines in the file; of Parquet only these columns."""
        if self._file is not None:
            try:
                raw = typed_rows(self.path, self._file.read_row_group(block.at, columns=[name for name in self.names if name in columns]))
            except (OSError, ValueError) as error:
                raise DataError(f"{self.path}: not a readable Parquet file ({error}); export it again") from error
        elif self._header is None or self._encoded is None:
            return load(self.path, self._dialect)
        else:
            with self.path.open("rb") as stream:
                stream.seek(block.at)
                text = self._encoded.decode(stream.read(block.size), str(self.path))
            raw = cut_rows(self.path, text, self._header, self._dialect, self._header.first if block.at == 0 else 0)
        raw.lines += block.line
        raw.bad = [(line + block.line, cells) for line, cells in raw.bad]
        return raw

    def _cut(self, size: int) -> Iterator[Block]:
        """Where each block begins and ends."""
        if self._file is not None:
            rows = 0
            for number in range(self._file.num_row_groups):
                yield Block(number, 0, rows)
                rows += self._file.metadata.row_group(number).num_rows
            return
        if self._encoded is None:
            yield Block(0, 0, 0)
            return
        at = lines = 0
        with self.path.open("rb") as stream:
            left = b""
            while raw := stream.read(size):
                whole = left + raw
                ends = self._encoded.line_ends(whole)
                if not len(ends):
                    left = whole
                    continue
                yield Block(at, int(ends[-1]), lines)
                at, lines, left = at + int(ends[-1]), lines + len(ends), whole[ends[-1] :]
        if left:
            yield Block(at, len(left), lines)


def read_lines(blocks: Blocks, index: Sequence[Block], lines: NDArray[np.int64], columns: Sequence[str]) -> RawTable:
    """The rows at these lines (n,) of the file, in this order, whichever blocks hold them."""
    firsts = np.array([block.line for block in index])
    of = np.searchsorted(firsts, lines - blocks.first_line, side="right") - 1
    places, found = [], []
    for number in np.unique(of):
        raw = blocks.read(index[number], columns)
        mine = np.flatnonzero(of == number)
        at = np.searchsorted(raw.lines, lines[mine])
        found.append({name: raw.columns[name].take(pyarrow.array(at)) for name in columns})
        places.append(mine)
    back = pyarrow.array(np.argsort(np.concatenate(places), kind="stable"))
    together = {name: pyarrow.concat_arrays([whole_array(part[name]) for part in found]).take(back) for name in columns}
    return RawTable(blocks.path, together, lines)
