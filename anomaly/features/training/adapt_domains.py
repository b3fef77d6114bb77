"""Unsupervised domain adaptation of an image extractor: AdaBN, Deep CORAL and DANN.

Source and target pictures are all normal or unlabelled, so there is no task loss as in the papers. In its place the extractor's features
of source pictures are held to those it came with (a distillation loss), while the target's features are moved to where the source's lie.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anomaly.features.stages import Stages, blocks_from_the_end
from anomaly.features.training.alignment import covariance
from anomaly.spec import Pretrain

Pictures = Callable[[Sequence[int]], Tensor]
PLACES = 512  # places a side of a batch's maps that enter one loss
LEARNING_RATE = 1e-4  # of the pretrained blocks
PRIOR = 16  # pictures that an extractor's own batch-norm statistics count for
DOMAIN_WEIGHT = {"deep-coral": 10.0, "dann": 1.0}  # of the domain loss beside the distillation loss

Method = Literal["deep-coral", "dann"]


def reestimate_batch_norm(extractor: Stages, batches: Sequence[Tensor]) -> None:
    """Adaptive batch normalisation (AdaBN; Li et al. 2018, arXiv:1603.04779): re-estimate running means and variances, in place.

    `batches` are pictures (N, 3, H, W) of the target. The layer's own statistics count as 16 pictures, for a few pictures do not
    estimate theirs well (Schneider et al. 2020, arXiv:2006.16971). A network without such layers is left alone.
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
    """Gradient reversal layer: identity forwards, gradient times -strength backwards (Ganin et al. 2016, arXiv:1505.07818)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, strength: float) -> Tensor:
        ctx.strength = strength
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return -ctx.strength * gradient, None


def reverse_gradient(x: Tensor, strength: float) -> Tensor:
    """Gradient reversal layer of DANN (Ganin et al. 2016, arXiv:1505.07818): x itself, its gradient times -`strength`.

    >>> x = torch.ones(2, requires_grad=True)
    >>> reverse_gradient(x, 0.5).sum().backward()
    >>> x.grad
    tensor([-0.5000, -0.5000])
    """
    reversed_: Tensor = _Reversed.apply(x, strength)
    return reversed_


def reversal_strength(progress: float) -> float:
    """DANN's schedule of the reversal strength: 0 at the start, 1 at the end of training (Ganin et al. 2016, section 5.2.2).

    >>> [round(reversal_strength(progress), 2) for progress in (0.0, 0.1, 1.0)]
    [0.0, 0.46, 1.0]
    """
    return 2.0 / (1.0 + math.exp(-10.0 * progress)) - 1.0


def coral_loss(a: Tensor, b: Tensor) -> Tensor:
    """Deep CORAL loss (Sun and Saenko 2016, arXiv:1607.01719) of rows (n, D) and (m, D), plus the distance of their means.

    Squared distance of the covariances over 4 D^2, plus squared distance of the means over D.

    >>> rows = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    >>> round(float(coral_loss(rows, rows + 1)), 4)  # the same covariance, every mean moved by one
    1.0
    """
    width = a.shape[1]
    second = (covariance(a) - covariance(b)).square().sum() / (4 * width**2)
    return second + (a.mean(dim=0) - b.mean(dim=0)).square().sum() / width


def adversary_loss(critic: nn.Module, source: Tensor, target: Tensor, strength: float) -> Tensor:
    """DANN's domain loss (Ganin et al. 2016): cross-entropy of a critic that classifies rows (n, D) as source (0) or target (1).

    `critic` maps rows to logits (n, 1). Its gradient reaches the rows reversed, times `strength`.
    """
    rows = torch.cat([source, target])
    side = torch.cat([torch.zeros(len(source)), torch.ones(len(target))]).to(rows.dtype)
    logits = critic(reverse_gradient(rows, strength)).squeeze(1)
    return F.binary_cross_entropy_with_logits(logits, side)


@dataclass
class _Losses:
    """Distillation and domain loss of a batch; `done` counts batches, of `steps` in all."""

    extractor: Stages
    before: Stages
    method: Method
    scales: list[Tensor]
    critics: nn.ModuleList | None
    steps: int
    generator: torch.Generator
    done: int = 0

    def __call__(self, source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Source and target pictures (n, 3, H, W) -> the distillation loss and the domain loss, each a mean over stages."""
        with torch.no_grad():
            wanted = self.before(source)
        ours, theirs = self.extractor(source), self.extractor(target)
        hold = torch.stack([F.mse_loss(o / s, w / s) for o, w, s in zip(ours, wanted, self.scales, strict=True)]).mean()
        rows = [(_sample(o / s, self.generator), _sample(t / s, self.generator)) for o, t, s in zip(ours, theirs, self.scales, strict=True)]
        if self.critics is None:
            domains = [coral_loss(a, b) for a, b in rows]
        else:
            strength = reversal_strength(self.done / self.steps)
            domains = [adversary_loss(critic, a, b, strength) for critic, (a, b) in zip(self.critics, rows, strict=True)]
        self.done += 1
        return hold, torch.stack(domains).mean()


