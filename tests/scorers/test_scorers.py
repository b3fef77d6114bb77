"""Coreset and memory bank against their obvious twins, and what they promise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly.scorers import coreset
from anomaly.scorers.coreset import greedy_coreset
from anomaly.scorers.pictures.embedding import embed
from anomaly.scorers.pictures.memory_bank import OUTSIDE_ROI, BankPlan, FittedBanks, MemoryBank, fit_memory_bank
from anomaly.scorers.suspects import fit_trimmed, is_outlier
from tests.reference import naive


@given(st.integers(0, 10_000), st.integers(2, 40), st.integers(2, 5))
@settings(max_examples=25, deadline=None)
def test_coreset_is_the_greedy_one(seed: int, total: int, dimensions: int) -> None:
    points = torch.randn(total, dimensions, generator=torch.Generator().manual_seed(seed))
    count = max(1, total // 3)
    picked = greedy_coreset(points, count, torch.Generator().manual_seed(seed)).tolist()
    assert picked == naive.farthest_points(points.double().numpy(), count, picked[0])


def test_coreset_of_more_than_there_is_takes_all() -> None:
    assert greedy_coreset(torch.randn(5, 3), 9, torch.Generator()).tolist() == [0, 1, 2, 3, 4]


def test_coreset_over_many_blocks_is_the_greedy_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """More points than candidates, so that picks must be told from blocks and passes."""
    monkeypatch.setattr(coreset, "CANDIDATES", 8)
    points = torch.randn(150, 4, generator=torch.Generator().manual_seed(5))
    picked = coreset.greedy_coreset(points, 60, torch.Generator().manual_seed(5)).tolist()
    assert picked == naive.farthest_points(points.double().numpy(), 60, picked[0])


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


def test_a_bank_is_searched_in_two_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every place sees the first half of the patches, the eighth of the places looked at that are farthest from those all of them."""
    monkeypatch.setattr("anomaly.scorers.pictures.patches.BLOCK", 7)
    generator = torch.Generator().manual_seed(4)
    features, roi = [torch.randn(12, 8, 6, 6, generator=generator)], [(0.0, 0.0, 0.5, 1.0)]
    scorer = fit_memory_bank(features, [BankPlan(0, "raw", 100)], 1.0, generator, roi=roi).scorer
    bank, new = scorer.banks[0], torch.randn(3, 8, 6, 6, generator=generator)
    queries = embed(new, "raw", bank.center, bank.spread).numpy()
    patches = bank.patches.numpy() * float(bank.step)
    first, whole = (naive.nearest_distances(queries, part).reshape(3, 36) for part in (patches[:50], patches))
    left = np.arange(36) % 6 < 3
    for picture in range(3):
        far = np.argsort(np.where(left, first[picture], -np.inf))[-5:]  # 36 places: five are an eighth
        first[picture, far] = whole[picture, far]
    heat = scorer([new])[1]
    expected = (first - float(bank.usual[0])) / float(bank.usual[1])
    np.testing.assert_allclose(heat.flatten(1).numpy()[:, left], expected[:, left], rtol=1e-4, atol=1e-4)


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


def test_defects_among_the_normals_are_listed_and_not_learnt() -> None:
    generator = torch.Generator().manual_seed(3)
    features = [torch.randn(60, 8, 4, 4, generator=generator)]
    features[0][[4, 17, 33], :, 1, 2] += 9.0  # one odd place each, alike, so that each is known from the others' patches
    plans = [BankPlan(0, "raw", 400)]
    trimmed = fit_trimmed(lambda maps: fit_memory_bank(maps, plans, 0.5, torch.Generator().manual_seed(0)), features)
    assert set(trimmed.suspect.nonzero()[:, 0].tolist()) >= {4, 17, 33}
    assert int(trimmed.suspect.sum()) <= 6
    assert trimmed.held_out[[4, 17, 33]].min() > trimmed.held_out[~trimmed.suspect].max()
    assert trimmed.fitted.held_out.shape == (60 - int(trimmed.suspect.sum()),)


def test_only_what_lies_far_above_the_bulk_stands_out() -> None:
    assert not is_outlier(torch.ones(20)).any()
    bell = torch.distributions.Normal(0.0, 1.0).icdf(torch.linspace(0.005, 0.995, 199))
    found = is_outlier(torch.cat([bell, torch.tensor([4.0, -9.0])]))
    assert found.nonzero()[:, 0].tolist() == [199]
