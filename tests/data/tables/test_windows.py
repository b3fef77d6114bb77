"""Windows and folds against their obvious twins."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from anomaly.data.tables.windows import block_folds, stack_windows, window_ends, windows_at
from tests.reference import windows as naive

steps = st.lists(st.sampled_from([1.0, 1.0, 1.0, 5.0]), min_size=1, max_size=40)


@given(steps, st.integers(1, 8), st.randoms())
def test_window_ends_equal_the_obvious_ones(gaps: list[float], rows: int, random) -> None:
    times = np.cumsum(gaps)
    usable = np.array([random.random() > 0.1 for _ in gaps])
    assert window_ends(times, usable, rows, 2.0).tolist() == naive.window_ends(times, usable, rows, 2.0)


def test_windows_hold_the_rows_that_end_at_their_row() -> None:
    values = np.arange(20, dtype=np.float32).reshape(10, 2)
    windows = windows_at(values, np.array([3, 9]), 4)
    np.testing.assert_array_equal(windows[0], values[0:4])
    np.testing.assert_array_equal(windows[1], values[6:10])


@given(st.integers(20, 200), st.integers(2, 6), st.integers(1, 10))
def test_folds_share_no_row_and_cover_all(count: int, folds: int, rows: int) -> None:
    ends = np.arange(rows - 1, rows - 1 + count)
    split = block_folds(ends, folds, rows)
    assert sorted(np.concatenate([held for _, held in split]).tolist()) == list(range(count))
    for fit, held in split:
        fit_rows = {r for e in ends[fit] for r in range(e - rows + 1, e + 1)}
        held_rows = {r for e in ends[held] for r in range(e - rows + 1, e + 1)}
        assert not fit_rows & held_rows


@given(ends=st.lists(st.sets(st.integers(2, 19)), min_size=1, max_size=4), most=st.integers(1, 30))
def test_windows_of_several_tables_are_thinned_as_one_series(ends: list[set[int]], most: int) -> None:
    """Every k-th of all windows, k the next prime number, whatever table it is of; nothing is copied that is not kept."""
    series = [(np.random.default_rng(i).normal(size=(20, 2)).astype(np.float32), np.array(sorted(e), int)) for i, e in enumerate(ends)]
    windows, places = stack_windows(series, 3, most)
    whole = [(values[end - 2 : end + 1], end + i * (20 + 6)) for i, (values, found) in enumerate(series) for end in found]
    least = -(-len(whole) // most) or 1
    kept = whole[:: next(k for k in (1, 2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61) if k >= least)]
    np.testing.assert_array_equal(places, [place for _, place in kept])
    np.testing.assert_array_equal(windows, np.array([window for window, _ in kept], np.float32).reshape(-1, 3, 2))
