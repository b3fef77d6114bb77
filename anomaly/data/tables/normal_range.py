"""What each sensor does in the normals, for the edge to tell a failing sensor by: its range, and for how long it stands still."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from anomaly.data.tables.reader import SensorTable
from anomaly.schema import Channel

FEWEST_ROWS = 300  # readings of a sensor, at least, that its range and its longest standstill are known by
FEWEST_RUNS = 10  # the longest standstill is at most one part in so many of the readings: else the sensor seldom moves


def with_normal_range(channels: Sequence[Channel], tables: Sequence[SensorTable]) -> tuple[Channel, ...]:
    """Channels with `normal_low`, `normal_high`, `still_rows` and `gaps` as the usable rows of the tables show them. What is given stays.

    The range is that of the medians of three readings in a row, so that a single wild one does not widen it. It stays unknown for a sensor
    that is constant, the standstill for one that seldom moves, and both where there are too few readings.
    """
    return tuple(_learn(channel, [table.readings[table.usable, index] for table in tables]) for index, channel in enumerate(channels))


def _learn(channel: Channel, columns: Sequence[NDArray[np.float32]]) -> Channel:
    parts = [_known(column) for column in columns]
    rows, count = sum(map(len, columns)), sum(map(len, parts))
    changes: dict[str, float] = {} if channel.gaps is not None or rows < FEWEST_ROWS else {"gaps": round(1 - count / rows, 4)}
    parts = [part for part in parts if len(part) >= 3]
    if count < FEWEST_ROWS or not parts:
        return channel.model_copy(update=changes)
    calm = np.concatenate([np.median(np.lib.stride_tricks.sliding_window_view(part, 3), axis=1) for part in parts]).astype(np.float64)
    low, high = float(calm.min()) + channel.offset, float(calm.max()) + channel.offset
    if low < high and channel.normal_low is None and channel.normal_high is None:
        changes |= {"normal_low": low, "normal_high": high}
    still = max(longest_still(part)[0] for part in parts)
    if channel.still_rows is None and still * FEWEST_RUNS <= count:
        changes["still_rows"] = still
    return channel.model_copy(update=changes)


def _known(column: NDArray[np.float32]) -> NDArray[np.float32]:
    return column[np.isfinite(column)]


def longest_still(part: NDArray[np.float32]) -> tuple[int, int]:
    """(rows, first of them) of the longest stretch of readings (n,) without a change.

    >>> longest_still(np.array([1, 2, 2, 2, 3], np.float32))
    (3, 1)
    """
    if not len(part):
        return 0, 0
    change = np.flatnonzero(np.append(True, np.diff(part) != 0))
    lengths = np.diff(np.append(change, len(part)))
    best = int(np.argmax(lengths))
    return int(lengths[best]), int(change[best])
