"""Greedy coreset: the k-centre points of a cloud, as PatchCore picks them (Roth et al. 2022, arXiv:2106.08265)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

PROJECTED = 256  # more dimensions than that are projected (Johnson-Lindenstrauss) before distances are measured
CANDIDATES = 1024  # farthest points among which picks are looked for between two passes over the cloud
CHUNK = 16_384  # points a matrix product


def greedy_coreset(points: Tensor, count: int, generator: torch.Generator, on_pick: Callable[[int], None] | None = None) -> Tensor:
    """Indices (count,) of a farthest-point sample of `points` (M, D) float32, in the order picked.

    Each pick is the point farthest from all picked before (Gonzalez 1985: covering radius at most twice the optimum), measured in a
    random projection where there are more than 256 dimensions (one down to 64 makes the radius a tenth larger). Picks are the plain
    greedy algorithm's, found in blocks: distances to what is picked only ever fall, so as long as the best of the 1,024 farthest
    points is still farther than all others were, it is the farthest of all and no other needs to be looked at. One pass over the
    cloud, a matrix product, then serves a whole block. Memory beside the input: M * (min(D, 256) + 2) floats and 16,384 times the
    block. Works on any device.
    """
    total = points.shape[0]
    if count >= total:
        return torch.arange(total)
    if points.shape[1] > PROJECTED:
        projection = torch.randn(points.shape[1], PROJECTED, generator=generator) / PROJECTED**0.5
        points = points @ projection.to(points.device)
    points = points - points.mean(0)
    squared = points.square().sum(1)
    nearest = torch.full_like(squared, torch.inf)
    picks = [int(torch.randint(total, (1,), generator=generator))]
    fresh = picks[:]
    while True:
        _come_nearer(nearest, points, squared, fresh)
        fresh = _farthest_block(nearest, points, squared, count - len(picks))
        picks += fresh
        if on_pick is not None:
            on_pick(len(picks))
        if len(picks) == count:
            return torch.tensor(picks)


def _come_nearer(nearest: Tensor, points: Tensor, squared: Tensor, fresh: list[int]) -> None:
    """Lower `nearest` (M,), in place, to the squared distance to any fresh pick; a pick itself goes to minus infinity."""
    block, offset = points[fresh].T, squared[fresh]
    for start in range(0, len(points), CHUNK):
        part = slice(start, start + CHUNK)
        distance = torch.addmm(offset, points[part], block, alpha=-2.0).amin(dim=1) + squared[part]
        torch.minimum(nearest[part], distance, out=nearest[part])
    nearest[fresh] = -torch.inf


def _farthest_block(nearest: Tensor, points: Tensor, squared: Tensor, wanted: int) -> list[int]:
    """The next picks, as many as can be told from the farthest candidates alone, at least one and at most `wanted`."""
    farthest, candidates = nearest.topk(min(CANDIDATES + 1, len(points)))
    whole = len(candidates) == len(points)  # a small cloud: there is no other point to fear
    bound = -torch.inf if whole else float(farthest[-1])
    if not whole:
        farthest, candidates = farthest[:-1], candidates[:-1]
    chosen, offset = points[candidates], squared[candidates]
    between = offset[:, None] + offset[None, :] - 2.0 * (chosen @ chosen.T)
    fresh: list[int] = []
    while len(fresh) < wanted:
        best = int(farthest.argmax())
        if fresh and float(farthest[best]) < bound:
            break
        fresh.append(int(candidates[best]))
        farthest = torch.minimum(farthest, between[best])
        farthest[best] = -torch.inf
    return fresh
