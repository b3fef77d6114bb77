"""Held-out scores where pictures show the same part: all of a part are left out together, and nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from anomaly.calibration.conformal import fit_calibrator
from anomaly.scorers.pictures.gaussian import fit_place_gaussians
from anomaly.scorers.pictures.memory_bank import BankPlan, fit_memory_bank, leave_one_out
from anomaly.scorers.pictures.repeats import leave_parts_out

PLANS = [BankPlan(0, "raw", 4000), BankPlan(0, "unit", model="gaussian")]


def parts(count: int, seed: int = 0) -> Tensor:
    """One stage (count, 8, 4, 4) of different parts: what they share, and what is particular to each."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, 8, 4, 4, generator=torch.Generator().manual_seed(99)) + torch.randn(count, 8, 4, 4, generator=generator)


def shots(found: Tensor, times: int) -> tuple[list[Tensor], Tensor]:
    """Each part several times with a little noise, and the part's number of each."""
    again = found.repeat_interleave(times, dim=0)
    noise = torch.randn(again.shape, generator=torch.Generator().manual_seed(5))
    return [again + 0.02 * noise], torch.arange(len(found)).repeat_interleave(times)


@pytest.mark.parametrize("members", [[3], [3, 4], [3, 4, 9]])
def test_gaussians_without_a_part_are_those_fitted_without_it(members: list[int]) -> None:
    learnt = parts(60)
    fitted, _ = fit_place_gaussians(learnt, 60, "raw")
    others = learnt[[i for i in range(60) if i not in members]]
    again, _ = fit_place_gaussians(others, len(others), "raw")
    plain = again(learnt[:12])[:, 0] * again.usual[1] + again.usual[0]
    less = fitted.leave_one_out(learnt[members])(learnt[:12])[:, 0] * fitted.usual[1] + fitted.usual[0]
    np.testing.assert_allclose(less.numpy(), plain.numpy(), rtol=0.05)


def test_a_bank_without_a_part_holds_no_patch_of_it() -> None:
    features, shown = shots(parts(20), 3)
    fitted = fit_memory_bank(features, PLANS[:1], 1.0, torch.Generator().manual_seed(0))
    own = [maps[6:9] for maps in features]
    with_twins, without = leave_one_out(fitted.scorer, [6], own)(own)[0], leave_one_out(fitted.scorer, [6, 7, 8], own)(own)[0]
    assert with_twins[0] < without[0]
    found = leave_parts_out(fitted, features, shown)
    np.testing.assert_allclose(
        leave_one_out(found.scorer, [6, 7, 8], own)(own)[0].numpy(), found.held_out[6:9].numpy(), rtol=1e-4, atol=1e-4
    )


def test_where_no_part_comes_twice_nothing_changes() -> None:
    features = [parts(20)]
    fitted = fit_memory_bank(features, PLANS, 1.0, torch.Generator().manual_seed(0))
    assert leave_parts_out(fitted, features, torch.arange(20)) is fitted


@pytest.mark.parametrize("times", [2, 3])
def test_new_parts_are_not_flagged_for_being_new(times: int) -> None:
    learnt = parts(18)
    features, shown = shots(learnt, times)
    fitted = fit_memory_bank(features, PLANS, 1.0, torch.Generator().manual_seed(0))
    naive = fit_calibrator(fitted.held_out.double().numpy(), float(len(shown)))
    fresh = [parts(40, seed=7)]
    wrong = float((naive(fitted.scorer(fresh)[0]) <= 0.05).float().mean())
    found = leave_parts_out(fitted, features, shown)
    calibrator = fit_calibrator(found.held_out.double().numpy(), float(len(learnt)))
    right = float((calibrator(found.scorer(fresh)[0]) <= 0.05).float().mean())
    assert wrong > 0.9
    assert right <= 0.1
