"""Deviation scorer: the largest robust z-score of each sensor's level, spread, movement and residual, scaled by normal drift.

In this order, in `fit_deviation`:

1. Robust z-scores: each feature less its median, over its 80 % quantile of absolute deviation (`_robust_std`).
2. Drift: the structure function (mean squared difference by lag) says how much further a feature will move than it did while it was
   learnt; its scale is widened by that (`drift_inflation`).
3. Relations: the residual of each sensor's level from its regression on the other sensors' levels (`_residual_matrix`). Relations that
   fail on any block of the normal record are ignored (`_relation_trust`).
"""

from __future__ import annotations

import itertools

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from anomaly.data.tables.windows import block_folds
from anomaly.features.encoder import LEVEL_PART
from anomaly.scorers.sensors.windows import by_sensor

QUANTILE, NORMAL_QUANTILE = 0.8, 1.2816  # the robust standard deviation: 80 % quantile of |deviation| over that of a standard normal
MIN_STD = 0.02  # the least standard deviation of a feature, in units of normal spread
RIDGE = 0.3  # weight of the identity in the correlation matrix of levels
CLIP = 4.0  # z-scores are clipped to this, and windows beyond it are left out, when relations between sensors are learnt
BLOCKS = 3  # of the normal record, in each of which a relation between sensors has to hold
HORIZON = 4.0  # features are scaled to the drift expected over this many times the length of the normal record
BANDS, LAGS = 6, 12  # of lags at which drift is measured, and lags in each
LONGEST_LAG = 0.375  # share of the normal record: the longest lag at which drift is measured

MOVEMENT, MOVEMENT_SCALE = 2, 1.5  # its place among the features; it says much of what spread says, so it must be clear to say more
LEAST_UNIT = 0.03  # of a sensor's levels, in robust standard deviations: what never moves must not make its residual boundless

Floats = NDArray[np.float64]


