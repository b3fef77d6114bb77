"""Scores into p-values that keep their promise on normal data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import genpareto
from torch import Tensor, nn

from anomaly.errors import DataError

HIGH = 0.05  # share of the scores that count as high where what follows each other is counted
MAX_KEPT = 4096  # calibration scores kept in the graph; more are thinned to quantiles
BLOCK = 64  # of them are compared with a score at once, after the blocks' first ones


@dataclass(frozen=True)
class Tail:
    """A generalised Pareto law for scores above `start`: survival (1 + shape * (s - start) / scale) ** (-1 / shape)."""

    start: float
    scale: float
    shape: float


class Calibrator(nn.Module):
    """Conformal p-value of a score against normal scores never seen by the scorer that gave them.

    p = (1 + m * k / n) / (m + 1), with k of n calibration scores at or above s and m <= n the number of independent ones:
    on exchangeable normal data P(p <= a) <= a (Vovk et al. 2005); with m < n, scores that follow each other resolve no finer
    than their independent number (`independent_scores`) allows. Above the largest calibration score p = 1 / (m + 1) is
    extended downward by the tail's survival, continuous and falling, so that budgets finer than 1 / n can be met by extrapolation.
    """

    scores: Tensor
    effective: Tensor
    tail: Tensor
    blocks: Tensor

    def __init__(self, scores: Tensor, effective: Tensor, tail: Tensor) -> None:
        super().__init__()
        self.register_buffer("scores", scores)  # (n,) ascending
        self.register_buffer("effective", effective)  # ()
        self.register_buffer("tail", tail)  # (3,): start, scale, shape
        filled = scores.new_full((-(-len(scores) // BLOCK) * BLOCK,), torch.inf)
        filled[: len(scores)] = scores
        self.register_buffer("blocks", filled.reshape(-1, BLOCK), persistent=False)

    def forward(self, score: Tensor) -> Tensor:
        """(N,) -> p-value (N,) float32 in (0, 1]."""
        at = score.unsqueeze(1)
        block = ((self.blocks[:, 0].unsqueeze(0) < at).sum(dim=1) - 1).clamp(min=0)  # where the calibration scores pass this one
        below = block * BLOCK + (self.blocks[block] < at).sum(dim=1)
        above = 1.0 - below.to(torch.float32) / self.scores.shape[0]
        p = (1.0 + self.effective * above) / (self.effective + 1.0)
        start, scale, shape = self.tail[0], self.tail[1], self.tail[2]
        excess = torch.log1p(shape * (score - start).clamp(min=0.0) / scale)
        largest = torch.log1p(shape * (self.scores[-1] - start).clamp(min=0.0) / scale)
        ratio = torch.exp(-(excess - largest).clamp(min=0.0) / shape)  # 1 up to the largest calibration score
        return (p * ratio).clamp(min=1e-30)


def fit_calibrator(held_out: NDArray[np.float64], effective: float) -> Calibrator:
    """Fit on held-out normal scores (n,), `effective` of them independent. Raises DataError for fewer than 8."""
    if len(held_out) < 8 or not np.isfinite(held_out).all():
        raise DataError(
            f"calibration needs at least 8 finite normal scores, there are {int(np.isfinite(held_out).sum())}; give more normal data"
        )
    ordered = np.sort(held_out)
    tail = fit_tail(ordered)
    if len(ordered) > MAX_KEPT:  # upper quantiles: never less conservative than the full set
        ordered = np.quantile(ordered, np.linspace(0, 1, MAX_KEPT), method="higher")
    values = torch.tensor(ordered, dtype=torch.float32)
    return Calibrator(values, torch.tensor(float(min(effective, len(held_out)))), torch.tensor([tail.start, tail.scale, tail.shape]))


def fit_tail(ordered: NDArray[np.float64]) -> Tail:
    """Peaks over the 90 % quantile (Pickands 1975). The shape is held in [0.05, 0.5]: never a bounded tail, for a score
    beyond the end of one would be called impossible; with fewer than 30 peaks it is set to 0.1, near exponential."""
    start = float(np.quantile(ordered, 0.9))
    peaks = ordered[ordered > start] - start
    scale = float(peaks.mean()) if len(peaks) and peaks.mean() > 0 else max(1e-6, float(ordered.std()))
    if len(peaks) < 30:
        return Tail(start, scale, 0.1)
    shape, _, fitted = genpareto.fit(peaks, floc=0)
    if not 0.05 <= shape <= 0.5:
        shape = float(np.clip(shape, 0.05, 0.5))
        fitted = scale * (1 - shape)  # the scale that keeps the mean of the peaks
    return Tail(start, float(fitted), float(shape))


def effective_size(*parts: NDArray[np.float64]) -> float:
    """How many independent scores one or several series (n,), each in time order, are worth: n / (1 + 2 sum of autocorrelations) about
    their common mean, the sum cut at the first pair that is not positive (Geyer 1992, initial positive sequence). At least 1."""
    every = np.concatenate(parts)
    n, mean = len(every), every.mean()
    if n < 4 or float(every.var()) < 1e-30:
        return float(n)
    correlation = np.zeros(max(map(len, parts)))
    for part in parts:
        size = 1 << (2 * len(part) - 1).bit_length()
        spectrum = np.fft.rfft(part - mean, size)
        correlation[: len(part)] += np.fft.irfft(spectrum * np.conj(spectrum), size)[: len(part)]
    correlation /= correlation[0]
    total = 0.0
    for lag in range(1, len(correlation) - 1, 2):
        pair = correlation[lag] + correlation[lag + 1]
        if pair <= 0:
            break
        total += float(pair)
    return float(np.clip(n / (1 + 2 * total), 1.0, n))


def independent_scores(parts: Sequence[NDArray[np.float64]]) -> float:
    """How many independent scores one or several series (n,), each in time order, are worth to a threshold among their high ones.

    What decides how far a sample's quantile is off is how exceedances of it hang together (Sen 1972, doi:10.1016/0047-259X(72)90011-5),
    not how the scores do: those of a machine that wanders for hours may still rise above it in many short bursts.
    """
    high = np.quantile(np.concatenate(parts), 1 - HIGH)
    return effective_size(*((part >= high).astype(np.float64) for part in parts))


def extremal_index(scores: NDArray[np.float64], apart: int) -> float:
    """Into how many runs the highest scores of a series (n,) in time order gather, a score: 1 when each stands alone.

    The runs estimator (Smith and Weissman 1994, doi:10.1111/j.2517-6161.1994.tb01997.x): the highest twentieth of the scores belong to
    one run unless more than `apart` lower ones lie between them. High scores come in bursts, and a burst is one alarm.
    """
    high = np.flatnonzero(scores > np.quantile(scores, 1 - HIGH))
    if len(high) == 0:
        return 1.0
    return float(1 + (np.diff(high) > apart).sum()) / len(high)
