"""Labelled faults in the choice of a plan: what a handful of marked pictures says of the size of input, and of the views and their pools.

A plan is chosen by made-up marks. Labelled faults change it only where they are ranked clearly better, and made-up marks are hardly found
worse: a handful of labels does not show every fault that will come.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

from anomaly.data.pictures.boxes import LabelledBoxes, read_boxes
from anomaly.data.pictures.reading import Picture, read_mask
from anomaly.errors import RecordError
from anomaly.evaluation.pixels import shrink_mask
from anomaly.features.preprocess import ImagePreprocess
from anomaly.features.stages import Stages
from anomaly.pipeline.camera.pictures import PictureFolder
from anomaly.pipeline.camera.plan.views import mean_told
from anomaly.scorers.pictures.views import Pool, largest_pool, laws_of, places_pooled

Scores = NDArray[np.float64]
Mask = NDArray[np.bool_]
DECIDE = 5  # labelled faults that can be read, from which they decide: of fewer, chance alone would often rank all of them better
LEAST_GAIN = 0.02  # AUROC of labelled faults against held-out normals, at least, for a size or pool to be taken by them
ERRORS = 2.0  # standard errors of that gain, at least
POOL_ERRORS = 3.0  # of a pool: the best of a dozen that are no better is often two above
COST = 0.04  # share of made-up marks, mean over their sizes, that may no longer be found for it
MARGIN = 2  # the next fault may be so many times smaller than the smallest that is labelled
SIZES = 4  # times the smallest size of made-up marks is the largest, at least: faults that are not labelled count too
ROUNDS = 1000


@dataclass(frozen=True)
class Ranked:
    """Scores of held-out normals (n,) and of labelled faults (f,): how well are the faults told?"""

    clean: Scores
    faults: Scores

    @property
    def above(self) -> NDArray[np.float64]:
        """Which faults score above which normals, (f, n): 1, 0, or a half where they score the same."""
        faults = self.faults[:, None]
        above: NDArray[np.float64] = (faults > self.clean) + 0.5 * (faults == self.clean)
        return above

    @property
    def auroc(self) -> float:
        """The chance that a fault scores above a normal.

        >>> Ranked(np.array([0.0, 1.0]), np.array([0.5, 2.0])).auroc
        0.75
        """
        return float(self.above.mean())

    def clearly_better(self, other: Ranked, seed: int, errors: float = ERRORS) -> bool:
        """Whether the same faults are told so much better than by `other` that it is hardly chance.

        The standard error is by the paired bootstrap over faults and normals. Normals are paired where there are as many on both sides.
        """
        gain = self.auroc - other.auroc
        if len(self.faults) < DECIDE or gain < LEAST_GAIN:
            return False
        rng = np.random.default_rng([seed, 11])
        faults = _drawn(len(self.faults), rng)
        ours = _drawn(len(self.clean), rng)
        theirs = ours if len(self.clean) == len(other.clean) else _drawn(len(other.clean), rng)
        gains = ((faults @ self.above) * ours).sum(axis=1) - ((faults @ other.above) * theirs).sum(axis=1)
        return gain >= errors * float(gains.std())


def _drawn(count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Each record's share of each of the bootstrap's draws, (ROUNDS, count)."""
    return rng.multinomial(count, np.full(count, 1 / count), size=ROUNDS) / count


