"""Memory banks of normal patches, PatchCore's idea (Roth et al. 2022, arXiv:2106.08265), one bank a stage and metric.

Each stage is searched on its own grid; the distance maps, not the features, are brought to one grid and added. Raw
distances and distances between unit-length features see different defects, and their sum sees more than either.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anomaly.scorers.coreset import greedy_coreset


@dataclass(frozen=True)
class BankPlan:
    """Which stage (its position in the extractor's answer) a bank holds, and how distances are measured on it."""

    stage: int
    metric: Literal["raw", "unit"]


class Bank(nn.Module):
    """One bank: patches (M, D) of one stage, distance to the nearest, divided by what normals show."""

    patches: Tensor
    center: Tensor
    spread: Tensor
    scale: Tensor

    def __init__(self, metric: Literal["raw", "unit"], patches: Tensor, center: Tensor, spread: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.metric = metric
        self.register_buffer("patches", patches)
        self.register_buffer("center", center)
        self.register_buffer("spread", spread)
        self.register_buffer("scale", scale)
        self.register_buffer("squared", patches.square().sum(1), persistent=False)

    squared: Tensor

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, h, w) -> distance map (N, 1, h, w) in units of the mean distance of normals."""
        count, _, high, wide = features.shape
        queries = embed(features, self.metric, self.center, self.spread)  # (N * h * w, C)
        # The nearest by |q|^2 + |b|^2 - 2 q.b; |q|^2 does not change which is nearest and is added after the minimum.
        nearest = (self.squared - 2.0 * (queries @ self.patches.T)).amin(dim=1)
        distance = (nearest + queries.square().sum(1)).clamp(min=1e-12).sqrt()
        return (distance / self.scale).reshape(count, 1, high, wide)


def embed(features: Tensor, metric: str, center: Tensor, spread: Tensor) -> Tensor:
    """(N, C, h, w) -> patches (N * h * w, C): 3x3 means, centred; for "unit" also standardised and of length one."""
    pooled = F.avg_pool2d(features, 3, stride=1, padding=1, count_include_pad=False)
    rows = pooled.permute(0, 2, 3, 1).reshape(-1, features.shape[1]) - center
    if metric == "unit":
        rows = rows / spread
        rows = rows / rows.square().sum(1, keepdim=True).clamp(min=1e-12).sqrt()
    return rows


class MemoryBank(nn.Module):
    """Several banks whose maps are added. The score is the map's maximum."""

    def __init__(self, plans: Sequence[BankPlan], banks: Sequence[Bank]) -> None:
        super().__init__()
        self.plans = tuple(plans)
        self.banks = nn.ModuleList(banks)

    def forward(self, features: list[Tensor]) -> tuple[Tensor, Tensor]:
        """One map (N, C_s, h_s, w_s) a stage -> score (N,), map (N, h, w) on the finest grid among the banks."""
        grid = max((features[plan.stage].shape[-2:] for plan in self.plans), key=lambda s: s[0])
        total: Tensor | None = None
        for plan, bank in zip(self.plans, self.banks, strict=True):
            one = bank(features[plan.stage])
            if one.shape[-2:] != grid:
                one = F.interpolate(one, size=(int(grid[0]), int(grid[1])), mode="bilinear", align_corners=False)
            total = one if total is None else total + one
        assert total is not None
        combined = total[:, 0] / len(self.plans)
        return combined.amax(dim=(1, 2)), combined


def fit_memory_bank(
    features: Sequence[Tensor],
    plans: Sequence[BankPlan],
    bank_size: int,
    share: float,
    generator: torch.Generator,
    progress: Callable[[str], None] | None = None,
) -> MemoryBank:
    """Fit banks on the features of normal pictures: one (N, C_s, h_s, w_s) a stage.

    A bank holds at most `bank_size` patches and at most `share` of all. Its scale is the mean distance of the patches it
    did not pick. Memory: the embedded patches of one stage, twice.
    """
    banks = []
    for plan in plans:
        maps = features[plan.stage]
        raw = embed(maps, "raw", torch.zeros(maps.shape[1]), torch.ones(maps.shape[1]))
        center, spread = raw.mean(0), raw.std(0).clamp(min=1e-6)
        patches = embed(maps, plan.metric, center, spread)
        count = max(1, min(bank_size, int(share * patches.shape[0])))
        picked = greedy_coreset(patches, count, generator)
        bank = Bank(plan.metric, patches[picked].clone(), center, spread, torch.ones(()))
        bank.scale.copy_(_usual_distance(bank, patches, picked, generator))
        banks.append(bank)
        if progress is not None:
            progress(f"bank {len(banks)} of {len(plans)}: {count} of {patches.shape[0]} patches")
    return MemoryBank(plans, banks)


def _usual_distance(bank: Bank, patches: Tensor, picked: Tensor, generator: torch.Generator, sample: int = 16_384) -> Tensor:
    """Mean distance to the bank of normal patches that are not in it; of the bank's own to each other when all are."""
    rest = torch.ones(patches.shape[0], dtype=torch.bool)
    rest[picked] = False
    others = patches[rest]
    if others.shape[0]:
        chosen = others[torch.randperm(others.shape[0], generator=generator)[:sample]]
        return torch.cat([torch.cdist(part, bank.patches).amin(dim=1) for part in chosen.tensor_split(32)]).mean().clamp(min=1e-6)
    between = torch.cdist(bank.patches[:2048], bank.patches[:2048])
    between.fill_diagonal_(torch.inf)
    usual: Tensor = between.amin(dim=1).nan_to_num(posinf=1.0).mean().clamp(min=1e-6)
    return usual
