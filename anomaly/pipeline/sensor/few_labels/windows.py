"""Windows of labelled tables: those that show a fault, and the normal ones beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anomaly.data.tables.labels.stretches import LabelledTable
from anomaly.data.tables.reader import SensorTable
from anomaly.data.tables.windows import window_ends, windows_at
from anomaly.errors import DataError

INSIDE = 0.5  # of a window's rows, at least, lie in a fault that it ends in
MOST_FAULTY = 50  # windows of a fault that are learnt from: a long one counts no more than a short one
MOST_NORMAL = 1000  # of the machine's own normal windows that are learnt from, and of those of the labelled tables
BLOCK = 10  # windows in length that are drawn together where an interval is found

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class FaultWindows:
    """Windows (n, rows, C) of labelled tables; the number (n,) of the fault each lies in, -1 for a normal one, of the fault nearest to it,
    and of the block of rows it belongs to; the faults' names, and those `left_out` that no window lies in by half.
    """

    windows: NDArray[np.float32]
    fault: Ints
    nearest: Ints
    block: Ints
    names: tuple[str, ...]
    left_out: tuple[str, ...]


def cut(tables: Sequence[LabelledTable], learnt: Sequence[SensorTable], rows: int) -> FaultWindows:
    """Windows of `rows` rows that end in a fault and lie in it by half or more, and those without a row of one.

    Faults less than a window apart are one. Normal windows of the tables `learnt` from are left out. Raises DataError when no fault is long
    enough for a window.
    """
    parts: list[tuple[NDArray[np.float32], Ints, Ints, Ints]] = []
    names: list[str] = []
    left_out: list[str] = []
    blocks = 0
    for one in tables:
        table = one.table
        ends = window_ends(table.times, table.usable, rows, table.max_gap_s)
        before = np.concatenate([[0], np.cumsum(one.faulty)])
        inside = before[ends + 1] - before[ends + 1 - rows]
        faulty, normal = ends[one.faulty[ends] & (inside >= INSIDE * rows)], ends[inside == 0]
        stretches = _stretches(one.faulty, rows)
        own = [faulty[(faulty >= first) & (faulty <= last)] for first, last in stretches]
        kept = [(at, span) for at, span in zip(own, stretches, strict=True) if len(at)]
        left_out += [_name(one, *span) for at, span in zip(own, stretches, strict=True) if not len(at)]
        numbers = np.arange(len(names), len(names) + len(kept))
        names += [_name(one, *span) for _, span in kept]
        normal = thinned(normal[~_among(table, normal, learnt, rows)], max(1, MOST_NORMAL // len(tables)))
        taken = np.concatenate([*(thinned(at, MOST_FAULTY) for at, _ in kept), normal]).astype(np.int64)
        fault = np.full(len(taken), -1)
        fault[: len(taken) - len(normal)] = np.repeat(numbers, [min(len(at), MOST_FAULTY) for at, _ in kept])
        middles = np.array([(first + last) / 2 for _, (first, last) in kept])
        block = blocks + taken // (BLOCK * rows)
        nearest = numbers[np.abs(taken[:, None] - middles).argmin(axis=1)] if kept else block
        if len(taken):
            parts.append((windows_at(table.values, taken, rows), fault, nearest, block))
        blocks += len(table.times) // (BLOCK * rows) + 1
    if not names:
        where = ", ".join(one.table.path.name for one in tables[:5])
        raise DataError(f"{where}: no labelled fault is as long as half a window of {rows} rows without a gap; lower [input] window")
    windows, fault, nearest, block = (np.concatenate(column) for column in zip(*parts, strict=True))
    return FaultWindows(windows, fault, np.where(fault >= 0, fault, nearest), block, tuple(names), tuple(left_out))


def _stretches(faulty: NDArray[np.bool_], rows: int) -> list[tuple[int, int]]:
    """(first, last row) of each run of faulty rows; runs less than a window of `rows` rows apart are one."""
    at = np.flatnonzero(faulty)
    if not len(at):
        return []
    return [(int(run[0]), int(run[-1])) for run in np.split(at, np.flatnonzero(np.diff(at) > rows) + 1)]


def thinned(values: Ints, most: int) -> Ints:
    """At most `most` of them, evenly spread."""
    return values if len(values) <= most else values[np.linspace(0, len(values) - 1, most).round().astype(int)]


def _among(table: SensorTable, ends: Ints, learnt: Sequence[SensorTable], rows: int) -> NDArray[np.bool_]:
    """Which windows (n,) of a table are among those that the detector learns from."""
    same = next((one for one in learnt if one.path.resolve() == table.path.resolve()), None)
    if same is None:
        return np.zeros(len(ends), bool)
    own = same.times[window_ends(same.times, same.usable, rows, same.max_gap_s)]
    return np.isin(table.times[ends], own)


def _name(one: LabelledTable, first: int, last: int) -> str:
    kinds = sorted({kind for row, kind in one.kinds.items() if first <= row <= last and kind})
    return f"{one.table.path.name}, data rows {first + 1} to {last + 1}" + (f" ({', '.join(kinds)})" if kinds else "")
