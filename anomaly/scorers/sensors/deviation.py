"""Deviation scorer: how far each sensor's level, spread and relation to the others lie from normal, in what they are wont to wander."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from anomaly.data.tables.windows import block_folds
from anomaly.features.encoder import LEVEL_PART
from anomaly.scorers.sensors.windows import by_sensor

QUANTILE, NORMAL_QUANTILE = 0.8, 1.2816  # the spread of a feature: its 80 % deviation over that of a standard normal law
SMALLEST = 0.02  # the least spread of a feature, in units of normal spread
RIDGE = 0.3  # share of the identity in the correlation of levels
FAR = 4.0  # deviations beyond which one counts no more, and a window does not for what sensors tell of each other
BLOCKS = 3  # of the normal record, in each of which what sensors tell of each other has to hold
LASTING = 4.0  # features are scaled to what they would wander if learning had lasted this many times as long
LONGEST_LAG = 0.375  # of the normal record: the longest lag at which wandering is measured

Floats = NDArray[np.float64]


class Deviation(nn.Module):
    """Score = the largest of all standardised deviations: of each sensor's features, and of its level from what the others' levels tell.

    It is shared out by the fourth powers of them all, so that what deviates nearly as far is named too.

    What the others tell is trusted as far as it held in every block of the normal record. Where it is in full, the deviation of a sensor at
    fault alone is the largest among all sensors' (by Cauchy-Schwarz, as in Alcala and Qin 2009, doi:10.1016/j.automatica.2009.02.027), so
    contributions name it. They are never negative and sum to the score.
    """

    center: Tensor
    scale: Tensor
    mix: Tensor
    mix_center: Tensor
    mix_scale: Tensor

    def __init__(self, center: Tensor, scale: Tensor, mix: Tensor, mix_center: Tensor, mix_scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("center", center)  # (C, F)
        self.register_buffer("scale", scale)  # (C, F)
        self.register_buffer("mix", mix)  # (C, C): levels' deviations -> each less its prediction by the others
        self.register_buffer("mix_center", mix_center)  # (C,)
        self.register_buffer("mix_scale", mix_scale)  # (C,)

    def forward(self, features: list[Tensor]) -> tuple[Tensor, Tensor]:
        """[(N, C * k, 1)] -> score (N,), contribution (N, C)."""
        values, counts = by_sensor(features, self.center.shape[0])
        away = (values - self.center) * counts.unsqueeze(2)  # (N, C, F)
        alone = (away[:, :, 0] @ self.mix - self.mix_center) / self.mix_scale * counts
        size = torch.cat([away / self.scale, alone.unsqueeze(2)], dim=2).abs()  # (N, C, F + 1)
        largest = size.flatten(1).amax(dim=1).clamp(min=1e-6)  # taken out, so that no power overflows
        parts = (size / largest[:, None, None]).square().square()
        share = parts.sum(dim=2)
        return largest, share / share.sum(dim=1, keepdim=True).clamp(min=1e-12) * largest.unsqueeze(1)


def fit_deviation(features: list[Tensor], sensors: int, places: NDArray[np.int64], window: int) -> Deviation:
    """Fit on the features of normal windows [(N, C * k, 1)] of `window` rows that end at rows `places` (N,), ascending.

    Medians and 80 % deviations, which up to a fifth of faulty windows hardly move. Every scale is then widened by how much the
    feature wanders: its structure function (mean squared difference by lag) is extended as a power of the lag. A feature that
    keeps to its level is widened by nothing, a drifting one by up to four times. What sensors tell of each other is learnt from the
    windows that do not stand out by a feature alone, for a faulty one among the normals would bend it most.
    """
    values, _ = by_sensor(features, sensors)
    rows, level_rows = values.double().numpy(), window // LEVEL_PART  # (N, C, F)
    center = np.median(rows, axis=0)
    away = rows - center
    spread = _spread(away)
    standard = away / spread
    widened = [wandering(standard[:, :, :1], places, level_rows), wandering(standard[:, :, 1:], places, window)]
    scale = spread * np.concatenate(widened, axis=1)
    size = np.abs(away / scale).max(axis=(1, 2))
    calm = size <= max(FAR, float(np.median(size)))  # never fewer than half of the windows
    level = standard[calm, :, 0]
    apart, unit = _apart(level)
    trusted = _trusted(level, places[calm], window)
    mix = (trusted * apart + (1 - trusted) * np.eye(sensors)) / (spread[:, 0] * unit)[:, None]
    alone = away[:, :, 0] @ mix
    mix_center = np.median(alone[calm], axis=0)
    mix_spread = _spread(alone[calm] - mix_center)
    mix_scale = mix_spread * wandering((alone - mix_center) / mix_spread, places, level_rows)
    return Deviation(*(torch.from_numpy(part.astype(np.float32)) for part in (center, scale, mix, mix_center, mix_scale)))


def _apart(level: Floats) -> tuple[Floats, Floats]:
    """From levels (N, C) about nought: the matrix (C, C) that takes off each, in its unit (C,), what the others' tell of it."""
    held = np.clip(level, -FAR, FAR)
    correlation = held.T @ held / len(held)
    size = np.sqrt(np.maximum(np.diag(correlation), 1e-6))
    correlation = (1 - RIDGE) * correlation / np.outer(size, size) + RIDGE * np.eye(level.shape[1])
    precision = np.linalg.inv(correlation)
    return precision / np.diag(precision), size


