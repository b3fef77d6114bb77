"""PatchCore's memory bank of normal patches (Roth et al. 2022, arXiv:2106.08265): the exact distance of each place to the nearest of them.

Every place is compared with every patch. So a place's distance depends on its own features alone, and moves by no more than they do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Self

import torch
from torch import Tensor, nn

from anomaly.features.threads import one_thread
from anomaly.parallel import on_all_cores
from anomaly.progress import Progress, counted, part, silent
from anomaly.scorers.coreset import greedy_coreset
from anomaly.scorers.pictures.embedding import Metric, Roi, embed, many_patches, mean_std, normalise, standardise, unseen_max_mean_std

LEVELS = 127  # patches are rounded to whole numbers in -127..127
BLOCK = 1024  # patches a matrix product of the search: the products of one block stay in the cache
SEEN = 262_144  # patches that a coreset is picked from at most: those of 1,024 pictures on a grid of 16 x 16


class NearestPatches(nn.Module):
    """Patches of one stage, the distance to the nearest of which is standardised by the largest distances of unseen normals.

    Patches are kept as whole numbers in -127..127, one byte each, and queries are brought to the same unit. A bank says by its
    `distances_apart` which patches a place is compared with.
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
        self.register_buffer("patches", patches)  # (..., D) int8
        self.register_buffer("center", center)  # (D,): as `embed` takes it
        self.register_buffer("spread", spread)  # (D,)
        self.register_buffer("step", step)  # (): the size of one whole number
        self.register_buffer("usual", usual)  # (2,): mean and standard deviation of the largest distance in an unseen normal picture
        self.register_buffer("owner", owner)  # (...) int32: the picture of the fit that a patch came from
        self.register_buffer("squared", patches.to(torch.float32).square().sum(-1), persistent=False)

    def leave_one_out_distances(self, features: Tensor, progress: Progress = silent) -> Tensor:
        """Distances (N, h, w) of the pictures (N, D, h, w) it was fitted on, in their order, each to the patches of all others."""
        return self.distances_apart(features, range(len(features)), lambda index: self.owner == index, progress)

    def distances_apart(
        self, features: Tensor, pictures: Sequence[int], left_out: Callable[[int], Tensor], progress: Progress = silent
    ) -> Tensor:
        """Distances (n, h, w) of some `pictures` of features (N, D, h, w), each to the patches that `left_out` does not name.

        `left_out` answers for a picture with bool of the shape of `owner`.
        """
        raise NotImplementedError

    def leave_one_out(self, pictures: Sequence[int]) -> Callable[[Tensor], Tensor]:
        """What this bank would answer, (N, C, h, w) -> (N, 1, h, w), less the patches of pictures with these numbers of the fit."""
        raise NotImplementedError

    def recalibrated(self, usual: Tensor) -> Self:
        """This bank with distances standardised by another mean and standard deviation `usual` (2,)."""
        return type(self)(self.metric, self.patches, self.center, self.spread, self.step, usual, self.owner)


class PatchBank(NearestPatches):
    """Patches (M, D) of one stage: every place is compared with all of them. The export can round the queries too (`export.search`)."""

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, h, w) -> standardised distance map (N, 1, h, w)."""
        return self._map(features, self.squared)

    def _map(self, features: Tensor, squared: Tensor) -> Tensor:
        count, _, high, wide = features.shape
        queries = embed(features, self.metric, self.center, self.spread) / self.step
        return standardise(self.distance(queries, squared).reshape(count, high, wide), self.usual)

    def distance(self, queries: Tensor, squared: Tensor) -> Tensor:
        """Queries (Q, D) in steps -> Euclidean distance (Q,) to the nearest patch, in the features' own units.

        `squared` (M,) is the patches' |b|^2; infinity takes a patch out.
        """
        best: Tensor | None = None
        for begin in range(0, len(self.patches), BLOCK):
            part = slice(begin, min(begin + BLOCK, len(self.patches)))
            nearest = torch.addmm(squared[part], queries, self.patches[part].to(torch.float32).T, alpha=-2.0).amin(dim=1)
            best = nearest if best is None else torch.minimum(best, nearest)
        assert best is not None, "a bank holds at least one patch"
        # |q|^2 does not change which patch is nearest, and is added afterwards.
        return (best + queries.square().sum(1)).clamp(min=0.0).sqrt() * self.step

    def distances_apart(
        self, features: Tensor, pictures: Sequence[int], left_out: Callable[[int], Tensor], progress: Progress = silent
    ) -> Tensor:
        """Distances (n, h, w) of some `pictures` of features (N, D, h, w), each to the patches that `left_out` (M,) bool does not name."""

        def distances_of(index: int) -> Tensor:
            own = embed(features[index : index + 1], self.metric, self.center, self.spread) / self.step
            return self.distance(own, self.squared.masked_fill(left_out(index), torch.inf)).reshape(features.shape[-2:])

        result = torch.empty(len(pictures), *features.shape[-2:])
        with one_thread():
            told = counted(pictures, progress, "pictures compared with the others' patches")
            for place, (_, found) in enumerate(zip(told, on_all_cores(distances_of, pictures), strict=True)):
                result[place] = found
        return result.nan_to_num(posinf=float(result[result.isfinite()].max()) if result.isfinite().any() else 0.0)

    def leave_one_out(self, pictures: Sequence[int]) -> Callable[[Tensor], Tensor]:
        """What this bank would answer, (N, C, h, w) -> (N, 1, h, w), less the patches of pictures with these numbers of the fit."""
        own = torch.isin(self.owner, torch.tensor(pictures, dtype=self.owner.dtype))
        return partial(self._map, squared=self.squared if own.all() else self.squared.masked_fill(own, torch.inf))


def fit_patch_bank(
    maps: Tensor, own: int, metric: Metric, size: int, share: float, generator: torch.Generator, roi: Roi = (), progress: Progress = silent
) -> tuple[PatchBank, Tensor]:
    """PatchCore: embed the maps (N, D, h, w) float32 of normal pictures, thin their patches by a greedy k-center coreset, keep those.

    At most `size` patches and at most `share` of all are kept. Also returns the leave-one-out distances (own, h, w) of the first `own`
    pictures. Of more than 262,144 patches the coreset sees as many at random: that bounds its time, and memory to those patches thrice.
    """
    places = maps.shape[-2] * maps.shape[-1]
    total = len(maps) * places
    seen = torch.arange(total) if total <= SEEN else torch.randperm(total, generator=generator)[:SEEN].sort().values
    plain = many_patches(maps, seen)
    center, spread = mean_std(plain)
    patches = normalise(plain, metric, center, spread)
    del plain
    count = max(2, min(size, int(share * total)))
    told = part(progress, 0.0, 0.7)
    picked = greedy_coreset(patches, count, generator, lambda done: told("patches chosen for a bank", done, count))
    step = (patches[picked].abs().max() / LEVELS).clamp(min=1e-12)
    codes = torch.round(patches[picked] / step).to(torch.int8)
    owner = (seen[picked] // places).to(torch.int32)
    bank = PatchBank(metric, codes, center, spread, step, torch.tensor([0.0, 1.0]), owner)
    distances = bank.leave_one_out_distances(maps[:own], part(progress, 0.7, 1.0))
    bank.usual.copy_(unseen_max_mean_std(distances, roi))
    return bank, distances
