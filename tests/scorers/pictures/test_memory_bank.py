"""Memory banks against plain distances, and what they promise."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from anomaly.scorers.pictures.embedding import embed
from anomaly.scorers.pictures.memory_bank import BankPlan, FittedBanks, MemoryBank, fit_memory_bank
from anomaly.scorers.pictures.views import OUTSIDE_ROI
from tests.reference import nearest as naive


def random_banks() -> tuple[list[torch.Tensor], list[BankPlan], FittedBanks]:
    generator = torch.Generator().manual_seed(0)
    features = [torch.randn(6, 8, 4, 4, generator=generator), torch.randn(6, 12, 2, 2, generator=generator)]
    plans = [BankPlan(0, "raw", 20), BankPlan(1, "unit", 20)]
    return features, plans, fit_memory_bank(features, plans, 0.5, generator)


def naive_maps(features: list[torch.Tensor], plans: list[BankPlan], scorer: MemoryBank, without: int | None = None) -> torch.Tensor:
    """The sum of standardised maps by plain distances; of the bank's patches none equal to one of picture `without`."""
    total = torch.zeros(features[0].shape[0], 4, 4)
    for plan, bank in zip(plans, scorer.banks, strict=True):
        queries = embed(features[plan.stage], plan.metric, bank.center, bank.spread).numpy()
        patches = bank.patches.numpy() * float(bank.step)
        if without is not None:
            own = np.round(queries.reshape(features[0].shape[0], -1, queries.shape[1])[without] / float(bank.step))
            patches = np.array([p for p in patches if not (np.round(p / float(bank.step)) == own).all(axis=1).any()])
        distance = (naive.nearest_distances(queries, patches) - float(bank.usual[0])) / float(bank.usual[1])
        side = features[plan.stage].shape[-1]
        grid = torch.tensor(distance.reshape(-1, 1, side, side))
        total = total + torch.nn.functional.interpolate(grid, size=(4, 4), mode="bilinear", align_corners=False)[:, 0]
    return total / len(plans)


def test_bank_distance_is_the_distance_to_the_nearest_patch() -> None:
    _, plans, fitted = random_banks()
    generator = torch.Generator().manual_seed(9)
    new = [torch.randn(3, 8, 4, 4, generator=generator), torch.randn(3, 12, 2, 2, generator=generator)]
    score, heat = fitted.scorer(new)
    np.testing.assert_allclose(heat.numpy(), naive_maps(new, plans, fitted.scorer).numpy(), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(score.numpy(), heat.amax(dim=(1, 2)).numpy())  # 2 % of 16 places is one


def test_held_out_scores_leave_the_pictures_own_patches_out() -> None:
    features, plans, fitted = random_banks()
    for picture in range(6):
        expected = naive_maps(features, plans, fitted.scorer, without=picture)[picture]
        np.testing.assert_allclose(fitted.maps[picture].numpy(), expected.numpy(), rtol=1e-4, atol=1e-4)
        assert float(fitted.held_out[picture]) == pytest.approx(float(expected.max()), rel=1e-4, abs=1e-4)
    seen, _ = fitted.scorer(features)
    assert (seen < fitted.held_out + 1e-6).all()


def test_held_out_worst_places_are_the_unit_of_each_map() -> None:
    """Each bank's largest distance in an unseen normal picture has mean 0 and deviation 1: banks weigh alike."""
    features, plans, _ = random_banks()
    for plan in plans:
        alone = fit_memory_bank(features, [plan], 0.5, torch.Generator().manual_seed(0))
        worst = alone.maps.amax(dim=(1, 2))
        assert float(worst.mean()) == pytest.approx(0, abs=1e-4)
        assert float(worst.std()) == pytest.approx(1, abs=1e-4)


def test_a_patch_that_was_learnt_is_nearly_at_distance_nought() -> None:
    generator = torch.Generator().manual_seed(1)
    features = [torch.randn(4, 8, 3, 3, generator=generator)]
    bank = fit_memory_bank(features, [BankPlan(0, "raw", 1000)], 1.0, generator).scorer.banks[0]
    distance = bank(features[0]) * bank.usual[1] + bank.usual[0]
    assert float(distance.max()) <= float(bank.step) * 8**0.5 / 2 + 1e-5  # no more than what rounding to a byte costs


def test_nothing_outside_the_region_of_interest_counts() -> None:
    generator = torch.Generator().manual_seed(2)
    features = [torch.randn(20, 8, 8, 8, generator=generator), torch.randn(20, 8, 4, 4, generator=generator)]
    plans, left_half = [BankPlan(0, "raw", 100), BankPlan(1, "unit", 100)], [(0.0, 0.0, 0.5, 1.0)]
    scorer = fit_memory_bank(features, plans, 0.5, generator, roi=left_half).scorer
    clean = [m[:1].clone() for m in features]
    spoilt, marked = [m.clone() for m in clean], [m.clone() for m in clean]
    spoilt[0][:, :, 3, 6] += 50.0
    marked[0][:, :, 3, 2] += 50.0
    assert torch.equal(scorer(spoilt)[0], scorer(clean)[0])
    assert float(scorer(marked)[0]) > float(scorer(clean)[0]) + 1
    assert float(scorer(spoilt)[1][:, :, 4:].max()) == OUTSIDE_ROI
