"""PaDiM: a Gaussian of normal features at each place of the picture (Defard et al. 2021, arXiv:2011.08785), scored by Mahalanobis distance.

A memory bank asks whether a patch was seen anywhere. This asks whether it is usual at its place, with all correlations between channels.
It needs no search, is the better one where normals are few, and a defect hidden among many normals hardly moves it.

Two things differ from the paper. Each place has a mean of its own, but neighbouring places share a covariance: two by two on a grid of
16 x 16, and on a larger grid as many as leave 8 x 8 groups. So it rests on more patches, and a larger picture needs no more memory or time
for it. And a hundredth of the mean variance is added to its diagonal, so that it can be inverted for however few pictures. Leave-one-out
distances are computed in closed form (Woodbury's identity), not by fitting again.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor, nn

from anomaly.features.threads import one_thread
from anomaly.parallel import on_all_cores
from anomaly.scorers.pictures.embedding import Metric, Roi, embed, many_patches, mean_std, normalise, standardise, unseen_max_mean_std

RIDGE = 0.01  # share of the mean variance on the diagonal
SHARED = 2  # places a side that share a covariance, at least
GROUPS = 8  # groups a side, at most
AT_ONCE = 262_144  # patches looked at together: the fit's memory does not grow with the pictures


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
        share, (places, width) = self._share(rows.shape[2]), rows.shape[2:]
        if places <= width:
            inner = rows @ rows.transpose(2, 3)
            left = torch.linalg.solve(torch.eye(places) - share * inner, inner).diagonal(dim1=2, dim2=3)
        else:  # the same by the smaller system
            turned = rows.transpose(2, 3)
            left = (turned * torch.linalg.solve(torch.eye(width) - share * turned @ rows, turned)).sum(2)
        factor = float(self.count) / (float(self.count) - 1)
        return _ungroup(left.clamp(min=0.0).sqrt() * factor, *features.shape[-2:])

    def leave_one_out(self, features: Tensor) -> Callable[[Tensor], Tensor]:
        """What these Gaussians would answer, (N, D, h, w) -> (N, 1, h, w), less m pictures (m, D, h, w) of those they were fitted on.

        With r the pictures' whitened rows of a group and s their weight, the covariance left is (I - s r' r) in the whitened space. So a
        squared distance |w|^2 grows by s (r w)' (I - s r r')^-1 (r w): a system of as many unknowns as there are rows. Where they are more
        than the features have channels, (I - s r' r) itself is inverted.
        """
        own = self._whitened(features)  # (B, m, k, D)
        rows, share = self._lost(own)
        many, turned = rows.shape[1] > rows.shape[2], rows.transpose(1, 2)
        left = torch.eye(min(rows.shape[1:])) - (share * turned @ rows if many else share * rows @ turned)
        moved = own.sum(1, keepdim=True) / (float(self.count) - len(features))  # the mean's own step, away from the pictures

        def distances(asked: Tensor) -> Tensor:
            away = self._whitened(asked) + moved  # (B, N, k, D)
            along = (away if many else away @ turned.unsqueeze(1)).flatten(1, 2).transpose(1, 2)  # (B, r or D, N * k)
            squared = (along * torch.linalg.solve(left, along)).sum(1).reshape(away.shape[:3])
            if not many:
                squared = away.square().sum(3) + share * squared
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
        groups = _groups(rows, group_places(high, wide))
        return (groups.flatten(1, 2) @ self.whiten.transpose(1, 2)).reshape(groups.shape)


def fit_place_gaussians(maps: Tensor, own: int, metric: Metric, roi: Roi = ()) -> tuple[PlaceGaussians, Tensor]:
    """PaDiM on maps (N, D, h, w) float32 of at least two normal pictures.

    Also returns the leave-one-out distances (own, h, w) of the first `own` pictures.
    """
    count, width, high, wide = maps.shape
    total = count * high * wide
    center, spread = mean_std(many_patches(maps, None if total <= AT_ONCE else torch.arange(0, total, -(-total // AT_ONCE))))
    parts = maps.split(max(1, AT_ONCE // (high * wide)))  # type: ignore[no-untyped-call]

    def rows(part: Tensor) -> Tensor:  # (n, h, w, D)
        return normalise(many_patches(part), metric, center, spread).reshape(-1, high, wide, width)

    mean = torch.stack([rows(part).sum(0) for part in parts]).sum(0) / count
    covariance = torch.stack([_scatters(rows(part) - mean) for part in parts]).sum(0) / (count * group_places(high, wide).shape[1])
    ridge = RIDGE * covariance.diagonal(dim1=1, dim2=2).mean(1).clamp(min=1e-12)
    unit = torch.eye(width)
    with one_thread():  # else rounding, and with it the bundle's hash, would depend on how many threads there are
        lower = torch.linalg.cholesky((1 - RIDGE) * covariance + ridge[:, None, None] * unit)
        whiten = torch.linalg.solve_triangular(lower, unit.expand_as(lower), upper=False)
    fitted = PlaceGaussians(metric, center, spread, mean, whiten, torch.tensor([0.0, 1.0]), torch.tensor(float(count)))
    few = maps[:own].split(max(1, min(64, AT_ONCE // 2 // (high * wide))))  # type: ignore[no-untyped-call]
    with one_thread():
        distances = torch.cat(list(on_all_cores(fitted.leave_one_out_distances, few)))
    fitted.usual.copy_(unseen_max_mean_std(distances, roi))
    return fitted, distances


@lru_cache(maxsize=16)
def group_places(high: int, wide: int) -> Tensor:
    """Which places y * w + x of a grid (h, w) share a covariance: (B, k) int64, a row a group.

    A group that is smaller than the others, where the grid cannot be divided evenly, names its last row or column more than once.

    >>> group_places(2, 6).tolist()
    [[0, 1, 6, 7], [2, 3, 8, 9], [4, 5, 10, 11]]
    >>> group_places(1, 3).tolist()
    [[0, 1], [2, 2]]
    """
    rows, columns = _bands(high), _bands(wide)
    places = rows[:, None, :, None] * wide + columns[None, :, None, :]  # groups down and across, rows and columns of a group
    return places.flatten(2).flatten(0, 1)


def _bands(side: int) -> Tensor:
    """The groups of neighbours that a grid's side falls into, (groups, longest) int64."""
    groups = min(GROUPS, -(-side // SHARED))
    of_place = torch.arange(side) * groups // side
    every = [(of_place == group).nonzero()[:, 0] for group in range(groups)]
    longest = max(map(len, every))
    return torch.stack([torch.cat([band, band[-1:].expand(longest - len(band))]) for band in every])


@lru_cache(maxsize=16)
def group_slots(high: int, wide: int) -> Tensor:
    """Where in `group_places(high, wide)`, flat, each place of the grid is named first: (h * w,) int64."""
    place, slot = group_places(high, wide).flatten().sort(stable=True)
    first = torch.ones_like(place, dtype=torch.bool)
    first[1:] = place[1:] != place[:-1]
    return slot[first]


def _groups(rows: Tensor, places: Tensor) -> Tensor:
    """(N, h, w, D) -> (B, N, k, D): the groups of `places` (B, k)."""
    apart = rows.flatten(1, 2)[:, places.flatten()]
    return apart.reshape(len(rows), *places.shape, rows.shape[3]).transpose(0, 1)


def _scatters(deviations: Tensor) -> Tensor:
    """Deviations from the mean (N, h, w, D) -> the sum of d d' (B, D, D) over the pictures and places of each group."""
    found = []
    for places in group_places(*deviations.shape[1:3]).split(GROUPS):  # type: ignore[no-untyped-call]  # copied: a few at a time
        rows = _groups(deviations, places).flatten(1, 2)  # (B, N * k, D)
        found.append(rows.transpose(1, 2) @ rows)
    return torch.cat(found)


def _ungroup(values: Tensor, high: int, wide: int) -> Tensor:
    """(B, N, k) -> (N, h, w): the inverse of `_groups`."""
    return values.transpose(0, 1).flatten(1)[:, group_slots(high, wide)].reshape(-1, high, wide)
