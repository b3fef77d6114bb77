"""Synthetic defects and faults."""

from __future__ import annotations

import numpy as np
import pytest

from anomaly.data.pictures import defects
from anomaly.data.tables import faults


@pytest.mark.parametrize("kind", defects.KINDS)
def test_a_synthetic_defect_changes_a_little_where_its_mask_says(picture: np.ndarray, kind: str) -> None:
    before = picture.copy()
    shares = []
    for seed in range(20):
        marked, mask = defects.inject(picture, np.random.default_rng(seed), kind)
        np.testing.assert_array_equal(picture, before)
        assert marked.dtype == np.uint8
        assert (np.abs(marked.astype(int) - before).max(axis=2)[~mask] <= 6).all()
        shares.append(mask.mean())
    assert 0 < np.mean(shares) < 0.25


@pytest.mark.parametrize("kind", [*faults.KINDS, *faults.SHAPES])
def test_a_synthetic_fault_touches_one_sensor(kind: str) -> None:
    rng = np.random.default_rng(0)
    window, elsewhere = rng.normal(size=(2, 30, 4)).astype(np.float32)
    faulty, sensor = faults.inject(window, rng, np.ones(4, np.float32), kind, elsewhere)
    changed = (faulty != window).any(axis=0)
    assert changed.sum() <= 1
    assert changed[sensor] or kind == "stuck"


@pytest.mark.parametrize("kind", faults.SHAPES)
def test_a_fault_of_shape_leaves_mean_and_spread_as_they_are(kind: str) -> None:
    rng = np.random.default_rng(1)
    for _ in range(50):
        window, elsewhere = (rng.normal(size=(2, 40, 3)).cumsum(axis=1) * [1, 0.01, 100] + [0, 5, 1000]).astype(np.float32)
        window[rng.random(window.shape) < 0.05] = np.nan
        faulty, sensor = faults.inject(window, rng, np.ones(3, np.float32), kind, elsewhere)
        before, after = window[:, sensor].astype(float), faulty[:, sensor].astype(float)
        assert np.nanmax(np.abs(after - before)) > 0.1 * np.nanstd(before)
        known = np.isfinite(before).all() and np.isfinite(after).all()
        np.testing.assert_allclose(np.nanmean(after), np.nanmean(before), atol=(1e-4 if known else 0.2) * np.nanstd(before))
        np.testing.assert_allclose(np.nanstd(after), np.nanstd(before), rtol=1e-4 if known else 0.2)


@pytest.mark.parametrize("kind", faults.SHAPES)
@pytest.mark.parametrize("reading", [7.0, np.nan])
def test_a_sensor_that_does_not_move_has_no_fault_of_shape(kind: str, reading: float) -> None:
    window = np.full((30, 2), reading, np.float32)
    faulty, _ = faults.inject(window, np.random.default_rng(0), np.ones(2, np.float32), kind, np.full((30, 2), np.nan, np.float32))
    np.testing.assert_array_equal(faulty, window)
