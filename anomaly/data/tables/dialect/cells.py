"""From the bytes of a text table to lines, cells and numbers, by a dialect. A growing file is read by the same functions as a whole one.

Arrow's CSV parser splits lines into cells; lines with another number of cells than the header are taken out before, so that rows keep their
line numbers.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from numpy.typing import NDArray

from anomaly.schema import Dialect

MISSING = (  # how a reading that is missing is written, in lower case: by hand, by spreadsheets, by historians
    "", "nan", "null", "none", "nil", "na", "n/a", "n.a.", "-", "--", "---", "?", "*", ".", "#n/a",
    "#n/a n/a", "#na", "<na>", "-nan", "1.#qnan",
    "-1.#ind", "1.#inf", "-1.#inf", "inf", "-inf", "+inf", "infinity", "-infinity", "#value!", "#div/0!", "#ref!", "#name?",
    "#num!", "#null!",
    "bad", "bad input", "bad data", "bad quality", "no data", "nodata", "no result", "no sample", "shutdown", "scan off", "scan timeout",
    "scan on", "i/o timeout", "io timeout", "timeout", "pt created", "point created", "comm fail", "comm failure", "communication failure",
    "configure", "config error", "calc failed", "calc off", "calc timeout", "not connect", "not connected", "over range", "under range",
    "overflow",
    "out of serv", "out of service", "invalid", "invalid data", "intf shut", "interface shutdown", "failed", "fail", "error",
    "sensor failure",
    "device failure", "unknown", "undefined", "n.v.", "fehler", "ungültig", "doubtful", "uncertain", "stale", "offline", "off-line",
    "[-11059] no good data for calculation", "no good data for calculation", "arc off-line", "trace off", "access denied", "equip fail",
)  # fmt: skip
_MARKS = {" ": " \u00a0\u202f", "'": "'\u2019"}  # marks of thousands that stand for each other
_BLOCK = 1 << 26


class Lines(NamedTuple):
    """Lines (n,) of a text: where each begins and ends in bytes (without the end of line), and how many cells it holds; -1 when broken."""

    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    cells: NDArray[np.int64]


def lines_of(text: bytes, delimiter: str, quote: str) -> Lines:
    """The lines of UTF-8 text. A cell may hold the delimiter between quotes, never an end of line."""
    data = np.frombuffer(text, np.uint8)
    feeds = np.flatnonzero(data == ord("\n"))
    ends = feeds if text.endswith(b"\n") or not text else np.append(feeds, len(data))
    starts = np.concatenate([[0], ends[:-1] + 1]).astype(np.int64) if len(ends) else np.empty(0, np.int64)
    marks = np.flatnonzero(data == ord(delimiter)) if ord(delimiter) < 128 else _find_all(text, delimiter.encode())
    broken = np.zeros(len(ends), bool)
    if quote and quote.encode() in text:
        quotes = np.flatnonzero(data == ord(quote))
        first = np.searchsorted(quotes, starts)  # of each line
        of = np.searchsorted(starts, marks, side="right") - 1
        marks = marks[(np.searchsorted(quotes, marks) - first[of]) % 2 == 0]
        broken = (np.searchsorted(quotes, ends) - first) % 2 == 1
        broken[_misplaced(data, quotes, starts, first, ord(delimiter) & 0xFF)] = True
    if b"\r" in text:  # within a line it is neither a cell's text nor the end of a line
        inner = np.flatnonzero(data == ord("\r"))
        inner = inner[np.append(data, np.uint8(ord("\n")))[inner + 1] != ord("\n")]
        broken[np.searchsorted(starts, inner, side="right") - 1] = True
    cells = np.diff(np.searchsorted(marks, np.append(starts, len(data) + 1))) + 1
    returns = (ends > starts) & (data[np.maximum(ends - 1, 0)] == ord("\r")) if len(ends) else np.empty(0, bool)
    ends = ends - returns
    return Lines(starts, ends, np.where(broken, -1, cells).astype(np.int64))


def _misplaced(
    data: NDArray[np.uint8], quotes: NDArray[np.int64], starts: NDArray[np.int64], first: NDArray[np.int64], delimiter: int
) -> NDArray[np.int64]:
    """Lines with a quote that neither begins nor ends a cell, nor is doubled. `first`: how many quotes lie before each line."""
    of = np.searchsorted(starts, quotes, side="right") - 1
    opening = (np.arange(len(quotes)) - first[of]) % 2 == 0
    before = np.where(quotes > 0, data[np.maximum(quotes - 1, 0)], ord("\n"))
    after = np.append(data, np.uint8(ord("\n")))[quotes + 1]
    quote = data[quotes]
    begins = (quotes == starts[of]) | (before == delimiter) | (before == quote)
    closes = (after == delimiter) | (after == ord("\n")) | (after == ord("\r")) | (after == quote)
    found: NDArray[np.int64] = of[~np.where(opening, begins, closes)]
    return found


def _find_all(text: bytes, mark: bytes) -> NDArray[np.int64]:
    found, at = [], text.find(mark)
    while at >= 0:
        found.append(at)
        at = text.find(mark, at + 1)
    return np.array(found, np.int64)


def head_of(text: bytes, lines: int) -> bytes:
    """The first lines of a text.

    >>> head_of(b"a\\nb\\nc\\n", 2)
    b'a\\nb\\n'
    """
    at = -1
    for _ in range(lines):
        found = text.find(b"\n", at + 1)
        if found < 0:
            return text
        at = found
    return text[: at + 1]


def blank_lines(text: bytes, lines: Lines, delimiter: str) -> NDArray[np.bool_]:
    """Which lines (n,) hold nothing but spaces, quotes and delimiters."""
    empty = lines.starts >= lines.ends
    strip = (delimiter + ' \t\r"').encode()
    if len(text):
        begins = np.frombuffer(text, np.uint8)[np.minimum(lines.starts, len(text) - 1)]
        for at in np.flatnonzero(~empty & np.isin(begins, list(strip))):
            empty[at] = not text[lines.starts[at] : lines.ends[at]].strip(strip)
    return empty


def without_trailing(text: bytes, lines: Lines, delimiter: str, width: int) -> Lines:
    """Lines that hold more cells than `width` lose delimiters at their end: some programs end each line with one."""
    mark, starts, ends, cells = delimiter.encode(), lines.starts, lines.ends.copy(), lines.cells.copy()
    if len(mark) > 1 or not len(text):
        return lines
    data = np.frombuffer(text, np.uint8)
    while True:
        more = (cells > width) & (ends > starts) & (data[np.maximum(ends - 1, 0)] == mark[0])
        if not more.any():
            return Lines(starts, ends, cells)
        ends, cells = ends - more, cells - more


def cut_cells(text: bytes, lines: Lines, chosen: NDArray[np.int64], width: int, dialect: Dialect, shortened: bool = False) -> pa.Table:
    """The cells of the chosen lines, `width` each, as columns of text; an empty cell is null.

    `shortened`: some lines end before their end of line (see `without_trailing`).
    """
    whole = len(chosen) > 0 and int(chosen[-1] - chosen[0]) == len(chosen) - 1
    if whole and not shortened:
        part = memoryview(text)[lines.starts[chosen[0]] : _next_start(text, lines, int(chosen[-1]))]
    else:
        part = memoryview(b"\n".join(text[lines.starts[i] : lines.ends[i]] for i in chosen.tolist()) + b"\n")
    keys = [str(index) for index in range(width)]
    if not len(chosen):
        return pa.table({key: pa.array([], pa.string()) for key in keys})
    table = pyarrow.csv.read_csv(
        pa.py_buffer(part),
        read_options=pyarrow.csv.ReadOptions(column_names=keys, use_threads=False, block_size=max(1 << 20, min(_BLOCK, len(part) + 1))),
        parse_options=pyarrow.csv.ParseOptions(
            delimiter=dialect.delimiter,
            quote_char=dialect.quote or False,
            double_quote=True,
            newlines_in_values=False,
            ignore_empty_lines=False,
        ),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types=dict.fromkeys(keys, pa.string()), strings_can_be_null=True, null_values=[""]
        ),
    )
    assert len(table) == len(chosen), "as many rows as lines"
    return table


def _next_start(text: bytes, lines: Lines, last: int) -> int:
    return int(lines.starts[last + 1]) if last + 1 < len(lines.starts) else len(text)


@cache
def number_pattern(decimal: str, thousands: str) -> str:
    """The regular expression (RE2) of a number as a dialect writes it."""
    mark = f"[{decimal}]"
    whole = r"\d+"
    if thousands:
        group = f"[{_MARKS.get(thousands, thousands)}]"
        whole = rf"(?:[1-9]\d{{0,2}}(?:{group}\d{{3}})+|\d+)"
    return rf"^[+-]?(?:{whole}(?:{mark}\d*)?|{mark}\d+)(?:[eE][+-]?\d+)?$"


def read_numbers(column: pa.Array, dialect: Dialect) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """A column, text or typed -> (float64 (n,), NaN for no reading; which cells (n,) could not be read: neither a number nor a known word).

    >>> values, unread = read_numbers(pa.array(["1.166,5", "I/O Timeout", "7 bar"]), Dialect(decimal=",", thousands="."))
    >>> values.tolist(), unread.tolist()
    ([1166.5, nan, nan], [False, False, True])
    """
    kind = column.type
    nothing = np.zeros(len(column), bool)
    if pa.types.is_null(kind):
        return np.full(len(column), np.nan), nothing
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind) or pa.types.is_boolean(kind)):
            return np.full(len(column), np.nan), np.asarray(pc.is_valid(column))
        numbers = pc.cast(pc.cast(column, pa.int8()) if pa.types.is_boolean(kind) else column, pa.float64(), safe=False)
        values = np.asarray(numbers.to_numpy(zero_copy_only=False), dtype=np.float64)
        return np.where(np.isfinite(values), values, np.nan), nothing
    decimal, thousands = dialect.decimal or ".", dialect.thousands or ""
    swapped = decimal == "," and not thousands and not pc.any(pc.match_substring(column, ".")).as_py()
    if swapped or (decimal == "." and not thousands):
        try:
            plain = pc.replace_substring(column, ",", ".") if swapped else column
            values = np.asarray(pc.cast(plain, pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)
            return np.where(np.isfinite(values), values, np.nan), nothing
        except pa.ArrowInvalid:
            pass
    text = pc.replace_substring(pc.utf8_trim_whitespace(column), "\u2212", "-")
    fits = pc.match_substring_regex(text, number_pattern(decimal, thousands))
    plain = pc.if_else(fits, text, None)
    if thousands:
        plain = pc.replace_substring_regex(plain, f"[{_MARKS.get(thousands, thousands)}]", "")
    if decimal != ".":
        plain = pc.replace_substring(plain, decimal, ".")
    values = np.asarray(pc.cast(plain, pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)
    odd = np.asarray(pc.invert(fits).fill_null(False))
    if odd.any():
        at = np.flatnonzero(odd)
        words = pc.utf8_lower(text.take(pa.array(at)))
        odd[at] = ~np.asarray(pc.is_in(words, value_set=pa.array([*MISSING, *dialect.missing])))
    return np.where(np.isfinite(values), values, np.nan), odd


def is_number(text: str) -> bool:
    """Whether a cell holds a plain number.

    >>> [is_number(cell) for cell in ("1.5", " -2e3", "12:30", "flow")]
    [True, True, False, False]
    """
    try:
        float(text)
    except ValueError:
        return False
    return True
