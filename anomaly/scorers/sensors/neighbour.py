"""Nearest-neighbour scorer for sensors: PatchCore's memory bank (Roth et al. 2022, arXiv:2106.08265) over whole windows."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from anomaly.scorers.coreset import greedy_coreset
from anomaly.scorers.sensors.windows import by_sensor

SIZE = 2000  # windows kept at most


class NearestNeighbour(nn.Module):
    """Score = Euclidean distance of a window's z-scores to the nearest normal window in the bank, over the root of their number."""

    center: Tensor
    scale: Tensor
    bank: Tensor

    def __init__(self, center: Tensor, scale: Tensor, bank: Tensor) -> None:
        super().__init__()
        self.register_buffer("center", center)  # (C, F): means
        self.register_buffer("scale", scale)  # (C, F): standard deviations
        self.register_buffer("bank", bank)  # (M, C * F)

    def forward(self, features: list[Tensor]) -> tuple[Tensor, Tensor]:
        """[(N, C * k, 1)] -> score (N,), contribution (N, C): each sensor's part of the squared distance, as a share of the score.

        A sensor without readings takes its normal centre.
        """
        sensors, width = self.center.shape
        values, counts = by_sensor(features, sensors)
        rows = ((values - self.center) / self.scale * counts.unsqueeze(2)).reshape(-1, sensors * width)
        nearest = (self.bank.square().sum(dim=1) - 2.0 * (rows @ self.bank.T)).argmin(dim=1)
        squared = (rows - self.bank[nearest]).square().reshape(-1, sensors, width).sum(dim=2)
        total = squared.sum(dim=1)
        score = (total / (sensors * width)).sqrt()
        return score, squared / total.clamp(min=1e-12).unsqueeze(1) * score.unsqueeze(1)


def fit_nearest_neighbour(features: list[Tensor], sensors: int, generator: torch.Generator) -> NearestNeighbour:
    """Fit on the features of normal windows [(N, C * k, 1)]: the bank is a greedy k-center coreset of at most 2,000 of them.

    >>> level = torch.arange(6.0).reshape(6, 1, 1)  # one sensor, six windows
    >>> spread, known = torch.zeros_like(level), torch.ones_like(level)
    >>> scorer = fit_nearest_neighbour([level, spread, known], 1, torch.Generator().manual_seed(0))
    >>> score, _ = scorer([torch.tensor([2.0, 9.0]).reshape(2, 1, 1), spread[:2], known[:2]])
    >>> bool(score[0] < 1e-3 < score[1])
    True
    """
    values, _ = by_sensor(features, sensors)
    center = values.mean(dim=0)
    scale = values.std(dim=0).clamp(min=1e-2)
    rows = ((values - center) / scale).reshape(values.shape[0], -1)
    return NearestNeighbour(center, scale, rows[greedy_coreset(rows, min(SIZE, len(rows)), generator)])
