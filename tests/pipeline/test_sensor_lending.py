"""Rows of another machine brought to this machine's levels."""

from __future__ import annotations

import numpy as np
import pytest

from anomaly.pipeline.sensor.lending import align_rows, alignment


def test_rows_of_another_machine_take_its_levels_and_keep_their_gaps() -> None:
    rng = np.random.default_rng(0)
    source = rng.normal(size=(3000, 3)).astype(np.float32)
    target = (rng.normal(size=(3000, 3)) * [2, 1, 0.5] + [100, 0, -7]).astype(np.float32)
    source[5, 1] = np.nan
    for method in ("coral", "batch-norm"):
        moved = align_rows(alignment(source, target, method), source)  # type: ignore[arg-type]
        assert np.isnan(moved[5, 1])
        assert np.isfinite(moved[5, [0, 2]]).all()
        assert np.nanmedian(moved, axis=0) == pytest.approx(np.median(target, axis=0), abs=0.2)
        assert np.nanstd(moved, axis=0) == pytest.approx(target.std(axis=0), rel=0.1)


def test_a_target_of_few_rows_keeps_the_sources_spread() -> None:
    rng = np.random.default_rng(1)
    source = rng.normal(size=(3000, 2)).astype(np.float32)
    target = np.repeat(rng.normal(size=(2, 2)), 20, axis=0).astype(np.float32) * 0.01  # forty rows, two of them independent
    moved = align_rows(alignment(source, target, "coral"), source)
    assert (moved.std(axis=0) > 0.3).all()
