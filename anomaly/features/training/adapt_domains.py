"""An image extractor brought to another line: batch-norm re-estimation, Deep CORAL, and an adversary (DANN).

Source and target pictures are all normal or unlabelled. What is to be kept is what the extractor already tells of the source: its
features there are held to those it came with, while the target's are drawn to where the source's lie.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anomaly.features.stages import Stages, blocks_from_the_end
from anomaly.features.training.alignment import covariance
from anomaly.spec import Pretrain

Pictures = Callable[[Sequence[int]], Tensor]
PLACES = 512  # places a side of a batch's maps that enter one loss
RATE = 1e-4  # learning rate of the pretrained blocks
PRIOR = 16  # pictures that the batch-norm statistics an extractor came with count for
WEIGHT = {"deep-coral": 10.0, "dann": 1.0}  # of the domains' loss beside the one that holds the source's features


def reestimate_batch_norm(extractor: Stages, batches: Sequence[Tensor]) -> None:
    """Move every batch-norm layer's running mean and variance to those of the pictures given (N, 3, H, W), in place.

    Li et al. 2018, "Adaptive batch normalization" (arXiv:1603.04779). What the layer came with counts as 16 pictures, for a few
    pictures do not know their own statistics (Schneider et al. 2020, arXiv:2006.16971). A network without such layers is left alone.
    """
    layers = [m for m in extractor.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    before = [(layer.running_mean.clone(), layer.running_var.clone(), layer.momentum) for layer in layers]  # type: ignore[union-attr]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # a plain mean over the batches
        layer.train()
    with torch.no_grad():
        for batch in batches:
            extractor(batch)
    share = PRIOR / (PRIOR + sum(len(batch) for batch in batches))
    for layer, (mean, variance, momentum) in zip(layers, before, strict=True):
        layer.running_mean.lerp_(mean, share)  # type: ignore[union-attr]
        layer.running_var.lerp_(variance, share)  # type: ignore[union-attr]
        layer.momentum = momentum
        layer.eval()


class _Reversed(torch.autograd.Function):
    """Identity forwards, gradient times -strength backwards (Ganin et al. 2016, arXiv:1505.07818)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, strength: float) -> Tensor:
        ctx.strength = strength
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return -ctx.strength * gradient, None


def reverse_gradient(x: Tensor, strength: float) -> Tensor:
    """x itself, whose gradient comes back with its sign changed and times `strength`."""
    reversed_: Tensor = _Reversed.apply(x, strength)
    return reversed_


def schedule(progress: float) -> float:
    """How strongly the adversary acts: 0 at the start, 1 at the end (Ganin et al. 2016, section 5.2.2)."""
    return 2.0 / (1.0 + math.exp(-10.0 * progress)) - 1.0


def coral_loss(a: Tensor, b: Tensor) -> Tensor:
    """Squared distance of the covariances of rows (n, D) and (m, D) over 4 D^2 (Sun and Saenko 2016), and of their means over D."""
    width = a.shape[1]
    second = (covariance(a) - covariance(b)).square().sum() / (4 * width**2)
    return second + (a.mean(dim=0) - b.mean(dim=0)).square().sum() / width


def adversary_loss(critic: nn.Module, source: Tensor, target: Tensor, strength: float) -> Tensor:
    """DANN's loss (Ganin et al. 2016) of a critic, rows (n, D) to logits (n, 1), that tells source rows from target rows.

    Its gradient reaches the rows reversed, times `strength`.
    """
    rows = torch.cat([source, target])
    side = torch.cat([torch.zeros(len(source)), torch.ones(len(target))]).to(rows.dtype)
    told = critic(reverse_gradient(rows, strength)).squeeze(1)
    return F.binary_cross_entropy_with_logits(told, side)


