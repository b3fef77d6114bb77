"""Greedy k-center coreset: the farthest-point sample by which PatchCore thins its bank (Roth et al. 2022, arXiv:2106.08265)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

PROJECTED = 256  # more dimensions than that are projected (Johnson-Lindenstrauss) before distances are measured
CANDIDATES = 1024  # farthest points among which picks are sought between two passes over all points
CHUNK = 16_384  # points a matrix product


def greedy_coreset(points: Tensor, count: int, generator: torch.Generator, on_pick: Callable[[int], None] | None = None) -> Tensor:
    """Greedy k-center coreset: indices (count,) int64 of a farthest-point sample of `points` (M, D) float32, in the order picked.

    Each pick is the point farthest from all picked before (Gonzalez 1985: covering radius at most twice the optimum). The first is drawn
    by `generator`. With more than 256 dimensions distances are measured in a random projection down to 256 (Johnson-Lindenstrauss).
    With `count` >= M all indices come back in order. `on_pick(picked so far)` is called after every block.

    Picks are those of the plain greedy algorithm, found in blocks. Distances to the picked points only ever fall. So while the best of
    the 1,024 farthest points is still farther than the bound of all others, it is the farthest of all. One pass over all points, a matrix
    product, then serves a whole block. Memory beside the input: M * (min(D, 256) + 2) floats and 16,384 times the block. Works
    on any device.

    >>> points = torch.tensor([[0.0], [0.1], [5.0], [5.1], [10.0]])
    >>> sorted(greedy_coreset(points, 3, torch.Generator().manual_seed(0)).tolist())  # one of each cluster
    [0, 2, 4]
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
        _update_nearest(nearest, points, squared, fresh)
        fresh = _farthest_block(nearest, points, squared, count - len(picks))
        picks += fresh
        if on_pick is not None:
            on_pick(len(picks))
        if len(picks) == count:
            return torch.tensor(picks)


def _update_nearest(nearest: Tensor, points: Tensor, squared: Tensor, fresh: list[int]) -> None:
    """Lower `nearest` (M,), in place, to the squared distance to any fresh pick; a pick itself goes to minus infinity."""
    block, offset = points[fresh].T, squared[fresh]
    for start in range(0, len(points), CHUNK):
        part = slice(start, start + CHUNK)
        distance = torch.addmm(offset, points[part], block, alpha=-2.0).amin(dim=1) + squared[part]
        torch.minimum(nearest[part], distance, out=nearest[part])
    nearest[fresh] = -torch.inf


def _farthest_block(nearest: Tensor, points: Tensor, squared: Tensor, wanted: int) -> list[int]:
    """The next picks, as many as are certain from the farthest candidates alone, at least one and at most `wanted`."""
    farthest, candidates = nearest.topk(min(CANDIDATES + 1, len(points)))
    whole = len(candidates) == len(points)  # few points: there is no other that could be farther
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