@dataclass(frozen=True)
class RankedPools:
    """Pooled scores by pool, of held-out normals (n,) and of labelled faults (f,), by each of several trained banks."""

    folds: Sequence[tuple[Mapping[Pool, Scores], Mapping[Pool, Scores]]]

    def by(self, pools: Sequence[Pool]) -> Ranked:
        """Scores where the largest of these pools speaks, each in units of its own normals; a fault's is the mean over all banks."""
        sides: tuple[list[Tensor], list[Tensor]] = ([], [])
        for fold in self.folds:
            laws = laws_of([torch.from_numpy(fold[0][pool]) for pool in pools])
            for found, scores in zip(sides, fold, strict=True):
                found.append(largest_pool([torch.from_numpy(scores[pool]) for pool in pools], laws))
        return Ranked(torch.cat(sides[0]).double().numpy(), torch.stack(sides[1]).mean(dim=0).double().numpy())

    def further(
        self, taken: Sequence[Pool], found: Callable[[Sequence[Pool]], Mapping[float, float]], seed: int
    ) -> list[tuple[Pool, float]]:
        """Pools to take beside those `taken`, each with what it adds to the AUROC: the best first, for as long as one is clearly better.

        `found(pools)` is the share of made-up marks of each size that pools find together, of which hardly any may be lost.
        """
        added: list[tuple[Pool, float]] = []
        least = mean_told(found(taken)) - COST
        now = self.by(taken)

        def kept(pool: Pool, others: Sequence[Pool]) -> bool:
            return mean_told(found([*others, pool])) >= least

        while True:
            mine = [*taken, *(pool for pool, _ in added)]
            tried = [(pool, self.by([*mine, pool])) for pool in self.folds[0][0] if pool not in mine]
            good = [(pool, one) for pool, one in tried if one.clearly_better(now, seed, POOL_ERRORS) and kept(pool, mine)]
            if not good:
                return added
            pool, best = max(good, key=lambda one: one[1].auroc)
            added.append((pool, best.auroc - now.auroc))
            now = best


def size_by_faults(ranked: Sequence[Ranked], at: int, allowed: Sequence[bool], seed: int) -> int:
    """Which of several sizes of input to take, where made-up marks took the one `at`: another that is allowed and clearly better.

    >>> blind, sees = (Ranked(np.arange(50.0), np.full(8, score)) for score in (25.0, 60.0))
    >>> size_by_faults([blind, sees], 0, [True, True], 0), size_by_faults([blind, sees], 0, [True, False], 0)
    (1, 0)
    """
    for other, may in enumerate(allowed):
        if may and other != at and ranked[other].clearly_better(ranked[at], seed):
            at = other
    return at


