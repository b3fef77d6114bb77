"""Leave-one-part-out: held-out scores where some of the normal pictures show the same part (`anomaly.data.pictures.repeats`).

A picture whose twin stays in the banks is scored by its twin. Here all pictures of its part are left out with it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from anomaly.scorers.pictures.embedding import standardise, unseen_max_mean_std
from anomaly.scorers.pictures.gaussian import PlaceGaussians
from anomaly.scorers.pictures.memory_bank import Bank, FittedBanks
from anomaly.scorers.pictures.patches import NearestPatches


def leave_parts_out(fitted: FittedBanks, features: Sequence[Tensor], parts: Tensor) -> FittedBanks:
    """The same banks, standardised and held-out scores taken anew with all pictures of a part left out together.

    `features` are those it was fitted on, one (N, C_s, h_s, w_s) a stage; `parts` (N,) int64 numbers the part that each picture shows. What
    is given comes back where no part is shown twice.
    """
    _, part_of, count = np.unique(parts.numpy(), return_inverse=True, return_counts=True)
    shared: list[int] = np.flatnonzero(count[part_of] > 1).tolist()  # pictures whose part others show too: only theirs change
    if not shared:
        return fitted
    scorer = fitted.scorer
    every, maps = [], []
    for plan, bank, known in zip(scorer.plans, scorer.banks, fitted.distances, strict=True):
        assert isinstance(bank, Bank)
        found, distances = features[plan.stage], known.clone()
        apart = _place_distances if isinstance(bank, PlaceGaussians) else _patch_distances
        distances[shared] = apart(bank, found, parts, shared)  # type: ignore[arg-type]
        distances = distances.nan_to_num(posinf=float(distances[distances.isfinite()].max()))
        bank.usual.copy_(unseen_max_mean_std(distances, scorer.roi))
        every.append(distances)
        maps.append(standardise(distances, bank.usual))
    return FittedBanks(scorer, *scorer.learn_laws(maps), tuple(every))


def _patch_distances(bank: NearestPatches, features: Tensor, parts: Tensor, pictures: list[int]) -> Tensor:
    """Distances (n, h, w) of some pictures it was fitted on, each to the patches of other parts and of borrowed pictures."""
    owner, count = bank.owner.long(), len(features)
    shown = torch.where(owner < count, parts[owner.clamp(max=count - 1)], torch.full_like(owner, -1))
    return bank.distances_apart(features, pictures, lambda picture: shown == parts[picture])


def _place_distances(bank: PlaceGaussians, features: Tensor, parts: Tensor, pictures: list[int]) -> Tensor:
    """Distances (n, h, w) of some pictures it was fitted on, each by the Gaussians of other parts."""
    result = torch.empty(len(features), *features.shape[-2:])
    for part in sorted(set(parts[pictures].tolist())):
        members = (parts == part).nonzero()[:, 0]
        own = features[members]
        result[members] = bank.leave_one_out(own)(own)[:, 0] * bank.usual[1] + bank.usual[0]
    return result[pictures]
