"""Conformal p-values: a score against normal scores that its scorer has not seen, with a generalised Pareto tail beyond them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from anomaly.errors import DataError

MAX_KEPT = 4096  # calibration scores kept in the graph; more are thinned to quantiles
BLOCK = 64  # calibration scores compared with a score at once: the block is found by its first one


@dataclass(frozen=True)
class Tail:
    """Generalised Pareto distribution of scores s above `start`: P(S > s) = (1 + shape * (s - start) / scale) ** (-1 / shape)."""

    start: float
    scale: float
    shape: float


class Calibrator(nn.Module):
    """Split or cross-conformal p-value (Vovk et al. 2005, "Algorithmic learning in a random world"; cross-conformal: Vovk 2015).

    p = (1 + m * k / n) / (m + 1), where k of the n calibration scores are at or above the score and m <= n is their effective sample size.
    On exchangeable normal data, where m = n, P(p <= a) <= a for every a. Scores that follow each other in time are not exchangeable: with
    m < n they resolve no finer than their independent number allows (`dependence.independent_scores`).

    Above the largest calibration score p is 1 / (m + 1) times the survival of a generalised Pareto tail (peaks over threshold, Pickands
    1975), which is 1 there and falls. Thresholds below 1 / (m + 1) are therefore extrapolated, and hold as far as that tail does.
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
        """Scores (N,) float32 -> p-values (N,) float32 in (0, 1]."""
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
    """The conformal calibrator of held-out normal scores (n,) float64, whose effective sample size is `effective`.

    Raises DataError for fewer than 8 scores, or any that is not finite.

    >>> import numpy as np, torch
    >>> calibrator = fit_calibrator(np.arange(1.0, 10.0), effective=9)  # 1, 2, … 9
    >>> [round(float(p), 2) for p in calibrator(torch.tensor([0.0, 5.0, 9.0]))]  # 9, 5 and 1 of them are as high
    [1.0, 0.6, 0.2]
    >>> bool(calibrator(torch.tensor([20.0])) < 0.1)  # beyond all of them: the tail
    True
    """
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
    """Peaks over threshold (Pickands 1975): a generalised Pareto distribution of the excesses over the 90 % quantile (maximum likelihood).

    `ordered` (n,) float64 are the scores, ascending. The shape is kept within [0.05, 0.5]: a negative one would be a bounded tail, and call
    a score beyond its end impossible. With fewer than 30 excesses the shape is set to 0.1, near exponential.
    """
    start = float(np.quantile(ordered, 0.9))
    peaks = ordered[ordered > start] - start
    scale = float(peaks.mean()) if len(peaks) and peaks.mean() > 0 else max(1e-6, float(ordered.std()))
    if len(peaks) < 30:
        return Tail(start, scale, 0.1)
    from scipy.stats import genpareto  # takes a second, which few normals need not wait for

    shape, _, fitted = genpareto.fit(peaks, floc=0)
    if not 0.05 <= shape <= 0.5:
        shape = float(np.clip(shape, 0.05, 0.5))
        fitted = scale * (1 - shape)  # the scale that keeps the mean of the peaks
    return Tail(start, float(fitted), float(shape))
