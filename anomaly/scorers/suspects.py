"""Dirty normals: a folder of good parts holds defects that nobody marked. They are found, kept out of the scorer, and listed.

A scorer that has learnt a defect calls its like normal. So pictures that stand out from all others, each judged by a scorer
without it, are listed and, where asked for, left out and the scorer is fitted again, which lets their likes stand out in turn.
What they are is for a person to say: until then they count as normal when the threshold is set, so that the alarm budget
holds if they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from anomaly.scorers.pictures.memory_bank import FittedBanks

STANDS_OUT = 4.0  # times the distance from the median to the upper quartile: about one normal score in 300 if they were Gaussian
ROUNDS = 3


@dataclass(frozen=True)
class Trimmed:
    """A scorer with its suspects: `fitted` is over the pictures kept, scores and maps are over all of them."""

    fitted: FittedBanks
    held_out: Tensor  # (N,)
    maps: Tensor  # (N, h, w)
    suspect: Tensor  # (N,) bool


def stands_out(scores: Tensor) -> Tensor:
    """Which scores (N,) lie far above the bulk. By median and upper quartile, which a fifth of outliers hardly moves."""
    middle, upper = torch.quantile(scores.double(), torch.tensor([0.5, 0.75], dtype=torch.float64))
    mask: Tensor = scores.double() > middle + STANDS_OUT * (upper - middle).clamp(min=1e-9)
    return mask


def fit_trimmed(fit: Callable[[list[Tensor]], FittedBanks], features: list[Tensor], leave_out: bool = True) -> Trimmed:
    """Fit on maps (N, C_s, h_s, w_s) a stage; leave out what stands out and fit again, three times at most.

    No more than a third of the pictures is ever left out; with `leave_out` off none is, and those of the one fit are named.
    """
    count = features[0].shape[0]
    kept = torch.ones(count, dtype=torch.bool)
    fitted = fit(features)
    if not leave_out:
        return Trimmed(fitted, fitted.held_out, fitted.maps, stands_out(fitted.held_out))
    for _ in range(ROUNDS):
        found = stands_out(fitted.held_out)
        if not found.any() or int(kept.sum() - found.sum()) < count * 2 / 3:
            break
        kept[kept.nonzero()[:, 0][found]] = False
        fitted = fit([maps[kept] for maps in features])
    held_out, maps = torch.empty(count), torch.empty(count, *fitted.maps.shape[1:])
    held_out[kept], maps[kept] = fitted.held_out, fitted.maps
    if not kept.all():
        with torch.inference_mode():
            held_out[~kept], maps[~kept] = fitted.scorer([m[~kept] for m in features])
    return Trimmed(fitted, held_out, maps, ~kept)
