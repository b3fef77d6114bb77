"""Times as they come from files and messages: numbers of seconds, ms, us or ns since 1970, or dates."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from anomaly.data.tables.reader import time_divisor
from anomaly.errors import RecordError


def parse_time(text: str, record: str) -> float:
    """Seconds since 1970 UTC from a number (s, ms, us, ns) or a date.

    Raises RecordError naming `record` when the text is neither.

    >>> parse_time("1700000000500", "row 1")
    1700000000.5
    """
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


def parse_time_column(column: pd.Series[Any]) -> NDArray[np.float64]:
    """Seconds since 1970 UTC (n,) from numbers or ISO 8601 dates. Raises ValueError for anything else."""
    if pd.api.types.is_numeric_dtype(column):
        values = column.to_numpy(dtype=np.float64)
        return np.asarray(values / max(time_divisor(size) for size in np.abs(values[[0, -1]]).tolist()), dtype=np.float64)
    stamps = pd.to_datetime(column, utc=True, format="ISO8601").to_numpy(dtype="datetime64[ns]")
    return np.asarray(stamps.astype(np.int64) / 1e9, dtype=np.float64)
