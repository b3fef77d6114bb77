"""Contaminated normals: iterative trimming of outliers among the training pictures.

A folder of good parts often holds defects that nobody marked, and a scorer that has learnt a defect calls similar ones normal.
So pictures whose leave-one-out score is an outlier are listed and, where asked for, left out. The scorer is then fitted again, which
may bring out further ones. Whether they are defects is for a person to say: until then they count as normal when the threshold is set,
so that the alarm budget holds if they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from anomaly.scorers.pictures.memory_bank import FittedBanks

OUTLIER = 4.0  # times the distance from the median to the upper quartile: about one normal score in 300 if they were Gaussian
ROUNDS = 3


@dataclass(frozen=True)
class Trimmed:
    """A scorer with its suspects: `fitted` is over the pictures kept, leave-one-out scores and maps are over all of them."""

    fitted: FittedBanks
    held_out: Tensor  # (N,)
    maps: Tensor  # (N, h, w)
    suspect: Tensor  # (N,) bool


def is_outlier(scores: Tensor) -> Tensor:
    """Which scores (N,) lie more than four upper quartile ranges above the median, as bool (N,). A fifth of outliers hardly moves either.

    >>> is_outlier(torch.tensor([1.0, 1.1, 1.2, 1.3, 9.0])).tolist()
    [False, False, False, False, True]
    """
    middle, upper = torch.quantile(scores.double(), torch.tensor([0.5, 0.75], dtype=torch.float64))
    mask: Tensor = scores.double() > middle + OUTLIER * (upper - middle).clamp(min=1e-9)
    return mask


def fit_trimmed(fit: Callable[[list[Tensor], Tensor], FittedBanks], features: list[Tensor], leave_out: bool = True) -> Trimmed:
    """Trimmed fit: fit on maps (N, C_s, h_s, w_s) a stage, leave outliers out and fit again, three times at most.

    `fit` is also told which of the pictures it is given, (M,) int64. No more than a third of them is ever left out. With `leave_out` off
    none is: the outliers of the one fit are marked only.
    """
    count = features[0].shape[0]
    kept = torch.ones(count, dtype=torch.bool)
    fitted = fit(features, torch.arange(count))
    if not leave_out:
        return Trimmed(fitted, fitted.held_out, fitted.maps, is_outlier(fitted.held_out))
    for _ in range(ROUNDS):
        found = is_outlier(fitted.held_out)
        if not found.any() or int(kept.sum() - found.sum()) < count * 2 / 3:
            break
        kept[kept.nonzero()[:, 0][found]] = False
        fitted = fit([maps[kept] for maps in features], kept.nonzero()[:, 0])
    held_out, maps = torch.empty(count), torch.empty(count, *fitted.maps.shape[1:])
    held_out[kept], maps[kept] = fitted.held_out, fitted.maps
    if not kept.all():
        with torch.inference_mode():
            held_out[~kept], maps[~kept] = fitted.scorer([m[~kept] for m in features])
    return Trimmed(fitted, held_out, maps, ~kept)
