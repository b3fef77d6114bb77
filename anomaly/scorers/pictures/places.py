"""A bank of normal patches for each place of the picture, for cameras that see every part in the same position.

On a board, copper where none should be looks like copper anywhere else. A memory bank of all places calls it normal, so it is found only
by what is normal at its own place. PaDiM (`gaussian`) asks that of a mean and a covariance. This keeps patches instead, so that parts of
several layouts, each sharp, are told from what lies between them. Patches of the places next to it count too: a part may be shifted by one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from anomaly.progress import Progress, counted, silent
from anomaly.scorers.pictures.embedding import Metric, Roi, embed, many_patches, mean_std, normalise, standardise, unseen_max_mean_std
from anomaly.scorers.pictures.patches import LEVELS, NearestPatches

SHARED = 2  # places a side that share their patches, where the grid's side is even
MARGIN = 1  # places around these whose patches count too
SEEN = 256  # pictures that patches are picked from at most
CANDIDATES = 1024  # patches of a group that its own are picked from at most


class PlaceBank(NearestPatches):
    """Patches (down, across, K, D) of one stage, by group of places: a place is compared with those of its own group."""

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, h, w) -> standardised distance map (N, 1, h, w)."""
        return self._map(features, self.squared)

    def _map(self, features: Tensor, squared: Tensor) -> Tensor:
        return standardise(self.distance(features, squared), self.usual)

    def distance(self, features: Tensor, squared: Tensor) -> Tensor:
        """Distances (N, h, w) of maps (N, C, h, w). `squared` (down, across, K) is the patches' |b|^2; infinity takes a patch out."""
        high, wide = int(features.shape[-2]), int(features.shape[-1])
        rows = (embed(features, self.metric, self.center, self.spread) / self.step).reshape(len(features), high, wide, -1)
        queries = grouped(rows, *self.patches.shape[:2])  # (B, N * k, D)
        patches = self.patches.to(torch.float32).flatten(0, 1)
        nearest = torch.baddbmm(squared.flatten(0, 1).unsqueeze(1), queries, patches.transpose(1, 2), alpha=-2.0).amin(dim=2)
        found = (nearest + queries.square().sum(2)).clamp(min=0.0).sqrt() * self.step
        return ungrouped(found, len(features), high, wide, *self.patches.shape[:2])

    def distances_apart(
        self, features: Tensor, pictures: Sequence[int], left_out: Callable[[int], Tensor], progress: Progress = silent
    ) -> Tensor:
        """Distances (n, h, w) of some `pictures` of features (N, D, h, w), each to the patches that `left_out` does not name.

        `left_out` answers for a picture with bool (down, across, K). A place of which all patches are left out is as far as the farthest.
        """
        result = torch.empty(len(pictures), *features.shape[-2:])
        for place, index in enumerate(counted(pictures, progress, "pictures compared with the others' patches of each place")):
            squared = self.squared.masked_fill(left_out(index), torch.inf)
            result[place] = self.distance(features[index : index + 1], squared)[0]
        return result.nan_to_num(posinf=float(result[result.isfinite()].max()) if result.isfinite().any() else 0.0)

    def leave_one_out(self, pictures: Sequence[int]) -> Callable[[Tensor], Tensor]:
        """What this bank would answer, (N, C, h, w) -> (N, 1, h, w), less the patches of pictures with these numbers of the fit."""
        own = torch.isin(self.owner, torch.tensor(pictures, dtype=self.owner.dtype))
        own &= ~own.all(dim=2, keepdim=True)  # a group keeps its patches where all are of these pictures
        return partial(self._map, squared=self.squared.masked_fill(own, torch.inf))


def fit_place_bank(
    maps: Tensor, own: int, metric: Metric, size: int, generator: torch.Generator, roi: Roi = (), progress: Progress = silent
) -> tuple[PlaceBank, Tensor]:
    """Keep at most `size` patches for each group of places of the maps (N, D, h, w) float32 of normal pictures, spread as far as can be.

    Also returns the leave-one-out distances (own, h, w) of the first `own` pictures. Of more than 256 pictures as many are drawn.
    """
    count, _, high, wide = maps.shape
    seen = torch.arange(count) if count <= SEEN else torch.randperm(count, generator=generator)[:SEEN].sort().values
    rows = many_patches(maps[seen])
    center, spread = mean_std(rows)
    rows = normalise(rows, metric, center, spread).reshape(len(seen), high, wide, -1)
    down, across = high // _side(high), wide // _side(wide)
    around = F.pad(rows.permute(0, 3, 1, 2), (MARGIN,) * 4, mode="replicate")  # (N, D, h + 2, w + 2)
    reach = (_side(high) + 2 * MARGIN, _side(wide) + 2 * MARGIN)
    total = len(seen) * reach[0] * reach[1]
    drawn = torch.randperm(total, generator=generator)[:CANDIDATES].sort().values
    owner = seen[drawn // (reach[0] * reach[1])]
    kept = min(size, len(drawn))
    picked = torch.empty(down, across, kept, rows.shape[3])
    owners = torch.empty(down, across, kept, dtype=torch.int32)
    for row in counted(range(down), progress, "rows of places"):
        top = row * _side(high)
        band = around[:, :, top : top + reach[0]].unfold(3, reach[1], _side(wide))  # (N, D, reach, across, reach)
        candidates = band.permute(3, 0, 2, 4, 1).reshape(across, total, -1)[:, drawn]
        chosen = _spread_out(candidates, kept)
        picked[row] = candidates.gather(1, chosen.unsqueeze(2).expand(-1, -1, candidates.shape[2]))
        owners[row] = owner[chosen].to(torch.int32)
    step = (picked.abs().max() / LEVELS).clamp(min=1e-12)
    codes = torch.round(picked / step).to(torch.int8)
    bank = PlaceBank(metric, codes, center, spread, step, torch.tensor([0.0, 1.0]), owners)
    distances = bank.leave_one_out_distances(maps[:own], progress)
    bank.usual.copy_(unseen_max_mean_std(distances, roi))
    return bank, distances


def _spread_out(points: Tensor, count: int) -> Tensor:
    """Farthest-point samples of B sets of points (B, M, D) at once: indices (B, count), the first of each set its first point."""
    picks = torch.zeros(len(points), count, dtype=torch.int64)
    squared = points.square().sum(2)
    nearest = torch.full_like(squared, torch.inf)
    sets = torch.arange(len(points))
    for at in range(1, count):
        last = picks[:, at - 1]
        moved = torch.bmm(points, points[sets, last].unsqueeze(2))[:, :, 0]
        nearest = torch.minimum(nearest, squared + squared[sets, last].unsqueeze(1) - 2.0 * moved)
        picks[:, at] = nearest.argmax(dim=1)
    return picks


def _side(places: int) -> int:
    """How many places of a side share their patches."""
    return SHARED if places % SHARED == 0 else 1


def grouped(rows: Tensor, down: int, across: int) -> Tensor:
    """(N, h, w, D) -> (B, N * k, D): B = down * across groups of k neighbouring places."""
    count, high, wide, width = rows.shape
    apart = rows.reshape(count, down, high // down, across, wide // across, width).permute(1, 3, 0, 2, 4, 5)
    return apart.reshape(down * across, -1, width)


def ungrouped(values: Tensor, count: int, high: int, wide: int, down: int, across: int) -> Tensor:
    """(B, N * k) -> (N, h, w): the inverse of `grouped`."""
    apart = values.reshape(down, across, count, high // down, wide // across).permute(2, 0, 3, 1, 4)
    return apart.reshape(count, high, wide)
