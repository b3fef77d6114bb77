"""Memory banks of normal patches, PatchCore's idea (Roth et al. 2022, arXiv:2106.08265), one bank a stage and metric.

Each stage is searched on its own grid; the distance maps, not the features, are brought to one grid and added. Raw
distances and distances between unit-length features see different defects, and their sum sees more than either, once
each is measured in what normal pictures never seen by the bank show of it.

A bank is searched in two steps. Every place looks for its nearest patch among the first half, a coreset of its own, for patches are kept in
the order picked, farthest first. Only the eighth of a picture's places that are farthest from those go on to the rest: the worst places
make the score, and the others keep a distance that is at most too large. That is little more than half the work, and costs no accuracy
(docs/results.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anomaly.scorers.coreset import greedy_coreset
from anomaly.scorers.embedding import Metric, Roi, centre_of, embed, places, usual_of
from anomaly.scorers.gaussian import Gaussian, fit_gaussians

LEVELS = 127  # patches are rounded to whole numbers in -127..127
BLOCK = 2048  # patches a matrix product of the search: the products of one block stay in the cache; a bank of one is searched whole
FIRST = 2  # one in so many patches is seen by every place
FAR = 8  # one in so many places of a picture, those farthest from these patches, sees all
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


class Bank(nn.Module):
    """One bank: patches of one stage, distance to the nearest in standard deviations of unseen normals' worst places.

    Patches are kept as whole numbers in -127..127, one byte each, and queries are brought to the same unit. The export can
    round the queries too and so search in 8-bit arithmetic (`export.integer_search`).
    """

    patches: Tensor
    center: Tensor
    spread: Tensor
    step: Tensor
    usual: Tensor
    owner: Tensor
    squared: Tensor

    def __init__(self, metric: Metric, patches: Tensor, center: Tensor, spread: Tensor, step: Tensor, usual: Tensor, owner: Tensor) -> None:
        super().__init__()
        self.metric = metric
        self.register_buffer("patches", patches)  # (M, D) int8
        self.register_buffer("center", center)  # (D,)
        self.register_buffer("spread", spread)  # (D,)
        self.register_buffer("step", step)  # (): the size of one whole number
        self.register_buffer("usual", usual)  # (2,): mean and deviation of the largest distance in an unseen normal picture
        self.register_buffer("owner", owner)  # (M,) int32: the picture of the fit that a patch came from
        self.register_buffer("squared", patches.to(torch.float32).square().sum(1), persistent=False)

    def forward(self, features: Tensor, roi: Roi = ()) -> Tensor:
        """(N, C, h, w) -> standardised distance map (N, 1, h, w)."""
        count, _, high, wide = features.shape
        queries = embed(features, self.metric, self.center, self.spread) / self.step
        distance = self.distance(queries, self.squared, places(roi, high, wide) if roi else None, high * wide)
        return ((distance - self.usual[0]) / self.usual[1]).reshape(count, 1, high, wide)

    def distance(self, queries: Tensor, squared: Tensor, inside: Tensor | None, each: int) -> Tensor:
        """Queries (N * each, D) in steps, each picture's together -> distance (N, each) to the nearest patch, in the features' own units.

        Euclidean. Places that are not among the farthest `inside` (h, w; all when None) keep their distance to the first patches, which is
        never too small. `squared` (M,) is the patches' |b|^2; infinity takes a patch out.
        """
        total = self.patches.shape[0]
        first = total if total <= BLOCK else -(-total // FIRST)
        length = queries.square().sum(1)  # does not change which patch is nearest, and is added afterwards
        near = (self._nearest(queries, squared, 0, first) + length).reshape(-1, each)
        if first < total:
            looked_at = near if inside is None else near.masked_fill(~inside.flatten(), -torch.inf)
            far = looked_at.topk(-(-each // FAR), dim=1, sorted=False).indices
            rows = (far + each * torch.arange(near.shape[0], device=far.device).unsqueeze(1)).flatten()
            beyond = self._nearest(queries[rows], squared, first, total) + length[rows]
            near = near.scatter(1, far, torch.minimum(near.gather(1, far), beyond.reshape(far.shape)))
        return near.clamp(min=0.0).sqrt() * self.step

    def _nearest(self, queries: Tensor, squared: Tensor, start: int, stop: int) -> Tensor:
        """Queries (Q, D) -> |b|^2 - 2 q.b (Q,) of the nearest of the patches from `start` to `stop`, block by block."""
        best: Tensor | None = None
        for begin in range(start, stop, BLOCK):
            part = slice(begin, min(begin + BLOCK, stop))
            nearest = (squared[part] - 2.0 * (queries @ self.patches[part].to(torch.float32).T)).amin(dim=1)
            best = nearest if best is None else torch.minimum(best, nearest)
        assert best is not None, "a bank holds at least one patch"
        return best


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
        maps.append(((distances - bank.usual[0]) / bank.usual[1]).unsqueeze(1))
        if progress is not None:
            what = f"{len(bank.patches)} of {distances.numel()} patches" if isinstance(bank, Bank) else "a Gaussian at each place"
            progress(f"bank {len(banks)} of {len(plans)}: {what}")
    held_out, mean = combine(maps, roi)
    return FittedBanks(MemoryBank(plans, banks, roi), held_out, mean)


def _fit_one(maps: Tensor, own: int, plan: BankPlan, share: float, generator: torch.Generator, roi: Roi) -> tuple[Bank | Gaussian, Tensor]:
    """What the plan says, and the leave-one-out distances (own, h, w) of the first `own` of the pictures it was made from."""
    if plan.model == "gaussian":
        return fit_gaussians(maps, own, plan.metric, roi)
    return _fit_bank(maps, own, plan, share, generator, roi)


def _fit_bank(maps: Tensor, own: int, plan: BankPlan, share: float, generator: torch.Generator, roi: Roi) -> tuple[Bank, Tensor]:
    """One bank, and the leave-one-out distances (own, h, w) of the first `own` of the pictures it was made from."""
    center, spread = centre_of(maps)
    patches = embed(maps, plan.metric, center, spread)
    count = max(2, min(plan.size, int(share * len(patches))))
    picked = greedy_coreset(patches, count, generator)
    step = (patches[picked].abs().max() / LEVELS).clamp(min=1e-12)
    codes = torch.round(patches[picked] / step).to(torch.int8)
    each = maps.shape[-2] * maps.shape[-1]
    bank = Bank(plan.metric, codes, center, spread, step, torch.tensor([0.0, 1.0]), (picked // each).to(torch.int32))
    distances = _leave_one_out(bank, patches[: own * each], own, roi, *maps.shape[-2:])
    bank.usual.copy_(usual_of(distances, roi))
    return bank, distances


def without(scorer: MemoryBank, picture: int, features: Sequence[Tensor]) -> MemoryBank:
    """As if one picture of the fit had not been seen, `features` one (1, C_s, h_s, w_s) a stage."""
    banks: list[Bank | Gaussian] = []
    for plan, bank in zip(scorer.plans, scorer.banks, strict=True):
        if isinstance(bank, Gaussian):
            banks.append(bank.without(features[plan.stage]))
            continue
        assert isinstance(bank, Bank)
        others = bank.owner != picture
        if not others.any():
            others = torch.ones_like(others)
        banks.append(Bank(bank.metric, bank.patches[others], bank.center, bank.spread, bank.step, bank.usual, bank.owner[others]))
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
        if isinstance(bank, Gaussian):
            joined = torch.cat([one[plan.stage] for one in (features, borrowed) if one])
            again, distances = fit_gaussians(joined, len(found), plan.metric, scorer.roi)
            banks.append(again)
            maps.append(((distances - again.usual[0]) / again.usual[1]).unsqueeze(1))
            continue
        assert isinstance(bank, Bank)
        count, _, high, wide = found.shape
        distances = _leave_one_out(bank, embed(found, plan.metric, bank.center, bank.spread), count, scorer.roi, high, wide)
        usual = usual_of(distances, scorer.roi)
        banks.append(Bank(plan.metric, bank.patches, bank.center, bank.spread, bank.step, usual, bank.owner))
        maps.append(((distances - usual[0]) / usual[1]).unsqueeze(1))
    held_out, mean = combine(maps, scorer.roi)
    return FittedBanks(MemoryBank(scorer.plans, banks, scorer.roi), held_out, mean)


def _leave_one_out(bank: Bank, patches: Tensor, pictures: int, roi: Roi, high: int, wide: int) -> Tensor:
    """Distance (N, h, w) of each picture's patches (N * h * w, D) to the bank's patches that came from other pictures."""
    inside = places(roi, high, wide) if roi else None
    result = torch.empty(pictures, high, wide)
    for index, own in enumerate(patches.reshape(pictures, high * wide, -1)):
        others = bank.squared.masked_fill(bank.owner == index, torch.inf)
        result[index] = bank.distance(own / bank.step, others, inside, high * wide).reshape(high, wide)
    return result.nan_to_num(posinf=float(result[result.isfinite()].max()) if result.isfinite().any() else 0.0)
