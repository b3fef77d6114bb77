"""An extractor without weights: oriented filters, fixed by formula, for plants that may not use learnt weights or have none that fit."""

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
FAINT = 0.02  # added to a response before its logarithm, in deviations of the picture
LOCAL = 0.3  # weight of a cell's brightness beside the logarithms


def oriented_filters() -> Tensor:
    """Gabor pairs (2 * ORIENTATIONS, 1, SIDE, SIDE), even and odd in turn, without a mean and of absolute sum one (Daugman 1985)."""
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
    """Logarithms of oriented energy at four scales, gathered in 16 x 16 cells: their means, and their peaks, which thin cracks show in.

    A picture is first brought to mean 0 and deviation 1, so that exposure and gain do not matter.
    """

    filters: Tensor

    def __init__(self, stages: Sequence[str]) -> None:
        """Raises WeightsError for a stage other than `mean` and `peak`."""
        super().__init__(stages)
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
