"""Finding the dialect of tables on the whole of their content; what can be read in two ways is an error that names the spec's key.

DuckDB's `sniff_csv` and charset-normalizer were tried first, and are not used: on plain exports the first split
`time;flow, l/min` at the comma, knows no decimal comma and gives up on `31.01.2026 12:00`; the second took a cp1252 header with `°C`
for Big5. Neither says what is ambiguous.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from anomaly.data.tables.dialect.cells import MISSING, head_of, lines_of, number_pattern
from anomaly.data.tables.dialect.encoding import decoded, find_encoding
from anomaly.data.tables.dialect.formats import could_be_time, find_time, is_moment
from anomaly.data.tables.dialect.load import EXCEL, PARQUET, RawTable, as_written, check_file, is_typed, load, text_of
from anomaly.data.tables.dialect.times import ISO
from anomaly.errors import DataError, UnclearError
from anomaly.schema import Dialect

DELIMITERS = (";", "\t", ",", "|")
HEAD_BYTES = 1 << 20  # by which the encoding of a file is known that is read by a given dialect
HEAD = 400  # lines in which the header is looked for
MOST_CELLS = 20_000  # of a column, that the decimal mark is looked for in; the time column is always looked at whole
_NUMBERLIKE = re.compile(r"^[+-\u2212]?[\d.,'\u2019 \u00a0\u202f]*\d[\d.,]*([eE][+-]?\d+)?$")
_MOMENT = re.compile(
    r"^\d{1,4}[./-](\d{1,2}|[A-Za-z]{3,})[./-]\d{1,4}(?!\d)|^\d{1,2}:\d{2}|^\d{1,2}[ -][A-Za-z]{3,}|^[A-Za-z]{3,}\.? \d{1,2},? \d{4}"
)
_READINGS = [(".", ""), (",", ""), (".", ","), (",", "."), (".", " "), (",", " "), (".", "'"), (",", "'")]  # decimal and thousands mark


def find_dialect(paths: Sequence[Path], asked: Dialect | None = None) -> Dialect:
    """How tables are written, found in all of them; what `asked` tells is not looked for.

    Raises DataError for a file that cannot be read, for what can be read in two ways, and for tables that differ.
    """
    asked = asked or Dialect()
    if asked.complete:
        return asked
    found = [_structure(path, asked) for path in paths]
    raws = [load(path, dialect, text) for path, (dialect, text) in zip(paths, found, strict=True)]
    dialects = [dialect for dialect, _ in found]
    first = _agreed(paths, dialects)
    decimal, thousands = find_marks(raws, first) if asked.decimal is None or asked.thousands is None else (asked.decimal, asked.thousands)
    first = first.model_copy(
        update={"decimal": asked.decimal or decimal, "thousands": thousands if asked.thousands is None else asked.thousands}
    )
    time, forms = find_time(raws, first)
    return first.model_copy(update={"time": time, "time_format": forms})


def dialect_of(path: Path, asked: Dialect, sensors: Sequence[str] = ()) -> tuple[Dialect, str]:
    """The dialect to read a file by: as it is asked where that tells all, else with what is found in the file.

    A file that shows for sure that it is in another encoding than is asked is read in that, and the second value says so. Raises DataError
    as `find_dialect`.
    """
    if path.suffix.lower() in EXCEL and asked.complete:  # its cells have types: what was told of a CSV is of no use but for text in them
        forms = tuple(dict.fromkeys((ISO, *asked.time_format)))
        asked = Dialect(time=asked.time, time_format=forms, zone=asked.zone, missing=asked.missing)
    if not asked.complete:
        return find_dialect([path], asked), ""
    if is_typed(path) or not path.is_file():  # what is not there is told by what reads it
        return asked, ""
    with path.open("rb") as stream:
        dialect, other = as_written(stream.read(HEAD_BYTES), asked, [*asked.time, *sensors])
    return dialect, f"{path}: {other}" if other else ""


def column_names(path: Path) -> list[str]:
    """The names of a table's columns. Raises DataError for a file that cannot be read."""
    dialect, text = _structure(path, Dialect())
    return load(path, dialect, text).names


