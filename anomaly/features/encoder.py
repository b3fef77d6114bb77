"""What is seen of a sensor's last rows: level and spread, and what a small dilated convolution learnt, the same for every sensor."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

STRIDE = 5  # rows between two positions that a window with context is looked at
FLOOR = 0.05  # added to a standard deviation before its logarithm, in units of normal spread


class SensorEncoder(nn.Module):
    """Dilated causal convolutions over each sensor's series (temporal convolutional network, Bai et al. 2018).

    The same weights serve every sensor, so an encoder learnt on one machine fits another with other sensors, and
    permuting sensors permutes features. How sensors hang together is left to the scorer.
    """

    def __init__(self, channels: int = 4, dilations: Sequence[int] = (1, 2, 4, 8), hidden: int = 16) -> None:
        super().__init__()
        widths = [1] + [hidden] * (len(dilations) - 1) + [channels]
        self.dilations = tuple(dilations)
        self.layers = nn.ModuleList(
            nn.Conv1d(a, b, kernel_size=3, dilation=d) for a, b, d in zip(widths[:-1], widths[1:], dilations, strict=True)
        )
        self.channels = channels

    def forward(self, z: Tensor) -> Tensor:
        """(N, C, T) in units of normal spread -> (N, C * channels, T)."""
        sensors, rows = z.shape[1], z.shape[2]
        x = z.reshape(-1, 1, rows)  # (N * C, 1, T)
        for index, (layer, dilation) in enumerate(zip(self.layers, self.dilations, strict=True)):
            y = layer(F.pad(x, (2 * dilation, 0)))
            x = y if index == len(self.layers) - 1 else F.gelu(y)
        return torch.tanh(x).reshape(-1, sensors * self.channels, rows)


class SensorExtractor(nn.Module):
    """Features of each sensor over the last `rows` rows, at every position of a window that is longer.

    Level: the mean of the last third of the rows. Spread: the logarithm of the standard deviation over all of them. Learnt, if there
    is an encoder: the mean of its channels over all of them. Only known readings count.
    """

    def __init__(self, rows: int, encoder: SensorEncoder | None = None) -> None:
        super().__init__()
        self.rows = rows
        self.level_rows = max(1, rows // 3)
        self.encoder = encoder

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, 2, C, T), T = rows + a multiple of STRIDE -> [level (N, C, P), spread (N, C, P), learnt (N, C * k, P), known (N, C, P)].

        P positions STRIDE rows apart, the last of them ending at the window's last row. `known` is the share of rows with a reading.
        """
        z, known = x[:, 0], x[:, 1]
        share, recent = self._mean(known, self.rows), self._mean(known, self.level_rows)
        counted = share.clamp(min=1e-6)
        mean = self._mean(z * known, self.rows) / counted
        variance = self._mean(z.double().square() * known, self.rows) / counted - mean.square()
        latest = self._mean(z * known, self.level_rows) / recent.clamp(min=1e-6)
        level = torch.where(recent > 1e-6, latest, torch.where(share > 1e-6, mean, z[:, :, -1:].double()))
        maps = [level, torch.log(variance.clamp(min=0.0).sqrt() + FLOOR)]
        if self.encoder is not None:
            maps.append(self._mean(self.encoder(z), self.rows))
        return [m.to(x.dtype) for m in (*maps, share)]

    def _mean(self, series: Tensor, rows: int) -> Tensor:
        """Means (N, K, P) over the `rows` rows that end at each position, by running sums in double precision."""
        sums = F.pad(series.double().cumsum(dim=2), (1, 0))
        return (sums[:, :, self.rows :: STRIDE] - sums[:, :, self.rows - rows : sums.shape[2] - rows : STRIDE]) / rows
