"""The columns of a table as they are in its file: text from CSV and Excel, typed from Parquet. What they mean is read by `reader`."""

from __future__ import annotations

import csv
import datetime
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from numpy.typing import NDArray

from anomaly.data.spreadsheet import read_cell
from anomaly.data.tables.dialect.cells import blank_lines, cut_cells, head_of, is_number, lines_of, without_trailing
from anomaly.data.tables.dialect.encoding import decoded, encoding_of
from anomaly.errors import DataError
from anomaly.schema import Dialect

PARQUET = (".parquet", ".pq")
EXCEL = (".xlsx", ".xlsm")
_SHIFTED = 3  # rows of another width before the first good one: then the header is wrong, not the rows


@dataclass
class RawTable:
    """Columns (n,) by name, the line or row number (n,) of each row as a person counts it, and what was left out.

    `bad` are rows of another number of cells: (line, cells). `units` by column, where the file has a row of them.
    """

    path: Path
    columns: dict[str, pa.Array]
    lines: NDArray[np.int64]
    bad: list[tuple[int, int]] = field(default_factory=list)
    units: dict[str, str] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """The columns' names, in order."""
        return list(self.columns)


@dataclass(frozen=True)
class Header:
    """What stands before the readings: names (trailing empty ones cut off), the first line after it, and units."""

    names: list[str]
    first: int
    units: dict[str, str]


def is_typed(path: Path) -> bool:
    """Whether the file's cells have types of their own, so that only CSV's questions are open."""
    return path.suffix.lower() in (*PARQUET, *EXCEL)


def text_of(path: Path, encoding: str | None) -> bytes:
    """The content of a text file or of an Excel sheet, as UTF-8 with line feeds. Raises DataError naming the file."""
    check_file(path)
    if path.suffix.lower() in EXCEL:
        return _sheet(path)
    raw = path.read_bytes()
    return decoded(raw, encoding or "utf-8", str(path))


def check_file(path: Path) -> None:
    """Raise DataError for a file that is not there, or is empty."""
    if not path.is_file():
        raise DataError(f"{path}: no such table; give a CSV, Excel or Parquet file")
    if path.stat().st_size == 0:
        raise DataError(f"{path}: the file is empty (0 bytes); export it again")


def read_header(text: bytes, dialect: Dialect, where: str) -> Header:
    """The header of a text by its dialect. Raises DataError for names that are none, or occur twice."""
    skip, units = dialect.skip_rows or 0, dialect.units_rows or 0
    lines = head_of(text, skip + units + 1).decode(errors="replace").split("\n")
    if len(lines) <= skip:
        raise DataError(f"{where}: no header in line {skip + 1}; correct [input] skip_rows in the spec")
    names = [read_cell(name.strip()) for name in _split(lines[skip], dialect)]
    while names and not names[-1]:
        names.pop()
    check_header(names, where)
    found: dict[str, str] = {}
    if units:
        cells = _split(lines[skip + 1], dialect) if len(lines) > skip + 1 else []
        found = {name: cell.strip().strip("[]()") for name, cell in zip(names, cells, strict=False) if name and cell.strip()}
    return Header(names, skip + 1 + units, found)


def as_written(head: bytes, dialect: Dialect, needed: Collection[str]) -> tuple[Dialect, str]:
    """A dialect with the encoding that the first bytes of a file show, and words for that; as it is, and "", where they show no other.

    `needed`: the columns that are to be taken from the file.
    """
    told = dialect.encoding or "utf-8"

    def fits(text: bytes) -> bool:
        try:
            return set(needed) <= set(read_header(text, dialect, "").names)
        except DataError:
            return False

    found, why = encoding_of(head, told, fits)
    if not found:
        return dialect, ""
    return dialect.model_copy(update={"encoding": found}), f"read as {found}, by {why}; what was learnt from, or the spec, has {told}"


def _split(line: str, dialect: Dialect) -> list[str]:
    try:
        quote: dict[str, Any] = {"quotechar": dialect.quote} if dialect.quote else {"quoting": csv.QUOTE_NONE}
        return next(csv.reader([line.rstrip("\r")], delimiter=dialect.delimiter or ",", **quote), [])
    except csv.Error as error:
        raise DataError(f"a line cannot be split into cells ({error}): {line[:200]!r}") from error


def check_header(names: list[str], where: str) -> None:
    """Raise DataError unless `names` looks like column names: given, all different, not numbers."""
    if all(is_number(name) for name in names):
        raise DataError(f"{where}: the first line holds numbers, not column names ({', '.join(names[:4])} …); add a header line")
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        raise DataError(f"{where}: column names occur twice: {twice}; rename them")