def to_store(dialect: Dialect, paths: Sequence[Path]) -> Dialect:
    """What of a dialect holds for other files: of Parquet and Excel only time column, zone and words; a CSV of the same has its own."""
    if not any(is_typed(path) for path in paths):
        return dialect
    kept = dialect.model_copy(update=dict.fromkeys(("encoding", "delimiter", "decimal", "thousands", "skip_rows", "units_rows")))
    return kept.model_copy(update={"time_format": ()})


def _agreed(paths: Sequence[Path], dialects: Sequence[Dialect]) -> Dialect:
    """The one dialect of several files. Raises DataError naming two that differ."""
    texts = [(path, dialect) for path, dialect in zip(paths, dialects, strict=True) if not is_typed(path)]
    if not texts:
        return dialects[0]
    where, first = texts[0]
    encodings = {dialect.encoding for _, dialect in texts} - {"ascii"}
    for path, dialect in texts[1:]:
        for key in ("delimiter", "skip_rows", "units_rows"):
            if getattr(dialect, key) != getattr(first, key):
                raise DataError(
                    f"{path}: {key} is {getattr(dialect, key)!r}, but in {where.name} it is {getattr(first, key)!r}; "
                    "export both in the same way, or fit them apart"
                )
    if len(encodings) > 1:
        raise DataError(
            f"{paths[0].parent}: tables in different encodings ({', '.join(sorted(map(str, encodings)))}); export them in the same one"
        )
    return first.model_copy(update={"encoding": next(iter(encodings), "utf-8")})


# --- delimiter and header ---


def _structure(path: Path, asked: Dialect) -> tuple[Dialect, bytes | None]:
    """Encoding, delimiter and header of one file, with its text where it has one."""
    check_file(path)
    if path.suffix.lower() in PARQUET:
        return asked, None
    if path.suffix.lower() in EXCEL:
        asked, text, encoding = asked.model_copy(update={"delimiter": "\t"}), text_of(path, None), "utf-8"
    else:
        raw = path.read_bytes()
        encoding = asked.encoding or find_encoding(raw)
        text = decoded(raw, encoding, str(path))
    if asked.quote and _quotes_are_text(text, asked):
        asked = asked.model_copy(update={"quote": ""})
    delimiter, skip, units = find_header(head_of(text, HEAD), asked, str(path))
    return asked.model_copy(update={"encoding": encoding, "delimiter": delimiter, "skip_rows": skip, "units_rows": units}), text


def _quotes_are_text(text: bytes, asked: Dialect) -> bool:
    """Whether quotes stand for inches and the like, not around cells: without a meaning of theirs more lines have the usual width."""
    if asked.quote.encode() not in text:
        return False
    delimiter = find_header(head_of(text, HEAD), asked, "")[0]
    quoted, plain = (lines_of(text, delimiter, quote).cells for quote in (asked.quote, ""))
    usual = [int(np.unique(cells, return_counts=True)[1].max()) for cells in (quoted[quoted > 0], plain) if len(cells)]
    return len(usual) < 2 or usual[1] > usual[0]