def adapt_domains(
    extractor: Stages,
    before: Stages,
    source: Pictures,
    target: Pictures,
    counts: tuple[int, int],
    method: Literal["deep-coral", "dann"],
    settings: Pretrain,
    generator: torch.Generator,
    on_epoch: Callable[[int, float, float], None] | None = None,
) -> None:
    """Train the last `settings.depth` blocks, in place, so that target features come to lie where the source's do.

    `before` is a network of its own with the same weights, frozen: what it says of the source's pictures is held to.
    `source(indices)` and `target(indices)` give preprocessed pictures (n, 3, H, W); `counts` is how many there are of each. Batch-norm
    statistics stay as they came. Stops after `settings.epochs` epochs of the source or `settings.max_minutes`.
    `on_epoch(epoch, loss that holds the source, loss of the domains)`.
    """
    trained = [p for block in blocks_from_the_end(extractor, settings.depth) for p in block]
    with torch.no_grad():
        reference = [maps.detach() for maps in extractor(source(list(range(min(8, counts[0])))))]
    scales = [_spread(maps) for maps in reference]
    critics = _critics([maps.shape[1] for maps in reference], generator.initial_seed()) if method == "dann" else None
    groups: list[dict[str, Any]] = [{"params": trained, "lr": RATE}]
    if critics is not None:
        groups.append({"params": list(critics.parameters()), "lr": settings.learning_rate})
    optimizer = torch.optim.AdamW(groups, weight_decay=1e-4)
    frozen = {k: v.clone() for k, v in extractor.state_dict().items()}
    for parameter in trained:
        parameter.requires_grad_(True)
    deadline = time.monotonic() + 60 * settings.max_minutes
    done, steps = 0, settings.epochs * max(1, math.ceil(counts[0] / settings.batch))
    for epoch in range(settings.epochs):
        held: list[float] = []
        apart: list[float] = []
        for chosen in torch.randperm(counts[0], generator=generator).split(settings.batch):  # type: ignore[no-untyped-call]
            if time.monotonic() > deadline:
                break
            others = torch.randint(counts[1], (len(chosen),), generator=generator).tolist()
            pictures = source(chosen.tolist())
            with torch.no_grad():
                wanted = before(pictures)
            ours, theirs = extractor(pictures), extractor(target(others))
            hold = torch.stack([F.mse_loss(o / s, w / s) for o, w, s in zip(ours, wanted, scales, strict=True)]).mean()
            rows = [(_sample(o / s, generator), _sample(t / s, generator)) for o, t, s in zip(ours, theirs, scales, strict=True)]
            if critics is None:
                domains = torch.stack([coral_loss(a, b) for a, b in rows]).mean()
            else:
                strength = schedule(done / steps)
                domains = torch.stack([adversary_loss(c, a, b, strength) for c, (a, b) in zip(critics, rows, strict=True)]).mean()
            loss = hold + WEIGHT[method] * domains
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            done += 1
            held.append(float(hold.detach()))
            apart.append(float(domains.detach()))
        if on_epoch is not None and held:
            on_epoch(epoch + 1, sum(held) / len(held), sum(apart) / len(apart))
        if time.monotonic() > deadline:
            break
    for parameter in trained:
        parameter.requires_grad_(False)
    if not all(bool(v.isfinite().all()) for v in extractor.state_dict().values() if v.is_floating_point()):
        extractor.load_state_dict(frozen)  # an adversary can run away; then nothing was adapted


def _spread(maps: Tensor) -> Tensor:
    return maps.transpose(0, 1).flatten(1).std(dim=1).clamp(min=1e-6).view(1, -1, 1, 1)


def _sample(maps: Tensor, generator: torch.Generator) -> Tensor:
    """Some places of maps (N, C, h, w) as rows (n, C)."""
    rows = maps.permute(0, 2, 3, 1).flatten(0, 2)
    return rows[torch.randperm(rows.shape[0], generator=generator)[:PLACES]]


def _critics(widths: Sequence[int], seed: int) -> nn.ModuleList:
    """One small classifier of domains a stage."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.ModuleList(nn.Sequential(nn.Linear(w, 64), nn.ReLU(), nn.Linear(64, 1)) for w in widths)
