"""Views of a picture: maps of how unusual each place is, pooled to scores that can be compared, of which the largest speaks.

A stage of a network sees marks of some sizes and is blind to others. Its map is pooled (the worst place alone, or the mean of the worst
few), and each pooled score is told as how far it lies above the median of unseen normals, in units of their 95 % quantile. So a view that
sees nothing cannot drown one that sees, as it would in a sum.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from anomaly.scorers.pictures.embedding import Roi, roi_mask

OUTSIDE_ROI = -10.0  # the map's value outside the region of interest: lower than at any normal place
TOP_SHARE = 0.02  # share of a picture's places, the worst ones, whose mean is the score
HIGH = 0.95  # quantile of unseen normals' pooled scores


@dataclass(frozen=True)
class Pool:
    """How a view's map becomes a score: the mean of the worst `share` of its places, of one place at least."""

    view: str = "main"
    share: float = TOP_SHARE


def view_maps(maps: Sequence[Tensor], names: Sequence[str], roi: Roi = ()) -> dict[str, Tensor]:
    """Standardised maps (N, 1, h_b, w_b) of banks, and the view of each -> by view their mean (N, h, w) on the finest grid among them.

    >>> found = view_maps([torch.ones(1, 1, 4, 4), 3 * torch.ones(1, 1, 2, 2), torch.zeros(1, 1, 8, 8)], ["main", "main", "fine"])
    >>> {view: (tuple(one.shape), float(one.max())) for view, one in found.items()}
    {'main': ((1, 4, 4), 2.0), 'fine': ((1, 8, 8), 0.0)}
    """
    members: dict[str, list[Tensor]] = {}
    for name, one in zip(names, maps, strict=True):
        members.setdefault(name, []).append(one)
    found = {}
    for name, own in members.items():
        grid = finest_grid([(int(one.shape[-2]), int(one.shape[-1])) for one in own])
        total: Tensor | None = None
        for one in own:
            fine = _enlarged(one, grid)
            total = fine if total is None else total + fine
        assert total is not None, "a view has at least one bank"
        mean = total[:, 0] / len(own)
        if roi:
            mean = torch.where(roi_mask(roi, *grid), mean, torch.full_like(mean, OUTSIDE_ROI))
        found[name] = mean
    return found


def finest_grid(grids: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """The grid (rows, columns) with the most rows, of several.

    >>> finest_grid([(8, 16), (32, 64), (16, 32)])
    (32, 64)
    """
    return max(grids, key=lambda grid: grid[0])


def _enlarged(one: Tensor, grid: tuple[int, int]) -> Tensor:
    """A map (N, 1, h, w) on another grid, bilinear."""
    return one if one.shape[-2:] == grid else F.interpolate(one, size=grid, mode="bilinear", align_corners=False)


def places_pooled(share: float, high: int, wide: int, roi: Roi = ()) -> int:
    """How many of the worst places of a grid a pool takes.

    >>> places_pooled(0.02, 16, 16), places_pooled(0.0, 16, 16)
    (5, 1)
    """
    looked_at = int(roi_mask(roi, high, wide).sum()) if roi else high * wide
    return max(1, round(share * looked_at))


def pooled(view: Tensor, share: float, roi: Roi = ()) -> Tensor:
    """A view's map (N, h, w) -> the mean (N,) of its worst places."""
    count = places_pooled(share, int(view.shape[-2]), int(view.shape[-1]), roi)
    return view.flatten(1).topk(count, dim=1).values.mean(dim=1)


def plain_laws(count: int) -> Tensor:
    """Laws (count, 2) that leave scores as they are."""
    return torch.tensor([[0.0, 1.0]]).repeat(count, 1)


def laws_of(scores: Sequence[Tensor]) -> Tensor:
    """Pooled scores of unseen normals, one (N,) a pool -> (K, 2) float32: their median, and how far their 95 % quantile lies above it."""
    rows = torch.stack(list(scores)).double()
    high = torch.quantile(rows, torch.tensor([0.5, HIGH], dtype=torch.float64), dim=1)
    return torch.stack([high[0], (high[1] - high[0]).clamp(min=1e-6)], dim=1).float()


def largest_pool(scores: Sequence[Tensor], laws: Tensor) -> Tensor:
    """Pooled scores, one (N,) a pool -> the largest (N,), each less its law's median, in its law's unit."""
    return _in_units(scores, laws).amax(dim=1)


def _in_units(scores: Sequence[Tensor], laws: Tensor) -> Tensor:
    return (torch.stack(list(scores), dim=1) - laws[:, 0]) / laws[:, 1]


def told_by(views: Mapping[str, Tensor], pools: Sequence[Pool], laws: Tensor, roi: Roi = ()) -> Tensor:
    """The views' maps (N, h, w) -> the score by each pool (N, K), in its law's unit: the largest of them is what `speak` gives."""
    return _in_units([pooled(views[pool.view], pool.share, roi) for pool in pools], laws)


def speak(views: Mapping[str, Tensor], pools: Sequence[Pool], laws: Tensor, roi: Roi = ()) -> tuple[Tensor, Tensor]:
    """The views' maps (N, h, w) -> score (N,), and one map (N, h, w): the largest at each place, in the unit of a view's first pool."""
    score = largest_pool([pooled(views[pool.view], pool.share, roi) for pool in pools], laws)
    told = [(views[pools[at].view] - laws[at, 0]) / laws[at, 1] for at in first_pools(pools)]
    grid = finest_grid([(int(one.shape[-2]), int(one.shape[-1])) for one in told])
    joined = _enlarged(told[0].unsqueeze(1), grid)
    for other in told[1:]:
        joined = torch.maximum(joined, _enlarged(other.unsqueeze(1), grid))
    return score, joined[:, 0]


def first_pools(pools: Sequence[Pool]) -> list[int]:
    """The place of each view's first pool among all pools.

    >>> first_pools([Pool("main"), Pool("main", 0.0), Pool("fine", 0.0)])
    [0, 2]
    """
    return [at for at, pool in enumerate(pools) if pool.view not in {before.view for before in pools[:at]}]
