"""Views and pools: a view that sees nothing does not drown one that sees."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from anomaly.scorers.pictures.memory_bank import BankPlan, fit_memory_bank, leave_one_out, recalibrate
from anomaly.scorers.pictures.views import OUTSIDE_ROI, Pool, laws_of, pooled, speak, told_by, view_maps

PLANS = [BankPlan(0, "raw", 300, view="main"), BankPlan(1, "raw", 300, view="fine")]
POOLS = [Pool("main", 0.02), Pool("fine", 0.0)]


def features(count: int, seed: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(count, 6, 8, 8, generator=generator), torch.randn(count, 4, 16, 16, generator=generator)]


def test_the_view_that_sees_speaks() -> None:
    fitted = fit_memory_bank(features(60, 0), PLANS, 0.5, torch.Generator().manual_seed(0), pools=POOLS)
    good = features(40, 1)
    marked = [good[0].clone(), good[1].clone()]
    marked[1][:, :, 7:9, 7:9] += 8.0  # only the fine stage sees it
    clean, found = fitted.scorer(good)[0], fitted.scorer(marked)
    assert bool((found[0] > clean.max()).all())
    assert found[1].shape == (40, 16, 16)
    assert {divmod(int(place), 16) for place in found[1].flatten(1).argmax(dim=1)} <= {(y, x) for y in range(6, 10) for x in range(6, 10)}
    blind = fit_memory_bank(features(60, 0), PLANS[:1], 0.5, torch.Generator().manual_seed(0), pools=POOLS[:1])
    assert torch.equal(blind.scorer(marked)[0], blind.scorer(good)[0])


def test_laws_put_every_pool_of_unseen_normals_on_one_scale() -> None:
    rows = [torch.arange(101.0), 5 + 0.01 * torch.arange(101.0)]
    assert torch.allclose(laws_of(rows), torch.tensor([[50.0, 45.0], [5.5, 0.45]]))
    score, _ = speak({"main": torch.tensor([[[95.0]]]), "fine": torch.tensor([[[6.4]]])}, [Pool("main"), Pool("fine")], laws_of(rows))
    assert float(score) == pytest.approx((6.4 - 5.5) / 0.45, rel=1e-5)


def test_the_score_is_that_of_the_pool_that_tells_most() -> None:
    fitted = fit_memory_bank(features(60, 0), PLANS, 0.5, torch.Generator().manual_seed(0), pools=POOLS)
    good = features(40, 1)
    good[1][:5, :, 7:9, 7:9] += 8.0
    scorer = fitted.scorer
    with torch.inference_mode():
        views = scorer.views([bank(good[plan.stage]) for plan, bank in zip(scorer.plans, scorer.banks, strict=True)])
        told = told_by(views, scorer.pools, scorer.laws)
        assert torch.equal(told.amax(dim=1), speak(views, scorer.pools, scorer.laws)[0])
    assert {scorer.pools[int(at)].view for at in told[:5].argmax(dim=1)} == {"fine"}


def test_one_pool_is_left_in_its_own_unit() -> None:
    fitted = fit_memory_bank(features(20, 0), PLANS[:1], 0.5, torch.Generator().manual_seed(0), pools=POOLS[:1])
    assert fitted.scorer.laws.tolist() == [[0.0, 1.0]]


def test_pools_count_places_of_the_region_of_interest_alone() -> None:
    roi = [(0.0, 0.0, 0.5, 1.0)]
    maps = torch.zeros(1, 1, 10, 10)
    maps[..., 7] = 100.0  # beside the region
    maps[0, 0, 0, 0] = 3.0
    view = view_maps([maps], ["main"], roi)["main"]
    assert float(view[0, 0, 7]) == OUTSIDE_ROI
    assert float(pooled(view, 0.02, roi)) == 3.0  # 2 % of 50 places are one
    assert float(pooled(view, 0.04, roi)) == 1.5


def test_leaving_out_and_calibrating_anew_keep_the_pools() -> None:
    own = features(20, 0)
    fitted = fit_memory_bank(own, PLANS, 0.5, torch.Generator().manual_seed(0), pools=POOLS)
    less = leave_one_out(fitted.scorer, [3], [maps[3:4] for maps in own])([maps[3:4] for maps in own])
    assert torch.allclose(less[0], fitted.held_out[3:4], atol=1e-4)
    again = recalibrate(fitted.scorer, own)
    assert again.scorer.pools == fitted.scorer.pools
    assert torch.allclose(again.held_out, fitted.held_out, atol=1e-4)
    assert np.isfinite(again.maps.numpy()).all()
