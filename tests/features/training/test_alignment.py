"""CORAL."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly.features.training.alignment import coral, covariance


def correlated(rows: int, seed: int, width: int = 4) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(width, width, generator=generator)
    return torch.randn(rows, width, generator=generator) @ mix + 5 * torch.randn(width, generator=generator)


@given(st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_coral_gives_the_source_the_targets_moments(seed: int) -> None:
    source, target = correlated(400, seed), correlated(300, seed + 1)
    moved = coral(source, target, ridge=1e-9)(source)
    assert torch.allclose(moved.mean(0), target.mean(0), atol=1e-3)
    assert torch.allclose(covariance(moved.double()), covariance(target.double()), rtol=1e-2, atol=1e-2)


def test_coral_with_a_strong_prior_moves_only_the_mean() -> None:
    source, target = correlated(400, 0), 3 * correlated(20, 1)
    moved = coral(source, target, prior=1e9)(source)
    assert torch.allclose(moved, source - source.mean(0) + target.mean(0), atol=1e-2)
