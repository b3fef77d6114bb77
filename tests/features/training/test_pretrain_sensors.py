"""Masked reconstruction."""

from __future__ import annotations

import torch

from anomaly.features.encoder import SensorEncoder
from anomaly.features.training.optimizer import AdamW
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


def test_the_optimiser_steps_as_the_library_s_own_does() -> None:
    nets = []
    for make in (lambda p: AdamW(p, 1e-2), lambda p: torch.optim.AdamW(p, lr=1e-2)):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            net = SensorEncoder(2)
        x, optimizer = torch.linspace(-1, 1, 60).reshape(2, 1, 30), make(list(net.parameters()))
        for _ in range(20):
            optimizer.zero_grad()
            net(x).square().mean().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        nets.append(net.state_dict())
    for ours, theirs in zip(nets[0].values(), nets[1].values(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)


def test_training_ends_after_the_steps_asked_for() -> None:
    z, told = torch.randn(100, 1, 20, generator=torch.Generator().manual_seed(0)), []
    settings = Pretrain(epochs=50, batch=8)
    pretrain_sensors(SensorEncoder(2), z, settings, torch.Generator(), lambda text, done=None, total=None: told.append((done, total)), 17)
    assert told[-1] == (17, 17)
