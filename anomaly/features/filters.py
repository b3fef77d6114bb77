"""Gabor filters: an extractor fixed by formula, for plants that may not use learnt weights or have none that fit."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from anomaly.errors import WeightsError
from anomaly.features.stages import Stages
from anomaly.spec import ORIENTED_FILTERS

STAGES = ("mean", "peak")
ORIENTATIONS = 8
SIDE = 11  # pixels of a filter
WAVELENGTH, WIDTH = 5.0, 2.2  # pixels
LEVELS = 4  # halvings of the picture less one
GRID = 16  # cells a side that responses are gathered in
FAINT = 0.02  # added to a response before its logarithm, in standard deviations of the picture
LOCAL = 0.3  # weight of a cell's brightness beside the logarithms


def oriented_filters() -> Tensor:
    """Gabor filters (Daugman 1985): (2 * ORIENTATIONS, 1, SIDE, SIDE), even and odd in turn, each of mean 0 and absolute sum 1."""
    half = SIDE // 2
    y, x = torch.meshgrid(torch.arange(SIDE) - half, torch.arange(SIDE) - half, indexing="ij")
    filters = []
    for index in range(ORIENTATIONS):
        angle = math.pi * index / ORIENTATIONS
        along, across = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
        envelope = torch.exp(-(along**2 + (across / 1.6) ** 2) / (2 * WIDTH**2))
        for phase in (0.0, math.pi / 2):
            wave = envelope * torch.cos(2 * math.pi * along / WAVELENGTH + phase)
            wave = wave - wave.mean()
            filters.append(wave / wave.abs().sum())
    return torch.stack(filters)[:, None]


class OrientedFilters(Stages):
    """Log Gabor energy at eight orientations and four scales, pooled in 16 x 16 cells: `mean` by average, `peak` by maximum.

    Thin cracks show in the peaks. A picture is first standardised to mean 0 and standard deviation 1, so that exposure and gain do
    not matter.

    >>> mean, peak = OrientedFilters(["mean", "peak"])(torch.rand(1, 3, 128, 128))
    >>> mean.shape, peak.shape
    (torch.Size([1, 36, 16, 16]), torch.Size([1, 32, 16, 16]))
    """

    filters: Tensor

    def __init__(self, stages: Sequence[str]) -> None:
        """Raises WeightsError for a stage other than `mean` and `peak`."""
        super().__init__(stages)
        self.step = GRID * 2 ** (LEVELS - 1)  # each level has whole cells
        unknown = [name for name in stages if name not in STAGES]
        if unknown:
            raise WeightsError(f"extractor.stages {unknown}: {ORIENTED_FILTERS} has the stages {list(STAGES)}")
        self.register_buffer("filters", oriented_filters())

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, 3, S, S), S a multiple of 128 -> `mean` (N, 36, 16, 16) and `peak` (N, 32, 16, 16), in the order asked for."""
        gray = x.mean(dim=1, keepdim=True)
        gray = gray - gray.mean(dim=(2, 3), keepdim=True)
        level = gray / gray.square().mean(dim=(2, 3), keepdim=True).sqrt().clamp(min=1e-3)
        means, peaks = [], []
        for index in range(LEVELS):
            cell = level.shape[2] // GRID
            response = F.conv2d(F.pad(level, (SIDE // 2,) * 4, mode="reflect"), self.filters)
            energy = torch.log((response[:, 0::2].square() + response[:, 1::2].square()).sqrt() + FAINT)
            means += [F.avg_pool2d(energy, cell), LOCAL * F.avg_pool2d(level, cell)]
            peaks.append(F.max_pool2d(energy, cell))
            if index < LEVELS - 1:
                level = F.avg_pool2d(level, 2)
        found = {"mean": torch.cat(means, dim=1), "peak": torch.cat(peaks, dim=1)}
        return [found[name] for name in self.stages]