def load(path: Path, dialect: Dialect, text: bytes | None = None) -> RawTable:
    """The table's columns. The dialect tells how a text is cut into cells; `text` is the content where it was read already.

    Raises DataError naming the file for one that cannot be read.
    """
    if path.suffix.lower() in PARQUET:
        return _load_parquet(path)
    text = text_of(path, dialect.encoding) if text is None else text
    header = read_header(text, dialect, str(path))
    raw = cut_rows(path, text, header, dialect, header.first)
    check_not_shifted(raw, header.names)
    if not len(raw.lines):
        raise DataError(f"{path}: a header but no rows; export it again")
    return raw


def cut_rows(path: Path, text: bytes, header: Header, dialect: Dialect, first: int = 0) -> RawTable:
    """The columns of the rows in a text, from line `first` (from 0) on; lines are counted from the begin of the text. There may be none."""
    delimiter, width = dialect.delimiter or ",", len(header.names)
    lines = lines_of(text, delimiter, dialect.quote)
    trimmed = without_trailing(text, lines, delimiter, width)
    used = (np.arange(len(lines.starts)) >= first) & ~blank_lines(text, lines, delimiter)
    good, wrong = np.flatnonzero(used & (trimmed.cells == width)), np.flatnonzero(used & (trimmed.cells != width))
    cells = cut_cells(text, trimmed, good, width, dialect, shortened=trimmed is not lines and bool((trimmed.ends != lines.ends).any()))
    columns = {name: cells.column(index).combine_chunks() for index, name in enumerate(header.names) if name}
    bad = [(int(at) + 1, int(trimmed.cells[at])) for at in wrong]
    return RawTable(path, columns, good + 1, bad, header.units)


def check_not_shifted(raw: RawTable, names: list[str]) -> None:
    """Where the first rows are of another width than the header, the header is wrong; a later row is one bad record."""
    first = raw.lines[0] if len(raw.lines) else np.inf
    if sum(line < first for line, _ in raw.bad) >= _SHIFTED or (raw.bad and not len(raw.lines)):
        line, cells = raw.bad[0]
        raise DataError(
            f"{raw.path}: row {line} has {cells} fields but the header names {len(names)} "
            f"({', '.join(names[:4])} …); the header is shifted or a column name is missing"
        )


def _load_parquet(path: Path) -> RawTable:
    check_file(path)
    try:
        frame = pyarrow.parquet.read_table(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not a readable Parquet file ({error}); export it again") from error
    if not len(frame):
        raise DataError(f"{path}: no rows; export it again")
    return typed_rows(path, frame)


def whole_array(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """A column in one piece."""
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return pa.concat_arrays(whole.chunks) if isinstance(whole, pa.ChunkedArray) else whole


def typed_rows(path: Path, frame: pa.Table) -> RawTable:
    """The rows of a table whose columns have types; the first of them counts as line 2."""
    columns: dict[str, pa.Array] = {}
    for name, column in zip(frame.column_names, frame.columns, strict=True):
        whole = whole_array(column)
        if pa.types.is_dictionary(whole.type):
            whole = whole.dictionary_decode()
        if pa.types.is_large_string(whole.type):
            whole = whole.cast(pa.string())
        columns[str(name)] = whole
    return RawTable(path, columns, np.arange(len(frame), dtype=np.int64) + 2)


def _sheet(path: Path) -> bytes:
    """The first sheet of an Excel file that holds two columns, as tab-separated text with ISO times."""
    try:
        import openpyxl
    except ImportError as error:
        raise DataError(f"{path}: Excel files need openpyxl; run: pip install 'anomaly-pipeline[excel]', or save it as CSV") from error
    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    except Exception as error:  # openpyxl raises zipfile's, xml's and its own
        raise DataError(f"{path}: not a readable Excel file ({error}); save it again as .xlsx or CSV") from error
    for sheet in book.worksheets:
        rows = [[_excel_cell(value) for value in row] for row in sheet.iter_rows(values_only=True)]
        if sum(len([cell for cell in row if cell]) >= 2 for row in rows) >= 2:
            return "".join("\t".join(row) + "\n" for row in rows).encode()
    raise DataError(f"{path}: no sheet with a table in it")


def _excel_cell(value: Any) -> str:  # noqa: PLR0911 - one a kind
    if value is None:
        return ""
    if isinstance(value, datetime.datetime):
        if value.time() == datetime.time():
            return value.date().isoformat()
        return value.isoformat(sep=" ", timespec="microseconds" if value.microsecond else "seconds")
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float):
        return f"{value:.17g}"  # the same number, and too long to be taken for one with a mark of thousands
    return str(value) if isinstance(value, int) else " ".join(str(value).split())
