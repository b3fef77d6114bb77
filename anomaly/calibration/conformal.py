"""Conformal p-values: a score against normal scores that its scorer has not seen, with a generalised Pareto tail beyond them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from anomaly.errors import DataError

MAX_KEPT = 4096  # calibration scores kept in the graph; more are thinned to quantiles
INDEPENDENT = 3.0  # scores in time are counted up to where this many independent ones lie above
ROUNDING = 1e-6  # of a score: a tie stays one when a graph adds up in another order
BLOCK = 64  # calibration scores compared with a score at once: the block is found by its first one


@dataclass(frozen=True)
class Tail:
    """Generalised Pareto tail of scores s above `start`: P(S > s | S > start) = (1 + shape * (s - start) / scale) ** (-1 / shape).

    `beyond` is the share of the calibration scores that lie above `start`.
    """

    start: float
    scale: float
    shape: float
    beyond: float


class Calibrator(nn.Module):
    """Split or cross-conformal p-value (Vovk et al. 2005, "Algorithmic learning in a random world"; cross-conformal: Vovk 2015).

    p = (1 + m * k / n) / (m + 1), where k of the n calibration scores are at or above the score and m <= n is their effective sample size.
    On exchangeable normal data, where m = n, P(p <= a) <= a for every a. Scores that follow each other in time are not exchangeable: with
    m < n they resolve no finer than their independent number allows (`dependence.independent_scores`).

    Above the tail's start counts end: k stays that of the scores above it, and p falls with the survival of a generalised Pareto tail
    (peaks over threshold, Pickands 1975). Thresholds below `counted` are therefore extrapolated, and hold as far as that tail does.
    """

    scores: Tensor
    effective: Tensor
    tail: Tensor
    blocks: Tensor

    def __init__(self, scores: Tensor, effective: Tensor, tail: Tensor) -> None:
        super().__init__()
        self.register_buffer("scores", scores)  # (n,) ascending
        self.register_buffer("effective", effective)  # ()
        self.register_buffer("tail", tail)  # (4,): start, scale, shape, beyond
        filled = scores.new_full((-(-len(scores) // BLOCK) * BLOCK,), torch.inf)
        filled[: len(scores)] = scores
        self.register_buffer("blocks", filled.reshape(-1, BLOCK), persistent=False)

    @property
    def counted(self) -> float:
        """The least p-value that rests on counts; smaller ones rest on the tail."""
        effective, beyond = float(self.effective), float(self.tail[3])
        return (1.0 + effective * beyond) / (effective + 1.0)

    def forward(self, score: Tensor) -> Tensor:
        """Scores (N,) float32 -> p-values (N,) float32 in (0, 1]."""
        at = score.unsqueeze(1)
        block = ((self.blocks[:, 0].unsqueeze(0) < at).sum(dim=1) - 1).clamp(min=0)  # where the calibration scores pass this one
        below = block * BLOCK + (self.blocks[block] < at).sum(dim=1)
        start, scale, shape, beyond = self.tail
        above = (1.0 - below.to(torch.float32) / self.scores.shape[0]).clamp(min=beyond)
        p = (1.0 + self.effective * above) / (self.effective + 1.0)
        survival = torch.exp(-torch.log1p(shape * (score - start).clamp(min=0.0) / scale) / shape)
        return (p * survival).clamp(min=1e-30)


def fit_calibrator(held_out: NDArray[np.float64], effective: float, *, in_time: bool = False) -> Calibrator:
    """The calibrator of held-out normal scores (n,) float64, whose effective sample size is `effective`.

    Exchangeable scores are counted up to the largest, so that the conformal bound holds (`fit_tail`). Scores that follow each other
    `in_time` are counted as far as they hold independent ones, and the rest is the tail's, so that what was asked for comes on average
    over records (`fit_tail_in_time`). Raises DataError for fewer than 8 scores, or any that is not finite.

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
    ordered, effective = np.sort(held_out), float(min(effective, len(held_out)))
    if in_time:
        ordered = ordered + ROUNDING * np.abs(ordered)
    tail = fit_tail_in_time(ordered, effective) if in_time else fit_tail(ordered)
    if len(ordered) > MAX_KEPT:  # upper quantiles: never less conservative than the full set
        ordered = np.quantile(ordered, np.linspace(0, 1, MAX_KEPT), method="higher")
    values = torch.tensor(ordered, dtype=torch.float32)
    return Calibrator(values, torch.tensor(effective), torch.tensor([tail.start, tail.scale, tail.shape, tail.beyond]))


def fit_tail(ordered: NDArray[np.float64]) -> Tail:
    """The tail beyond the largest of exchangeable scores: peaks over threshold (Pickands 1975), of those over the 90 % quantile.

    `ordered` (n,) float64 are the scores, ascending. The law is fitted by maximum likelihood, its shape kept within [0.05, 0.5]: a negative
    one would be a bounded tail, and call a score beyond its end impossible. With fewer than 30 excesses the shape is set to 0.1, near
    exponential.
    """
    start, largest = float(np.quantile(ordered, 0.9)), float(ordered[-1])
    peaks = ordered[ordered > start] - start
    scale, shape = float(peaks.mean()) if len(peaks) and peaks.mean() > 0 else max(1e-6, float(ordered.std())), 0.1
    if len(peaks) >= 30:
        from scipy.stats import genpareto  # takes a second, which few normals need not wait for

        shape, _, fitted = (float(value) for value in genpareto.fit(peaks, floc=0))
        kept = float(np.clip(shape, 0.05, 0.5))
        scale, shape = fitted if kept == shape else scale * (1 - kept), kept  # the scale that keeps the mean of the peaks
    return Tail(largest, scale + shape * (largest - start), shape, 0.0)  # excesses of a higher start follow the same shape


def fit_tail_in_time(ordered: NDArray[np.float64], effective: float) -> Tail:
    """The tail of scores that follow each other in time, from where three independent ones lie above.

    The largest scores of a record are often one burst, and say little of how high the next one goes. So counts end where INDEPENDENT
    scores, or a fifth of all, lie above. Their excesses are taken for exponential, and their mean is not taken for certain: after k
    independent ones a further one is over y with probability (1 + y / (k * mean)) ** -k, a generalised Pareto law of shape 1 / k (the
    predictive law of an exponential variable, Geisser 1993, "Predictive inference"). On average over records it is exceeded as often as
    it says, which a law with the mean put in is not. One of the independent excesses is not counted in k: where the tail starts is taken
    from the same scores, and the excesses of bursts vary more than exponential ones.

    `ordered` (n,) float64 are the scores, ascending; `effective` says how many of them are independent.

    >>> tail = fit_tail_in_time(np.arange(1000.0), effective=100)
    >>> tail.start, tail.scale, tail.beyond
    (970.0, 15.0, 0.029)
    """
    count = len(ordered)
    start = float(ordered[-min(int(np.ceil(INDEPENDENT * count / effective)), count // 5)])
    peaks = ordered[ordered > start] - start
    scale = float(peaks.mean()) if len(peaks) else max(1e-6, float(ordered.std()))
    return Tail(start, scale, 1 / max(1.0, effective * len(peaks) / count - 1), len(peaks) / count)
