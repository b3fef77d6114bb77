"""Windows over a table of readings: which rows form one, what a detector says of each, and which may stand together in a fold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from anomaly.data.tables.reader import SensorTable
from anomaly.errors import DataError
from anomaly.progress import Progress, counted, silent

Run = Callable[[NDArray[Any]], tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]]  # raw batch -> score, p-value, detail
BATCH_VALUES, BATCH_WINDOWS = 1 << 22, 4096  # readings, and windows, scored at a time at most


def stretch_lengths(times: NDArray[np.float64], usable: NDArray[np.bool_], max_gap_s: float) -> NDArray[np.int64]:
    """How many rows (n,) without a gap longer than `max_gap_s` end at each row, itself included; 0 where a row is not usable.

    >>> times = np.array([0.0, 1.0, 2.0, 60.0, 61.0])
    >>> stretch_lengths(times, np.ones(5, bool), max_gap_s=10.0).tolist()
    [1, 2, 3, 1, 2]
    """
    begins = ~usable
    begins[1:] |= (np.diff(times) > max_gap_s) | ~usable[:-1]
    begins[:1] = True
    rows = np.arange(len(times))
    return np.where(usable, rows - np.maximum.accumulate(np.where(begins, rows, 0)) + 1, 0)


def window_ends(times: NDArray[np.float64], usable: NDArray[np.bool_], rows: int, max_gap_s: float) -> NDArray[np.int64]:
    """Indices (n,) of rows that end a full window: `rows` consecutive usable rows with no gap longer than `max_gap_s`.

    >>> window_ends(np.array([0.0, 1.0, 2.0, 60.0, 61.0]), np.ones(5, bool), rows=2, max_gap_s=10.0).tolist()
    [1, 2, 4]
    """
    return np.flatnonzero(stretch_lengths(times, usable, max_gap_s) >= rows)


def windows_at(values: NDArray[np.float32], ends: NDArray[np.int64], rows: int) -> NDArray[np.float32]:
    """Windows (n, rows, C) ending at the given rows of `values` (len, C). A copy, contiguous.

    >>> values = np.arange(4, dtype=np.float32)[:, None]
    >>> windows_at(values, np.array([2, 3]), rows=3)[:, :, 0].tolist()
    [[0.0, 1.0, 2.0], [1.0, 2.0, 3.0]]
    """
    return np.ascontiguousarray(sliding_window_view(values, rows, axis=0)[ends - rows + 1].transpose(0, 2, 1))


def stack_windows(
    series: Sequence[tuple[NDArray[np.float32], NDArray[np.int64]]], rows: int, most: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Windows (n, rows, C) of several tables, [(values (len, C), rows that end a window)], thinned evenly to `most` or fewer.

    Of many every k-th is taken, k a prime number: another one would always meet the same part of a machine's cycle.

    Beside them the place (n,) each ends at, counted over all tables with a gap between them.
    """
    if not any(len(found) for _, found in series):
        return np.empty((0, rows, series[0][0].shape[1]), np.float32), np.empty(0, np.int64)
    step = _prime_from(-(-sum(len(found) for _, found in series) // most))
    parts, ends, offset, seen = [], [], 0, 0
    for values, found in series:  # thinned before anything is copied: a window is many times the size of its row
        taken = found[-seen % step :: step]
        if len(taken):
            parts.append(windows_at(values, taken, rows))
            ends.append(taken + offset)
        offset += len(values) + 2 * rows
        seen += len(found)
    return np.concatenate(parts), np.concatenate(ends)


def _prime_from(number: int) -> int:
    """The least prime number that is not below `number`; 1 stays 1."""
    while any(number % divisor == 0 for divisor in range(2, int(number**0.5) + 1)):
        number += 1
    return number


def block_folds(ends: NDArray[np.int64], folds: int, rows: int) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Blocked cross-validation folds for cross-conformal scoring: [(fit, held_out)] as positions into `ends`.

    Windows that share a row with a held-out window are left out of the fit, so neighbours never cross a split.

    >>> [(fit.tolist(), held.tolist()) for fit, held in block_folds(np.arange(2, 8), folds=2, rows=2)]
    [([4, 5], [0, 1, 2]), ([0, 1], [3, 4, 5])]
    """
    result = []
    for held in np.array_split(np.arange(len(ends)), folds):
        if len(held) == 0:
            continue
        low, high = ends[held[0]] - rows, ends[held[-1]] + rows
        fit = np.flatnonzero((ends <= low) | (ends >= high))
        result.append((fit, held))
    return result


def joined(times: NDArray[np.float64], window_s: float) -> list[NDArray[np.int64]]:
    """Which of flagged rows at `times` (n,), in time order, are one stretch, as positions: those less than a window apart.

    The windows that end at them share readings, and so may be flagged by the same ones. What counts or draws stretches asks here.

    >>> [part.tolist() for part in joined(np.array([0.0, 10.0, 30.0, 70.0]), 30.0)]
    [[0, 1, 2], [3]]
    """
    if not len(times):
        return []
    return np.split(np.arange(len(times)), np.flatnonzero(np.diff(times) > window_s * (1 + 1e-9)) + 1)


def _why_no_window(table: SensorTable, rows: int) -> str:
    """Why no row of a table ends a window of `rows` rows, and what to do."""
    twice = table.report.duplicate_times
    if len(table.times) < rows:
        said = f" ({twice} more have the time of a later row and are left out)" if twice else ""
        return f"{len(table.times)} rows{said}, and a window takes {rows} in a row; give more rows"
    if table.usable.sum() < rows:
        return f"the machine is in a mode to be judged in {table.usable.sum()} rows, and a window takes {rows} in a row; give more rows"
    most = int(stretch_lengths(table.times, table.usable, table.max_gap_s).max())
    return (
        f"a window takes {rows} rows without a gap, and the longest stretch has {most}: rows are {table.period_s:g} s apart, and more than "
        f"{table.max_gap_s:g} s is a gap; give rows without gaps, or fit with another [input] max_gap_s"
    )


def score_table(run: Run, table: SensorTable, rows: int, first_row: int = 0, progress: Progress = silent) -> pd.DataFrame:
    """Score every window of `rows` rows that ends at or after `first_row`.

    `run` takes windows (n, rows, C) and gives (score (n,), p_value (n,), contribution (n, C)). Returns a row a window: row (the
    index of its last row), time (s), score, p_value and `share:SENSOR` for each sensor. Raises DataError when the table holds no window.
    """
    ends = window_ends(table.times, table.usable, rows, table.max_gap_s)
    ends = ends[ends >= first_row]
    batch = max(1, min(BATCH_WINDOWS, BATCH_VALUES // (rows * table.values.shape[1])))
    chunks = np.array_split(ends, max(1, -(-len(ends) // batch)))
    parts = [
        run(windows_at(table.values, chunk, rows))
        for chunk in counted(chunks, progress, f"windows of {table.path.name}, in batches")
        if len(chunk)
    ]
    if not parts:
        raise DataError(f"{table.path}: {_why_no_window(table, rows)}")
    score, p_value, share = (np.concatenate(column) for column in zip(*parts, strict=True))
    frame = pd.DataFrame({"row": ends, "time": table.times[ends], "score": score.astype(np.float64), "p_value": p_value.astype(np.float64)})
    names = [f"share:{channel.name}" for channel in table.channels]
    return pd.concat([frame, pd.DataFrame(share, columns=names)], axis=1)
