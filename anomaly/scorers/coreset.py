"""Greedy coreset: the k-centre points of a cloud, as PatchCore picks them (Roth et al. 2022, arXiv:2106.08265)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

PROJECTED = 64  # Johnson-Lindenstrauss dimensions in which distances are measured


def greedy_coreset(points: Tensor, count: int, generator: torch.Generator, on_pick: Callable[[int], None] | None = None) -> Tensor:
    """Indices (count,) of a farthest-point sample of `points` (M, D) float32, in the order picked.

    Each pick is the point farthest from all picked before (Gonzalez 1985: covering radius at most twice the optimum),
    measured in a random projection to 64 dimensions. Time count * M * 64, memory M * 66 floats beside the input.
    """
    total = points.shape[0]
    if count >= total:
        return torch.arange(total)
    if points.shape[1] > PROJECTED:
        projection = torch.randn(points.shape[1], PROJECTED, generator=generator) / PROJECTED**0.5
        points = points @ projection
    points = points - points.mean(0)
    squared = points.square().sum(1)
    nearest = torch.full((total,), torch.inf)
    picks = torch.empty(count, dtype=torch.int64)
    pick = int(torch.randint(total, (1,), generator=generator))
    distance = torch.empty(total)
    for index in range(count):
        picks[index] = pick
        torch.mv(points, points[pick], out=distance)
        distance.mul_(-2).add_(squared).add_(squared[pick])
        torch.minimum(nearest, distance, out=nearest)
        nearest[pick] = -torch.inf
        pick = int(nearest.argmax())
        if on_pick is not None and index % 100 == 0:
            on_pick(index)
    return picks
