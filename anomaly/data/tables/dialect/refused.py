"""What is said of cells that cannot be read as their dialect says: how they are written instead, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from anomaly.data.tables.dialect.find import find_dialect
from anomaly.data.tables.dialect.formats import day_order, format_of
from anomaly.data.tables.dialect.load import is_typed
from anomaly.errors import DataError
from anomaly.schema import Dialect

LOST = 0.05  # of a column's cells, or of the times, that may be unreadable; beyond that the dialect is wrong, and reading is refused


def mend(learnt: bool, keys: str) -> str:
    """What to do about a file that cannot be read as it is told: by these keys of a spec, or `learnt`, by a bundle, which has none."""
    return (
        "correct the file, or export it as the one that was learnt from" if learnt else f"correct the file, or [input] {keys} in the spec"
    )


def as_written(column: pa.Array, at: int, dialect: Dialect) -> str:
    """The format in which the time in row `at`, which does not fit, is written; "" where that is none known here."""
    found = format_of(str(column[at].as_py()), day_order(dialect) or "day first") if len(dialect.time) == 1 else None
    return f", which is written as {found}" if found and found not in dialect.time_format else ""


def otherwise(path: Path, asked: Dialect) -> str:
    """How a file of text is written otherwise than it is to be read, "" where that does not show."""
    if not asked.complete or is_typed(path):
        return ""
    try:
        own = find_dialect([path], Dialect())
    except DataError:
        return ""
    differ = [key for key in ("encoding", "delimiter", "decimal", "skip_rows") if getattr(own, key) != getattr(asked, key)]
    told = ", ".join(f"{key} {getattr(own, key)!r} instead of {getattr(asked, key)!r}" for key in differ)
    return f". It is written otherwise than the table that was learnt from: {told}; export it in the same way" if told else ""


def hold_digits(cells: pa.Array) -> NDArray[np.bool_]:
    """Which of some cells (n,) that could not be read are meant as numbers."""
    found: NDArray[np.bool_] = np.asarray(pc.match_substring_regex(pc.cast(cells, pa.string()), r"^[^A-Za-z]*\d"))
    return found


def check_lost(path: Path, name: str, lost: int, rows: int, example: str, hint: Callable[[], str]) -> None:
    """Raise DataError where more than `LOST` of a sensor's cells are meant as numbers and cannot be read. `hint`: what to do."""
    if (lost > LOST * rows and lost > 1) or lost == rows:
        raise DataError(
            f"{path}: column {name!r}: {lost} of {rows} cells cannot be read, such as {example}; no more than {LOST:.0%} may be lost: "
            f"{hint()}"
        )
