"""The one place that turns `[scorer]` of a spec into a fitted scorer, and a saved one back into it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from anomaly.scorers.gaussian import Gaussian, fit_gaussian
from anomaly.scorers.memory_bank import Bank, BankPlan, FittedBanks, MemoryBank, Roi, fit_memory_bank
from anomaly.spec import CameraSpec


def bank_plans(spec: CameraSpec) -> list[BankPlan]:
    """The spec's banks, stages by position in the extractor's answer."""
    return [BankPlan(spec.extractor.stages.index(bank.stage), bank.metric, bank.size) for bank in spec.scorer.banks]


def region(spec: CameraSpec) -> Roi:
    """The spec's region of interest."""
    return [(r.left, r.top, r.right, r.bottom) for r in spec.input.roi]


def fit_camera_scorer(
    spec: CameraSpec,
    features: list[Tensor],
    generator: torch.Generator,
    progress: Callable[[str], None] | None = None,
    largest: int | None = None,
) -> FittedBanks:
    """Fit the scorer a camera spec names on normal features, one (N, C_s, h_s, w_s) a stage; no bank over `largest`."""
    plans = [BankPlan(p.stage, p.metric, min(p.size, largest or p.size)) for p in bank_plans(spec)]
    return fit_memory_bank(features, plans, spec.scorer.coreset_share, generator, progress, region(spec))


def load_camera_scorer(spec: CameraSpec, state: Mapping[str, Tensor]) -> MemoryBank:
    """The fitted scorer again, from its saved tensors."""
    plans = bank_plans(spec)
    banks = []
    for index, plan in enumerate(plans):
        part = {key: state[f"banks.{index}.{key}"] for key in ("patches", "center", "spread", "step", "usual")}
        banks.append(Bank(plan.metric, **part))
    return MemoryBank(plans, banks, region(spec))


def fit_sensor_scorer(features: list[Tensor], sensors: int) -> Gaussian:
    """Fit the scorer a sensor spec names on normal features [(N, C * k_s, T)]."""
    return fit_gaussian(features, sensors)


def load_sensor_scorer(state: Mapping[str, Tensor]) -> Gaussian:
    """The fitted scorer again, from its saved tensors."""
    return Gaussian(state["mean"], state["root"], state["blocks"])
