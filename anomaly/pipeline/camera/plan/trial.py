"""One size of input on trial: which made-up marks do the stages of a network tell from good parts there?

Banks are fitted on one half of some normals, and the other half is judged as it is and with marks; then the halves change places, so that
every picture is judged once. All marks of a picture are seen in one pass: each is judged on the picture's own map with only the places
around that mark taken from the marked one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anomaly.data.pictures.marks import Mark
from anomaly.features.maps import fewer_of_large
from anomaly.pipeline.camera.plan.sizes import Size
from anomaly.scorers.pictures.views import Pool, largest_pool, laws_of, places_pooled

Scores = NDArray[np.float64]
NEAR = 0.6  # times its size: how far around a mark's middle its places reach
PLACES = 1.5  # and so many places of the grid more
FALSE = 0.05  # share of good parts above the score from which a mark is found
JUDGED, LEAST = 40, 20  # pictures of a half, on which banks are fitted that judge the other half; fewer of large pictures
RATES = (0.05, 0.1, 0.2, 0.3)  # such shares, over which it is averaged where sizes and pools are compared


def judged_at(size: Size, pictures: int) -> int:
    """How many pictures of each half a size is tried on."""
    return min(fewer_of_large(JUDGED, size, LEAST), pictures // 2)


@dataclass(frozen=True)
class Half:
    """Pooled scores of judged normals by pool (n,), and of marks (m,) with each mark's size (m,), by banks of the other half's normals."""

    clean: Mapping[Pool, Scores]
    marked: Mapping[Pool, Scores]
    sizes: NDArray[np.float64]

    def above(self, pools: Sequence[Pool], rates: Sequence[float]) -> Scores:
        """For each mark (m,) the share of `rates` of false alarms at which it is found, where the largest of these pools speaks."""
        laws = laws_of([torch.from_numpy(self.clean[pool]) for pool in pools]).double()
        sides = ([torch.from_numpy(side[pool]) for pool in pools] for side in (self.clean, self.marked))
        clean, marked = (largest_pool(scores, laws).numpy() for scores in sides)
        shares: Scores = (marked[:, None] > np.quantile(clean, 1 - np.array(rates))).mean(axis=1)
        return shares


@dataclass(frozen=True)
class Trial:
    """The halves, each judged by the other."""

    halves: Sequence[Half]

    def found(self, pools: Sequence[Pool], false: float = FALSE) -> dict[float, float]:
        """By size the share of marks found at `false` false alarms, where the largest of these pools speaks.

        >>> pool = Pool()
        >>> half = Half({pool: np.arange(100.0)}, {pool: np.array([99.5, 3.0, 200.0])}, np.array([2.0, 2.0, 4.0]))
        >>> Trial([half, half]).found([pool])
        {2.0: 0.5, 4.0: 1.0}
        """
        return self._shares(pools, (false,))

    def told(self, pools: Sequence[Pool]) -> dict[float, float]:
        """By size how well marks are told from good parts: the share found, averaged over several rates of false alarms.

        One rate alone would rest on the few good parts that stand out, and say nothing where these hide all marks.
        """
        return self._shares(pools, RATES)

    def _shares(self, pools: Sequence[Pool], rates: Sequence[float]) -> dict[float, float]:
        above = np.concatenate([half.above(pools, rates) for half in self.halves])
        sizes = np.concatenate([half.sizes for half in self.halves])
        return {float(size): float(above[sizes == size].mean()) for size in np.unique(sizes)}


def pool_scores(
    clean: Tensor, marked: Sequence[Tensor], marks: Sequence[Sequence[Mark]], sides: Sequence[tuple[int, int]], shares: Sequence[float]
) -> tuple[dict[float, Scores], dict[float, Scores]]:
    """Scores by share of places pooled: of clean maps (n, h, w), and of every mark on them, picture by picture.

    `marked` holds a map (h, w) for each list of `marks`, whose picture's clean map is given in the same order in `clean` and whose picture
    measures `sides` (high, wide) pixels.
    """
    high, wide = int(clean.shape[-2]), int(clean.shape[-1])
    composites = [one for at, own in enumerate(marks) for one in with_each_mark(clean[at], marked[at], own, sides[at])]
    counts = {share: places_pooled(share, high, wide) for share in shares}
    most = max(counts.values())
    found: list[dict[float, Scores]] = []
    for maps in (clean, torch.stack(composites)):
        worst = maps.flatten(1).topk(most, dim=1).values
        found.append({share: worst[:, :count].mean(dim=1).double().numpy() for share, count in counts.items()})
    return found[0], found[1]


def with_each_mark(clean: Tensor, marked: Tensor, marks: Sequence[Mark], sides: tuple[int, int]) -> list[Tensor]:
    """For each mark the map (h, w) of the picture with this mark alone: its `clean` map, with the places around it from the `marked` one.

    The picture measures `sides` (high, wide) pixels.
    """
    (high, wide), (tall, broad) = clean.shape, sides
    rows, columns = torch.arange(high) + 0.5, torch.arange(wide) + 0.5
    found = []
    for mark in marks:
        down = (rows - mark.y * high / tall).abs() <= NEAR * mark.size * high / tall + PLACES
        across = (columns - mark.x * wide / broad).abs() <= NEAR * mark.size * wide / broad + PLACES
        found.append(torch.where(down[:, None] & across[None, :], marked, clean))
    return found