def find_header(text: bytes, asked: Dialect, where: str) -> tuple[str, int, int]:
    """(delimiter, lines before the header, lines between header and readings) of the head of a text.

    The delimiter is the one that cuts the lines into equally many cells that read as numbers or times. The header is the line above
    the first row of readings; where several lines above it have as many cells, the one that names a time, else the uppermost.
    """
    best: tuple[float, str, list[list[str]]] | None = None
    for delimiter in [asked.delimiter] if asked.delimiter else DELIMITERS:
        rows = _rows(text, delimiter, asked.quote)
        score = _likeness(rows)
        if best is None or score > best[0] + 1e-9:
            best = score, delimiter, rows
    assert best is not None
    _, delimiter, rows = best
    if asked.skip_rows is not None:
        after = next((i for i in range(asked.skip_rows + 1, len(rows)) if _is_data(rows[i])), asked.skip_rows + 1)
        return delimiter, asked.skip_rows, asked.units_rows if asked.units_rows is not None else after - asked.skip_rows - 1
    first = _first_reading(rows, _width(rows))
    if first is None:
        return delimiter, next((i for i, row in enumerate(rows) if any(row)), 0), 0
    block: list[int] = []
    for at in range(first - 1, -1, -1):
        if not any(rows[at]) or abs(len(rows[at]) - len(rows[first])) > 1:
            if block or any(rows[at]):
                break
            continue
        block.append(at)
    if not block:
        # Rows of another width than the header: reading will say so. Without any line above there is no header at all.
        return delimiter, next((i for i in range(first) if len(rows[i]) > 1), first), 0
    header = next((at for at in block[::-1] if any(could_be_time(name) for name in rows[at])), block[-1])
    return delimiter, header, first - header - 1


def _rows(text: bytes, delimiter: str, quote: str) -> list[list[str]]:
    """The first lines as cells, an empty list for a blank one."""
    rows = []
    for line in text.decode(errors="replace").split("\n")[:HEAD]:
        try:
            kind = {"quotechar": quote} if quote else {"quoting": csv.QUOTE_NONE}
            cells = next(csv.reader([line.rstrip("\r")], delimiter=delimiter, **kind), [])
        except csv.Error:
            cells = [line]
        stripped = [cell.strip() for cell in cells]
        rows.append(stripped if any(stripped) else [])
    return rows


