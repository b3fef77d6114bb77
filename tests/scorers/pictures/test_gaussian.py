"""Gaussians of places: distances, and what leaving a picture out in closed form comes to, against fitting again."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from anomaly.scorers.pictures import gaussian
from anomaly.scorers.pictures.gaussian import RIDGE, PlaceGaussians, fit_place_gaussians, group_places
from anomaly.scorers.pictures.memory_bank import BankPlan, fit_memory_bank, leave_one_out


def normals(count: int = 12, high: int = 4, wide: int = 4, width: int = 5) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    mixed = torch.randn(width, width, generator=generator)
    return torch.einsum("nchw,cd->ndhw", torch.randn(count, width, high, wide, generator=generator), mixed)


def by_hand(fitted: PlaceGaussians, learnt: torch.Tensor, asked: torch.Tensor) -> np.ndarray:
    """Distances (N, h, w) by numpy: a mean a place, a covariance a group, its diagonal raised."""
    pooled = torch.nn.functional.avg_pool2d
    arrays = [pooled(m, 3, 1, 1, count_include_pad=False).permute(0, 2, 3, 1).double().numpy() for m in (learnt, asked)]
    if fitted.metric == "unit":
        arrays = [(a - fitted.center.numpy()) / fitted.spread.numpy() for a in arrays]
        arrays = [a / np.linalg.norm(a, axis=-1, keepdims=True) for a in arrays]
    known, new = arrays
    mean = known.mean(0)
    grid, width = new.shape[1:3], new.shape[3]
    found = np.empty((len(new), grid[0] * grid[1]))
    known, new, mean = known.reshape(len(known), -1, width), new.reshape(len(new), -1, width), mean.reshape(-1, width)
    for places in group_places(*grid).numpy():
        away = (known - mean)[:, places].reshape(-1, width)
        covariance = away.T @ away / len(away)
        covariance = (1 - RIDGE) * covariance + RIDGE * np.trace(covariance) / width * np.eye(width)
        d = (new - mean)[:, places]
        found[:, places] = np.sqrt(np.einsum("nkc,cd,nkd->nk", d, np.linalg.inv(covariance), d))
    return found.reshape(-1, *grid)


@pytest.mark.parametrize("grid", [(4, 4), (3, 5), (20, 7), (32, 16)])
@pytest.mark.parametrize("metric", ["raw", "unit"])
def test_the_distance_is_mahalanobis(metric: str, grid: tuple[int, int]) -> None:
    learnt, asked = normals(12, *grid), normals(3, *grid) * 2 + 1
    fitted, _ = fit_place_gaussians(learnt, 12, metric)  # type: ignore[arg-type]
    found = fitted(asked)[:, 0] * fitted.usual[1] + fitted.usual[0]
    np.testing.assert_allclose(found.numpy(), by_hand(fitted, learnt, asked), rtol=1e-3)


def test_groups_hold_two_by_two_neighbours_and_on_large_grids_no_more_than_64_groups() -> None:
    assert group_places(4, 4).tolist() == [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]
    for high, wide in itertools.product([1, 5, 16, 17, 40, 61], repeat=2):
        places = group_places(high, wide)
        assert set(places.flatten().tolist()) == set(range(high * wide))  # each place once, some named again in their own group
        assert sum(len(set(group)) for group in places.tolist()) == high * wide
        assert len(places) <= 64
        assert places.shape[1] >= min(high, 2) * min(wide, 2)


def test_pictures_come_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    learnt = normals(40)
    whole, distances = fit_place_gaussians(learnt, 40, "raw")
    monkeypatch.setattr(gaussian, "AT_ONCE", 40 * 16)  # as many patches as there are: the same look at all of them
    same, _ = fit_place_gaussians(learnt, 40, "raw")
    assert all(torch.equal(a, b) for a, b in zip(whole.buffers(), same.buffers(), strict=True))
    monkeypatch.setattr(gaussian, "AT_ONCE", 100)
    parts, apart = fit_place_gaussians(learnt, 40, "raw")
    torch.testing.assert_close(parts.mean + parts.center, whole.mean + whole.center)
    torch.testing.assert_close(apart, distances, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("grid", [(4, 4), (5, 3), (32, 16)])
def test_leaving_a_picture_out_in_closed_form_is_fitting_without_it(grid: tuple[int, int]) -> None:
    """Up to the ridge, which follows the variance, and the embedding's centre: both move by little among 40 pictures."""
    learnt = normals(40, *grid)
    learnt[3, :, 1, 2] += 6.0  # one picture that changes much when it is left out
    fitted, distances = fit_place_gaussians(learnt, 40, "raw")
    for picture in (3, 17):
        others = torch.cat([learnt[:picture], learnt[picture + 1 :]])
        again, _ = fit_place_gaussians(others, 39, "raw")
        plain = again(learnt[picture : picture + 1])[0, 0] * again.usual[1] + again.usual[0]
        np.testing.assert_allclose(distances[picture].numpy(), plain.numpy(), rtol=0.03)
        less = fitted.leave_one_out(learnt[picture : picture + 1])
        same = less(learnt[picture : picture + 1])[0, 0] * fitted.usual[1] + fitted.usual[0]
        np.testing.assert_allclose(same.numpy(), distances[picture].numpy(), rtol=1e-3)
        other = less(learnt[5:6])[0, 0] * fitted.usual[1] + fitted.usual[0]
        expected = again(learnt[5:6])[0, 0] * again.usual[1] + again.usual[0]
        np.testing.assert_allclose(other.numpy(), expected.numpy(), rtol=0.03)
    seen = fitted(learnt)[:, 0] * fitted.usual[1] + fitted.usual[0]
    assert (seen < distances + 1e-5).all()


