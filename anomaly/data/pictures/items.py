"""Several pictures of one item, its sides or places, as file names or folders tell them.

They are no repeats of one picture, but no independent evidence either: a dull item is dull on all of its sides. A line sees new items, and
how these differ is told by as many items as were learnt, not by as many pictures.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FEWEST_ITEMS = 8  # fewer say nothing of how items differ
SHARED = 0.5  # of the pictures, at least, whose item others show too
CHANCE = 1e-3  # that names which say nothing are taken for items
LEAST_ICC = 0.2  # intra-class correlation from which items differ by enough to matter
LAST = re.compile(r"^(.*?)[\s_.-]+[^\s_.-]+$|^(.*?\D)\d{1,2}$|^()\d{1,2}$")  # item12_side3, bolt7-left; kos01Part3; 3

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]


def items_by_name(paths: Sequence[Path]) -> NDArray[np.int64] | None:
    """A number for each picture, equal for those of one item, from the folder and the name up to its last piece; None where none are seen.

    Items are at least eight, and more than half of the pictures share theirs with another.

    >>> items_by_name([Path(f"bolt{item:02d}_{side}.png") for item in range(8) for side in ("left", "top")])[:5].tolist()
    [0, 0, 1, 1, 2]
    >>> items_by_name([Path(f"good/{number:04d}.png") for number in range(40)]) is None
    True
    """
    keys = [(str(path.parent), _item_of(path.stem)) for path in paths]
    known = {key: place for place, key in enumerate(dict.fromkeys(keys))}
    item = np.array([known[key] for key in keys], dtype=np.int64)
    count = np.bincount(item, minlength=1)
    if len(known) < FEWEST_ITEMS or float((count[item] > 1).mean()) <= SHARED:
        return None
    return item


def _item_of(stem: str) -> str:
    found = LAST.match(stem)
    return next((part for part in found.groups() if part is not None), stem) if found else stem


def differ(item: NDArray[np.int64], sides: Sequence[str], thumbnails: Sequence[Floats]) -> bool:
    """Whether pictures (n,) of one item are alike, and names therefore to be believed: by light, contrast and detail of gray thumbnails.

    Each of four figures, less its mean over the pictures of a side where sides have names that come again, is ranked, and a one-way
    analysis of variance asks whether items differ (F-test, chance 0.1 % in all; intra-class correlation at least 0.2).
    """
    figures = _figures(np.stack(thumbnails))
    _, side = np.unique(np.array(sides, dtype=str), return_inverse=True)
    often = np.bincount(side)[side] >= len(item) / (2 * len(np.unique(item)))
    for column in figures.T:
        own = np.where(often, np.bincount(side, column)[side] / np.bincount(side)[side], column.mean())
        if _differ(item, np.argsort(np.argsort(column - own)).astype(np.float64), CHANCE / figures.shape[1]):
            return True
    return False


def items_in_words(paths: Sequence[Path], thumbnails: Sequence[Floats]) -> str | None:
    """What normals that show several pictures an item mean for the threshold; None where none are seen, or they are not alike."""
    item = items_by_name(paths)
    if item is None or not differ(item, sides_of(paths), thumbnails):
        return None
    return (
        f"names show {int(item.max()) + 1} items with several pictures each, and pictures of one item are alike: how items differ is told "
        "by these few, so that more false alarms than asked for may come on new ones; pictures of more items help"
    )


def sides_of(paths: Sequence[Path]) -> list[str]:
    """The last piece of each name, that which is not the item's."""
    return [path.stem.removeprefix(_item_of(path.stem)) for path in paths]


def _figures(thumbnails: Floats) -> Doubles:
    """Mean, contrast, and detail down and across of gray thumbnails (n, h, w): (n, 4)."""
    wide = thumbnails.astype(np.float64)
    down, across = (np.abs(np.diff(wide, axis=axis)).mean(axis=(1, 2)) for axis in (1, 2))
    return np.stack([wide.mean(axis=(1, 2)), wide.std(axis=(1, 2)), down, across], axis=1)


def _differ(group: NDArray[np.int64], values: Doubles, chance: float) -> bool:
    from scipy.stats import f  # takes a second, which most folders need not wait for

    between, within, groups, size = _variances(group, values)
    if within <= 0 or len(values) <= groups:
        return between > 0
    icc = (between - within) / (between + (size - 1) * within)
    return icc >= LEAST_ICC and float(f.sf(between / within, groups - 1, len(values) - groups)) < chance


def _variances(group: NDArray[np.int64], values: Doubles) -> tuple[float, float, int, float]:
    """Mean squares between and within groups, how many groups there are, and how many values one has (for unequal groups the usual n0)."""
    _, place, count = np.unique(group, return_inverse=True, return_counts=True)
    mean = np.bincount(place, values) / count
    groups, total = len(count), len(values)
    between = float((count * np.square(mean - values.mean())).sum()) / max(1, groups - 1)
    within = float(np.square(values - mean[place]).sum()) / max(1, total - groups)
    return between, within, groups, float((total - np.square(count).sum() / total) / max(1, groups - 1))