class LabelledFaults:
    """The labelled faults of a line that can be read, with masks, or boxes round them (`boxes_of` their folder), if there are any.

    `smallest` is the size of the smallest of them in pixels of the camera's pictures: the square root of the area of its largest piece.
    None without masks and boxes. `notes` says what could not be used.
    """

    def __init__(self, faults: Sequence[Picture], pictures: PictureFolder, boxes_of: Path | None = None) -> None:
        self.pictures: list[Picture] = []
        self._root = boxes_of
        self._boxes = LabelledBoxes() if boxes_of is None else read_boxes(boxes_of)
        if boxes_of is not None:
            self._boxes.leave_out_shared(faults, boxes_of)
            self._boxes.tell_unused(faults, boxes_of)
        self.masks: list[Mask | None] = []  # on a grid of their own, small
        self.notes: list[str] = list(self._boxes.notes)
        sizes = []
        for picture, raw in zip(faults, pictures.decoded(faults), strict=True):
            if raw is None:
                self.notes.append(f"{picture.path}: a labelled fault that cannot be read is left out")
                continue
            mask = self._mask(picture, (raw.shape[0], raw.shape[1]))
            self.pictures.append(picture)
            self.masks.append(None if mask is None else np.asarray(shrink_mask(mask)))
            sizes += [] if mask is None else [fault_size(mask)]
        self.smallest = min(sizes) if sizes else None

    @property
    def decide(self) -> bool:
        """Whether there are enough for them to decide."""
        return len(self.pictures) >= DECIDE

    def _mask(self, picture: Picture, size: tuple[int, int]) -> Mask | None:
        """A fault's mask (high, wide), None where it has none that can be used."""
        if picture.mask is None:
            return self._boxed(picture, size)
        try:
            mask = read_mask(picture.mask)
        except RecordError as error:
            self.notes.append(f"{error}; its fault is judged without a mask")
            return None
        if mask.shape != size or not mask.any():
            why = "marks nothing" if mask.shape == size else f"is {mask.shape[1]} x {mask.shape[0]}, its picture {size[1]} x {size[0]}"
            self.notes.append(f"{picture.mask}: the mask {why}; its fault is judged without it")
            return None
        return mask

    def _boxed(self, picture: Picture, size: tuple[int, int]) -> Mask | None:
        """The boxes round a fault as a mask (high, wide), None where there are none that can be used."""
        boxes = None if self._root is None else self._boxes.of(picture, self._root)
        if boxes is None:
            return None
        mask = boxes.mask(size)
        if mask is None:
            drawn = size if boxes.drawn_on is None else boxes.drawn_on
            why = "lie outside of it" if drawn == size else f"were drawn on {drawn[1]} x {drawn[0]}, and it is {size[1]} x {size[0]}"
            self.notes.append(f"{boxes.file}: the boxes of {picture.id} {why}; its fault is judged without them")
        return mask

    def smallest_marks(self, smallest: float, largest: float) -> float:
        """The size from which made-up marks matter, between the smallest and largest that may be drawn."""
        if self.smallest is None or not self.decide:
            return smallest
        return max(smallest, round(min(self.smallest / MARGIN, largest / SIZES), 1))

    def features(self, folder: PictureFolder, extractor: Stages, preprocess: ImagePreprocess) -> list[Tensor]:
        """Feature maps of the faults, one (f, C_s, h_s, w_s) a stage."""
        return folder.features_of(extractor, preprocess, self.pictures, on_trial=True)

    def scores(self, clean: Tensor, faults: Tensor, shares: Sequence[float]) -> dict[float, Scores]:
        """Scores (f,) by share of places pooled, of the faults' maps (f, h, w) beside those of held-out normals (n, h, w).

        A fault with a mask counts only where it is: other places are those of a normal, so that what else is unusual in its picture
        does not pass for the fault being seen.
        """
        high, wide = int(clean.shape[-2]), int(clean.shape[-1])
        seen = []
        for at, mask in enumerate(self.masks):
            if mask is None:
                seen.append(faults[at])
                continue
            inside = F.adaptive_max_pool2d(torch.from_numpy(mask)[None, None].float(), (high, wide))
            near = F.max_pool2d(inside, 3, stride=1, padding=1)[0, 0] > 0  # a network's places see beyond their own pixels
            seen.append(torch.where(near, faults[at], clean[at % len(clean)]))
        counts = {share: places_pooled(share, high, wide) for share in shares}
        worst = torch.stack(seen).flatten(1).topk(max(counts.values()), dim=1).values
        return {share: worst[:, :count].mean(dim=1).double().numpy() for share, count in counts.items()}

    def report(self) -> dict[str, Any]:
        """What they are, as a plan's report keeps it."""
        masks = sum(mask is not None for mask in self.masks)
        smallest = None if self.smallest is None else round(self.smallest, 1)
        return {"count": len(self.pictures), "masks": masks, "smallest": smallest, "decide": self.decide, "notes": self.notes}


def labelled_report(ranked: Ranked, adds: Sequence[tuple[Pool, float]]) -> dict[str, Any]:
    """How faults are ranked at one size of input, and the pools that they added, as a plan's report keeps it."""
    return {"auroc": round(ranked.auroc, 3), "adds": [[pool.view, pool.share, round(gain, 3)] for pool, gain in adds]}


def fault_size(mask: Mask) -> float:
    """The size of a marked fault in pixels: the square root of the area of its largest piece.

    >>> mask = np.zeros((20, 20), bool)
    >>> mask[2:6, 2:11], mask[15, 15] = True, True
    >>> fault_size(mask)
    6.0
    """
    pieces, _ = ndimage.label(mask, structure=np.ones((3, 3)))
    return float(np.sqrt(np.bincount(pieces.ravel())[1:].max()))
