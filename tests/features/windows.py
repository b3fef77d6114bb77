"""Random sensor windows and their features, for tests."""

from __future__ import annotations

import torch

from anomaly.features.encoder import SensorEncoder, SensorExtractor

ROWS = 12


def seen(z: torch.Tensor, known: torch.Tensor | None = None, encoder: SensorEncoder | None = None, shape: int = 0) -> list[torch.Tensor]:
    """Features of windows (N, C, T), and the shape of their last rows."""
    with torch.inference_mode():
        extractor = SensorExtractor(ROWS, shape, encoder).eval()
        return extractor(torch.stack([z, torch.ones_like(z) if known is None else known], dim=1).transpose(2, 3))


def kernels(each: int) -> SensorEncoder:
    """An encoder of so many kernels a dilation, with units."""
    encoder = SensorEncoder(each).requires_grad_(False).eval()
    encoder.unit = torch.tensor([2.0, 0.5])
    return encoder


def noise(count: int, sensors: int, seed: int = 0, rows: int = ROWS) -> torch.Tensor:
    return torch.randn(count, sensors, rows, generator=torch.Generator().manual_seed(seed))
