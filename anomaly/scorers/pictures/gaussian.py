"""A Gaussian of normal features at each place, PaDiM's idea (Defard et al. 2021, arXiv:2011.08785), beside the memory banks.

A bank asks whether a patch was seen anywhere; this asks whether it is usual here, with all correlations between channels. It needs no
search, says more than a bank where normals are few, and a defect hidden among many normals hardly moves it.

Each place has a mean of its own; two by two places share a covariance, so that it rests on four times as many patches and takes a quarter
of the room. A hundredth of the mean variance on its diagonal keeps it regular for however few pictures. What a picture would be called had
it not been learnt is worked out in closed form (Woodbury's identity), not by fitting again.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from anomaly.scorers.pictures.embedding import Metric, Roi, centre_of, embed, in_its_unit, usual_of

RIDGE = 0.01  # share of the mean variance on the diagonal
SHARED = 2  # places a side that share a covariance, where the grid's side is even


class Gaussian(nn.Module):
    """Mahalanobis distance to the normals of a place, in standard deviations of unseen normals' worst places."""

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
        self.register_buffer("usual", usual)  # (2,): mean and deviation of the largest distance in an unseen normal picture
        self.register_buffer("count", count)  # (): pictures it was fitted on

    def forward(self, features: Tensor, roi: Roi = ()) -> Tensor:
        """(N, D, h, w) -> standardised distance map (N, 1, h, w). The region of interest changes nothing: places are apart anyhow."""
        high, wide = features.shape[-2:]
        return in_its_unit(_places(self._whitened(features).square().sum(3).sqrt(), high, wide), self.usual)

    def unseen(self, features: Tensor) -> Tensor:
        """Distances (N, h, w) that pictures (N, D, h, w) it was fitted on would have, had each not been learnt.

        Without a picture its places' means move by d / (n - 1), and the covariance loses n / (n - 1) d d' of each place of the group.
        """
        rows = self._whitened(features)  # (B, N, k, D)
        inner = rows @ rows.transpose(2, 3)
        share = self._share(rows.shape[2])
        left = torch.linalg.solve(torch.eye(rows.shape[2]) - share * inner, inner).diagonal(dim1=2, dim2=3)
        factor = float(self.count) / (float(self.count) - 1)
        return _places(left.clamp(min=0.0).sqrt() * factor, *features.shape[-2:])

    def without(self, features: Tensor) -> Gaussian:
        """The same without one picture (1, D, h, w) of those it was fitted on."""
        rows = self._whitened(features)[:, 0]  # (B, k, D)
        lost = torch.eye(rows.shape[2]) - self._share(rows.shape[1]) * rows.transpose(1, 2) @ rows
        whiten = torch.linalg.solve_triangular(torch.linalg.cholesky(lost), self.whiten, upper=False)
        high, wide = features.shape[-2:]
        own = embed(features, self.metric, self.center, self.spread).reshape(high, wide, -1)
        mean = self.mean - (own - self.mean) / (float(self.count) - 1)
        return Gaussian(self.metric, self.center, self.spread, mean, whiten, self.usual, self.count - 1)

    def _share(self, places: int) -> float:
        """By how much d d' of one picture's place counts in the covariance of its group."""
        count = float(self.count)
        return (1 - RIDGE) * count / (count - 1) / (count * places)

    def _whitened(self, features: Tensor) -> Tensor:
        """(N, D, h, w) -> (B, N, k, D): by group of k places, as departures from the mean in a unit that makes all directions alike."""
        high, wide = features.shape[-2:]
        rows = embed(features, self.metric, self.center, self.spread).reshape(-1, high, wide, features.shape[1]) - self.mean
        groups = _groups(rows)
        return (groups.flatten(1, 2) @ self.whiten.transpose(1, 2)).reshape(groups.shape)


def fit_gaussians(maps: Tensor, own: int, metric: Metric, roi: Roi = ()) -> tuple[Gaussian, Tensor]:
    """Fit on maps (N, D, h, w) of normal pictures; also the distances (own, h, w) of the first `own`, each as if it had not been learnt."""
    count, _, high, wide = maps.shape
    center, spread = centre_of(maps)
    rows = embed(maps, metric, center, spread).reshape(count, high, wide, -1)
    mean = rows.mean(0)
    away = _groups(rows - mean).flatten(1, 2)  # (B, N * k, D)
    covariance = away.transpose(1, 2) @ away / away.shape[1]
    ridge = RIDGE * covariance.diagonal(dim1=1, dim2=2).mean(1).clamp(min=1e-12)
    unit = torch.eye(maps.shape[1])
    lower = torch.linalg.cholesky((1 - RIDGE) * covariance + ridge[:, None, None] * unit)
    whiten = torch.linalg.solve_triangular(lower, unit.expand_as(lower), upper=False)
    fitted = Gaussian(metric, center, spread, mean, whiten, torch.tensor([0.0, 1.0]), torch.tensor(float(count)))
    distances = torch.cat([fitted.unseen(part) for part in maps[:own].split(64)])  # type: ignore[no-untyped-call]
    fitted.usual.copy_(usual_of(distances, roi))
    return fitted, distances


def _sides(high: int, wide: int) -> tuple[int, int]:
    """Rows and columns of places in a group."""
    return (SHARED if high % SHARED == 0 else 1), (SHARED if wide % SHARED == 0 else 1)


def _groups(rows: Tensor) -> Tensor:
    """(N, h, w, D) -> (B, N, k, D): k places that lie together, B groups of them."""
    _, high, wide, width = rows.shape
    down, across = _sides(high, wide)
    apart = rows.reshape(-1, high // down, down, wide // across, across, width).permute(1, 3, 0, 2, 4, 5)
    return apart.reshape((high // down) * (wide // across), -1, down * across, width)


def _places(values: Tensor, high: int, wide: int) -> Tensor:
    """(B, N, k) -> (N, h, w): back to where the places lie."""
    down, across = _sides(high, wide)
    apart = values.reshape(high // down, wide // across, -1, down, across).permute(2, 0, 3, 1, 4)
    return apart.reshape(-1, high, wide)
