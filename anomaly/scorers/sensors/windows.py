"""What scorers of sensors share: features by sensor, and every position of a stretch as a window of its own."""

from __future__ import annotations

import torch
from torch import Tensor

ENOUGH = 0.5  # a sensor counts in a window when at least this share of its rows has a reading


def by_sensor(features: list[Tensor], sensors: int) -> tuple[Tensor, Tensor]:
    """[level, spread, ..., known], each (N, C * k, 1) -> features (N, C, F), and which sensors count (N, C) as 1 and 0."""
    values = torch.cat([m.reshape(-1, sensors, m.shape[1] // sensors) for m in features[:-1]], dim=2)
    return values, (features[-1].reshape(-1, sensors) >= ENOUGH).to(values.dtype)


def by_position(features: list[Tensor]) -> list[Tensor]:
    """[(N, K, P)] -> [(N * P, K, 1)]: every position a window of its own, as a scorer takes it."""
    return [m.transpose(1, 2).reshape(-1, m.shape[1], 1) for m in features]
