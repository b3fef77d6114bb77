"""Training of the sensor encoder: normal windows must lie nearer to a machine's few known windows than windows with a made-up fault do.

    python -m anomaly.features.training.pretrain_sensors OUT [--steps 3000] [--seed 0]

trains one on signals that are made up (`generated_signals`) and writes an extractor file, for `[transfer] source`. Each step draws machines
with 3 to 40 cycles known, as a prototypical network is trained (Snell et al. 2017, arXiv:1703.05175). On a machine's own normals
(`pretrain_sensors`) the steps draw from its windows. None comes with the package: on records it has not seen it
gains nothing over the readings (docs/results/transfer.md).
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from anomaly.features.encoder import SensorEncoder
from anomaly.features.tensors import save_tensors
from anomaly.features.training.generated_signals import Episode, bend, episode
from anomaly.features.training.optimizer import AdamW
from anomaly.progress import Progress, silent
from anomaly.spec import Pretrain, SensorExtractor

ROWS = (24, 30, 42, 60, 84)  # of a window, one of them an episode
EPISODES = 2  # a step
HIGHEST_RATE = 6e-3
WARM_UP = 0.3  # share of the steps in which the learning rate rises
SHARPNESS, SOFTNESS = 3.0, 0.1  # of the loss, and of the smallest of several distances
KNOWN, ASKED = 160, 32  # windows of an episode on a machine's own normals
STRETCHES = 8  # parts of its record: one is asked about, and what lies near it is not known
LARGEST_GRADIENT = 1.0


def train(
    encoder: SensorEncoder,
    draw: Callable[[np.random.Generator], Episode],
    steps: int,
    rng: np.random.Generator,
    progress: Progress = silent,
    *,
    highest_rate: float = HIGHEST_RATE,
    max_minutes: float = math.inf,
) -> list[float]:
    """Train `encoder` in place. Returns of each episode how often a faulty window lay farther off than a normal one, 0 to 1."""
    encoder.requires_grad_(True).train()
    optimizer = AdamW([p for p in encoder.parameters() if p.requires_grad], highest_rate)
    found: list[float] = []
    deadline = time.monotonic() + 60 * max_minutes
    for step in range(steps):
        optimizer.learning_rate = highest_rate * _warm(step / steps)
        losses = []
        for _ in range(EPISODES):
            loss, right = _loss(encoder, draw(rng))
            losses.append(loss)
            found.append(right)
        optimizer.zero_grad()
        torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(encoder.parameters(), LARGEST_GRADIENT)
        optimizer.step()
        progress(f"encoder: made-up faults found {100 * float(np.mean(found[-500:])):.1f} %", step + 1, steps)
        if time.monotonic() > deadline:
            break
    encoder.requires_grad_(False).eval()
    return found


def _warm(done: float) -> float:
    """One cycle of the learning rate (Smith and Topin 2019, arXiv:1708.07120), as a share of the highest: up, and down to nothing."""
    if done < WARM_UP:
        return 0.04 + 0.96 * (1 - math.cos(math.pi * done / WARM_UP)) / 2
    return (1 + math.cos(math.pi * (done - WARM_UP) / (1 - WARM_UP))) / 2


def _loss(encoder: SensorEncoder, windows: Episode) -> tuple[Tensor, float]:
    """(logistic loss of faulty against normal distances, by the encoder alone and with the readings, share that is in the right order)."""
    parts = [torch.from_numpy(part) for part in windows]
    first, last = len(parts[0]), len(parts[0]) + len(parts[1])
    embedded = encoder.embed(torch.cat(parts)).flatten(1)
    known, normal, faulty = embedded[:first], embedded[first:last], embedded[last:]
    learnt = _squared(normal, known), _squared(faulty, known)
    flat = [part.flatten(1) for part in parts]
    raw = _squared(flat[1], flat[0]), _squared(flat[2], flat[0])
    one, other = (_smallest(pair).mean().clamp(min=1e-6) for pair in (learnt[0], raw[0]))
    alone = [_log_nearest(d / one) for d in learnt]
    joint = [_log_nearest(d / one + r / other) for d, r in zip(learnt, raw, strict=True)]
    loss = sum(F.softplus(-SHARPNESS * (bad[:, None] - good)).mean() / 2 for good, bad in (alone, joint))
    assert isinstance(loss, Tensor)
    return loss, float((joint[1][:, None] > joint[0]).float().mean())


def _squared(a: Tensor, b: Tensor) -> Tensor:
    """Squared distances (N, M) of rows (N, D) to rows (M, D)."""
    return (a.square().sum(dim=1, keepdim=True) + b.square().sum(dim=1) - 2 * a @ b.T).clamp(min=0)


def _smallest(squared: Tensor) -> Tensor:
    return squared.amin(dim=1)


def _log_nearest(squared: Tensor) -> Tensor:
    """Logarithm of the smallest of each row (N, M), softly, so that all near windows learn."""
    return -SOFTNESS * torch.logsumexp(-torch.log(squared + 1e-4) / SOFTNESS, dim=1)


def pretrain_sensors(encoder: SensorEncoder, windows: Tensor, settings: Pretrain, seed: int, progress: Progress = silent) -> None:
    """Train `encoder` in place on a machine's own normal windows (N, C, T), each sensor less its own mean, in units of normal spread."""
    rng = np.random.default_rng(seed)
    own = windows.numpy()

    def draw(rng: np.random.Generator) -> Episode:
        """Known windows, and others of a stretch of time that the known ones do not lie in."""
        stretch = max(len(own) // STRETCHES, 1)
        first = int(rng.integers(0, len(own) - stretch + 1))
        known = np.r_[0 : max(first - stretch // 2, 0), min(first + stretch + stretch // 2, len(own)) : len(own)]
        asked = own[first + rng.integers(0, stretch, ASKED)]
        return Episode(own[rng.permutation(known)[:KNOWN]], asked, np.stack([_bent(rng, window) for window in asked]))

    steps = settings.epochs * -(-len(own) // settings.batch)
    train(encoder, draw, steps, rng, progress, highest_rate=settings.learning_rate, max_minutes=settings.max_minutes)


def _bent(rng: np.random.Generator, window: NDArray[np.float32]) -> NDArray[np.float32]:
    """A window (C, T) with a fault over a third of its rows or more, each sensor less its own mean."""
    rows = window.shape[1]
    length = int(rng.integers(max(3, rows // 3), rows + 1))
    first = int(rng.integers(0, rows - length + 1))
    bad = bend(rng, window.T.astype(np.float64), first, first + length).T
    return np.asarray(bad - bad.mean(axis=1, keepdims=True), np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="extractor file to write (.safetensors)")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    rng, encoder = np.random.default_rng(asked.seed), SensorEncoder()

    def say(text: str, done: float | None = None, total: float | None = None) -> None:
        if done and done % 250 == 0:
            print(f"{done} of {total}: {text}", flush=True)

    train(encoder, lambda rng: episode(rng, int(rng.choice(ROWS))), asked.steps, rng, say)
    command = f"python -m {__spec__.name} --steps {asked.steps} --seed {asked.seed}"
    about = {
        "kind": "sensor",
        "kernels": SensorExtractor().kernels,
        "dilations": list(SensorExtractor().dilations),
        "source": {"weights": f"trained on generated signals: {command}", "licence": "Apache-2.0"},
        "adaptation": {"kept": True, "why": "trained on generated signals"},
    }
    save_tensors(asked.out, encoder.state_dict(), about)


if __name__ == "__main__":
    main()
