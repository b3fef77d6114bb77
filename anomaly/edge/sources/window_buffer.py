"""Rows of readings into windows, wherever the rows come from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomaly.data.records import Cut, Record
from anomaly.data.tables.windows import stretch_lengths
from anomaly.schema import InputSchema

SPARE = 16  # rows kept beyond those of the next window, so that it stays whole when rows with a wrong stamp are withdrawn


class WindowBuffer:
    """The last rows of a source, from which each new row becomes a window once its stretch has as many rows.

    A window spans no gap and no row in another operating mode.
    """

    def __init__(self, schema: InputSchema) -> None:
        self._rows = schema.window or 1
        self._gap = schema.max_gap_s or np.inf
        self._columns = len(schema.sensors)
        self.clear()

    def clear(self) -> None:
        """Forget all rows: those that follow are not connected with them."""
        self._times = np.empty(0)
        self._values = np.empty((0, self._columns), np.float32)
        self._usable = np.empty(0, bool)

    @property
    def last_time(self) -> float:
        """Time of the last row, minus infinity before the first."""
        return float(self._times[-1]) if len(self._times) else -np.inf

    @property
    def kept(self) -> int:
        """How many rows are kept for the windows of those to come."""
        return len(self._times)

    @property
    def first_time(self) -> float:
        """Time of the oldest row that is kept."""
        return float(self._times[0]) if len(self._times) else np.inf

    def rewind(self, time: float) -> int:
        """Withdraw the rows after `time`: they were stamped wrongly. Returns how many."""
        keep = self._times <= time
        self._times, self._values, self._usable = self._times[keep], self._values[keep], self._usable[keep]
        return int((~keep).sum())

    def extend(
        self, ids: Sequence[str], times: NDArray[np.float64], values: NDArray[np.float32], usable: NDArray[np.bool_] | None = None
    ) -> list[Record[NDArray[Any]]]:
        """New rows (n,), (n, C) in rising order of time -> the records that end at them.

        `usable` (n,): which rows are in an operating mode to be scored, all when None.
        """
        before = self.kept
        if usable is None:
            usable = np.ones(len(times), bool)
        times = np.concatenate([self._times, times])
        values = np.concatenate([self._values, values])
        usable = np.concatenate([self._usable, usable])
        known = stretch_lengths(times, usable, self._gap)
        records = [
            Record(ids[end - before], float(times[end]), cut.rows[cut.end - self._rows : cut.end], cut)
            for end, cut in self._cuts(times, values, known, before)
        ]
        keep = max(0, len(times) - max(self._rows - 1, 1) - SPARE)
        self._times, self._values, self._usable = times[keep:].copy(), values[keep:].copy(), usable[keep:].copy()
        return records

    def _cuts(
        self, times: NDArray[np.float64], values: NDArray[np.float32], known: NDArray[np.int64], before: int
    ) -> Iterator[tuple[int, Cut]]:
        """Each new row that ends a window, and where the window lies among the rows of its stretch.

        `known` (n,): how many rows of its stretch end at each row. Windows are views: rows that overlap are held once.
        """
        ends = before + np.flatnonzero(known[before:] >= self._rows)
        for group in np.split(ends, np.flatnonzero(np.diff(known[ends]) != 1) + 1):
            if not len(group):
                continue
            first, last = int(group[0]), int(group[-1])
            stretch = slice(first + 1 - self._rows, last + 1)
            rows, moments = values[stretch], times[stretch]
            for end in group.tolist():
                yield end, Cut(rows, self._rows + end - first, moments)
