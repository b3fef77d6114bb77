"""The scorer of sensor windows: views of a window, each in units of its own high normal scores; the one that stands out most speaks."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from anomaly.scorers.sensors.choice import ViewPlan
from anomaly.scorers.sensors.deviation import Deviation, fit_deviation
from anomaly.scorers.sensors.shape import ShapeBank, fit_shape

HIGH = 0.95  # quantile of a view's held-out normal scores that is its unit
LEAST_UNIT = (0.5, 0.01)  # of level (z-scores) and shape (normal spreads), where nearly all normal windows are the same

NAMES = ("level", "shape")


def level_maps(features: list[Tensor]) -> list[Tensor]:
    """Of the maps that `SensorExtractor` gives those that the level view looks at, without the shape and its readings."""
    return [*features[:3], features[-1]]


class Views(nn.Module):
    """Score = the largest score of all views, each over its unit, so that 1 is what one normal window in twenty reaches in a view.

    Views: "level" (`Deviation`: level, spread, movement and relation of sensors) and, where it is of use, "shape" (`ShapeBank`).
    Contributions are those of the view whose score is the largest.
    """

    unit: Tensor

    def __init__(self, level: Deviation, shape: ShapeBank | None, unit: Tensor) -> None:
        super().__init__()
        self.level = level
        self.shape = shape
        self.register_buffer("unit", unit)  # (views,)

    def each(self, features: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Score (N,) and contribution (N, C) of each view, in its own measure."""
        level = self.level(level_maps(features))
        return [level] if self.shape is None else [level, self.shape(*features[3:5])]

    def evidence(self, features: list[Tensor]) -> Tensor:
        """[(N, C * k, 1)] -> what a vote judges by (N, D): z-scores, and each sensor's part of the shape. Column j: sensor j % C."""
        level = self.level.evidence(level_maps(features))
        return level if self.shape is None else torch.cat([level, self.shape(*features[3:5])[1]], dim=1)

    def forward(self, features: list[Tensor]) -> tuple[Tensor, Tensor]:
        """What `SensorExtractor` gives, [(N, C * k, 1)] -> score (N,), contribution (N, C)."""
        (score, share), *others = [(found / unit, part / unit) for (found, part), unit in zip(self.each(features), self.unit, strict=True)]
        for other, part in others:
            share = torch.where((other > score).unsqueeze(1), part, share)
            score = torch.maximum(score, other)
        return score, share


def fit_views(features: list[Tensor], sensors: int, places: NDArray[np.int64], plan: ViewPlan, seed: int) -> Views:
    """Fit every view of the plan on normal windows; their units are 1 until `with_units` sets them.

    `features` are what `SensorExtractor` gives, [(N, C * k, 1)] float32, of normal windows that end at rows `places` (N,).
    """
    level = fit_deviation(level_maps(features), sensors, places, plan.level, plan.part)
    shape = fit_shape(features[3], features[4], sensors, torch.Generator().manual_seed(seed)) if plan.shape else None
    return Views(level, shape, torch.ones(1 if shape is None else 2))


def units(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """The unit (V,) of each view from its held-out normal scores (n, V)."""
    found: NDArray[np.float64] = np.maximum(np.quantile(scores, HIGH, axis=0), LEAST_UNIT[: scores.shape[1]])
    return found


def with_units(views: Views, unit: NDArray[np.float64]) -> Views:
    """The same views in these units (V,)."""
    return Views(views.level, views.shape, torch.from_numpy(unit.astype(np.float32)))


def load_views(state: Mapping[str, Tensor]) -> Views:
    """Fitted views again, from their saved tensors. Raises KeyError when one is not there."""
    level = Deviation(*(state[f"level.{name}"] for name in ("center", "scale", "mix", "mix_center", "mix_scale")))
    shape = ShapeBank(*(state[f"shape.{name}"] for name in ("center", "basis", "bank", "norms", "rows"))) if "shape.bank" in state else None
    return Views(level, shape, state["unit"])