def _trusted(level: Floats, places: NDArray[np.int64], window: int) -> Floats:
    """How far to trust what the others tell of each sensor's level (C,): 0 to 1, the least factor at which it fits a block not learnt from.

    A relation that does not hold in every part of the normal record is none, and would carry one sensor's wandering into the others.
    """
    found = []
    for fit, block in block_folds(places, BLOCKS, window):
        if len(fit) > level.shape[1]:
            center = np.median(level[fit], axis=0)
            apart, size = _apart(level[fit] - center)
            unseen = np.clip((level[block] - center) / size, -FAR, FAR)
            told = np.clip(unseen - unseen @ apart, -FAR, FAR)
            found.append((unseen * told).sum(axis=0) / (np.square(told).sum(axis=0) + 1e-9))
    least: Floats = np.clip(np.min(found, axis=0), 0.0, 1.0) if len(found) == BLOCKS else np.zeros(level.shape[1])
    return least


def _spread(away: Floats) -> Floats:
    """Deviations (N, ...) -> robust standard deviations (...)."""
    return np.maximum(np.quantile(np.abs(away), QUANTILE, axis=0) / NORMAL_QUANTILE, SMALLEST)


def wandering(series: Floats, places: NDArray[np.int64], looked_at: int) -> Floats:
    """By how much to widen the scale of series (N, ...), each value of the `looked_at` rows that end at row `places` (N,): 1 to 4.

    The structure function's slope over six lags, on a log-log scale, held in 0..2 (0: stationary, 1: a random walk, 2: a trend).
    Shorter lags are left out: there values have rows in common.
    """
    held = np.clip(series, -3.0, 3.0)
    step = int(np.median(np.diff(places))) if len(places) > 1 else 1
    longest = int(LONGEST_LAG * len(held))
    shortest = max(-(-looked_at // step), longest // 10)
    logs, values = [], []
    for lag in np.unique(np.geomspace(shortest, max(longest, shortest + 1), 6).astype(int)):
        near = places[lag:] - places[:-lag] == lag * step  # pairs without a gap between them
        if near.sum() >= 8:
            difference = (held[lag:] - held[:-lag])[near]
            logs.append(np.log(lag))
            values.append(np.log(np.square(difference).mean(axis=0) + 1e-12))
    if len(logs) < 3 or longest <= 2 * shortest:
        return np.ones(series.shape[1:])
    x = np.array(logs) - np.mean(logs)
    slope = np.tensordot(x, np.stack(values), axes=1) / np.square(x).sum()
    widened: Floats = LASTING ** (np.clip(slope, 0.0, 2.0) / 2)
    return widened
