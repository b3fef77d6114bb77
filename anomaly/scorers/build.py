"""The one place that turns `[scorer]` of a spec into a fitted scorer, and a saved one back into it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from anomaly.errors import WeightsError
from anomaly.progress import Progress, silent
from anomaly.scorers.boosted import VOTE_TENSORS, Boosted
from anomaly.scorers.pictures.embedding import Roi
from anomaly.scorers.pictures.gaussian import PlaceGaussians
from anomaly.scorers.pictures.memory_bank import Bank, BankPlan, FittedBanks, MemoryBank, fit_memory_bank
from anomaly.scorers.pictures.patches import PatchBank
from anomaly.scorers.pictures.places import PlaceBank
from anomaly.scorers.pictures.views import Pool
from anomaly.scorers.sensors.views import Views, load_views
from anomaly.spec import CameraSpec

BANKS: dict[str, Callable[..., Bank]] = {"patches": PatchBank, "gaussian": PlaceGaussians, "place": PlaceBank}  # by the model's name


def bank_plans(spec: CameraSpec) -> list[BankPlan]:
    """The spec's banks, stages by position in the extractor's answer."""
    stages = spec.extractor.stages
    return [BankPlan(stages.index(bank.stage), bank.metric, bank.size, bank.model, bank.view) for bank in spec.scorer.banks]


def pools_of(spec: CameraSpec) -> list[Pool]:
    """The spec's pools; where it names none, one of each view of its banks."""
    named = [Pool(pool.view, pool.share) for pool in spec.scorer.pools]
    return named or [Pool(view) for view in dict.fromkeys(bank.view for bank in spec.scorer.banks)]


def region(spec: CameraSpec) -> Roi:
    """The spec's region of interest."""
    return [(r.left, r.top, r.right, r.bottom) for r in spec.input.roi]


def fit_camera_scorer(
    spec: CameraSpec,
    features: list[Tensor],
    generator: torch.Generator,
    progress: Progress = silent,
    largest: int | None = None,
    borrowed: Sequence[Tensor] = (),
) -> FittedBanks:
    """Fit the scorer a camera spec names on normal features, one (N, C_s, h_s, w_s) a stage; no bank holds more than `largest` patches.

    `borrowed` are another line's features, see `fit_memory_bank`.
    """
    plans = [replace(plan, size=min(plan.size, largest or plan.size)) for plan in bank_plans(spec)]
    return fit_memory_bank(features, plans, spec.scorer.coreset_share, generator, progress, region(spec), borrowed, pools_of(spec))


def without_vote(state: Mapping[str, Tensor]) -> Mapping[str, Tensor] | None:
    """The tensors of the scorer in a saved `Boosted`, None when the tensors are those of a scorer without a vote."""
    if "step" not in state:
        return None
    return {key.removeprefix("scorer."): tensor for key, tensor in state.items() if key.startswith("scorer.")}


def load_camera_scorer(spec: CameraSpec, method: str, state: Mapping[str, Tensor]) -> MemoryBank | Boosted:
    """The fitted scorer again, with the vote beside it if there was one, from its method's name and its saved tensors.

    Raises WeightsError for another name than "memory_bank".
    """
    inner = without_vote(state)
    if inner is not None:
        return Boosted(load_camera_scorer(spec, method, inner), **{name: state[name] for name in (*VOTE_TENSORS, "step")})
    if method != "memory_bank":
        raise WeightsError(f"no camera scorer is named {method!r}; fit it again")
    plans = bank_plans(spec)
    banks: list[Bank] = []
    for index, plan in enumerate(plans):
        head = f"banks.{index}."
        part = {key.removeprefix(head): tensor for key, tensor in state.items() if key.startswith(head)}
        banks.append(BANKS[plan.model](plan.metric, **part))
    return MemoryBank(plans, banks, pools_of(spec), state["laws"], region(spec))


def load_sensor_scorer(method: str, state: Mapping[str, Tensor]) -> Views | Boosted:
    """The fitted scorer again, with the vote beside it if there was one, from its method's name and its saved tensors.

    Raises WeightsError for a name that no scorer has, or when tensors are missing.
    """
    inner = without_vote(state)
    if inner is not None:
        return Boosted(load_sensor_scorer(method, inner), **{name: state[name] for name in (*VOTE_TENSORS, "step")})
    if method != "views":
        raise WeightsError(f"no sensor scorer is named {method!r}; fit it again")
    try:
        return load_views(state)
    except KeyError as error:
        raise WeightsError(f"the scorer {method!r} needs the tensor {error}, there are {sorted(state)}; fit it again") from error
