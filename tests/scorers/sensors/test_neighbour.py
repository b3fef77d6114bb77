"""The nearest normal window."""

from __future__ import annotations

import torch

from anomaly.scorers.sensors.neighbour import fit_nearest_neighbour
from tests.features.windows import noise, seen


def test_memory_bank_is_the_nearest_normal_window() -> None:
    z = noise(80, 3)
    scorer = fit_nearest_neighbour(seen(z), 3, torch.Generator().manual_seed(0))
    assert float(scorer(seen(z))[0].max()) < 1e-3
    values = torch.cat(seen(noise(5, 3, 1))[:2], dim=2)
    rows = ((values - scorer.center) / scorer.scale).reshape(5, -1)
    expected = torch.cdist(rows, scorer.bank).amin(dim=1) / 6**0.5
    torch.testing.assert_close(scorer(seen(noise(5, 3, 1)))[0], expected, rtol=1e-3, atol=1e-4)
