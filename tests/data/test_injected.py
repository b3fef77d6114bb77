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


@pytest.mark.parametrize("kind", faults.KINDS)
def test_a_synthetic_fault_touches_one_sensor(kind: str) -> None:
    rng = np.random.default_rng(0)
    window = rng.normal(size=(30, 4)).astype(np.float32)
    faulty, sensor = faults.inject(window, rng, np.ones(4, np.float32), kind)
    changed = (faulty != window).any(axis=0)
    assert changed.sum() <= 1
    assert changed[sensor] or kind == "stuck"
