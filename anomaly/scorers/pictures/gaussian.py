"""PaDiM: a Gaussian of normal features at each place of the picture (Defard et al. 2021, arXiv:2011.08785), scored by Mahalanobis distance.

A memory bank asks whether a patch was seen anywhere. This asks whether it is usual at its place, with all correlations between channels.
It needs no search, is the better one where normals are few, and a defect hidden among many normals hardly moves it.

Two things differ from the paper. Each place has a mean of its own, but two by two places share a covariance, so that it rests on four
times as many patches and takes a quarter of the memory. And a hundredth of the mean variance is added to its diagonal, so that it can be
inverted for however few pictures. Leave-one-out distances are computed in closed form (Woodbury's identity), not by fitting again.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from anomaly.scorers.pictures.embedding import Metric, Roi, embed, many_patches, mean_std, normalise, standardise, unseen_max_mean_std

RIDGE = 0.01  # share of the mean variance on the diagonal
SHARED = 2  # places a side that share a covariance, where the grid's side is even


class PlaceGaussians(nn.Module):
    """Mahalanobis distance to the normals of a place, standardised by the largest distances of unseen normals."""

    center: Tensor
    spread: Tensor
    mean: Tensor
    whiten: Tensor
    usual: Tensor
    count: Tensor

    def __init__(self, metric: Metric, center: Tensor, spread: Tensor, mean: Tensor, whiten: Tensor, usual: Tensor, count: Tensor) -> None:
        super().__init__()
        self.metric = metric
        self.register_buffer("center", center)  # (D,): as `embed` takes it
        self.register_buffer("spread", spread)  # (D,)
        self.register_buffer("mean", mean)  # (h, w, D)
        self.register_buffer("whiten", whiten)  # (B, D, D): lower triangular, one a group of places
        self.register_buffer("usual", usual)  # (2,): mean and standard deviation of the largest distance in an unseen normal picture
        self.register_buffer("count", count)  # (): pictures it was fitted on

    def forward(self, features: Tensor) -> Tensor:
        """(N, D, h, w) -> standardised distance map (N, 1, h, w)."""
        high, wide = features.shape[-2:]
        return standardise(_ungroup(self._whitened(features).square().sum(3).sqrt(), high, wide), self.usual)

    def leave_one_out_distances(self, features: Tensor) -> Tensor:
        """Distances (N, h, w) of pictures (N, D, h, w) it was fitted on, each as if it had been left out of the fit.

        Without a picture its places' means move by d / (n - 1), and the covariance loses n / (n - 1) d d' of each place of the group.
        """
        rows = self._whitened(features)  # (B, N, k, D)
        inner = rows @ rows.transpose(2, 3)
        share = self._share(rows.shape[2])
        left = torch.linalg.solve(torch.eye(rows.shape[2]) - share * inner, inner).diagonal(dim1=2, dim2=3)
        factor = float(self.count) / (float(self.count) - 1)
        return _ungroup(left.clamp(min=0.0).sqrt() * factor, *features.shape[-2:])

    def leave_one_out(self, features: Tensor) -> Callable[[Tensor], Tensor]:
        """What these Gaussians would answer, (N, D, h, w) -> (N, 1, h, w), less m pictures (m, D, h, w) of those they were fitted on.

        With r the pictures' whitened rows of a group and s their weight, the covariance left is (I - s r' r) in the whitened space. So a
        squared distance |w|^2 grows by s (r w)' (I - s r r')^-1 (r w): a system of m unknowns a place of the group, or one more of each.
        """
        own = self._whitened(features)  # (B, m, k, D)
        rows, share = self._lost(own)
        left = torch.eye(rows.shape[1]) - share * rows @ rows.transpose(1, 2)
        moved = own.sum(1, keepdim=True) / (float(self.count) - len(features))  # the mean's own step, away from the pictures

        def distances(asked: Tensor) -> Tensor:
            away = self._whitened(asked) + moved  # (B, N, k, D)
            along = (away @ rows.transpose(1, 2).unsqueeze(1)).flatten(1, 2).transpose(1, 2)  # (B, r, N * k)
            more = (along * torch.linalg.solve(left, along)).sum(1).reshape(away.shape[:3])
            squared = away.square().sum(3) + share * more
            return standardise(_ungroup(squared.clamp(min=0.0).sqrt(), *asked.shape[-2:]), self.usual)

        return distances

    def _lost(self, own: Tensor) -> tuple[Tensor, float]:
        """What the covariance of a group loses with m pictures (B, m, k, D): rows v (B, r, D), and the weight of each v v'.

        The scatter of the others about their own mean is that of all, less d d' of each picture and s s' / (n - m), s the sum of the d.
        """
        if own.shape[1] == 1:  # one d d' then, n / (n - 1) times
            return own[:, 0], self._share(own.shape[2])
        total = own.sum(1, keepdim=True) / (float(self.count) - own.shape[1]) ** 0.5
        return torch.cat([own, total], dim=1).flatten(1, 2), (1 - RIDGE) / (float(self.count) * own.shape[2])

    def _share(self, places: int) -> float:
        """The weight of one picture's d d' at a place in the covariance of its group."""
        count = float(self.count)
        return (1 - RIDGE) * count / (count - 1) / (count * places)

    def _whitened(self, features: Tensor) -> Tensor:
        """(N, D, h, w) -> (B, N, k, D): by group of k places, less the mean and whitened."""
        high, wide = features.shape[-2:]
        rows = embed(features, self.metric, self.center, self.spread).reshape(-1, high, wide, features.shape[1]) - self.mean
        groups = _groups(rows)
        return (groups.flatten(1, 2) @ self.whiten.transpose(1, 2)).reshape(groups.shape)


def fit_place_gaussians(maps: Tensor, own: int, metric: Metric, roi: Roi = ()) -> tuple[PlaceGaussians, Tensor]:
    """PaDiM on maps (N, D, h, w) float32 of at least two normal pictures.

    Also returns the leave-one-out distances (own, h, w) of the first `own` pictures.
    """
    count, _, high, wide = maps.shape
    plain = many_patches(maps)
    center, spread = mean_std(plain)
    rows = normalise(plain, metric, center, spread).reshape(count, high, wide, -1)
    del plain
    mean = rows.mean(0)
    down, _ = group_sides(high, wide)
    covariance = torch.cat([_covariances(rows[:, y : y + down] - mean[y : y + down]) for y in range(0, high, down)])
    ridge = RIDGE * covariance.diagonal(dim1=1, dim2=2).mean(1).clamp(min=1e-12)
    unit = torch.eye(maps.shape[1])
    lower = torch.linalg.cholesky((1 - RIDGE) * covariance + ridge[:, None, None] * unit)
    whiten = torch.linalg.solve_triangular(lower, unit.expand_as(lower), upper=False)
    fitted = PlaceGaussians(metric, center, spread, mean, whiten, torch.tensor([0.0, 1.0]), torch.tensor(float(count)))
    distances = torch.cat([fitted.leave_one_out_distances(part) for part in maps[:own].split(64)])  # type: ignore[no-untyped-call]
    fitted.usual.copy_(unseen_max_mean_std(distances, roi))
    return fitted, distances


def group_sides(high: int, wide: int) -> tuple[int, int]:
    """Rows and columns of places in a group."""
    return (SHARED if high % SHARED == 0 else 1), (SHARED if wide % SHARED == 0 else 1)


def _groups(rows: Tensor) -> Tensor:
    """(N, h, w, D) -> (B, N, k, D): B groups of k neighbouring places."""
    _, high, wide, width = rows.shape
    down, across = group_sides(high, wide)
    apart = rows.reshape(-1, high // down, down, wide // across, across, width).permute(1, 3, 0, 2, 4, 5)
    return apart.reshape((high // down) * (wide // across), -1, down * across, width)


def _covariances(deviations: Tensor) -> Tensor:
    """Deviations from the mean (N, h, w, D) -> a covariance (B, D, D) for each group of places."""
    rows = _groups(deviations).flatten(1, 2)  # (B, N * k, D)
    return rows.transpose(1, 2) @ rows / rows.shape[1]


def _ungroup(values: Tensor, high: int, wide: int) -> Tensor:
    """(B, N, k) -> (N, h, w): the inverse of `_groups`."""
    down, across = group_sides(high, wide)
    apart = values.reshape(high // down, wide // across, -1, down, across).permute(2, 0, 3, 1, 4)
    return apart.reshape(-1, high, wide)
