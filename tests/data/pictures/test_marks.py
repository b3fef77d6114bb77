"""Made-up marks of a size that is asked for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from anomaly.data.pictures.marks import APART, KINDS, Mark, draw_marks, mark_sizes, part_of
from anomaly.data.samples.synthetic import part_picture


def surface(high: int = 200, wide: int = 300, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(0).integers(90, 160, (high, wide, channels)).astype(np.uint8)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([1, 3]), st.lists(st.sampled_from([2.0, 5.0, 16.0, 40.0]), min_size=1, max_size=6))
def test_only_the_marks_change_and_each_is_as_large_as_asked(seed: int, channels: int, sizes: list[float]) -> None:
    image = surface(channels=channels)
    marked, marks = draw_marks(image, sizes, np.random.default_rng(seed))
    changed = (marked.astype(int) - image).any(axis=2)
    around = np.zeros_like(changed)
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]] + 0.5
    for mark in marks:
        near = (abs(columns - mark.x) <= mark.size / 2 + 2.5) & (abs(rows - mark.y) <= mark.size / 2 + 2.5)
        assert changed[near].any()
        around |= near
    assert not changed[~around].any()
    assert sorted(mark.size for mark in marks) == sorted(sizes)[len(sizes) - len(marks) :] or len(marks) < len(sizes)


def test_a_part_is_told_from_what_it_lies_on_and_only_where_that_is_sure() -> None:
    picture, _ = part_picture(np.random.default_rng(3))
    part = part_of(picture)
    assert part is not None
    rows, columns = np.mgrid[:160, :160] - 80.0
    far = np.hypot(rows, columns)
    assert part[(far > 40) & (far < 55)].mean() > 0.75  # the flange, less its holes
    assert not part[far > 76].any()  # the bench
    assert part_of(np.ascontiguousarray(picture[50:130, 40:120])) is None  # nothing of the bench around it
    assert part_of(surface()) is None  # no part
    rng = np.random.default_rng(0)
    cluttered = picture.copy()
    cluttered[:20] = rng.integers(0, 255, (2, 8, 3)).repeat(10, 0).repeat(20, 1)  # other things along an edge
    assert part_of(cluttered) is None


def test_marks_lie_apart_and_inside_what_is_looked_at() -> None:
    looked_at = np.zeros((200, 300), bool)
    looked_at[:, 150:] = True
    _, marks = draw_marks(surface(), [8.0] * 8, np.random.default_rng(1), looked_at)
    assert marks
    assert all(mark.x >= 150 for mark in marks)
    for at, one in enumerate(marks):
        assert all(max(abs(one.x - other.x), abs(one.y - other.y)) > APART * 16 for other in marks[:at])


def spread(size: float, kind: str) -> float:
    """Widest distance between changed pixels of one mark of a kind on a plain surface."""
    for seed in range(200):
        image = np.full((160, 160, 1), 128, np.uint8)
        marked, (mark,) = draw_marks(image, [size], np.random.default_rng(seed))
        if mark.kind == kind:
            rows, columns = np.nonzero((abs(marked.astype(int) - image) > 4)[:, :, 0])
            return max(float(np.ptp(rows)), float(np.ptp(columns))) + 1
    raise AssertionError(kind)


@pytest.mark.parametrize("kind", KINDS)
def test_a_mark_twice_as_large_is_seen_twice_as_wide(kind: str) -> None:
    assert spread(48.0, kind) == pytest.approx(2 * spread(24.0, kind), rel=0.35)


def test_a_mark_shows_on_black_and_on_white() -> None:
    for level in (0, 255):
        image = np.full((100, 100, 1), level, np.uint8)
        for seed in range(20):
            marked, _ = draw_marks(image, [12.0], np.random.default_rng(seed))
            assert abs(marked.astype(int) - image).max() >= 4


def test_sizes_double() -> None:
    assert mark_sizes(2, 64) == [2, 4, 8, 16, 32, 64]
    assert mark_sizes(80, 64) == [80]
    assert Mark(2.0, "spot", 1.0, 1.0).size == 2.0


@pytest.mark.parametrize("scale", [2, 5, 6.25])
def test_a_mark_on_a_smaller_picture_is_the_mark_made_smaller(scale: float) -> None:
    """Sizes and places stay in pixels of the camera: a mark of 3 pixels covers a small part of a pixel that stands for 25, and no more."""
    high, wide = 600, 900
    for seed in range(20):
        whole = np.full((high, wide, 1), 128, np.uint8)
        small = np.full((round(high / scale), round(wide / scale), 1), 128, np.uint8)
        marked, marks = draw_marks(whole, [3.0, 40.0], np.random.default_rng(seed))
        drawn, same = draw_marks(small, [3.0, 40.0], np.random.default_rng(seed), whole=(high, wide))
        first = max(marks, key=lambda mark: mark.size)
        assert same[0] == first  # what is drawn after a misplaced piece has other chances
        shrunk = Image.fromarray(marked[:, :, 0]).resize(small.shape[1::-1], Image.Resampling.BOX)
        near = tuple(
            slice(max(0, int((middle - 30) / scale)), int((middle + 30) / scale)) for middle in (first.y, first.x)
        )  # the first mark alone
        assert abs(np.asarray(shrunk).astype(int) - drawn[:, :, 0])[near].max() <= 3, (seed, first)
        assert (drawn[near] != 128).any()
