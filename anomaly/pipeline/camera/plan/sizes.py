"""Which sizes of input may be tried for a camera's pictures, and what a picture costs at each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from anomaly.data.pictures.marks import mark_sizes

Size = tuple[int, int]  # (high, wide)
SIDES = (256, 400, 640, 1024)  # square root of the area of the sizes tried; the pictures' own size is tried too
LARGEST = 1.1  # times the pictures' own sides: beyond that there is nothing more to see
MOST = 2048  # pixels of a side, as a spec may ask for
NEARLY = 1.1  # times the cost allowed that a size may take: sides come in whole steps
STEP = 1.3  # times the sides of one size are those of the next, at least
ALIKE = 1.3  # ratio of the largest to the smallest proportions up to which one proportion serves all pictures
SMALLEST_MARK, LARGEST_MARK, FRACTION = 2.0, 64.0, 16  # pixels of the smallest and largest marks; or so great a part of a picture's side
MS_PER_MEGAPIXEL = 60.0  # of input, on two usual processor cores in the quickest arithmetic (docs/results/pictures.md, "Large pictures")


def usual_size(sizes: Sequence[Size]) -> tuple[float, float]:
    """Height and width that stand for pictures of these sizes: their median, square where proportions vary.

    >>> usual_size([(1250, 500), (1240, 500), (1260, 500)])
    (1250.0, 500.0)
    >>> usual_size([(100, 400), (400, 100), (200, 200)])  # no one proportion suits them
    (200.0, 200.0)
    """
    sides = np.array(sizes, dtype=np.float64)
    high, wide = np.median(sides, axis=0).tolist()
    ratios = np.quantile(sides[:, 0] / sides[:, 1], [0.05, 0.95])
    if ratios[1] > ALIKE * ratios[0]:
        high = wide = float(np.median(np.sqrt(sides.prod(axis=1))))
    return float(high), float(wide)


def sizes_to_try(usual: tuple[float, float], step: int, most_ms: float) -> list[Size]:
    """Sizes of input with the pictures' proportions, the smallest first, each side a multiple of `step`.

    None is larger than the pictures, or costs more than `most_ms`, but the first.

    >>> sizes_to_try((1250.0, 500.0), 32, 60.0)
    [(416, 160), (640, 256), (1248, 512)]
    >>> sizes_to_try((300.0, 300.0), 32, 60.0)
    [(256, 256)]
    """
    found: list[Size] = []
    own = (usual[0] * usual[1]) ** 0.5
    usual_sides = [
        side for side in SIDES if not SIDES[0] < side < own < STEP * side
    ]  # the pictures' own size takes the place of one near it
    for side in sorted([*usual_sides, *([own] if own >= STEP * SIDES[0] and own not in SIDES else [])]):
        scale = side / own
        size = (_whole(usual[0] * scale, step), _whole(usual[1] * scale, step))
        if max(size) > MOST and not found:
            size = (min(size[0], MOST // step * step), min(size[1], MOST // step * step))  # so long a picture cannot keep its proportions
        if found and (max(size) > MOST or scale > LARGEST or milliseconds(size) > NEARLY * most_ms):
            break
        if size not in found:
            found.append(size)
    return found


def marks_to_try(usual: tuple[float, float], named: float | None) -> list[float]:
    """Sizes in pixels of the made-up marks to draw on pictures of this size: from 2 pixels on, or from the size that a user named.

    >>> marks_to_try((300.0, 300.0), None), marks_to_try((4096.0, 2048.0), 12.0)
    ([2.0, 4.0, 8.0, 16.0, 32.0, 64.0], [12.0, 24.0, 48.0, 96.0])
    """
    side, smallest = min(usual), named or SMALLEST_MARK
    largest = min(side / 4, max(LARGEST_MARK, side / FRACTION))
    return mark_sizes(smallest, max(largest, smallest))


def sizes_of(marks: Sequence[float], each: int, picture: int) -> list[float]:
    """The marks to draw on one picture: all of one size, the next size on the next picture, and on average `each` of every size.

    A stage sees far beyond a mark, so a large mark next to a small one would make the small one look found.

    >>> sizes_of([2.0, 4.0], 2, picture=0), sizes_of([2.0, 4.0], 2, picture=3)
    ([2.0, 2.0, 2.0, 2.0], [4.0, 4.0, 4.0, 4.0])
    """
    return [marks[picture % len(marks)]] * (each * len(marks))


def megapixels(size: tuple[float, float]) -> float:
    """Of a size (high, wide), in 1024 x 1024."""
    return size[0] * size[1] / 1024**2


def milliseconds(size: Size) -> float:
    """About how long a picture takes at a size of input. An estimate by area, not a measurement: choices must not depend on a clock."""
    return MS_PER_MEGAPIXEL * megapixels(size)


def larger_by(usual: tuple[float, float], size: Size, step: int, most_ms: float | None) -> str:
    """The key of [input] that lets pictures be looked at in more detail than at a size of input: "max_ms", "size", or "" where none does.

    `most_ms` is what a picture may cost, None where the spec names the size. Where sizes within the cost allowed were left alone, since
    they find no more, no larger one is advised.

    >>> usual = (2000.0, 2000.0)
    >>> larger_by(usual, (1024, 1024), 32, 60.0), larger_by(usual, (640, 640), 32, 60.0), larger_by(usual, (640, 640), 32, None)
    ('max_ms', '', 'size')
    >>> larger_by((200.0, 200.0), (256, 256), 32, 60.0), larger_by((200.0, 200.0), (256, 256), 32, None)
    ('', '')
    """
    every = sizes_to_try(usual, step, float("inf"))
    if most_ms is None:
        return "size" if every[-1][0] * every[-1][1] > NEARLY * size[0] * size[1] else ""
    allowed = sizes_to_try(usual, step, most_ms)
    return "max_ms" if len(every) > len(allowed) and size == allowed[-1] else ""


def in_words(size: Size) -> str:
    """A size as people read it, high before wide.

    >>> in_words((416, 160))
    '416 x 160'
    """
    return f"{size[0]} x {size[1]}"


def _whole(side: float, step: int) -> int:
    return max(64 if step <= 64 else step, round(side / step) * step)
