"""The sensor extractor: one small dilated convolution, shared by all sensors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class SensorEncoder(nn.Module):
    """Dilated causal convolutions over each sensor's series (temporal convolutional network, Bai et al. 2018).

    The same weights serve every sensor, so an encoder learnt on one machine fits another with other sensors, and
    permuting sensors permutes features. How sensors hang together is left to the scorer's covariance.
    """

    def __init__(self, channels: int = 4, dilations: Sequence[int] = (1, 2, 4, 8), hidden: int = 16) -> None:
        super().__init__()
        widths = [1] + [hidden] * (len(dilations) - 1) + [channels]
        self.dilations = tuple(dilations)
        self.layers = nn.ModuleList(
            nn.Conv1d(a, b, kernel_size=3, dilation=d) for a, b, d in zip(widths[:-1], widths[1:], dilations, strict=True)
        )
        self.channels = channels

    def forward(self, z: Tensor) -> list[Tensor]:
        """(N, C, T) in units of normal spread -> [level (N, C, T), shape (N, C * channels, T)]."""
        sensors, rows = z.shape[1], z.shape[2]
        x = z.reshape(-1, 1, rows)  # (N * C, 1, T)
        for index, (layer, dilation) in enumerate(zip(self.layers, self.dilations, strict=True)):
            y = layer(F.pad(x, (2 * dilation, 0)))
            x = y if index == len(self.layers) - 1 else F.gelu(y)
        return [z, torch.tanh(x).reshape(-1, sensors * self.channels, rows)]
