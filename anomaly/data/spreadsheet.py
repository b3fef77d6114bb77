"""CSV that leaves: what a spreadsheet would run as a formula is written so that it shows it as text, and our readers read it back.

A sensor's, a file's or a person's words may begin with = + - @ or a tab (IEC 81346 names a motor =A1-M1). Such a text is led by an
apostrophe. Source: OWASP, "CSV Injection".
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anomaly.atomic import replacing

if TYPE_CHECKING:
    import pandas as pd

# What is run, by its begin; so is, for a reader, what looks as if it had been written so already.
_RUN = re.compile(r"'*[=+\-@\t\r](?!\Z|(?<=[+-])[\d.,]+(?:[eE][+-]?\d+)?\Z)")


def written_cell(cell: Any) -> Any:
    """A cell as it is written. Numbers, written as text too, and a sign alone stay as they are.

    >>> [written_cell(cell) for cell in ("=A1-M1", "@SUM(1)", "-0,5", -0.5, "-", "press-3")]
    ["'=A1-M1", "'@SUM(1)", '-0,5', -0.5, '-', 'press-3']
    """
    return f"'{cell}" if isinstance(cell, str) and _RUN.match(cell) else cell


def read_cell(text: str) -> str:
    """A cell's text without what `written_cell` puts before it.

    >>> read_cell("'=A1-M1"), read_cell("'s-Hertogenbosch")
    ('=A1-M1', "'s-Hertogenbosch")
    """
    return text[1:] if text[:1] == "'" and _RUN.match(text) else text


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    """Write a frame without its index, whole or not at all: column names and text as `written_cell` has them."""
    led = frame.copy(deep=False)
    for name in frame:
        if frame[name].dtype.kind == "O":
            led[name] = frame[name].map(written_cell)
    with replacing(path) as part:
        led.rename(columns=written_cell).to_csv(part, index=False)
