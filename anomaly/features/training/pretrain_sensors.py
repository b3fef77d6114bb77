"""Masked autoencoding: self-supervised pretraining of the sensor encoder on normals.

He et al. 2022 (arXiv:2111.06377); for series Zerveas et al. 2021 (arXiv:2010.02803). Stretches of each sensor are masked and must be
reconstructed from what is left. Only the masked rows count in the loss.
"""

from __future__ import annotations

import time

import torch
from torch import Tensor, nn

from anomaly.features.encoder import SensorEncoder
from anomaly.features.training.optimizer import AdamW
from anomaly.progress import Progress, silent
from anomaly.spec import Pretrain

MASKED_SHARE = 0.3
STRETCH = 5  # rows masked at a time
FEW_READINGS = 1 << 17  # in a batch: a second thread gains nothing, and where another program runs it waits for it at every layer


def pretrain_sensors(
    encoder: SensorEncoder,
    windows: Tensor,
    settings: Pretrain,
    generator: torch.Generator,
    progress: Progress = silent,
    most_steps: int | None = None,
) -> tuple[float, float]:
    """Train `encoder` in place by masked reconstruction of normal windows (N, C, T) in units of spread, no NaN.

    One window in ten is held out (the last ones, so that neighbours do not leak); its loss decides which weights are
    kept and when to stop. With `most_steps` training ends after so many steps, if not before. Returns the held-out masked error (MSE, in
    squared spreads) before and after.
    """
    threads = torch.get_num_threads()
    if settings.batch * windows.shape[1] * windows.shape[2] <= FEW_READINGS:
        torch.set_num_threads(1)
    try:
        return _trained(encoder, windows, settings, generator, progress, most_steps)
    finally:
        torch.set_num_threads(threads)


def _trained(
    encoder: SensorEncoder, windows: Tensor, settings: Pretrain, generator: torch.Generator, progress: Progress, most_steps: int | None
) -> tuple[float, float]:
    train, test = _split(windows)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(generator.initial_seed())
        decoder = nn.Conv1d(encoder.channels, 1, kernel_size=1)
    optimizer = AdamW([*encoder.parameters(), *decoder.parameters()], settings.learning_rate)
    check = torch.Generator().manual_seed(0)
    before = best = _held_out(encoder, decoder, test, check)
    state = {k: v.clone() for k, v in encoder.state_dict().items()}
    stale, steps, whole = 0, 0, min(steps_in_full(len(windows), settings), most_steps or 1 << 62)
    deadline = time.monotonic() + 60 * settings.max_minutes
    for epoch in range(settings.epochs):
        batches = torch.randperm(train.shape[0], generator=generator).split(settings.batch)  # type: ignore[no-untyped-call]
        for chosen in batches[: whole - steps]:
            loss = _masked_error(encoder, decoder, train[chosen], generator)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            steps += 1
            progress("masked reconstruction, steps", steps, whole)
        error = _held_out(encoder, decoder, test, check)
        stale = 0 if error < best else stale + 1
        if error < best:
            best, state = error, {k: v.clone() for k, v in encoder.state_dict().items()}
        progress(f"masked reconstruction, epoch {epoch + 1}: held-out error {error:.4f}", steps, whole)
        if stale >= 3 or steps == whole or time.monotonic() > deadline:
            break
    encoder.load_state_dict(state)
    encoder.requires_grad_(False).eval()
    return before, best


def steps_in_full(windows: int, settings: Pretrain) -> int:
    """Steps of a whole training on so many windows, where it is not stopped early."""
    return settings.epochs * -(-(windows - _held_out_windows(windows)) // settings.batch)


def _held_out_windows(windows: int) -> int:
    return max(1, windows // 10)


def _split(windows: Tensor) -> tuple[Tensor, Tensor]:
    held = _held_out_windows(windows.shape[0])
    return windows[:-held], windows[-held:]


def _held_out(encoder: SensorEncoder, decoder: nn.Module, test: Tensor, generator: torch.Generator) -> float:
    generator.manual_seed(0)  # the same rows masked every time
    with torch.no_grad():
        return float(_masked_error(encoder, decoder, test, generator))


def _masked_error(encoder: SensorEncoder, decoder: nn.Module, z: Tensor, generator: torch.Generator) -> Tensor:
    count, sensors, rows = z.shape
    starts = torch.rand(count, sensors, rows // STRETCH + 1, generator=generator) < MASKED_SHARE
    masked = starts.repeat_interleave(STRETCH, dim=2)[:, :, :rows]
    shape = encoder(torch.where(masked, torch.zeros_like(z), z))
    predicted = decoder(shape.reshape(count * sensors, encoder.channels, rows)).reshape(count, sensors, rows)
    error: Tensor = ((predicted - z).square() * masked).sum() / masked.sum().clamp(min=1)
    return error
