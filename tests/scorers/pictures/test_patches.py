"""The search of a patch bank: exact, and continuous in the features."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from torch import Tensor

from anomaly.scorers.pictures.embedding import Metric, embed, many_patches, mean_std, neighbourhood_means
from anomaly.scorers.pictures.patches import LEVELS, PatchBank, fit_patch_bank

CHANNELS, PATCHES = 12, 2500
NOISE = 1e-5
ROUNDING = 2.0**-24  # relative rounding error of one float32 operation


@cache
def bank(metric: Metric, high: int, wide: int) -> PatchBank:
    maps = torch.randn(max(2, -(-PATCHES // (high * wide))), CHANNELS, high, wide, generator=torch.Generator().manual_seed(1)) * 3.0 + 1.0
    center, spread = mean_std(many_patches(maps))
    patches = embed(maps, metric, center, spread)[:PATCHES]
    step = patches.abs().max() / LEVELS
    owner = torch.zeros(PATCHES, dtype=torch.int32)
    return PatchBank(metric, torch.round(patches / step).to(torch.int8), center, spread, step, torch.tensor([0.5, 2.0]), owner)


def distances(fitted: PatchBank, maps: Tensor) -> Tensor:
    """Distances (N, h, w) in the features' own units."""
    return fitted(maps)[:, 0] * fitted.usual[1] + fitted.usual[0]


def most_moved(fitted: PatchBank, maps: Tensor, distance: Tensor) -> Tensor:
    """How far noise of at most `NOISE` on each feature can move each distance (N, h, w).

    Noise on a place is a vector of length NOISE * sqrt(D) at most, and its 3x3 mean is no longer. Scaled by `spread` channel by channel
    and to length one, it is at most NOISE * |1 / spread| over the length before. The distance to the nearest of a set moves by no more
    than the point does (it is 1-Lipschitz).

    Rounding comes on top. A squared distance is a sum of D products, each at most (|q| + |b|)^2 in all, so it is off by at most
    (D + 4) * 2^-24 of that, and the root by that over the distance. The mean of nine values less the center is off by at most
    16 * 2^-24 of them.
    """
    raw = embed(maps, "raw", fitted.center, fitted.spread)
    size = raw.square().sum(1).sqrt() + fitted.center.square().sum().sqrt()
    moved = torch.full((len(raw),), NOISE * CHANNELS**0.5) + 16 * ROUNDING * size
    if fitted.metric == "unit":
        least = fitted.spread.reciprocal()
        moved = moved / CHANNELS**0.5 * least.square().sum().sqrt() / ((raw * least).square().sum(1).sqrt() - 0.01)
    longest = fitted.squared.max().sqrt() * fitted.step
    length = embed(maps, fitted.metric, fitted.center, fitted.spread).square().sum(1).sqrt()
    rounded = (CHANNELS + 4) * ROUNDING * (length + longest).square() / distance.flatten()
    return (moved + 2 * rounded).reshape(distance.shape)


@pytest.mark.parametrize("metric", ["raw", "unit"])
@pytest.mark.parametrize(("high", "wide"), [(16, 16), (40, 16), (64, 64)])
@given(seed=st.integers(0, 10_000), side=st.sampled_from([4, 8]))
@settings(max_examples=4, deadline=None)
def test_noise_on_the_features_moves_no_place_by_more_than_its_size(metric: Metric, high: int, wide: int, seed: int, side: int) -> None:
    """In pictures of a pattern that repeats, where many places are alike, so that noise decides which of them is the farthest."""
    generator = torch.Generator().manual_seed(seed)
    fitted = bank(metric, high, wide)
    maps = (torch.randn(2, CHANNELS, side, side, generator=generator) * 3.0 + 1.0).repeat(1, 1, high // side, wide // side)
    noise = (2 * torch.rand(maps.shape, generator=generator) - 1) * NOISE
    before, after = distances(fitted, maps), distances(fitted, maps + noise)
    bound = most_moved(fitted, maps, before)
    assert float(bound.max()) < 1e-3  # the bound itself is small: the map is continuous
    assert ((after - before).abs() <= bound).all()


@given(seed=st.integers(0, 10_000), count=st.integers(1, 2500), width=st.integers(1, 20))
@settings(max_examples=15, deadline=None)
def test_distances_are_those_of_scipy(seed: int, count: int, width: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(-127, 128, (count, width), generator=generator).to(torch.int8)
    unit = torch.zeros(width), torch.ones(width), torch.tensor(0.5), torch.tensor([0.0, 1.0]), torch.zeros(count, dtype=torch.int32)
    fitted = PatchBank("raw", codes, *unit)
    queries = torch.randn(40, width, generator=generator) * 60
    expected = cdist(queries.double().numpy(), codes.double().numpy()).min(axis=1) * 0.5
    np.testing.assert_allclose(fitted.distance(queries, fitted.squared).numpy(), expected, rtol=1e-4, atol=0.05)


@given(seed=st.integers(0, 10_000), count=st.integers(1, 70), share=st.floats(0, 1))
@settings(max_examples=15, deadline=None)
def test_patches_of_many_maps_are_those_of_all_at_once(seed: int, count: int, share: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    maps = torch.randn(count, 3, 4, 5, generator=generator)
    rows = (torch.rand(count * 20, generator=generator) <= share).nonzero()[:, 0]
    assert torch.equal(many_patches(maps), neighbourhood_means(maps))
    assert torch.equal(many_patches(maps, rows), neighbourhood_means(maps)[rows])


def test_of_too_many_patches_some_are_drawn_and_their_pictures_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anomaly.scorers.pictures.patches.SEEN", 150)
    maps = torch.randn(40, 8, 6, 6, generator=torch.Generator().manual_seed(3))

    def fitted() -> tuple[PatchBank, Tensor]:
        return fit_patch_bank(maps, 40, "raw", 100, 1.0, torch.Generator().manual_seed(4))

    (some, distances), (again, _) = fitted(), fitted()
    assert torch.equal(some.patches, again.patches)
    assert len(some.patches) == 100
    assert distances.shape == (40, 6, 6)
    assert len(some.owner.unique()) > 20  # they are of pictures all over
    own = embed(maps, "raw", some.center, some.spread).reshape(40, 36, 8)
    for patch, owner in zip(some.patches * some.step, some.owner, strict=True):
        assert float((own[owner] - patch).abs().amax(1).min()) <= float(some.step) / 2 + 1e-5
