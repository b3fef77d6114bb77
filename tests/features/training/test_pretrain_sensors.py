"""Masked reconstruction."""

from __future__ import annotations

import torch

from anomaly.features.encoder import SensorEncoder
from anomaly.features.training.pretrain_sensors import pretrain_sensors
from anomaly.spec import Pretrain


def test_masked_reconstruction_learns_something() -> None:
    t = torch.arange(40) / 40
    phase = torch.rand(300, 2, 1, generator=torch.Generator().manual_seed(0))
    z = torch.sin(2 * torch.pi * (t + phase) * 2) * 1.4
    before, after = pretrain_sensors(
        SensorEncoder(4), z, Pretrain(epochs=10, batch=32, learning_rate=5e-3), torch.Generator().manual_seed(0)
    )
    assert after < 0.6 * before
