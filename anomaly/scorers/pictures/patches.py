"""PatchCore's memory bank of normal patches (Roth et al. 2022, arXiv:2106.08265): the exact distance of each place to the nearest of them.

Every place is compared with every patch. So a place's distance depends on its own features alone, and moves by no more than they do.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from anomaly.scorers.coreset import greedy_coreset
from anomaly.scorers.pictures.embedding import Metric, Roi, embed, patch_mean_std, standardise, unseen_max_mean_std

LEVELS = 127  # patches are rounded to whole numbers in -127..127
BLOCK = 1024  # patches a matrix product of the search: the products of one block stay in the cache


class PatchBank(nn.Module):
    """Patches of one stage; the distance to the nearest is standardised by the largest distances of unseen normals.

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
        self.register_buffer("usual", usual)  # (2,): mean and standard deviation of the largest distance in an unseen normal picture
        self.register_buffer("owner", owner)  # (M,) int32: the picture of the fit that a patch came from
        self.register_buffer("squared", patches.to(torch.float32).square().sum(1), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, h, w) -> standardised distance map (N, 1, h, w)."""
        count, _, high, wide = features.shape
        queries = embed(features, self.metric, self.center, self.spread) / self.step
        return standardise(self.distance(queries, self.squared).reshape(count, high, wide), self.usual)

    def distance(self, queries: Tensor, squared: Tensor) -> Tensor:
        """Queries (Q, D) in steps -> Euclidean distance (Q,) to the nearest patch, in the features' own units.

        `squared` (M,) is the patches' |b|^2; infinity takes a patch out.
        """
        best: Tensor | None = None
        for begin in range(0, len(self.patches), BLOCK):
            part = slice(begin, min(begin + BLOCK, len(self.patches)))
            nearest = (squared[part] - 2.0 * (queries @ self.patches[part].to(torch.float32).T)).amin(dim=1)
            best = nearest if best is None else torch.minimum(best, nearest)
        assert best is not None, "a bank holds at least one patch"
        # |q|^2 does not change which patch is nearest, and is added afterwards.
        return (best + queries.square().sum(1)).clamp(min=0.0).sqrt() * self.step

    def leave_one_out_distances(self, patches: Tensor, high: int, wide: int) -> Tensor:
        """Distances (N, h, w) of the pictures it was fitted on, in their order, each to the patches of all others.

        `patches` (N * h * w, D) are theirs, as `embed` gives them.
        """
        pictures = patches.reshape(-1, high * wide, patches.shape[1])
        result = torch.empty(len(pictures), high, wide)
        for index, own in enumerate(pictures):
            others = self.squared.masked_fill(self.owner == index, torch.inf)
            result[index] = self.distance(own / self.step, others).reshape(high, wide)
        return result.nan_to_num(posinf=float(result[result.isfinite()].max()) if result.isfinite().any() else 0.0)

    def leave_one_out(self, picture: int) -> PatchBank:
        """This bank less the patches that came from picture number `picture` of the fit."""
        others = self.owner != picture
        if not others.any():
            others = torch.ones_like(others)
        return PatchBank(self.metric, self.patches[others], self.center, self.spread, self.step, self.usual, self.owner[others])

    def recalibrated(self, usual: Tensor) -> PatchBank:
        """This bank with distances standardised by another mean and standard deviation `usual` (2,)."""
        return PatchBank(self.metric, self.patches, self.center, self.spread, self.step, usual, self.owner)


def fit_patch_bank(
    maps: Tensor, own: int, metric: Metric, size: int, share: float, generator: torch.Generator, roi: Roi = ()
) -> tuple[PatchBank, Tensor]:
    """PatchCore: embed the maps (N, D, h, w) float32 of normal pictures, thin their patches by a greedy k-center coreset, keep those.

    At most `size` patches and at most `share` of all are kept. Also returns the leave-one-out distances (own, h, w) of the first `own`
    pictures.
    """
    center, spread = patch_mean_std(maps)
    patches = embed(maps, metric, center, spread)
    count = max(2, min(size, int(share * len(patches))))
    picked = greedy_coreset(patches, count, generator)
    step = (patches[picked].abs().max() / LEVELS).clamp(min=1e-12)
    codes = torch.round(patches[picked] / step).to(torch.int8)
    high, wide = maps.shape[-2:]
    bank = PatchBank(metric, codes, center, spread, step, torch.tensor([0.0, 1.0]), (picked // (high * wide)).to(torch.int32))
    distances = bank.leave_one_out_distances(patches[: own * high * wide], high, wide)
    bank.usual.copy_(unseen_max_mean_std(distances, roi))
    return bank, distances
