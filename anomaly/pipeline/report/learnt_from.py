"""Whether what is judged was learnt from: figures on it say nothing on new records."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from anomaly.bundle.archive import Bundle
from anomaly.data.records import content_number
from anomaly.data.tables.reader import SensorTable
from anomaly.evaluation.figures import Evaluation

COMPARED, FEWEST = 200, 10  # windows of the reference that are looked for in a table, and found at least
SHARE = 0.8  # of those that would lie in it


def learnt_from(bundle: Bundle, evaluation: Evaluation) -> dict[str, Any] | None:
    """What of the judged records was learnt from, in numbers and words; None where nothing was, or nobody can tell."""
    if evaluation.tables:
        return learnt_tables(bundle, evaluation.tables)
    return learnt_pictures(bundle, list(evaluation.paths.values())) if evaluation.paths else None


def _reference(bundle: Bundle) -> pd.DataFrame:
    """The bundle's reference.parquet; empty where it has none."""
    raw = bundle.members.get("reference.parquet")
    return pd.DataFrame() if raw is None else pd.read_parquet(io.BytesIO(raw))


def learnt_pictures(bundle: Bundle, paths: Sequence[Path]) -> dict[str, Any] | None:
    """How many of the pictures have the very content of one that was learnt from; None for none, or where the bundle does not know."""
    reference = _reference(bundle)
    if "record" not in reference:
        return None
    known = set(reference["record"].astype(np.int64).tolist())
    count = sum(content_number(path) in known for path in paths)
    return _found(count, len(paths), "pictures") if count else None


def learnt_tables(bundle: Bundle, tables: Sequence[SensorTable]) -> dict[str, Any] | None:
    """How many of the tables hold a stretch that was learnt from; None for none.

    The bundle keeps the last reading of each sensor in its normal windows, with the row it is from: a table was learnt from when these are
    found in it at the same distances.
    """
    reference = _reference(bundle)
    names = [f"level:{channel.name}" for channel in tables[0].channels]
    if "place" not in reference or not set(names) <= set(reference):
        return None
    levels = reference[names].to_numpy(np.float32)
    places = reference["place"].to_numpy(np.int64)
    found = [table.path.name for table in tables if _is_in(levels, places, table.values)]
    return _found(len(found), len(tables), "tables") | {"tables": found} if found else None


def _is_in(levels: NDArray[np.float32], places: NDArray[np.int64], values: NDArray[np.float32]) -> bool:
    """Whether rows (m, C) that were at `places` (m,) of a record lie at the same distances in `values` (n, C).

    >>> values = np.random.default_rng(0).normal(size=(300, 2)).astype(np.float32)
    >>> at = np.arange(40, 90)
    >>> _is_in(values[at], at + 1000, values), _is_in(values[at][::-1], at, values)
    (True, False)
    """
    rows: dict[bytes, list[int]] = {}
    for row, line in enumerate(np.nan_to_num(values, nan=1e30)):
        rows.setdefault(line.tobytes(), []).append(row)
    chosen = np.unique(np.linspace(0, len(places) - 1, min(len(places), 5 * COMPARED)).astype(int))
    shifts: dict[int, int] = {}
    for i in chosen:
        for row in rows.get(np.nan_to_num(levels[i], nan=1e30).tobytes(), ())[:20]:
            shift = int(places[i]) - row
            shifts[shift] = shifts.get(shift, 0) + 1
    if not shifts:
        return False
    shift = max(shifts, key=lambda one: shifts[one])
    there = int(((places[chosen] - shift >= 0) & (places[chosen] - shift < len(values))).sum())
    return shifts[shift] >= max(FEWEST, SHARE * there)


def _found(count: int, of: int, what: str) -> dict[str, Any]:
    return {"records": count, "of": of, "words": f"the detector has learnt from {count} of these {of} {what}"}
