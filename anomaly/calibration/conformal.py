"""Conformal p-values: a score against normal scores that its scorer has not seen, and a fitted tail for the highest."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from anomaly.calibration.tail import fit_tail, fit_tail_in_time
from anomaly.errors import DataError

MAX_KEPT = 4096  # calibration scores kept in the graph; more are thinned to quantiles
ROUNDING = 1e-6  # of a score: a tie stays one when a graph adds up in another order
BLOCK = 64  # calibration scores compared with a score at once: the block is found by its first one


class Calibrator(nn.Module):
    """Split or cross-conformal p-value (Vovk et al. 2005, "Algorithmic learning in a random world"; cross-conformal: Vovk 2015).

    p = (1 + m * k / n) / (m + 1), where k of the n calibration scores are at or above the score and m <= n is their effective sample size.
    On exchangeable normal data, where m = n, P(p <= a) <= a for every a from `counted` on. Scores that follow each other in time are not
    exchangeable: with m < n they resolve no finer than their independent number allows (`dependence.independent_scores`).

    Above the tail's start counts end: k stays that of the scores above it, and p falls with the survival of a law fitted to their excesses
    (`anomaly.calibration.tail`). Below `counted`, P(p <= a) is about a on average over draws, as far as that law holds.
    """

    scores: Tensor
    effective: Tensor
    tail: Tensor
    blocks: Tensor

    def __init__(self, scores: Tensor, effective: Tensor, tail: Tensor) -> None:
        super().__init__()
        self.register_buffer("scores", scores)  # (n,) ascending
        self.register_buffer("effective", effective)  # ()
        self.register_buffer("tail", tail)  # (5,): start, scale, shape, beyond, power: see `tail.Tail`
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
        start, scale, shape, beyond, power = self.tail
        above = (1.0 - below.to(torch.float32) / self.scores.shape[0]).clamp(min=beyond)
        p = (1.0 + self.effective * above) / (self.effective + 1.0)
        excess = ((score - start).clamp(min=0.0) / scale).pow(power)
        survival = torch.exp(-torch.log1p(shape * excess) / shape)
        return (p * survival).clamp(min=1e-30)


def fit_calibrator(held_out: NDArray[np.float64], effective: float, *, in_time: bool = False) -> Calibrator:
    """The calibrator of held-out normal scores (n,) float64, whose effective sample size is `effective`.

    Exchangeable scores are counted up to where a quarter of them, at most 60, lie above (`fit_tail`). Scores that follow each other
    `in_time` are counted as far as they hold independent ones, and the rest is the tail's, so that what was asked for comes on average
    over records (`fit_tail_in_time`). Raises DataError for fewer than 8 scores, or any that is not finite.

    >>> import numpy as np, torch
    >>> calibrator = fit_calibrator(np.arange(1.0, 10.0), effective=9)  # 1, 2, … 9
    >>> [round(float(p), 2) for p in calibrator(torch.tensor([0.0, 3.0, 5.0]))]  # 9, 7 and 5 of them are as high
    [1.0, 0.8, 0.6]
    >>> bool(calibrator(torch.tensor([20.0])) < 0.1)  # the tail
    True
    """
    if len(held_out) < 8 or not np.isfinite(held_out).all():
        raise DataError(
            f"calibration needs at least 8 finite normal scores, there are {int(np.isfinite(held_out).sum())}; give more normal data"
        )
    ordered, effective = np.sort(held_out), float(min(effective, len(held_out)))
    if in_time:
        ordered = ordered + ROUNDING * np.abs(ordered)
    tail = (fit_tail_in_time if in_time else fit_tail)(ordered, effective)
    if len(ordered) > MAX_KEPT:  # upper quantiles: never less conservative than the full set
        ordered = np.quantile(ordered, np.linspace(0, 1, MAX_KEPT), method="higher")
    values = torch.tensor(ordered, dtype=torch.float32)
    return Calibrator(values, torch.tensor(effective), torch.tensor([tail.start, tail.scale, tail.shape, tail.beyond, tail.power]))
