"""Damping of scores after a peak, one window at a time and along a stretch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly.features.encoder import SensorExtractor
from anomaly.features.preprocess import SensorPreprocess
from anomaly.scorers.build import fit_sensor_scorer
from anomaly.scorers.sensors.windows import RecoveryDamping, RecoveryDampingStream
from tests.features.windows import STEP, noise
from tests.scorers.sensors.fitting import METHODS


class Level(torch.nn.Module):
    """A scorer that answers the level of its first sensor."""

    def forward(self, features: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        return features[0][:, 0, 0].abs(), features[0][:, :, 0].abs()


def along(levels: list[float], whole: list[float]) -> tuple[float, float]:
    features = [torch.tensor([[levels]]), torch.zeros(1, 1, len(levels)), torch.tensor([[whole]])]
    score, share = RecoveryDamping(Level())(features)
    return float(score[0]), float(share[0, 0])


def test_a_score_that_comes_back_from_a_peak_is_lowered_and_never_raised() -> None:
    ones = [1.0] * 4
    assert along([1.0, 1.0, 1.0, 9.0], ones) == pytest.approx((9.0, 9.0))
    assert along([1.0, 20.0, 20.0, 11.0], ones) == pytest.approx((11.0, 11.0))  # still above half of the peak
    assert along([1.0, 20.0, 20.0, 5.0], ones) == pytest.approx((2.5, 2.5))  # 5 * 5 / 10
    assert along([1.0, 20.0, 1.0, 5.0], [1.0, 0.5, 1.0, 1.0]) == pytest.approx((5.0, 5.0))  # half of the peak's rows are missing
    assert along([5.0], [1.0]) == pytest.approx((5.0, 5.0))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(METHODS), st.sampled_from([0, 1, 5, 2 * STEP, 9 * STEP + 1]), st.sampled_from([9, 12]))
def test_all_rows_of_a_stretch_at_once_answer_as_each_window_alone(seed: int, method: str, context: int, rows: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    scorer = fit_sensor_scorer(
        method,  # type: ignore[arg-type]
        SensorExtractor(rows)(torch.stack([noise(60, 3, rows=rows), torch.ones(60, 3, rows)], dim=1).transpose(2, 3)),
        3,
        np.arange(60) * rows,
        rows,
        seed=0,
    )
    series = torch.randn(80, 3, generator=generator) * (1 + 6 * (torch.rand(80, 1, generator=generator) < 0.05))
    series[torch.rand(80, 3, generator=generator) < 0.1] = torch.nan
    series[30 : 30 + rows, 1] = torch.nan
    preprocess = SensorPreprocess(torch.zeros(3), torch.ones(3))
    windows = series.unfold(0, rows + context, 1).transpose(1, 2)  # (n, T, C)
    alone = RecoveryDamping(scorer)(SensorExtractor(rows)(preprocess(windows)))
    every = SensorExtractor(rows, every_row=True)
    stream = RecoveryDampingStream(scorer, context, every.step)
    *together, bare = stream(every(preprocess(series[None])), torch.zeros(context))
    for ours, theirs in zip(together, alone, strict=True):
        torch.testing.assert_close(ours[context:], theirs, rtol=1e-5, atol=1e-6)
    last = series[None, len(series) - rows :]
    for ours, theirs in zip(stream(every(preprocess(last)), bare[len(bare) - 1 - context : -1]), alone, strict=False):
        torch.testing.assert_close(ours, theirs[-1:], rtol=1e-5, atol=1e-6)  # the last row alone, given the scores before it