def _width(rows: list[list[str]]) -> int:
    """The usual number of cells in the second half of the lines that are not blank."""
    filled = [row for row in rows if row]
    return Counter(len(row) for row in filled[len(filled) // 2 :]).most_common(1)[0][0] if filled else 0


def _likeness(rows: list[list[str]]) -> float:
    """How much lines look like rows of readings: the share of equal width, times the share of cells that read as numbers or times."""
    filled = [row for row in rows if row]
    body, width = filled[len(filled) // 2 :], _width(rows)
    if width < 2:
        return 0.0
    fitting = [row for row in body if len(row) == width]
    cells = [cell for row in fitting for cell in row if cell]
    alike = sum(_reads(cell) for cell in cells) / max(1, len(cells))
    return len(fitting) / len(body) * alike + 1e-3


def _reads(cell: str) -> bool:
    return bool(_NUMBERLIKE.match(cell)) or cell.lower() in MISSING or is_moment(cell)


def could_be_moment(cell: str) -> bool:
    """Whether a cell begins with a date or a time of day."""
    return bool(_MOMENT.match(cell))


def _first_reading(rows: list[list[str]], width: int) -> int | None:
    """The first line of readings: those after it are readings as well, most of the next five at least."""
    for at, row in enumerate(rows):
        if _is_data(row) and abs(len(row) - width) <= 1:
            after = [other for other in rows[at + 1 : at + 8] if other][:5]
            if sum(_is_data(other) for other in after) >= 0.8 * len(after):
                return at
    return None


def _is_data(row: list[str]) -> bool:
    """Whether a line is a row of readings: most of its cells are numbers, times or words for a missing reading, and one is not a word."""
    cells = [cell for cell in row if cell]
    if len(row) < 2 or not any(_NUMBERLIKE.match(cell) or could_be_moment(cell) for cell in cells):
        return False
    return sum(_reads(cell) for cell in cells) >= len(cells) / 2 or could_be_moment(cells[0])


# --- decimal and thousands mark ---


def find_marks(raws: Sequence[RawTable], dialect: Dialect) -> tuple[str, str]:
    """(decimal mark, thousands mark, "" for none) by the cells of all columns.

    Raises DataError naming the spec's key where a comma may be either.
    """
    shapes: Counter[str] = Counter()
    columns: list[Counter[str]] = []
    for raw in raws:
        for name, column in raw.columns.items():
            if name in dialect.time or not pa.types.is_string(column.type):
                continue
            own = _shapes(column)
            if own:
                columns.append(own)
                shapes.update(own)
    if dialect.decimal is not None or dialect.thousands is not None:
        wanted = [
            (d, t) for d, t in _READINGS
            if (dialect.decimal is None or d == dialect.decimal) and (dialect.thousands is None or t == dialect.thousands)
        ]  # fmt: skip
    else:
        wanted = _READINGS
    if not wanted:
        return dialect.decimal or ".", dialect.thousands or ""
    fits = {way: sum(n for shape, n in shapes.items() if re.match(number_pattern(*way), shape)) for way in wanted}
    most = max(fits.values())
    full = [way for way in wanted if fits[way] == most]
    if {(".", ""), (",", "")} <= set(full):
        return ".", ""
    for mark, other in ((".", (",", ".")), (",", (".", ","))):
        if (mark, "") in full:
            if other not in full:
                return mark, ""
            return _one_of_two(mark, other, columns, raws[0].path)
    if not _together(*full[0], columns):
        full = sorted((way for way in wanted if not way[1]), key=lambda way: -fits[way])  # what does not fit is then refused as lost
    return full[0]


def _together(decimal: str, thousands: str, columns: Sequence[Counter[str]]) -> bool:
    """Whether a mark of thousands makes sense: a column that has both marks has them in one number, such as 1,234.5."""
    for shapes in columns:
        grouped = [shape for shape in shapes if thousands in shape]
        if grouped and not any(decimal in shape for shape in grouped) and any(decimal in shape for shape in shapes):
            return False
    return True


def _one_of_two(mark: str, thousands: tuple[str, str], columns: Sequence[Counter[str]], path: Path) -> tuple[str, str]:
    """What `1.234` or `1,234` means where every marked number has three digits after its mark."""
    marked = plain = large = 0
    for shapes in columns:
        if any(mark in shape for shape in shapes):
            marked += sum(n for shape, n in shapes.items() if mark in shape)
            plain += sum(n for shape, n in shapes.items() if mark not in shape)
            large += sum(n for shape, n in shapes.items() if mark not in shape and len(shape.lstrip("+-")) > 3)
    if plain and not large and marked >= 20:
        return thousands  # 987 beside 1.234, never 1234: a mark of thousands
    if mark == "." or large:
        return mark, ""
    example = next(shape for shapes in columns for shape in shapes if mark in shape)
    raise UnclearError(
        f"{path}: numbers such as {example.replace('9', '1')} may have a decimal comma or a mark of thousands; say which in the spec: "
        '[input] decimal = "," or decimal = "."',
        choices={"a decimal comma": {"decimal": ","}, "a mark of thousands": {"decimal": ".", "thousands": ","}},
    )


def _shapes(column: pa.Array) -> Counter[str]:
    """Number-like cells with each digit but a leading zero as 9, without exponent, and how many there are of each."""
    if len(column) > MOST_CELLS:
        column = column.take(pa.array(np.linspace(0, len(column) - 1, MOST_CELLS).astype(np.int64)))
    shape = pc.replace_substring_regex(pc.utf8_trim_whitespace(column), r"[eE][+-]?\d+$", "")
    led = pc.match_substring_regex(shape, r"^[+-]?0")  # a mark after a leading zero is none of thousands
    shape = pc.replace_substring_regex(shape, r"\d", "9")
    shape = pc.if_else(led, pc.replace_substring_regex(shape, r"^([+-]?)9", r"\10"), shape)
    counts = pc.value_counts(shape).to_pylist()
    return Counter({item["values"]: item["counts"] for item in counts if item["values"] and _NUMBERLIKE.match(item["values"])})
