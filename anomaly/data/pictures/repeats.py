"""Pictures that show the same part: copies, bursts, a part photographed twice.

They are no independent evidence. A part's score, with its twin left in, says how alike two pictures of one part are, and not how alike two
good parts are; a threshold set by such scores would flag every new part.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anomaly.data.pictures.reading import Picture, read_image
from anomaly.errors import RecordError

THUMBNAIL, BLOCK = 64, 4  # pixels a side of the pictures compared, and of the blocks whose mean is taken off
NEAR = 0.94  # correlation of what is particular to two pictures from which they may show one part
GAP = 4.0  # times as far as from each other are pictures of one part from all others, at least

SIDE = 32  # test pictures against training pictures: pixels a side of the thumbnails compared
ALIKE = 0.97  # correlation of what is particular to two pictures from which they are called near

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]


def group_repeats(contents: Sequence[bytes], thumbnails: Sequence[Floats]) -> NDArray[np.int64]:
    """A number for each of n pictures, equal for those of one part, from digests of their pixels and gray thumbnails, each (64, 64).

    Identical pictures are of one part. Others are compared by fine detail: thumbnails less the mean of each block of 4 x 4 pixels, so that
    light does not matter, less their mean over all pictures, so that what all parts of a line share does not. Single linkage on 1 minus
    the correlation; a cluster is one part where it is as tight as 0.06 and all other pictures are at least four times as far away as its
    own are from each other. The gap keeps good parts that differ little, and evenly, from being taken for one.

    >>> rng = np.random.default_rng(0)
    >>> parts = rng.uniform(0, 255, (5, 64, 64)).astype(np.float32)
    >>> again = parts[3] + rng.normal(0, 3, (64, 64)).astype(np.float32)
    >>> group_repeats([b"a", b"b", b"c", b"d", b"e", b"f"], [*parts, again]).tolist()
    [0, 1, 2, 3, 4, 3]
    """
    _, first, same = np.unique(np.array([content.hex() for content in contents], dtype=str), return_index=True, return_inverse=True)
    if len(first) < 2:
        return np.zeros(len(contents), np.int64)
    part = np.arange(len(first))
    for members in _clusters(_detail(np.stack([thumbnails[i] for i in first.tolist()]))):
        part[members] = members[0]
    label = first[part[same]]
    _, start, number = np.unique(label, return_index=True, return_inverse=True)
    rank: NDArray[np.int64] = np.argsort(np.argsort(start))
    return rank[number].astype(np.int64)


def _detail(thumbnails: Floats) -> Floats:
    """Thumbnails (n, 64, 64) -> rows (n, 4096) of unit length: fine detail that is particular to each."""
    cells = THUMBNAIL // BLOCK
    blocks = thumbnails.reshape(-1, cells, BLOCK, cells, BLOCK)
    fine = (blocks - blocks.mean(axis=(2, 4), keepdims=True)).reshape(len(thumbnails), -1)
    fine -= fine.mean(axis=0)
    unit: Floats = fine / np.maximum(np.linalg.norm(fine, axis=1, keepdims=True), 1e-9)
    return unit


def _clusters(rows: Floats) -> list[list[int]]:
    """Tight clusters of rows (n, d) of unit length with a gap around them, by Kruskal's algorithm over pairs that are near enough."""
    tight = 1 - NEAR
    left, right, apart = _near_pairs(rows, GAP * tight)
    root = list(range(len(rows)))
    members = {i: [i] for i in root}
    height = dict.fromkeys(root, 0.0)
    found: dict[int, list[tuple[float, list[int]]]] = {i: [] for i in root}  # clusters inside, each with how wide its gap is

    def find(i: int) -> int:
        while root[i] != i:
            root[i] = root[root[i]]
            i = root[i]
        return i

    def settle(i: int, beyond: float) -> None:
        inside, gap = members[i], beyond / max(height[i], 1e-6)
        if len(inside) < 2 or gap < GAP or gap <= max((known for known, _ in found[i]), default=0.0):
            return  # two parts that are alike, each with its repeats, stay two: the gap around each is wider
        if float((1 - rows[inside] @ rows[inside].T).max()) <= tight:
            found[i] = [(gap, sorted(inside))]

    for k in np.argsort(apart, kind="stable"):
        a, b = find(int(left[k])), find(int(right[k]))
        if a == b:
            continue
        settle(a, float(apart[k]))
        settle(b, float(apart[k]))
        root[b] = a
        members[a] += members.pop(b)
        found[a] += found.pop(b)
        height[a] = float(apart[k])
    for i in members:
        settle(i, GAP * tight if len(members) > 1 else 0.0)
    return [cluster for i in members for _, cluster in found[i]]


def _near_pairs(rows: Floats, most: float, at_once: int = 512) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats]:
    """Pairs (i, j), i < j, of rows whose 1 minus correlation is at most `most`, with that distance."""
    parts = []
    for start in range(0, len(rows), at_once):
        apart = 1 - rows[start : start + at_once] @ rows[start:].T
        i, j = np.nonzero(apart <= most)
        keep = i < j
        parts.append((i[keep] + start, j[keep] + start, np.maximum(apart[i[keep], j[keep]], 0)))
    i, j, apart = (np.concatenate(column) for column in zip(*parts, strict=True))
    return i, j, apart.astype(np.float32)


# --- test pictures that show what training pictures show ---


def near_duplicates(train: list[Picture], test: list[Picture]) -> dict[str, str]:
    """Test pictures that show what a training picture shows: {test id: training id}. Unreadable ones are left out.

    Gray thumbnails of 32 x 32, each of zero mean and unit deviation so that exposure does not matter, less their mean over
    the training pictures so that what all parts of a line share does not either; near is a correlation of at least 0.97.
    """
    known = {p.id: one for p in train if (one := _gray_thumbnail(p.path)) is not None}
    if not known:
        return {}
    names, table = list(known), np.stack(list(known.values()))
    shared = table.mean(axis=0)
    table = _unit(table - shared)
    found = {}
    for picture in test:
        one = _gray_thumbnail(picture.path)
        if one is not None:
            alike = table @ _unit(one - shared)
            if alike.max() >= ALIKE:
                found[picture.id] = names[int(alike.argmax())]
    return found


def _unit(rows: Doubles) -> Doubles:
    length: Doubles = np.linalg.norm(rows, axis=-1, keepdims=True)
    return rows / np.maximum(length, 1e-9)


def _gray_thumbnail(path: Path) -> Doubles | None:
    try:
        gray = Image.fromarray(read_image(path, "gray")[:, :, 0].astype(np.uint8))
    except RecordError:
        return None
    small = np.asarray(gray.resize((SIDE, SIDE), Image.Resampling.BOX), dtype=np.float64).ravel()
    return _unit(small - small.mean()) * SIDE
