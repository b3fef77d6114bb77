"""What a sensor scorer promises."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly.scorers.build import load_sensor_scorer
from anomaly.scorers.sensors.views import with_units
from tests.features.windows import ROWS, noise, seen
from tests.scorers.sensors.fitting import fitted


@pytest.mark.parametrize("shape", [0, 9, ROWS])
def test_contributions_are_shares_of_the_score(shape: int) -> None:
    z = noise(300, 4)
    score, share = fitted(z, shape)(seen(noise(50, 4, seed=1), shape=shape))
    np.testing.assert_allclose(share.sum(1).numpy(), score.numpy(), rtol=1e-4)
    assert float(share.min()) >= 0
    assert score.shape == (50,)


@pytest.mark.parametrize("shape", [0, ROWS])
def test_a_saved_scorer_is_the_same_again(shape: int) -> None:
    scorer, probe = with_units(fitted(noise(200, 3), shape), np.array([2.0, 0.5][: 2 if shape else 1])), seen(noise(9, 3, 1), shape=shape)
    again = load_sensor_scorer("views", {k: v.clone() for k, v in scorer.state_dict().items()})
    torch.testing.assert_close(again(probe), scorer(probe))


@given(order=st.permutations(range(5)), seed=st.integers(0, 100))
@settings(max_examples=8, deadline=None)
def test_permuting_sensors_permutes_contributions(order: list[int], seed: int) -> None:
    z = noise(200, 5, seed)
    score, share = fitted(z)(seen(z))
    score2, share2 = fitted(z[:, order])(seen(z[:, order]))
    np.testing.assert_allclose(score.numpy(), score2.numpy(), rtol=2e-3)
    np.testing.assert_allclose(share[:, order].numpy(), share2.numpy(), rtol=2e-2, atol=1e-3)


def test_a_large_fault_on_one_sensor_is_attributed_to_it() -> None:
    z = noise(400, 6, 2)
    z[:, 1] = 0.9 * z[:, 0] + 0.3 * z[:, 1]  # two that hang together
    scorer = fitted(z)
    for sensor in range(6):
        faulty = z[:20].clone()
        faulty[:, sensor] += 6.0
        _, share = scorer(seen(faulty))
        assert (share.argmax(1) == sensor).float().mean() >= 0.95


@pytest.mark.parametrize("shape", [0, ROWS])
def test_a_sensor_without_readings_is_left_out_and_the_rest_is_scored(shape: int) -> None:
    z = noise(300, 4)
    scorer = fitted(z, shape)
    known = torch.ones(20, 4, ROWS)
    known[:, 2] = 0.0
    gone = z[:20].clone()
    gone[:, 2] = 0.0
    score, share = scorer(seen(gone, known, shape=shape))
    assert torch.isfinite(score).all()
    assert (share[:, 2] == 0).all()
    gone[:, 0] += 8.0
    worse, share = scorer(seen(gone, known, shape=shape))
    assert (worse > 1.5 * score).all()
    assert (share.argmax(1) == 0).all()