def test_two_pictures_are_enough_to_stay_finite() -> None:
    fitted, distances = fit_place_gaussians(normals(2), 2, "unit")
    assert distances.isfinite().all()
    assert fitted(normals(3)).isfinite().all()
    constant, _ = fit_place_gaussians(torch.ones(4, 5, 4, 4), 4, "unit")
    assert constant(normals(3)).isfinite().all()


def test_borrowed_pictures_are_learnt_but_not_scored() -> None:
    own, lent = normals(6), normals(30) + 3.0
    _, distances = fit_place_gaussians(torch.cat([own, lent]), 6, "raw")
    assert distances.shape == (6, 4, 4)


def test_leave_one_out_takes_a_picture_out_of_banks_and_gaussians() -> None:
    features = [normals(20)]
    plans = [BankPlan(0, "raw", 100), BankPlan(0, "unit", model="gaussian")]
    fitted = fit_memory_bank(features, plans, 1.0, torch.Generator().manual_seed(0))
    for picture in (0, 7):
        own = [features[0][picture : picture + 1]]
        score, heat = leave_one_out(fitted.scorer, [picture], own)(own)
        assert float(score) == pytest.approx(float(fitted.held_out[picture]), rel=0.05)
        np.testing.assert_allclose(heat[0].numpy(), fitted.maps[picture].numpy(), rtol=0.1, atol=0.1)


def test_what_is_learnt_does_not_depend_on_the_number_of_threads() -> None:
    """The same data gives the same bundle hash, however many threads the machine or the environment allows."""
    learnt = torch.randn(20, 192, 8, 8, generator=torch.Generator().manual_seed(4)) @ torch.rand(
        8, 8, generator=torch.Generator().manual_seed(5)
    )
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            found.append(fit_place_gaussians(learnt, 20, "raw"))
    finally:
        torch.set_num_threads(before)
    for fitted, distances in found[1:]:
        assert torch.equal(distances, found[0][1])
        assert all(torch.equal(value, found[0][0].state_dict()[name]) for name, value in fitted.state_dict().items())
