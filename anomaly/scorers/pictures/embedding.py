"""What the scorers of pictures share: patch embedding, region of interest, and the standardisation of distance maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from anomaly.features.preprocess import inside_roi

Metric = Literal["raw", "unit"]
Roi = Sequence[tuple[float, float, float, float]]  # rectangles (left, top, right, bottom) in shares; none: everything
AT_A_TIME = 32  # maps


def embed(features: Tensor, metric: Metric, center: Tensor, spread: Tensor) -> Tensor:
    """Locally aware patch features (PatchCore, section 3.1): maps (N, C, h, w) -> patches (N * h * w, C).

    Means over 3x3 neighbourhoods less `center` (C,); with the metric "unit" also divided by `spread` (C,) and scaled to length one.

    >>> embed(torch.ones(1, 2, 4, 4), "raw", torch.zeros(2), torch.ones(2)).shape
    torch.Size([16, 2])
    """
    return normalise(neighbourhood_means(features), metric, center, spread)


def neighbourhood_means(features: Tensor) -> Tensor:
    """Means over 3x3 neighbourhoods: maps (N, C, h, w) -> patches (N * h * w, C)."""
    pooled = F.avg_pool2d(features, 3, stride=1, padding=1, count_include_pad=False)
    return pooled.permute(0, 2, 3, 1).reshape(-1, features.shape[1])


def normalise(patches: Tensor, metric: Metric, center: Tensor, spread: Tensor) -> Tensor:
    """Patches (P, C) less `center` (C,); with the metric "unit" also divided by `spread` (C,) and scaled to length one."""
    rows = patches - center
    if metric == "unit":
        rows = rows / spread
        rows = rows / rows.square().sum(1, keepdim=True).clamp(min=1e-12).sqrt()
    return rows


def many_patches(maps: Tensor, rows: Tensor | None = None) -> Tensor:
    """`neighbourhood_means` of many maps (N, C, h, w), a few at a time, so that only the answer (P, C) takes memory.

    `rows` (P,) are the numbers, rising, of the patches wanted; all when None.
    """
    places = maps.shape[-2] * maps.shape[-1]
    out = torch.empty(len(maps) * places if rows is None else len(rows), maps.shape[1])
    filled = 0
    for start in range(0, len(maps), AT_A_TIME):
        found = neighbourhood_means(maps[start : start + AT_A_TIME])
        if rows is not None:
            first, last = torch.searchsorted(rows, torch.tensor([start * places, start * places + len(found)])).tolist()
            found = found[rows[first:last] - start * places]
        out[filled : filled + len(found)] = found
        filled += len(found)
    return out


def mean_std(patches: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (C,) and standard deviation (C,) of patches (P, C): the center and spread that `embed` takes."""
    return patches.mean(0), patches.std(0).clamp(min=1e-6)


def roi_mask(roi: Roi, high: int, wide: int) -> Tensor:
    """Which places of a grid have their middle in a rectangle, bool (h, w); all of them when there is no rectangle or none is hit.

    >>> roi_mask([(0.0, 0.0, 0.5, 1.0)], 1, 4).tolist()  # the left half
    [[True, True, False, False]]
    """
    inside = inside_roi(roi, high, wide)
    return inside if inside.any() else torch.ones_like(inside)


def unseen_max_mean_std(distances: Tensor, roi: Roi) -> Tensor:
    """Mean and standard deviation (2,) of a picture's largest distance, from leave-one-out distances (N, h, w) of normals."""
    largest = distances[:, roi_mask(roi, *distances.shape[-2:])].amax(dim=1)
    return torch.stack([largest.mean(), largest.std().clamp(min=1e-6)])


def standardise(distances: Tensor, mean_std: Tensor) -> Tensor:
    """Distances (N, h, w) less the mean, over the standard deviation, of unseen normals' largest: (N, 1, h, w)."""
    return ((distances - mean_std[0]) / mean_std[1]).unsqueeze(1)
