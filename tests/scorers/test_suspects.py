"""Contaminated normals."""

from __future__ import annotations

import torch

from anomaly.scorers.pictures.memory_bank import BankPlan, fit_memory_bank
from anomaly.scorers.suspects import fit_trimmed, is_outlier


def test_defects_among_the_normals_are_listed_and_not_learnt() -> None:
    generator = torch.Generator().manual_seed(3)
    features = [torch.randn(60, 8, 4, 4, generator=generator)]
    features[0][[4, 17, 33], :, 1, 2] += 9.0  # one odd place each, alike, so that each is known from the others' patches
    plans = [BankPlan(0, "raw", 400)]
    trimmed = fit_trimmed(lambda maps, _: fit_memory_bank(maps, plans, 0.5, torch.Generator().manual_seed(0)), features)
    assert set(trimmed.suspect.nonzero()[:, 0].tolist()) >= {4, 17, 33}
    assert int(trimmed.suspect.sum()) <= 6
    assert trimmed.held_out[[4, 17, 33]].min() > trimmed.held_out[~trimmed.suspect].max()
    assert trimmed.fitted.held_out.shape == (60 - int(trimmed.suspect.sum()),)


def test_only_what_lies_far_above_the_bulk_is_an_outlier() -> None:
    assert not is_outlier(torch.ones(20)).any()
    bell = torch.distributions.Normal(0.0, 1.0).icdf(torch.linspace(0.005, 0.995, 199))
    found = is_outlier(torch.cat([bell, torch.tensor([4.0, -9.0])]))
    assert found.nonzero()[:, 0].tolist() == [199]
