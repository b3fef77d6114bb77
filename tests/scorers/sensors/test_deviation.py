"""The deviation scorer: robust z-scores, drift and relations between sensors."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly.features.encoder import SensorExtractor
from anomaly.features.preprocess import SensorPreprocess
from anomaly.scorers.sensors.deviation import HORIZON, Deviation, _relation_trust, drift_inflation, fit_deviation
from tests.features.windows import ROWS, noise, seen
from tests.scorers.sensors.fitting import fitted


@given(seed=st.integers(0, 100), factor=st.floats(0.001, 1000), offset=st.floats(-100, 100))
@settings(max_examples=10, deadline=None)
def test_scaling_a_unit_changes_nothing(seed: int, factor: float, offset: float) -> None:
    raw = noise(200, 3, seed).transpose(1, 2).double()  # (N, T, C)

    def scores(values: torch.Tensor) -> np.ndarray:
        flat = values.reshape(-1, 3)
        center = flat.median(dim=0).values
        preprocess = SensorPreprocess(center, (flat - center).abs().median(dim=0).values * 1.4826)
        features = SensorExtractor(ROWS)(preprocess(values.float()))
        return fit_deviation(features, 3, np.arange(200) * ROWS, ROWS)(features)[0].numpy()

    changed = raw.clone()
    changed[:, :, 1] = changed[:, :, 1] * factor + offset * factor
    np.testing.assert_allclose(scores(changed), scores(raw), rtol=2e-2)


def test_a_fifth_of_faulty_windows_hardly_moves_the_fit() -> None:
    z = noise(400, 3)
    clean = fitted(z)
    z[:60, 0] += 25.0
    dirty = fitted(z)
    probe = noise(100, 3, 5)
    assert float(dirty(seen(probe))[0].mean()) == pytest.approx(float(clean(seen(probe))[0].mean()), rel=0.2)
    assert float(dirty(seen(z[:60]))[0].min()) > 3 * float(dirty(seen(probe))[0].max())


@pytest.mark.parametrize(
    ("series", "low", "high"),
    [
        (lambda rng: rng.normal(size=1000), 1.0, 1.1),
        (lambda rng: np.cumsum(rng.normal(size=1000)) / 15, HORIZON**0.3, HORIZON**0.75),
        (lambda rng: np.linspace(-1.5, 1.5, 1000) + 0.01 * rng.normal(size=1000), HORIZON**0.9, HORIZON),
    ],
    ids=["stationary", "random walk", "trend"],
)
def test_drift_inflation_separates_noise_from_drift(series: Callable[[np.random.Generator], np.ndarray], low: float, high: float) -> None:
    found = [float(drift_inflation(series(np.random.default_rng(seed))[:, None], np.arange(1000), 10)[0]) for seed in range(20)]
    assert low <= np.mean(found) <= high


def test_drift_inflation_leaves_out_pairs_across_a_gap_and_short_records() -> None:
    assert (drift_inflation(np.zeros((10, 2)), np.arange(10), 30) == 1).all()
    rng = np.random.default_rng(0)
    steps = np.concatenate([rng.normal(size=400), rng.normal(size=400) + 2.0])
    places = np.concatenate([np.arange(400), np.arange(400) + 10_000])
    assert float(drift_inflation(steps[:, None], places, 10)[0]) < float(drift_inflation(steps[:, None], np.arange(800), 10)[0])


@pytest.mark.parametrize(
    ("signs", "least", "most"), [((1, 1, 1), 0.8, 1.0), ((1, 1, -1), 0.0, 0.0), ((1, 1, 0), 0.0, 0.2)], ids=["lasts", "turns round", "ends"]
)
def test_relations_that_fail_on_any_block_are_ignored(signs: tuple[int, int, int], least: float, most: float) -> None:
    rng = np.random.default_rng(3)
    common = rng.normal(size=900)
    level = np.stack([common, np.repeat(signs, 300) * common + 0.3 * rng.normal(size=900), rng.normal(size=900)], axis=1)
    trusted = _relation_trust(level, np.arange(900) * 10, 10)
    assert (trusted[:2] >= least).all()
    assert (trusted[:2] <= most).all()
    assert trusted[2] < 0.5
    assert (_relation_trust(level[:5], np.arange(5) * 10, 10) == 0).all()  # too few to see


def test_the_score_is_the_largest_deviation_shared_out_by_fourth_powers() -> None:
    eye, ones, none = torch.eye(2), torch.ones(2), torch.zeros(2)
    scorer = Deviation(torch.zeros(2, 2), torch.tensor([[1.0, 1.0], [1.0, 2.0]]), eye, none, 10 * ones)
    level, spread, known = torch.tensor([[3.0, -1.0]]), torch.tensor([[0.0, 4.0]]), torch.ones(1, 2)
    score, share = scorer([m.unsqueeze(2) for m in (level, spread, known)])
    assert float(score[0]) == pytest.approx(3.0)
    first, second = 3**4 + 0.3**4, 1 + 2**4 + 0.1**4
    assert share[0].tolist() == pytest.approx([3 * first / (first + second), 3 * second / (first + second)])


def test_faulty_windows_among_the_normals_do_not_bend_relations() -> None:
    common, own = noise(400, 1), noise(400, 2, 1)
    z = torch.cat([common + 0.2 * own, noise(400, 1, 2)], dim=1)
    dirty = z.clone()
    dirty[100:140, 0] += 6.0
    dirty[100:140, 1] -= 6.0
    clean, bent = (fitted(windows).level.mix for windows in (z, dirty))
    assert float(clean[1, 0]) < -0.6 * float(clean[0, 0])
    torch.testing.assert_close(bent, clean, rtol=0.05, atol=0.1)
