"""Made-up marks of a given size on pictures of good parts: down to which size does a detector find them?

Several marks go on one picture, apart from each other, so that one pass of the network tells of all of them. Kinds: a round spot, a
scratch, a soft dent, and a piece of the same picture in the wrong place (cut-paste; Li et al. 2021, arXiv:2104.04015). `defects` draws
larger and more varied faults, whose size is not asked for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anomaly.data.pictures.defects import contrast

Pixels = NDArray[np.float32]  # (h, w) or (h, w, C)
KINDS = ("spot", "scratch", "dent", "misplaced")
SEEN = 8.0  # mean change of gray value by a misplaced piece, at least
TRIES = 30  # places tried for a mark, before it is left out
LARGEST = 0.25  # share of the picture's shorter side that a mark takes at most
APART = 1.5  # times its size to the next mark, at least
FAR = 0.3  # and so great a part of the picture's shorter side: a deep stage of a network sees as far as that

# A part is told from what it lies on where that is alike all around the picture's edge, and the part clearly is not.
OUTLINE_SIDE = 96  # pixels of the longer side, of the small picture it is looked for in
EDGE, EDGE_ALIKE = 0.04, 30.0  # share of the shorter side that is the edge, and how far (of 255) 19 in 20 places there may differ
BEYOND, CLEAR = 2.0, 25.0  # times as far as that a part's places differ, and (of 255) half of them at least
PART_SHARES = (0.1, 0.85)  # of the picture that a part may take
WHOLE, TOUCHES = 0.9, 0.05  # share of the other places that are in one piece, at least; and of the edge that is part, at most


@dataclass(frozen=True)
class Mark:
    """One mark: its size in pixels of the camera's picture, its kind, and the middle of where it is (x, y)."""

    size: float
    kind: str
    x: float
    y: float


def mark_sizes(smallest: float, largest: float) -> list[float]:
    """Sizes from the smallest on, each twice the one before, up to the largest; the smallest in any case.

    >>> mark_sizes(2, 64), mark_sizes(3, 20)
    ([2.0, 4.0, 8.0, 16.0, 32.0, 64.0], [3.0, 6.0, 12.0])
    """
    sizes = [float(smallest)]
    while sizes[-1] * 2 <= largest:
        sizes.append(sizes[-1] * 2)
    return sizes


