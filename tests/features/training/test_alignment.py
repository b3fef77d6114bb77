"""CORAL."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from anomaly.features.training.alignment import align_maps, coral, covariance
from tests.reference import alignment as naive


def correlated(rows: int, seed: int, width: int = 4) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(width, width, generator=generator)
    return torch.randn(rows, width, generator=generator) @ mix + 5 * torch.randn(width, generator=generator)


@given(st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_coral_gives_the_source_the_targets_moments(seed: int) -> None:
    source, target = correlated(400, seed), correlated(300, seed + 1)
    assume(torch.linalg.cond(covariance(source.double())) < 1e6)  # beyond that float32 has no digits left for the smallest direction
    moved = coral(source, target, ridge=1e-9)(source)
    assert torch.allclose(moved.mean(0), target.mean(0), atol=1e-3)
    assert torch.allclose(covariance(moved.double()), covariance(target.double()), rtol=1e-2, atol=1e-2)


@given(st.integers(0, 1000), st.sampled_from([1e-3, 0.1, 1.0]))
@settings(max_examples=20, deadline=None)
def test_coral_is_the_closed_form_by_matrix_square_roots(seed: int, ridge: float) -> None:
    source, target = correlated(60, seed), 2 * correlated(40, seed + 1)
    expected = naive.coral(source.double().numpy(), target.double().numpy(), ridge)
    np.testing.assert_allclose(coral(source, target, ridge)(source).numpy(), expected, rtol=1e-3, atol=1e-2)


def test_maps_are_aligned_over_all_places_of_a_stage() -> None:
    source, target = torch.randn(5, 4, 3, 2), 3 * torch.randn(7, 4, 3, 2) + 1
    (moved,) = align_maps([source], [target])
    rows = source.permute(0, 2, 3, 1).reshape(-1, 4)
    expected = coral(rows, target.permute(0, 2, 3, 1).reshape(-1, 4))(rows)
    torch.testing.assert_close(moved[2, :, 1, 0], expected[2 * 6 + 1 * 2 + 0])


def test_coral_with_a_strong_prior_moves_only_the_mean() -> None:
    source, target = correlated(400, 0), 3 * correlated(20, 1)
    moved = coral(source, target, prior=1e9)(source)
    assert torch.allclose(moved, source - source.mean(0) + target.mean(0), atol=1e-2)
