"""The default scorer of pictures: memory banks of normal patches (`patches.py`) and Gaussians of places (`gaussian.py`), added up.

Each stage is searched on its own grid; the distance maps, not the features, are brought to one grid and added. Raw
distances and distances between unit-length features see different defects, and their sum sees more than either, once
each is measured in what normal pictures never seen by the bank show of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anomaly.scorers.pictures.embedding import Metric, Roi, embed, in_its_unit, places, usual_of
from anomaly.scorers.pictures.gaussian import Gaussian, fit_gaussians
from anomaly.scorers.pictures.patches import Bank, fit_bank

UNSEEN = -10.0  # the map's value outside the region of interest: calmer than any normal place
TOP_SHARE = 0.02  # share of a picture's places, the worst ones, whose mean is the score


@dataclass(frozen=True)
class BankPlan:
    """Which stage (its position in the extractor's answer) a bank holds, how distances are measured, patches at most.

    With `model` "gaussian" no patches are kept, but the Gaussian of each place.
    """

    stage: int
    metric: Metric
    size: int = 0
    model: Literal["patches", "gaussian"] = "patches"


class MemoryBank(nn.Module):
    """Several banks, and Gaussians, whose standardised maps are added. The score is the mean of the worst 2 % of places looked at."""

    def __init__(self, plans: Sequence[BankPlan], banks: Sequence[Bank | Gaussian], roi: Roi = ()) -> None:
        super().__init__()
        self.plans = tuple(plans)
        self.banks = nn.ModuleList(banks)
        self.roi = tuple(roi)

    def forward(self, features: list[Tensor]) -> tuple[Tensor, Tensor]:
        """One map (N, C_s, h_s, w_s) a stage -> score (N,), map (N, h, w) on the finest grid among the banks."""
        return combine([bank(features[plan.stage], self.roi) for plan, bank in zip(self.plans, self.banks, strict=True)], self.roi)


def combine(maps: Sequence[Tensor], roi: Roi = ()) -> tuple[Tensor, Tensor]:
    """Standardised maps (N, 1, h_b, w_b), one a bank -> score (N,), their mean (N, h, w) on the finest grid."""
    grid = max((one.shape[-2:] for one in maps), key=lambda side: int(side[0]))
    high, wide = int(grid[0]), int(grid[1])
    total: Tensor | None = None
    for one in maps:
        fine = one if one.shape[-2:] == grid else F.interpolate(one, size=(high, wide), mode="bilinear", align_corners=False)
        total = fine if total is None else total + fine
    assert total is not None, "a scorer has at least one bank"
    mean = total[:, 0] / len(maps)
    looked_at = high * wide
    if roi:
        inside = places(roi, high, wide)
        looked_at = int(inside.sum())
        mean = torch.where(inside, mean, torch.full_like(mean, UNSEEN))
    worst = mean.flatten(1).topk(max(1, round(TOP_SHARE * looked_at)), dim=1).values
    return worst.mean(dim=1), mean


@dataclass(frozen=True)
class FittedBanks:
    """A scorer, and what it says of each of its own pictures with that picture's patches taken out of the banks."""

    scorer: MemoryBank
    held_out: Tensor  # scores (N,)
    maps: Tensor  # (N, h, w)


def fit_memory_bank(
    features: Sequence[Tensor],
    plans: Sequence[BankPlan],
    share: float,
    generator: torch.Generator,
    progress: Callable[[str], None] | None = None,
    roi: Roi = (),
    borrowed: Sequence[Tensor] = (),
) -> FittedBanks:
    """Fit banks on the features of at least two normal pictures: one (N, C_s, h_s, w_s) a stage.

    `borrowed`, one (M, C_s, h_s, w_s) a stage, are normal pictures of another line: they join the banks, but are not scored.

    A bank holds at most its plan's size and at most `share` of all patches. Every picture is then scored by the banks less
    its own patches (leave-one-out): the held-out scores calibrate, and standardise each bank's distances. Memory: the
    embedded patches of one stage, twice.
    """
    banks: list[Bank | Gaussian] = []
    maps = []
    for plan in plans:
        joined = [maps[plan.stage] for maps in (features, borrowed) if maps]
        bank, distances = _fit_one(torch.cat(joined), len(features[plan.stage]), plan, share, generator, roi)
        banks.append(bank)
        maps.append(in_its_unit(distances, bank.usual))
        if progress is not None:
            what = f"{len(bank.patches)} of {distances.numel()} patches" if isinstance(bank, Bank) else "a Gaussian at each place"
            progress(f"bank {len(banks)} of {len(plans)}: {what}")
    held_out, mean = combine(maps, roi)
    return FittedBanks(MemoryBank(plans, banks, roi), held_out, mean)


def _fit_one(maps: Tensor, own: int, plan: BankPlan, share: float, generator: torch.Generator, roi: Roi) -> tuple[Bank | Gaussian, Tensor]:
    """What the plan says, and the leave-one-out distances (own, h, w) of the first `own` of the pictures it was made from."""
    if plan.model == "gaussian":
        return fit_gaussians(maps, own, plan.metric, roi)
    return fit_bank(maps, own, plan.metric, plan.size, share, generator, roi)


def without(scorer: MemoryBank, picture: int, features: Sequence[Tensor]) -> MemoryBank:
    """As if one picture of the fit had not been seen, `features` one (1, C_s, h_s, w_s) a stage."""
    banks: list[Bank | Gaussian] = []
    for plan, bank in zip(scorer.plans, scorer.banks, strict=True):
        assert isinstance(bank, Bank | Gaussian)
        banks.append(bank.without(picture) if isinstance(bank, Bank) else bank.without(features[plan.stage]))
    return MemoryBank(scorer.plans, banks, scorer.roi)


def measured_again(scorer: MemoryBank, features: Sequence[Tensor], borrowed: Sequence[Tensor] = ()) -> FittedBanks:
    """The same banks for features that moved a little (an extractor in 8-bit arithmetic): what is usual is measured on them anew.

    `features` are of the very pictures that the banks were fitted on, in their order: one (N, C_s, h_s, w_s) a stage. Gaussians, which
    take a moment, are fitted anew, `borrowed` among them as in `fit_memory_bank`.
    """
    banks: list[Bank | Gaussian] = []
    maps = []
    for plan, bank in zip(scorer.plans, scorer.banks, strict=True):
        found = features[plan.stage]
        if isinstance(bank, Bank):
            high, wide = found.shape[-2:]
            distances = bank.unseen(embed(found, plan.metric, bank.center, bank.spread), high, wide, scorer.roi)
            banks.append(bank.again(usual_of(distances, scorer.roi)))
        else:
            joined = torch.cat([one[plan.stage] for one in (features, borrowed) if one])
            gaussian, distances = fit_gaussians(joined, len(found), plan.metric, scorer.roi)
            banks.append(gaussian)
        maps.append(in_its_unit(distances, banks[-1].usual))
    held_out, mean = combine(maps, scorer.roi)
    return FittedBanks(MemoryBank(scorer.plans, banks, scorer.roi), held_out, mean)