def draw_marks(
    image: NDArray[np.uint8],
    sizes: Sequence[float],
    rng: np.random.Generator,
    looked_at: NDArray[np.bool_] | None = None,
    whole: tuple[int, int] | None = None,
) -> tuple[NDArray[np.uint8], list[Mark]]:
    """Draw a mark of each of `sizes` on a picture (H, W, C) uint8, apart from each other. Returns the picture and the marks drawn.

    Marks for which no place is found are left out. Only places are taken whose middle is `looked_at` (H, W) bool, all when None. The
    picture given is not modified. `whole` is the size (high, wide) of the camera's picture where `image` is that picture made smaller: in
    its pixels sizes and places are given, and a mark covers as great a part of a pixel as it does of those that the pixel stands for.

    >>> marked, marks = draw_marks(np.full((128, 128, 1), 128, np.uint8), [16, 4], np.random.default_rng(0))
    >>> [mark.size for mark in marks], bool((marked != 128).any())
    ([16, 4], True)
    """
    rows, columns = image.shape[:2]
    high, wide = whole or (rows, columns)
    scale = (high / rows, wide / columns)
    marked = image.astype(np.float32)
    deviation = float(image[:: max(1, rows // 512), :: max(1, columns // 512)].std())
    drawn: list[Mark] = []
    for size in sorted(sizes, reverse=True):  # large ones first: they find a place least easily
        kind = KINDS[int(rng.integers(len(KINDS)))]
        for _ in range(TRIES):
            x, y = rng.uniform(size / 2, max(size / 2 + 1, wide - size / 2)), rng.uniform(size / 2, max(size / 2 + 1, high - size / 2))
            clear = all(max(abs(x - m.x), abs(y - m.y)) > max(APART * (size + m.size), FAR * min(high, wide)) for m in drawn)
            if clear and (looked_at is None or looked_at[min(rows - 1, int(y / scale[0])), min(columns - 1, int(x / scale[1]))]):
                _draw(marked, image, Mark(size, kind, x, y), deviation, rng, scale)
                drawn.append(Mark(size, kind, x, y))
                break
    return np.clip(np.rint(marked), 0, 255).astype(np.uint8), drawn


def part_of(image: NDArray[np.uint8]) -> NDArray[np.bool_] | None:
    """Where the part is on a picture (H, W, C) uint8, without its holes, as (H, W) bool; None where it cannot be told for sure.

    >>> picture = np.full((100, 120, 1), 40, np.uint8)
    >>> picture[30:80, 20:90] = 200
    >>> part = part_of(picture)
    >>> part is not None and bool(part[50, 50]) and not bool(part[5, 5]), part_of(np.full((100, 120, 1), 40, np.uint8)) is None
    (True, True)
    """
    from scipy.ndimage import binary_opening, label  # takes a moment, which most commands need not wait for

    high, wide = image.shape[:2]
    small = _small(image)
    ring = np.ones(small.shape[:2], bool)
    edge = max(2, round(EDGE * min(ring.shape)))
    ring[edge:-edge, edge:-edge] = False
    apart = np.abs(small - np.median(small[ring], axis=0)).max(axis=2)
    spread = float(np.quantile(apart[ring], 0.95))
    if spread > EDGE_ALIKE:
        return None
    other = binary_opening(apart > max(BEYOND * spread, CLEAR / 2))
    pieces, count = label(other)
    if not count:
        return None
    part = pieces == 1 + int(np.bincount(pieces.ravel())[1:].argmax())
    sure = (
        PART_SHARES[0] <= part.mean() <= PART_SHARES[1]
        and part.sum() >= WHOLE * other.sum()
        and part[ring].mean() <= TOUCHES
        and float(np.median(apart[part])) >= max(CLEAR, 2 * BEYOND * spread)
    )
    return np.asarray(Image.fromarray(part).resize((wide, high), Image.Resampling.NEAREST)) if sure else None


def _small(image: NDArray[np.uint8]) -> Pixels:
    """A picture (H, W, C) reduced to a small one (h, w, C), so that noise and texture do not count."""
    high, wide = image.shape[:2]
    scale = min(1.0, OUTLINE_SIDE / max(high, wide))
    size = max(8, round(wide * scale)), max(8, round(high * scale))
    planes = [np.asarray(Image.fromarray(image[:, :, c]).resize(size, Image.Resampling.BOX)) for c in range(image.shape[2])]
    return np.stack(planes, axis=2).astype(np.float32)


def _draw(
    marked: Pixels, image: NDArray[np.uint8], mark: Mark, deviation: float, rng: np.random.Generator, scale: tuple[float, float]
) -> None:
    """Draw one mark on `marked`, in place, with antialiasing. `scale`: how many of the camera's pixels a pixel is (high, wide)."""
    reach = mark.size / 2 + 1.5
    (top, bottom), (left, right) = (
        (max(0, int((middle - reach) / pixels)), int((middle + reach) / pixels) + 1)
        for middle, pixels in zip((mark.y, mark.x), scale, strict=True)
    )
    part = marked[top:bottom, left:right]
    down, across = (math.ceil(round(pixels, 6)) for pixels in scale)  # looked at, of the camera's pixels in one
    rows = _apart(part.shape[0] * down, down, top, scale[0], mark.y)[:, None]
    columns = _apart(part.shape[1] * across, across, left, scale[1], mark.x)[None, :]
    change = contrast(deviation, rng)
    if not 0 <= float(part.mean()) + change <= 255:
        change = -change  # nothing is darker than black
    other = part + change
    coverage = _coverage(mark, rows, columns, rng).reshape(part.shape[0], down, part.shape[1], across).mean(axis=(1, 3))
    if mark.kind == "misplaced":
        high, wide = part.shape[:2]
        y, x = int(rng.integers(image.shape[0] - high + 1)), int(rng.integers(image.shape[1] - wide + 1))
        piece = image[y : y + high, x : x + wide].astype(np.float32)
        if float((np.abs(piece - part).mean(axis=2) * coverage).sum() / coverage.sum()) >= SEEN:
            other = piece  # else it can hardly be seen, and a spot takes its place
    part += coverage[:, :, None] * (other - part)


def _apart(count: int, inside: int, first: int, scale: float, middle: float) -> Pixels:
    """How far (count,) places are from a mark's `middle`, in the camera's pixels: `inside` of them a pixel, from the `first` one on."""
    places: Pixels = (np.arange(count, dtype=np.float32) + np.float32(0.5)) / np.float32(inside) + np.float32(first)
    return places * np.float32(scale) - np.float32(middle)


def _coverage(mark: Mark, rows: Pixels, columns: Pixels, rng: np.random.Generator) -> Pixels:
    """How much of each place a mark covers, from the places' distances to its middle: (h, 1) down and (1, w) across, in pixels."""
    if mark.kind == "scratch":  # a straight line as long as the mark, and an eighth as wide
        angle, width = np.float32(rng.uniform(0, np.pi)), max(1.0, mark.size / 8)
        along, across = columns * np.cos(angle) + rows * np.sin(angle), rows * np.cos(angle) - columns * np.sin(angle)
        return _inside(mark.size / 2 - np.abs(along)) * _inside(width / 2 - np.abs(across))
    distance: Pixels = np.sqrt(rows**2 + columns**2)
    if mark.kind == "dent":  # a soft change of brightness, strongest in the middle
        soft: Pixels = np.exp(-(distance**2) / (2 * (mark.size / 4) ** 2))
        return soft
    return _inside(mark.size / 2 - distance)


def _inside(distance: Pixels) -> Pixels:
    """How much of a pixel lies inside an edge, from its middle's distance to it in pixels."""
    share: Pixels = np.clip(distance + 0.5, 0, 1)
    return share
