"""PatchCore memory banks (Roth et al. 2022, arXiv:2106.08265) and PaDiM Gaussians (Defard et al. 2021, arXiv:2011.08785), summed.

The default scorer of pictures. In the paper's order, with where each step is:

1. Embed: feature maps to locally aware patches (`embedding.embed`).
2. Sample: thin the patches by a greedy k-center coreset (`scorers.coreset.greedy_coreset`) and keep them (`patches.fit_patch_bank`).
   Instead of patches a bank can keep a Gaussian of each place (`gaussian.fit_place_gaussians`).
3. Score: distance of each patch to its nearest in the bank (`patches.PatchBank.distance`), summed over banks (`combine_maps`).

What differs from the paper: every stage has a bank on its own grid, and their distance maps, not the features, are brought to one grid.
Raw distances and distances between unit-length features see different defects; their sum sees more than either. For that, each map is
standardised by the leave-one-out distances of the normal pictures (`embedding.standardise`). The score is the mean of the worst
2 % of places, not the single worst.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from anomaly.progress import Progress, part, silent
from anomaly.scorers.pictures.embedding import Metric, Roi, standardise, unseen_max_mean_std
from anomaly.scorers.pictures.gaussian import PlaceGaussians, fit_place_gaussians
from anomaly.scorers.pictures.patches import NearestPatches, fit_patch_bank
from anomaly.scorers.pictures.places import fit_place_bank
from anomaly.scorers.pictures.views import Pool, laws_of, plain_laws, pooled, speak, view_maps


@dataclass(frozen=True)
class BankPlan:
    """What one bank holds: the stage (its position in the extractor's answer), how distances are measured, patches at most.

    `model`: "patches" for PatchCore; "gaussian" for PaDiM, which keeps a Gaussian of each place and ignores `size`; "place" for the
    patches of each place (`places`), at most `size` of them. The maps of banks of the same `view` are averaged.
    """

    stage: int
    metric: Metric
    size: int = 0
    model: Literal["patches", "gaussian", "place"] = "patches"
    view: str = "main"


Bank = NearestPatches | PlaceGaussians


class MemoryBank(nn.Module):
    """Views of a picture, each the mean of the standardised maps of its banks, pooled to scores; the largest of these speaks (`views`)."""

    laws: Tensor

    def __init__(
        self, plans: Sequence[BankPlan], banks: Sequence[Bank], pools: Sequence[Pool] = (Pool(),), laws: Tensor | None = None, roi: Roi = ()
    ) -> None:
        super().__init__()
        self.plans = tuple(plans)
        self.banks = nn.ModuleList(banks)
        self.pools = tuple(pools)
        self.roi = tuple(roi)
        self.register_buffer("laws", plain_laws(len(self.pools)) if laws is None else laws)  # (K, 2), see `views.laws_of`

    def forward(self, features: list[Tensor]) -> tuple[Tensor, Tensor]:
        """One map (N, C_s, h_s, w_s) a stage -> score (N,), map (N, h, w) on the finest grid among the banks."""
        return self.speak([bank(features[plan.stage]) for plan, bank in zip(self.plans, self.banks, strict=True)])

    def speak(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Standardised maps (N, 1, h_b, w_b) of the banks -> score (N,), map (N, h, w)."""
        return speak(self.views(maps), self.pools, self.laws, self.roi)

    def views(self, maps: Sequence[Tensor]) -> dict[str, Tensor]:
        """Standardised maps (N, 1, h_b, w_b) of the banks -> the views' maps (N, h, w)."""
        return view_maps(maps, [plan.view for plan in self.plans], self.roi)

    def learn_laws(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Set the pools' laws by unseen normals' standardised maps (N, 1, h_b, w_b), and answer on these as `speak` does."""
        if len(self.pools) > 1:  # one pool needs no common unit
            views = self.views(maps)
            self.laws.copy_(laws_of([pooled(views[pool.view], pool.share, self.roi) for pool in self.pools]))
        return self.speak(maps)


@dataclass(frozen=True)
class FittedBanks:
    """A scorer, and the leave-one-out scores and maps of the pictures it was fitted on."""

    scorer: MemoryBank
    held_out: Tensor  # scores (N,)
    maps: Tensor  # (N, h, w)
    distances: tuple[Tensor, ...]  # those that each bank is standardised by, (N, h_b, w_b)


def fit_memory_bank(
    features: Sequence[Tensor],
    plans: Sequence[BankPlan],
    share: float,
    generator: torch.Generator,
    progress: Progress = silent,
    roi: Roi = (),
    borrowed: Sequence[Tensor] = (),
    pools: Sequence[Pool] = (Pool(),),
) -> FittedBanks:
    """PatchCore and PaDiM banks, one a plan, on the features of at least two normal pictures: one (N, C_s, h_s, w_s) float32 a stage.

    A bank holds at most its plan's size and at most `share` of all patches. Every picture is then scored by the banks less its own
    patches (leave-one-out): these held-out scores calibrate, and standardise each bank's distances. `borrowed`, one (M, C_s, h_s, w_s)
    a stage, are normal pictures of another line: they join the banks, but are not scored. `roi`: rectangles (left, top, right,
    bottom) in shares of the picture; other places do not count. Memory: the embedded patches of
    one stage, twice.

    >>> generator = torch.Generator().manual_seed(0)
    >>> features = [torch.randn(20, 8, 6, 6, generator=generator)]  # one stage of 20 normal pictures
    >>> fitted = fit_memory_bank(features, [BankPlan(stage=0, metric="raw", size=200)], 0.5, generator)
    >>> defect = torch.randn(1, 8, 6, 6, generator=generator)
    >>> defect[:, :, 2, 3] += 9.0
    >>> score, heat = fitted.scorer([defect])
    >>> bool(score > fitted.held_out.max()), heat.shape
    (True, torch.Size([1, 6, 6]))
    """
    banks: list[Bank] = []
    every, maps = [], []
    for index, plan in enumerate(plans):
        told = part(progress, index / len(plans), (index + 1) / len(plans))
        own = features[plan.stage]
        bank, distances = _fit_one(torch.cat([own, borrowed[plan.stage]]) if borrowed else own, len(own), plan, share, generator, roi, told)
        banks.append(bank)
        every.append(distances)
        maps.append(standardise(distances, bank.usual))
    scorer = MemoryBank(plans, banks, pools, roi=roi)
    return FittedBanks(scorer, *scorer.learn_laws(maps), tuple(every))


def _fit_one(
    maps: Tensor, own: int, plan: BankPlan, share: float, generator: torch.Generator, roi: Roi, progress: Progress
) -> tuple[Bank, Tensor]:
    """The bank that the plan describes, and the leave-one-out distances (own, h, w) of the first `own` of its pictures."""
    if plan.model == "gaussian":
        progress("a Gaussian for each place")
        return fit_place_gaussians(maps, own, plan.metric, roi)
    if plan.model == "place":
        return fit_place_bank(maps, own, plan.metric, plan.size, generator, roi, progress)
    return fit_patch_bank(maps, own, plan.metric, plan.size, share, generator, roi, progress)


def leave_one_out(
    scorer: MemoryBank, pictures: Sequence[int], features: Sequence[Tensor]
) -> Callable[[list[Tensor]], tuple[Tensor, Tensor]]:
    """What the scorer would answer less the pictures of one part: their numbers in its fit, and one (m, C_s, h_s, w_s) a stage of them."""
    less = maps_left_out(scorer, pictures, features)
    return lambda asked: scorer.speak(less(asked))


def maps_left_out(scorer: MemoryBank, pictures: Sequence[int], features: Sequence[Tensor]) -> Callable[[list[Tensor]], list[Tensor]]:
    """As `leave_one_out`, but each bank's standardised map (N, 1, h_b, w_b).

    Nothing is copied or fitted again: the pictures' patches are passed over, and the Gaussians are changed in closed form.
    """
    less: list[Callable[[Tensor], Tensor]] = []
    for plan, bank in zip(scorer.plans, scorer.banks, strict=True):
        assert isinstance(bank, Bank)
        less.append(bank.leave_one_out(features[plan.stage]) if isinstance(bank, PlaceGaussians) else bank.leave_one_out(pictures))
    stages = [plan.stage for plan in scorer.plans]
    return lambda asked: [bank(asked[stage]) for stage, bank in zip(stages, less, strict=True)]


def recalibrate(scorer: MemoryBank, features: Sequence[Tensor], borrowed: Sequence[Tensor] = ()) -> FittedBanks:
    """The same banks, standardised anew for features that moved a little (an extractor in 8-bit arithmetic).

    `features` are of the very pictures that the banks were fitted on, in their order: one (N, C_s, h_s, w_s) a stage. Gaussians, which
    are quick to fit, are fitted anew, with `borrowed` as in `fit_memory_bank`.
    """
    banks: list[Bank] = []
    every, maps = [], []
    for plan, bank in zip(scorer.plans, scorer.banks, strict=True):
        found = features[plan.stage]
        if isinstance(bank, NearestPatches):
            distances = bank.leave_one_out_distances(found)
            banks.append(bank.recalibrated(unseen_max_mean_std(distances, scorer.roi)))
        else:
            joined = torch.cat([one[plan.stage] for one in (features, borrowed) if one])
            gaussian, distances = fit_place_gaussians(joined, len(found), plan.metric, scorer.roi)
            banks.append(gaussian)
        every.append(distances)
        maps.append(standardise(distances, banks[-1].usual))
    again = MemoryBank(scorer.plans, banks, scorer.pools, roi=scorer.roi)
    return FittedBanks(again, *again.learn_laws(maps), tuple(every))
