"""A closed-form look at normal readings: how long a window should be, and which views of it have something to see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from anomaly.data.tables.windows import block_folds
from anomaly.features.encoder import LEVEL_PART

LEVEL_ROWS = 30  # of the level view, where no window is asked for
LONG_ROWS = 66  # of the shape view, where readings forget sooner than a sixth of the level view's rows
LEAST_MEMORY, BY_CHANCE = 3, 0.65  # rows; readings that forget sooner are noise, of which so much is explained by chance over its sensors
CYCLE_SHARE = 0.75  # of a cycle, that the shape view looks at: a whole one would mix two neighbours that vary on their own
SHORTEST_CYCLE, LONGEST_CYCLE = 18, 128  # rows; a longer one has gone before a window of its length is full
CYCLE_CORRELATION = 0.2  # that readings a cycle apart have at least
PROBE_ROWS = 15  # windows that are looked at to see whether there is a shape
EXPLAINED = 0.2  # share of a window's movement that its nearest elsewhere must explain, for the shape view to be of use
PROBED = 1500  # windows looked at
BLOCKS = 5  # of the record
FEWEST_WINDOWS = 6  # of the shape view, that the record must be long at least
CLIP = 20.0  # standard deviations
MOST_ROWS = 1 << 17  # looked at for cycle and memory

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ViewPlan:
    """Rows of each view, 0 for one that is left out, and what was found in the normals.

    `explained` is the share of a window's variance, its own mean removed, that its nearest window in another block of the record explains;
    `needed` is what it must be for the shape to be looked at. A level is the mean of the last `part`-th of its rows. `cycle` and `memory`
    are in rows, `cycle` None where there is none.
    """

    level: int
    shape: int
    explained: float | None = None
    needed: float = EXPLAINED
    cycle: int | None = None
    memory: int = 0
    asked: bool = False
    part: int = LEVEL_PART

    @property
    def rows(self) -> int:
        """Rows of a window: those of the longest view."""
        return max(self.level, self.shape)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"why": self.why()}

    def why(self) -> list[str]:
        """What is looked at in a window and why, a sentence a view."""
        said = [f"level, spread, movement and relations of the sensors, over {'a cycle of ' if self.part == 1 else ''}{self.level} rows"]
        if self.explained is None:
            return [*said, "no shape: the record is too short to say whether stretches of it repeat"]
        found = f"the most alike window elsewhere in the record tells {100 * max(self.explained, 0.0):.0f} % of how readings move"
        if not self.shape:
            blind = "a fault that changes only the form of a curve is not looked for"
            return [*said, f"no shape: {found}, and of noise alone it would tell up to {100 * self.needed:.0f} %; {blind}"]
        return [*said, f"shape of the curves, over {self.shape} rows ({self._length()}): {found}"]

    def _length(self) -> str:
        if self.asked:
            return "as asked for"
        if self.cycle is not None:
            less = self.shape < round(CYCLE_SHARE * self.cycle)
            return f"{'as much as the record allows' if less else 'three quarters'} of a cycle of {self.cycle} rows"
        if self.shape == LONG_ROWS:
            return f"no cycle of {SHORTEST_CYCLE} to {LONGEST_CYCLE} rows, and readings forget within {self.memory} rows what they were"
        return f"no cycle of {SHORTEST_CYCLE} to {LONGEST_CYCLE} rows"


def plan_views(stretches: Sequence[NDArray[np.float32]], window: int | None = None) -> ViewPlan:
    """Choose the views for normal rows, given as stretches (n, C) without a gap, NaN = missing. `window` is their rows, if it is set.

    >>> rng = np.random.default_rng(0)
    >>> plan_views([rng.normal(size=(2000, 2)).astype(np.float32)]).shape  # noise has no shape
    0
    >>> strokes = np.tile(np.sin(np.arange(40) / 40 * 2 * np.pi), 50)[:, None] + 0.1 * rng.normal(size=(2000, 1))
    >>> plan = plan_views([strokes.astype(np.float32)])
    >>> plan.cycle, plan.shape
    (40, 30)
    """
    level = window or LEVEL_ROWS
    z = _standardised(stretches)
    cycle, memory = _cycle_and_memory(z)
    rows = sum(map(len, z))
    lengths = np.array([len(part) for part in z])
    shape = min(level if window else _shape_rows(cycle, memory), rows // FEWEST_WINDOWS)
    if shape > level and 2 * _windows(lengths, shape) <= _windows(lengths, level):  # most stretches are too short for it
        shape = level
    if shape < min(PROBE_ROWS, level):
        return ViewPlan(level, 0, None, EXPLAINED, cycle, memory, window is not None)
    explained = explained_share(z, min(PROBE_ROWS, shape))
    needed = EXPLAINED
    if cycle is None and memory < LEAST_MEMORY:
        needed = max(EXPLAINED, BY_CHANCE / max(1, int((np.concatenate(z).std(axis=0) > 0).sum())))
    if explained < needed:
        shape = 0
    whole = 3 * round((cycle or 0) / 3)  # over a whole cycle a mean does not go up and down with it
    if shape and cycle and not window and 2 * _windows(lengths, whole) > _windows(lengths, level) and rows >= FEWEST_WINDOWS * whole:
        return ViewPlan(whole, shape, explained, needed, cycle, memory, part=1)
    return ViewPlan(level, shape, explained, needed, cycle, memory, window is not None)


def _windows(lengths: NDArray[np.int64], rows: int) -> int:
    """How many windows of `rows` rows stretches of these lengths hold."""
    return int(np.maximum(lengths - rows + 1, 0).sum())


def _shape_rows(cycle: int | None, memory: int) -> int:
    """Most of a cycle. Without one, more rows than the level view where readings forget so soon that more of them say more."""
    if cycle is not None:
        return round(CYCLE_SHARE * cycle)
    return LONG_ROWS if memory < LEVEL_ROWS / 6 else LEVEL_ROWS


def _standardised(stretches: Sequence[NDArray[np.float32]]) -> list[Floats]:
    """Stretches in standard deviations of each sensor, which are clipped; sensors that never move are left out; missing is 0."""
    every = np.concatenate(list(stretches)).astype(np.float64)
    known = np.isfinite(every)
    count = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, every, 0.0).sum(axis=0) / count
    std = np.sqrt(np.square(np.where(known, every - mean, 0.0)).sum(axis=0) / count)
    moves = std > 1e-6 * np.maximum(np.abs(mean), 1e-6)
    scale = np.where(moves, std, np.inf)
    return [np.clip(np.nan_to_num((part.astype(np.float64) - mean) / scale, posinf=0.0, neginf=0.0), -CLIP, CLIP) for part in stretches]


def _cycle_and_memory(z: Sequence[Floats]) -> tuple[int | None, int]:
    """(cycle, memory) in rows, from the autocorrelation of all sensors together over the longest stretch.

    The memory is the lag at which it has fallen to 1/e. The cycle is the first of its high peaks after it has crossed zero.
    """
    longest = max(z, key=len)[:MOST_ROWS]
    size, centred = len(longest), longest - longest.mean(axis=0)
    if size < 2 * SHORTEST_CYCLE or not np.square(centred).sum() > 0:
        return None, 0
    spectrum = np.square(np.abs(np.fft.rfft(centred, 1 << (2 * size - 1).bit_length(), axis=0))).sum(axis=1)
    correlation = np.fft.irfft(spectrum)[: size // 3] / np.arange(size, size - size // 3, -1)
    correlation /= correlation[0]
    fallen, crossed = np.flatnonzero(correlation < np.exp(-1)), np.flatnonzero(correlation <= 0)
    memory = int(fallen[0]) if len(fallen) else size
    if not len(crossed):
        return None, memory
    inner = correlation[1:-1]
    peaks = np.flatnonzero((inner >= correlation[:-2]) & (inner > correlation[2:])) + 1
    peaks = peaks[peaks > crossed[0]]
    if not len(peaks) or correlation[peaks].max() <= 0:
        return None, memory
    first = int(peaks[np.flatnonzero(correlation[peaks] >= 0.8 * correlation[peaks].max())[0]])
    found = SHORTEST_CYCLE <= first <= LONGEST_CYCLE and correlation[first] >= CYCLE_CORRELATION
    return first if found else None, memory


def explained_share(z: Sequence[Floats], rows: int) -> float:
    """Share of the variance of windows of `rows` rows, their own mean removed, that the nearest window in another block explains.

    Stretches (n, C) are those of one record in turn. Below 0 where the nearest window is farther off than none at all, as in noise.
    """
    parts, ends, offset = [], [], 0
    for part in z:
        if len(part) >= rows:
            parts.append(sliding_window_view(part, rows, axis=0))
            ends.append(np.arange(rows - 1, len(part)) + offset)
        offset += len(part) + 2 * rows
    if not parts:
        return 0.0
    places = np.concatenate(ends)
    taken = np.sort(np.random.default_rng(0).choice(len(places), min(PROBED, len(places)), replace=False))  # every k-th would meet a cycle
    before = np.cumsum([0, *map(len, parts)])
    which = np.searchsorted(before, taken, side="right") - 1
    windows = np.concatenate([part[taken[which == index] - before[index]] for index, part in enumerate(parts)])
    flat = (windows - windows.mean(axis=2, keepdims=True)).reshape(len(windows), -1).astype(np.float32)
    squared = np.square(flat).sum(axis=1)
    if not squared.any():
        return 0.0
    left = 0.0
    for fit, held in block_folds(places[taken], BLOCKS, rows):
        if not len(fit):
            return 0.0
        nearest = (squared[fit] - 2.0 * (flat[held] @ flat[fit].T)).min(axis=1) + squared[held]
        left += float(np.maximum(nearest, 0.0).sum())
    return 1.0 - left / max(float(squared.sum()), 1e-9)
