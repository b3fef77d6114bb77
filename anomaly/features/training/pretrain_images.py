"""Dense VICReg: self-supervised adaptation of an image extractor to the site's own normals.

VICReg is by Bardes et al. 2022 (arXiv:2105.04906), its dense form after VICRegL (arXiv:2210.01571). Two views of a picture differ in what
inspection must ignore (light, noise, blur) and share their geometry. So each place of one feature map must agree with the same
place of the other, while variance and covariance terms keep the features from collapsing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anomaly.features.stages import Stages, blocks_from_the_end
from anomaly.features.training.optimizer import AdamW
from anomaly.spec import Pretrain

PLACES = 1024  # places of a batch's maps that enter one loss
SLOWER = 0.7  # learning rate of a block, as a share of the next one's
PATIENCE = 2  # epochs without a gain before training stops


@dataclass(frozen=True)
class PretrainResult:
    """The rating before and after, epochs run, seconds taken.

    `out_of_time`: the time limit ended it, so that a quicker machine would have got further.
    """

    before: float
    best: float
    epochs: int
    seconds: float
    out_of_time: bool = False


def vicreg_loss(a: Tensor, b: Tensor) -> Tensor:
    """VICReg loss of two sets of embeddings (M, D): invariance, variance and covariance with the paper's weights 25, 25, 1.

    >>> x = torch.tensor([[2.0, 0.0], [-2.0, 0.0], [0.0, 2.0], [0.0, -2.0]])
    >>> float(vicreg_loss(x, x))  # they agree, their variance exceeds one, and they are uncorrelated
    0.0
    """
    invariance = F.mse_loss(a, b)
    variance = (_spread_hinge(a) + _spread_hinge(b)) / 2
    covariance = _off_diagonal(a) + _off_diagonal(b)
    return 25.0 * invariance + 25.0 * variance + covariance


def _spread_hinge(x: Tensor) -> Tensor:
    return F.relu(1.0 - (x.var(0) + 1e-4).sqrt()).mean()


def _off_diagonal(x: Tensor) -> Tensor:
    centred = x - x.mean(0)
    covariance = centred.T @ centred / (x.shape[0] - 1)
    return (covariance.square().sum() - covariance.diagonal().square().sum()) / x.shape[1]


def augment(x: Tensor, generator: torch.Generator) -> Tensor:
    """Photometric augmentation of normalised pictures (N, 3, H, W): random gain, offset, light gradient, blur and noise."""
    count = x.shape[0]

    def draw(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, 1, 1, 1, generator=generator)

    across, down = torch.linspace(-1, 1, x.shape[3]), torch.linspace(-1, 1, x.shape[2])
    light = draw(0.8, 1.2) + draw(-0.15, 0.15) * across + draw(-0.15, 0.15) * down[:, None]
    view = x * light + draw(-0.15, 0.15)
    view = torch.lerp(view, F.avg_pool2d(view, 3, stride=1, padding=1), draw(0.0, 0.8))
    return view + draw(0.0, 0.06) * torch.randn(x.shape, generator=generator)


def pretrain_images(
    extractor: Stages,
    pictures: Callable[[Sequence[int]], Tensor],
    count: int,
    settings: Pretrain,
    generator: torch.Generator,
    judge: Callable[[Stages], float],
    on_epoch: Callable[[int, float, float], None] | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> PretrainResult:
    """Train the last `settings.depth` blocks by dense VICReg, in place, on `count` normals, with early stopping.

    `pictures(indices)` gives preprocessed pictures (n, 3, H, W). `judge` rates an extractor (higher is better) before
    the first and after every epoch; the best weights are kept, the frozen ones if nothing beat them. Batch-norm
    statistics stay as they came. `on_epoch(epoch, mean loss, rating)`, `on_step(steps done, steps of the epoch)`.
    """
    started = time.monotonic()
    deadline = started + 60 * settings.max_minutes
    training = _Training(extractor, pictures, settings, generator)
    before = best = judge(extractor)
    state = {k: v.clone() for k, v in extractor.state_dict().items()}
    stale = epoch = 0
    while epoch < settings.epochs and stale < PATIENCE and time.monotonic() < deadline:
        losses, batches = [], _batches(count, settings.batch, generator)
        for chosen in batches:
            if time.monotonic() > deadline:
                break
            losses.append(training.step(chosen))
            if on_step is not None:
                on_step(len(losses), len(batches))
        epoch += 1
        rating = judge(extractor)
        stale = 0 if rating > best else stale + 1
        if rating > best:
            best, state = rating, {k: v.clone() for k, v in extractor.state_dict().items()}
        if on_epoch is not None:
            on_epoch(epoch, sum(losses) / max(1, len(losses)), rating)
    training.end()
    extractor.load_state_dict(state)
    return PretrainResult(before, best, epoch, time.monotonic() - started, time.monotonic() > deadline)


def pretrain_briefly(
    extractor: Stages,
    pictures: Callable[[Sequence[int]], Tensor],
    count: int,
    settings: Pretrain,
    generator: torch.Generator,
    steps: int,
    on_step: Callable[[int, int], None] | None = None,
) -> None:
    """The first `steps` steps of `pretrain_images`, in place: enough to see where it leads. No clock ends it."""
    training, done = _Training(extractor, pictures, settings, generator), 0
    while done < steps and count > 1:
        for chosen in _batches(count, settings.batch, generator)[: steps - done]:
            training.step(chosen)
            done += 1
            if on_step is not None:
                on_step(done, steps)
    training.end()


class _Training:
    """An extractor in training by dense VICReg: its trained parameters, the heads that are thrown away afterwards, and the optimizer."""

    def __init__(
        self, extractor: Stages, pictures: Callable[[Sequence[int]], Tensor], settings: Pretrain, generator: torch.Generator
    ) -> None:
        self.extractor, self.pictures, self.generator = extractor, pictures, generator
        blocks = blocks_from_the_end(extractor, settings.depth)
        self.trained = [parameter for block in blocks for parameter in block]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(generator.initial_seed())
            self.heads = _heads(extractor, pictures([0]))
        # Lower blocks hold what is most general: each is trained more slowly than the one above it (Howard and Ruder 2018,
        # arXiv:1801.06146).
        self.optimizers = [AdamW(b, settings.learning_rate / 10 * SLOWER**i, 1e-4) for i, b in enumerate(blocks)]
        self.optimizers.append(AdamW(list(self.heads.parameters()), settings.learning_rate, 1e-4))
        for parameter in self.trained:
            parameter.requires_grad_(True)

    def step(self, chosen: list[int]) -> float:
        """One step on these pictures; returns the loss."""
        batch = self.pictures(chosen)
        views = [self.extractor(augment(batch, self.generator)) for _ in range(2)]
        each = [_dense_loss(head, a, b, self.generator) for head, a, b in zip(self.heads, *views, strict=True)]
        loss = torch.stack(each).mean()
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        for optimizer in self.optimizers:
            optimizer.step()
        return float(loss.detach())

    def end(self) -> None:
        """The extractor is for inference again."""
        for parameter in self.trained:
            parameter.requires_grad_(False)


def _batches(count: int, size: int, generator: torch.Generator) -> list[list[int]]:
    """All pictures once, in random order, `size` at a time; one that would be alone is left out."""
    parts = torch.randperm(count, generator=generator).split(size)  # type: ignore[no-untyped-call]
    return [chosen.tolist() for chosen in parts if len(chosen) > 1]


def _heads(extractor: Stages, picture: Tensor, width: int = 128) -> nn.ModuleList:
    """One 1x1 projection a stage, thrown away after training."""
    with torch.no_grad():
        maps = extractor(picture)
    return nn.ModuleList(nn.Sequential(nn.Conv2d(m.shape[1], width, 1), nn.ReLU(), nn.Conv2d(width, width, 1)) for m in maps)


def _dense_loss(head: nn.Module, a: Tensor, b: Tensor, generator: torch.Generator) -> Tensor:
    """VICReg over a sample of places, the same in both maps (N, C, h, w)."""
    rows = [head(m).permute(0, 2, 3, 1).flatten(0, 2) for m in (a, b)]  # (N * h * w, D)
    places = torch.randperm(rows[0].shape[0], generator=generator)[:PLACES]
    return vicreg_loss(rows[0][places], rows[1][places])
