"""Mahalanobis distance, and PCA monitoring by T2 and SPE (Q statistic): both are sqrt(d' M d) of a window's deviation d from normal."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import special
from torch import Tensor, nn

from anomaly.scorers.sensors.windows import by_sensor

EXPLAINED = 0.9  # share of the variance that the principal components keep
LIMIT = 0.99  # confidence of the control limits of T2 and SPE

Floats = NDArray[np.float64]


class Quadratic(nn.Module):
    """Score = sqrt(d' M d / weight) of the deviation d of a window's features from their normal mean.

    Contributions are reconstruction-based (RBC; Alcala and Qin 2009, doi:10.1016/j.automatica.2009.02.027): the share of sensor j is the
    part of d' M d that replacing its features by their prediction from the others would remove, (M d)_j' (M_jj)^-1 (M d)_j. They name
    the right sensor for any large enough single fault, are never negative and sum to the score.
    """

    mean: Tensor
    root: Tensor
    blocks: Tensor

    def __init__(self, mean: Tensor, root: Tensor, blocks: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)  # (C, F)
        self.register_buffer("root", root)  # (C * F, C * F), M / weight = root @ root.T
        self.register_buffer("blocks", blocks)  # (C, F, F): inverse of each sensor's diagonal block of M / weight

    def forward(self, features: list[Tensor]) -> tuple[Tensor, Tensor]:
        """[(N, C * k, 1)] -> score (N,), contribution (N, C)."""
        sensors, width = self.mean.shape
        values, counts = by_sensor(features, sensors)
        deviation = (values - self.mean) * counts.unsqueeze(2)  # (N, C, F)
        white = deviation.reshape(-1, sensors * width) @ self.root  # a sum of squares loses no digits to cancelling, as d' M d would
        score = white.square().sum(dim=1).sqrt()
        parts = (white @ self.root.T).reshape(-1, sensors, width)
        removed = (torch.matmul(parts.unsqueeze(2), self.blocks).squeeze(2) * parts).sum(dim=2).clamp(min=0.0)  # (N, C)
        share = removed / removed.sum(dim=1, keepdim=True).clamp(min=1e-12)
        return score, share * score.unsqueeze(1)


def _standardised(features: list[Tensor], sensors: int) -> tuple[Floats, Floats, Floats, int]:
    """Standardised rows (N, C * F), their mean (C * F,), standard deviation (C * F,) and F."""
    values, _ = by_sensor(features, sensors)
    rows = values.reshape(values.shape[0], -1).double().numpy()
    mean = rows.mean(0)
    spread = np.maximum(rows.std(0), 1e-6)  # shrinking and components need features of like size, or small ones drown
    return (rows - mean) / spread, mean, spread, values.shape[2]


def _quadratic(matrix: Floats, mean: Floats, spread: Floats, width: int) -> Quadratic:
    """A scorer of raw deviations from the matrix M (C * F, C * F) of standardised ones."""
    matrix = matrix / np.outer(spread, spread)
    blocks = np.stack([np.linalg.inv(matrix[i : i + width, i : i + width]) for i in range(0, len(mean), width)])
    parts = (mean.reshape(-1, width), np.linalg.cholesky(matrix), blocks)
    return Quadratic(*(torch.from_numpy(part.astype(np.float32)) for part in parts))


def fit_gaussian(features: list[Tensor], sensors: int) -> Quadratic:
    """Mahalanobis distance to the mean of normal windows, over the root of the number of features.

    `features` are [level, spread, ..., known], each (N, C * k, 1) float32; `sensors` is C. The covariance is shrunk after Ledoit and Wolf
    2004 (doi:10.1016/S0047-259X(03)00096-4).

    >>> level = torch.randn(300, 2, 1, generator=torch.Generator().manual_seed(0))  # two sensors, 300 windows
    >>> features = [level, 0.1 * level.flip(0), torch.ones_like(level)]
    >>> scorer = fit_gaussian(features, sensors=2)
    >>> score, contribution = scorer(features)
    >>> round(float(score.square().mean()), 1)  # one on average over the normals
    1.0
    """
    from sklearn.covariance import ledoit_wolf  # takes a second, which other scorers need not wait for

    rows, mean, spread, width = _standardised(features, sensors)
    covariance, _ = ledoit_wolf(rows, assume_centered=True)
    return _quadratic(np.linalg.inv(covariance + 1e-6 * np.eye(len(mean))) / len(mean), mean, spread, width)


def fit_pca(features: list[Tensor], sensors: int) -> Quadratic:
    """PCA monitoring: T2 + SPE in one index, each over its control limit (Yue and Qin 2001, doi:10.1021/ie000141+).

    `features` are [level, spread, ..., known], each (N, C * k, 1) float32; `sensors` is C. The principal components keep 90 % of the
    variance. Control limits at 99 %: T2 by the F distribution, SPE by Jackson and Mudholkar (1979). The score is the root of the index.

    >>> common = torch.randn(300, 1, 1, generator=torch.Generator().manual_seed(0))
    >>> level = common * torch.tensor([1.0, 2.0, -1.0]).reshape(1, 3, 1)  # three sensors that move together
    >>> level = level + 0.1 * torch.randn(300, 3, 1, generator=torch.Generator().manual_seed(1))
    >>> scorer = fit_pca([level, torch.zeros_like(level), torch.ones_like(level)], sensors=3)
    >>> score, contribution = scorer([torch.tensor([[[1.0], [2.0], [2.0]]]), torch.zeros(1, 3, 1), torch.ones(1, 3, 1)])
    >>> int(contribution.argmax())  # the third ought to be at -1
    2
    """
    rows, mean, spread, width = _standardised(features, sensors)
    count, size = rows.shape
    variances, vectors = np.linalg.eigh(np.cov(rows.T) if size > 1 else np.array([[1.0]]))
    variances, vectors = np.maximum(variances[::-1], 1e-9), vectors[:, ::-1]
    kept = min(size, count - 2, int(np.searchsorted(np.cumsum(variances) / variances.sum(), EXPLAINED)) + 1)
    t2_limit = kept * (count - 1) * (count + 1) / (count * (count - kept)) * special.fdtri(kept, count - kept, LIMIT)
    within, rest = vectors[:, :kept], vectors[:, kept:]
    matrix = within / variances[:kept] @ within.T / t2_limit
    if rest.shape[1]:
        matrix += rest @ rest.T / spe_limit(variances[kept:])
    return _quadratic(matrix + 1e-9 * np.eye(size), mean, spread, width)


def spe_limit(residual_variances: Floats, confidence: float = LIMIT) -> float:
    """Control limit of the squared prediction error by Jackson and Mudholkar (1979, doi:10.1080/00401706.1979.10489779).

    `residual_variances` are the eigenvalues of the covariance that the principal components leave out.

    >>> round(spe_limit(np.array([1.0])), 1)  # the square of one standard normal exceeds 6.6 once in a hundred
    6.6
    """
    one, two, three = (float(np.sum(residual_variances**power)) for power in (1, 2, 3))
    h = 1 - 2 * one * three / (3 * two**2)
    if h <= 1e-3:  # far from normal: Box's chi-square approximation
        return two / one * float(special.chdtri(one**2 / two, 1 - confidence))
    c = float(special.ndtri(confidence))
    return float(one * (1 + c * np.sqrt(2 * two * h**2) / one + two * h * (h - 1) / one**2) ** (1 / h))
