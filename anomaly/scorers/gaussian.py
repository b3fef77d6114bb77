"""Gaussian scorer for sensors: Mahalanobis distance with a Ledoit-Wolf covariance, and each sensor's share of it."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.covariance import ledoit_wolf
from torch import Tensor, nn


def pool(features: list[Tensor], sensors: int) -> Tensor:
    """Stage maps [(N, C * k_s, T)] -> per-sensor window features (N, C, F): each map's mean over the window."""
    parts = [m.reshape(m.shape[0], sensors, -1, m.shape[-1]).mean(dim=-1) for m in features]
    return torch.cat(parts, dim=2)


class Gaussian(nn.Module):
    """Score = Mahalanobis distance of the window's features from normal, per degree of freedom.

    The share of sensor j is the part of the squared distance that replacing its features by what the others predict
    would remove, (P d)_j' (P_jj)^-1 (P d)_j with P the precision matrix: reconstruction-based contribution (Alcala and Qin
    2009, doi:10.1016/j.automatica.2009.02.027), which names the right sensor for any large enough single fault.
    Contributions are never negative and sum to the score.
    """

    mean: Tensor
    root: Tensor
    blocks: Tensor

    def __init__(self, mean: Tensor, root: Tensor, blocks: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)  # (C, F)
        self.register_buffer("root", root)  # (C * F, C * F), precision = root @ root.T
        self.register_buffer("blocks", blocks)  # (C, F, F): inverse of each sensor's diagonal block of the precision

    def forward(self, features: list[Tensor]) -> tuple[Tensor, Tensor]:
        """[(N, C * k_s, T)] -> score (N,), contribution (N, C)."""
        sensors, width = self.mean.shape
        difference = pool(features, sensors) - self.mean  # (N, C, F)
        flat = difference.reshape(-1, sensors * width)
        white = flat @ self.root  # (N, C * F); a sum of squares loses no digits to cancelling, as d' P d would
        score = (white.square().sum(dim=1) / (sensors * width)).sqrt()
        parts = (white @ self.root.T).reshape(-1, sensors, width)
        removed = (torch.matmul(parts.unsqueeze(2), self.blocks).squeeze(2) * parts).sum(dim=2).clamp(min=0.0)  # (N, C)
        share = removed / removed.sum(dim=1, keepdim=True).clamp(min=1e-12)
        return score, share * score.unsqueeze(1)


def fit_gaussian(features: list[Tensor], sensors: int) -> Gaussian:
    """Fit on the features of normal windows [(N, C * k_s, T)]; covariance shrunk after Ledoit and Wolf (2004)."""
    rows = pool(features, sensors)  # (N, C, F)
    flat = rows.reshape(rows.shape[0], -1).double().numpy()
    mean = flat.mean(0)
    spread = np.maximum(flat.std(0), 1e-6)  # shrinking needs features of like size, or small ones drown
    covariance, _ = ledoit_wolf((flat - mean) / spread, assume_centered=True)
    precision = np.linalg.inv(covariance + 1e-6 * np.eye(len(mean))) / np.outer(spread, spread)
    width = rows.shape[2]
    blocks = np.stack([np.linalg.inv(precision[i : i + width, i : i + width]) for i in range(0, sensors * width, width)])
    parts = (mean.reshape(sensors, width), np.linalg.cholesky(precision), blocks)
    as_float = [torch.from_numpy(part.astype(np.float32)) for part in parts]
    return Gaussian(*as_float)
