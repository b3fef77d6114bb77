"""Leave-one-part-out: held-out scores where some of the normal pictures show the same part (`anomaly.data.pictures.repeats`).

A picture whose twin stays in the banks is scored by its twin. Here all pictures of its part are left out with it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from anomaly.scorers.pictures.embedding import embed, standardise, unseen_max_mean_std
from anomaly.scorers.pictures.gaussian import PlaceGaussians
from anomaly.scorers.pictures.memory_bank import FittedBanks, combine_maps
from anomaly.scorers.pictures.patches import PatchBank


def leave_parts_out(fitted: FittedBanks, features: Sequence[Tensor], parts: Tensor) -> FittedBanks:
    """The same banks, standardised and held-out scores taken anew with all pictures of a part left out together.

    `features` are those it was fitted on, one (N, C_s, h_s, w_s) a stage; `parts` (N,) int64 numbers the part that each picture shows. What
    is given comes back where no part is shown twice.
    """
    if len(set(parts.tolist())) == len(parts):
        return fitted
    scorer = fitted.scorer
    maps = []
    for plan, bank in zip(scorer.plans, scorer.banks, strict=True):
        assert isinstance(bank, PatchBank | PlaceGaussians)
        found = features[plan.stage]
        distances = _patch_distances(bank, found, parts) if isinstance(bank, PatchBank) else _place_distances(bank, found, parts)
        bank.usual.copy_(unseen_max_mean_std(distances, scorer.roi))
        maps.append(standardise(distances, bank.usual))
    held_out, mean = combine_maps(maps, scorer.roi)
    return FittedBanks(scorer, held_out, mean)


def _patch_distances(bank: PatchBank, features: Tensor, parts: Tensor) -> Tensor:
    """Distances (N, h, w) of the pictures it was fitted on, each to the patches of other parts and of borrowed pictures."""
    count, _, high, wide = features.shape
    owner = bank.owner.long()
    shown = torch.where(owner < count, parts[owner.clamp(max=count - 1)], torch.full_like(owner, -1))
    result = torch.empty(count, high, wide)
    for number, own in enumerate(embed(features, bank.metric, bank.center, bank.spread).reshape(count, high * wide, -1)):
        others = bank.squared.masked_fill(shown == parts[number], torch.inf)
        result[number] = bank.distance(own / bank.step, others).reshape(high, wide)
    return result.nan_to_num(posinf=float(result[result.isfinite()].max()) if result.isfinite().any() else 0.0)


def _place_distances(bank: PlaceGaussians, features: Tensor, parts: Tensor) -> Tensor:
    """Distances (N, h, w) of the pictures it was fitted on, each by the Gaussians of other parts."""
    result = torch.empty(len(features), *features.shape[-2:])
    for part in set(parts.tolist()):
        members = (parts == part).nonzero()[:, 0]
        own = features[members]
        result[members] = bank.leave_one_out(own)(own)[:, 0] * bank.usual[1] + bank.usual[0]
    return result
