"""Training of the sensor encoder on made-up machines and on a machine's own normals."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from anomaly.features.encoder import SensorEncoder
from anomaly.features.training.generated_signals import bend, episode, record
from anomaly.features.training.optimizer import AdamW
from anomaly.features.training.pretrain_sensors import pretrain_sensors, train
from anomaly.spec import Pretrain


def strokes(count: int, rows: int) -> torch.Tensor:
    """Windows (N, 1, rows) of a noisy sine that begin at any row, less their mean."""
    rng = np.random.default_rng(0)
    z = np.sin(2 * np.pi * np.arange(count + rows) / rows) + rng.normal(0, 0.3, count + rows)
    windows = np.lib.stride_tricks.sliding_window_view(z, rows)[:count, None].astype(np.float32)
    return torch.from_numpy(windows - windows.mean(axis=2, keepdims=True))


def test_training_learns_to_tell_faults_apart() -> None:
    encoder, machine = SensorEncoder(2, (1, 2)), episode(np.random.default_rng(1), 24)
    found = train(encoder, lambda rng: machine, 15, np.random.default_rng(0), highest_rate=0.05)
    assert found[-1] > found[0] + 0.04
    assert not any(p.requires_grad for p in encoder.parameters())


def test_training_on_own_normals_is_the_same_each_time_and_ends_after_its_epochs() -> None:
    settings, told, states = Pretrain(epochs=2, batch=64), [], []
    for _ in range(2):
        encoder = SensorEncoder(2, (1,))
        pretrain_sensors(encoder, strokes(256, 20), settings, 3, lambda text, done=None, total=None: told.append((done, total)))
        states.append(encoder.state_dict())
    assert told[-1] == (8, 8)
    for name, tensor in states[0].items():
        assert torch.equal(tensor, states[1][name])
    assert not torch.equal(states[0]["layers.0.weight"], SensorEncoder(2, (1,)).layers[0].weight)


@pytest.mark.parametrize("seed", range(6))
def test_made_up_windows_are_less_their_mean_and_faults_stay_in_their_rows(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for part in episode(rng, 24):
        assert part.dtype == np.float32
        assert np.isfinite(part).all()
        np.testing.assert_allclose(part.mean(axis=2), 0, atol=1e-4)
    x = record(rng, 200, 30, 2)
    for _ in range(12):
        bent = bend(rng, x, 60, 90)
        assert (bent[:60] == x[:60]).all()
        assert (bent[90:] == x[90:]).all()
        assert (bent[60:90] != x[60:90]).any()


def test_the_optimiser_steps_as_the_library_s_own_does() -> None:
    nets = []
    for make in (lambda p: AdamW(p, 1e-2), lambda p: torch.optim.AdamW(p, lr=1e-2)):
        net = SensorEncoder(2)
        x, optimizer = torch.linspace(-1, 1, 60).reshape(2, 1, 30), make(list(net.parameters()))
        for _ in range(20):
            optimizer.zero_grad()
            net(x).square().mean().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        nets.append(net.state_dict())
    for ours, theirs in zip(nets[0].values(), nets[1].values(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)
