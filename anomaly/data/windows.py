"""Windows over a table of readings: which rows form one, and which rows may stand together in a fold."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray


def window_ends(times: NDArray[np.float64], usable: NDArray[np.bool_], rows: int, max_gap_s: float) -> NDArray[np.int64]:
    """Indices (n,) of rows that end a full window: `rows` consecutive usable rows with no gap longer than `max_gap_s`."""
    if len(times) < rows:
        return np.empty(0, dtype=np.int64)
    breaks = np.zeros(len(times), dtype=bool)
    breaks[1:] = np.diff(times) > max_gap_s
    breaks |= ~usable
    breaks[1:] |= ~usable[:-1]
    # Row i ends a window when none of the rows after its first one starts a new stretch, and all are usable.
    stretch = np.cumsum(breaks)
    ends = np.arange(rows - 1, len(times))
    whole: NDArray[np.int64] = ends[(stretch[ends] == stretch[ends - rows + 1]) & usable[ends]]
    return whole


def windows_at(values: NDArray[np.float32], ends: NDArray[np.int64], rows: int) -> NDArray[np.float32]:
    """Windows (n, rows, C) ending at the given rows of `values` (len, C). A copy, contiguous."""
    view = sliding_window_view(values, rows, axis=0)  # (len - rows + 1, C, rows)
    return np.ascontiguousarray(view[ends - rows + 1].transpose(0, 2, 1))


def block_folds(ends: NDArray[np.int64], folds: int, rows: int) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Contiguous folds for cross-conformal scoring: [(fit, held_out)] as positions into `ends`.

    Windows that share a row with a held-out window are left out of the fit, so neighbours never cross a split.
    """
    result = []
    for held in np.array_split(np.arange(len(ends)), folds):
        if len(held) == 0:
            continue
        low, high = ends[held[0]] - rows, ends[held[-1]] + rows
        fit = np.flatnonzero((ends <= low) | (ends >= high))
        result.append((fit, held))
    return result