def adapt_domains(
    extractor: Stages,
    before: Stages,
    source: Pictures,
    target: Pictures,
    counts: tuple[int, int],
    method: Method,
    settings: Pretrain,
    generator: torch.Generator,
    on_epoch: Callable[[int, float, float], None] | None = None,
) -> None:
    """Deep CORAL or DANN: train the last `settings.depth` blocks, in place, so that target features match the source's.

    `before` is a network of its own with the same weights, frozen: features of source pictures are held to its answers.
    `source(indices)` and `target(indices)` give preprocessed pictures (n, 3, H, W); `counts` is how many there are of each. Batch-norm
    statistics stay as they came. Stops after `settings.epochs` epochs of the source or `settings.max_minutes`. If training
    diverges to infinite weights, the weights are put back. `on_epoch(epoch, mean distillation loss, mean domain loss)`.
    """
    trained = [p for block in blocks_from_the_end(extractor, settings.depth) for p in block]
    with torch.no_grad():
        reference = [maps.detach() for maps in extractor(source(list(range(min(8, counts[0])))))]
    critics = _critics([maps.shape[1] for maps in reference], generator.initial_seed()) if method == "dann" else None
    groups: list[dict[str, Any]] = [{"params": trained, "lr": LEARNING_RATE}]
    if critics is not None:
        groups.append({"params": list(critics.parameters()), "lr": settings.learning_rate})
    optimizer = torch.optim.AdamW(groups, weight_decay=1e-4)
    frozen = {k: v.clone() for k, v in extractor.state_dict().items()}
    for parameter in trained:
        parameter.requires_grad_(True)
    deadline = time.monotonic() + 60 * settings.max_minutes
    steps = settings.epochs * max(1, math.ceil(counts[0] / settings.batch))
    losses = _Losses(extractor, before, method, [_channel_std(maps) for maps in reference], critics, steps, generator)
    for epoch in range(settings.epochs):
        held, apart = _epoch(losses, optimizer, source, target, counts, settings.batch, deadline)
        if on_epoch is not None and held:
            on_epoch(epoch + 1, sum(held) / len(held), sum(apart) / len(apart))
        if time.monotonic() > deadline:
            break
    for parameter in trained:
        parameter.requires_grad_(False)
    if not all(bool(v.isfinite().all()) for v in extractor.state_dict().values() if v.is_floating_point()):
        extractor.load_state_dict(frozen)  # adversarial training can diverge; then nothing was adapted


def _epoch(
    losses: _Losses,
    optimizer: torch.optim.Optimizer,
    source: Pictures,
    target: Pictures,
    counts: tuple[int, int],
    batch: int,
    deadline: float,
) -> tuple[list[float], list[float]]:
    """One pass over the source, random target pictures beside it; the distillation and the domain loss of every batch."""
    held, apart = [], []
    for chosen in torch.randperm(counts[0], generator=losses.generator).split(batch):  # type: ignore[no-untyped-call]
        if time.monotonic() > deadline:
            break
        others = torch.randint(counts[1], (len(chosen),), generator=losses.generator).tolist()
        hold, domains = losses(source(chosen.tolist()), target(others))
        loss = hold + DOMAIN_WEIGHT[losses.method] * domains
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        held.append(float(hold.detach()))
        apart.append(float(domains.detach()))
    return held, apart


def _channel_std(maps: Tensor) -> Tensor:
    """Standard deviation (1, C, 1, 1) of each channel of maps (N, C, h, w)."""
    return maps.transpose(0, 1).flatten(1).std(dim=1).clamp(min=1e-6).view(1, -1, 1, 1)


def _sample(maps: Tensor, generator: torch.Generator) -> Tensor:
    """A random sample of the places of maps (N, C, h, w) as rows (n, C)."""
    rows = maps.permute(0, 2, 3, 1).flatten(0, 2)
    return rows[torch.randperm(rows.shape[0], generator=generator)[:PLACES]]


def _critics(widths: Sequence[int], seed: int) -> nn.ModuleList:
    """A small domain classifier for each stage."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.ModuleList(nn.Sequential(nn.Linear(w, 64), nn.ReLU(), nn.Linear(64, 1)) for w in widths)
