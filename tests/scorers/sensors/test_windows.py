"""All rows of a stretch at once, and every window alone."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly.features.encoder import SensorExtractor
from anomaly.features.preprocess import SensorPreprocess
from anomaly.scorers.sensors.windows import by_position
from tests.features.windows import ROWS, noise
from tests.scorers.sensors.fitting import fitted


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), shape=st.sampled_from([0, 6, ROWS, ROWS + 7]))
def test_all_rows_of_a_stretch_at_once_answer_as_each_window_alone(seed: int, shape: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    rows = max(ROWS, shape)
    scorer, preprocess = fitted(noise(60, 3, rows=rows), shape), SensorPreprocess(torch.zeros(3), torch.ones(3))
    series = torch.randn(80, 3, generator=generator) * (1 + 6 * (torch.rand(80, 1, generator=generator) < 0.05))
    series[torch.rand(80, 3, generator=generator) < 0.1] = np.nan
    series[30 : 30 + ROWS, 1] = np.nan
    alone = scorer(SensorExtractor(ROWS, shape)(preprocess(series.unfold(0, rows, 1).transpose(1, 2))))
    together = scorer(by_position(SensorExtractor(ROWS, shape, every_row=True)(preprocess(series[None]))))
    for ours, theirs in zip(together, alone, strict=True):
        assert len(ours) == 80 - rows + 1
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
