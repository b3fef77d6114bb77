"""What the scorers of pictures share: patches of feature maps, which places are looked at, and the unit of a distance map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Metric = Literal["raw", "unit"]
Roi = Sequence[tuple[float, float, float, float]]  # rectangles (left, top, right, bottom) in shares; none: everything


def embed(features: Tensor, metric: Metric, center: Tensor, spread: Tensor) -> Tensor:
    """(N, C, h, w) -> patches (N * h * w, C): 3x3 means, centred; for "unit" also standardised and of length one."""
    pooled = F.avg_pool2d(features, 3, stride=1, padding=1, count_include_pad=False)
    rows = pooled.permute(0, 2, 3, 1).reshape(-1, features.shape[1]) - center
    if metric == "unit":
        rows = rows / spread
        rows = rows / rows.square().sum(1, keepdim=True).clamp(min=1e-12).sqrt()
    return rows


def centre_of(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Centre (C,) and spread (C,) of the patches of (N, C, h, w), as `embed` takes them."""
    raw = embed(maps, "raw", torch.zeros(maps.shape[1]), torch.ones(maps.shape[1]))
    return raw.mean(0), raw.std(0).clamp(min=1e-6)


def places(roi: Roi, high: int, wide: int) -> Tensor:
    """Which places (h, w) of a grid have their middle in a rectangle; all of them when there is none, or none is hit."""
    y, x = ((torch.arange(high) + 0.5) / high)[:, None], ((torch.arange(wide) + 0.5) / wide)[None, :]
    inside = torch.zeros(high, wide, dtype=torch.bool)
    for left, top, right, bottom in roi:
        inside |= (x >= left) & (x < right) & (y >= top) & (y < bottom)
    return inside if inside.any() else torch.ones_like(inside)


def usual_of(distances: Tensor, roi: Roi) -> Tensor:
    """Mean and deviation (2,) of the largest distance in a picture, of the distances (N, h, w) of unseen normals."""
    largest = distances[:, places(roi, *distances.shape[-2:])].amax(dim=1)
    return torch.stack([largest.mean(), largest.std().clamp(min=1e-6)])


def in_its_unit(distances: Tensor, usual: Tensor) -> Tensor:
    """Distances (N, h, w) in deviations of unseen normals' largest, (N, 1, h, w)."""
    return ((distances - usual[0]) / usual[1]).unsqueeze(1)
