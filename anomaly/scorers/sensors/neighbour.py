"""Nearest-neighbour scorer for sensors: the memory bank of `memory_bank.py` over whole windows, and each sensor's share of the distance."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from anomaly.scorers.coreset import greedy_coreset
from anomaly.scorers.sensors.windows import by_sensor

SIZE = 2000  # windows kept at most


class Neighbour(nn.Module):
    """Score = distance of the window's standardised features to the nearest normal window kept, per degree of freedom."""

    center: Tensor
    scale: Tensor
    bank: Tensor

    def __init__(self, center: Tensor, scale: Tensor, bank: Tensor) -> None:
        super().__init__()
        self.register_buffer("center", center)  # (C, F)
        self.register_buffer("scale", scale)  # (C, F)
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


def fit_neighbour(features: list[Tensor], sensors: int, generator: torch.Generator) -> Neighbour:
    """Fit on the features of normal windows [(N, C * k, 1)]: a greedy coreset of at most 2,000 of them."""
    values, _ = by_sensor(features, sensors)
    center = values.mean(dim=0)
    scale = values.std(dim=0).clamp(min=1e-2)
    rows = ((values - center) / scale).reshape(values.shape[0], -1)
    return Neighbour(center, scale, rows[greedy_coreset(rows, min(SIZE, len(rows)), generator)])