class Deviation(nn.Module):
    """Score = the largest of all absolute z-scores of a window: of each sensor's features, and of its residual from the other sensors.

    The contribution of a sensor is its share of the sum of fourth powers of all z-scores, times the score: what deviates nearly as far is
    named too. Contributions are never negative and sum to the score.

    Each residual counts as far as its relation held in every block of the normal record. Where it held in full, the residual of a single
    faulty sensor is the largest of all sensors' (by Cauchy-Schwarz, as in Alcala and Qin 2009, doi:10.1016/j.automatica.2009.02.027).
    """

    center: Tensor
    scale: Tensor
    mix: Tensor
    mix_center: Tensor
    mix_scale: Tensor

    def __init__(self, center: Tensor, scale: Tensor, mix: Tensor, mix_center: Tensor, mix_scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("center", center)  # (C, F): medians
        self.register_buffer("scale", scale)  # (C, F): robust standard deviations, widened by drift
        self.register_buffer("mix", mix)  # (C, C): deviations of levels -> residuals, each less its prediction by the others
        self.register_buffer("mix_center", mix_center)  # (C,): medians of the residuals
        self.register_buffer("mix_scale", mix_scale)  # (C,): robust standard deviations of the residuals, widened by drift

    def _z_scores(self, features: list[Tensor]) -> Tensor:
        """[(N, C * k, 1)] -> signed z-scores (N, C, F + 1) of each sensor's features and of its residual; 0 where readings are missing."""
        values, counts = by_sensor(features, self.center.shape[0])
        deviation = (values - self.center) * counts.unsqueeze(2)  # (N, C, F)
        residual = (deviation[:, :, 0] @ self.mix - self.mix_center) / self.mix_scale * counts
        return torch.cat([deviation / self.scale, residual.unsqueeze(2)], dim=2)

    @property
    def evidence_width(self) -> int:
        """Columns of `evidence`."""
        return self.center.shape[0] * (self.center.shape[1] + 1)

    def evidence(self, features: list[Tensor]) -> Tensor:
        """[(N, C * k, 1)] -> the signed z-scores (N, (F + 1) * C) that a vote judges by, feature by feature."""
        return self._z_scores(features).transpose(1, 2).flatten(1)

    def forward(self, features: list[Tensor]) -> tuple[Tensor, Tensor]:
        """[(N, C * k, 1)] -> score (N,), contribution (N, C)."""
        z = self._z_scores(features).abs()
        largest = z.flatten(1).amax(dim=1).clamp(min=1e-6)  # taken out, so that no power overflows
        parts = (z / largest[:, None, None]).square().square()
        share = parts.sum(dim=2)
        return largest, share / share.sum(dim=1, keepdim=True).clamp(min=1e-12) * largest.unsqueeze(1)


def fit_deviation(features: list[Tensor], sensors: int, places: NDArray[np.int64], window: int, part: int = LEVEL_PART) -> Deviation:
    """Fit robust z-scores, drift and relations on normal windows.

    `features` are [level, spread, ..., known], each (N, C * k, 1) float32, as `SensorExtractor` gives them. `places` (N,), ascending, are
    the rows of the record at which the windows of `window` rows end. `sensors` is C. Levels are of
    the last `part`-th of a window.

    Medians and 80 % quantiles are hardly moved by up to a fifth of faulty windows. A stationary feature is not widened, a
    drifting one by up to four times. Relations are learnt without the windows that are outliers by a feature alone, for a single faulty
    window would bend them most.

    >>> level = torch.randn(200, 2, 1, generator=torch.Generator().manual_seed(0))  # two sensors, 200 windows
    >>> spread, known = torch.zeros_like(level), torch.ones_like(level)
    >>> scorer = fit_deviation([level, spread, known], sensors=2, places=np.arange(200) * 30, window=30)
    >>> fault = torch.tensor([0.0, 9.0]).reshape(1, 2, 1)  # the second sensor is nine standard deviations too high
    >>> score, contribution = scorer([fault, spread[:1], known[:1]])
    >>> int(contribution.argmax()), bool(score > 5)
    (1, True)
    """
    values, _ = by_sensor(features, sensors)
    rows, level_rows = values.double().numpy(), window // part  # (N, C, F)
    center = np.median(rows, axis=0)
    deviation = rows - center
    std = _robust_std(deviation)
    z = deviation / std
    inflation = [drift_inflation(z[:, :, :1], places, level_rows), drift_inflation(z[:, :, 1:], places, window)]
    scale = std * np.concatenate(inflation, axis=1)
    scale[:, MOVEMENT:] *= MOVEMENT_SCALE
    largest = np.abs(deviation / scale).max(axis=(1, 2))
    inliers = largest <= max(CLIP, float(np.median(largest)))  # never fewer than half of the windows
    level = z[inliers, :, 0]
    matrix, unit = _residual_matrix(level)
    trust = _relation_trust(level, places[inliers], window)
    mix = (trust * matrix + (1 - trust) * np.eye(sensors)) / (std[:, 0] * unit)[:, None]
    residual = deviation[:, :, 0] @ mix
    mix_center = np.median(residual[inliers], axis=0)
    mix_std = _robust_std(residual[inliers] - mix_center)
    mix_scale = mix_std * drift_inflation((residual - mix_center) / mix_std, places, level_rows)
    return Deviation(*(torch.from_numpy(part.astype(np.float32)) for part in (center, scale, mix, mix_center, mix_scale)))


def _residual_matrix(level: Floats) -> tuple[Floats, Floats]:
    """Ridge regression of each sensor on all others: (C, C) from levels (N, C) to residuals, and the unit (C,) of each level.

    Computed from the inverse of the correlation matrix: column j of it, over its diagonal, is the residual of sensor j.
    """
    clipped = np.clip(level, -CLIP, CLIP)
    correlation = clipped.T @ clipped / len(clipped)
    unit = np.maximum(np.sqrt(np.diag(correlation)), LEAST_UNIT)
    correlation = (1 - RIDGE) * correlation / np.outer(unit, unit) + RIDGE * np.eye(level.shape[1])
    precision = np.linalg.inv(correlation)
    return precision / np.diag(precision), unit


def _relation_trust(level: Floats, places: NDArray[np.int64], window: int) -> Floats:
    """How far each sensor's prediction by the others is trusted (C,), 0 to 1: its least regression slope over blocks not learnt from.

    Relations that fail on any block are ignored: they would carry one sensor's drift into the others.
    """
    slopes = []
    for fit, block in block_folds(places, BLOCKS, window):
        if len(fit) > level.shape[1]:
            center = np.median(level[fit], axis=0)
            matrix, unit = _residual_matrix(level[fit] - center)
            unseen = np.clip((level[block] - center) / unit, -CLIP, CLIP)
            predicted = np.clip(unseen - unseen @ matrix, -CLIP, CLIP)
            slopes.append((unseen * predicted).sum(axis=0) / (np.square(predicted).sum(axis=0) + 1e-9))
    least: Floats = np.clip(np.min(slopes, axis=0), 0.0, 1.0) if len(slopes) == BLOCKS else np.zeros(level.shape[1])
    return least


def _robust_std(deviation: Floats) -> Floats:
    """Deviations (N, ...) -> robust standard deviations (...)."""
    return np.maximum(np.quantile(np.abs(deviation), QUANTILE, axis=0) / NORMAL_QUANTILE, MIN_STD)


def drift_inflation(series: Floats, places: NDArray[np.int64], looked_at: int) -> Floats:
    """By how much to widen the scale of z-scored series (N, ...) for their drift: 1 (stationary) to 4 (a trend), of shape (...).

    The slope of the structure function (mean squared difference by lag) over six bands of lags on a log-log scale, clipped to 0..2
    (0: stationary, 1: a random walk, 2: a trend), extrapolated to four times the length of the record. In a band it is the mean over
    twelve lags, or single lags would meet a machine's cycle. Each value is of the `looked_at` rows that end at row `places` (N,). Shorter
    lags are left out, for there values share rows, and so are pairs with a gap between them.

    >>> noise = np.random.default_rng(0).normal(size=(1000, 1))
    >>> drift_inflation(noise, np.arange(1000), 10).round(1)
    array([1.])
    >>> trend = np.linspace(-1.5, 1.5, 1000)[:, None]
    >>> drift_inflation(trend, np.arange(1000), 10).round(1)
    array([4.])
    """
    clipped = np.clip(series, -3.0, 3.0)
    step = int(np.median(np.diff(places))) if len(places) > 1 else 1
    longest = int(LONGEST_LAG * len(clipped))
    shortest = max(-(-looked_at // step), longest // 10)
    edges = np.geomspace(shortest, max(longest, shortest + 1), BANDS + 1)
    logs, values = [], []
    for low, high in itertools.pairwise(edges):
        found = []
        for lag in np.unique(np.linspace(low, high, LAGS, endpoint=False).astype(int)):
            near = places[lag:] - places[:-lag] == lag * step  # pairs without a gap between them
            if near.sum() >= 8:
                found.append(np.square((clipped[lag:] - clipped[:-lag])[near]).mean(axis=0))
        if found:
            logs.append(0.5 * np.log(low * high))
            values.append(np.log(np.mean(found, axis=0) + 1e-12))
    if len(logs) < 3 or longest <= 2 * shortest:
        return np.ones(series.shape[1:])
    x = np.array(logs) - np.mean(logs)
    slope = np.tensordot(x, np.stack(values), axes=1) / np.square(x).sum()
    inflation: Floats = HORIZON ** (np.clip(slope, 0.0, 2.0) / 2)
    return inflation
