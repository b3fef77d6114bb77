"""What is seen of a sensor's last rows: level and spread, and what a small dilated convolution learnt, the same for every sensor."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LEVEL_PART = 3  # a level is that of the last third of a window's rows
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


def filled(x: Tensor) -> Tensor:
    """(N, 2, T, C), values and what is known -> (N, C, T): a missing reading takes the mean of the sensor's others in the window."""
    z, known = x[:, 0], x[:, 1]
    mean = (z * known).sum(dim=1, keepdim=True) / known.sum(dim=1, keepdim=True).clamp(min=1.0)
    return (z * known + mean * (1.0 - known)).transpose(1, 2)


def _total(chunks: Tensor) -> Tensor:
    """(N, K, R, C) -> sums (N, K, C) over a few rows R, one by one: ONNX Runtime reduces a middle axis three times as slowly."""
    if chunks.shape[2] > 16:
        return chunks.sum(dim=2)
    total = chunks[:, :, 0]
    for row in range(1, chunks.shape[2]):
        total = total + chunks[:, :, row]
    return total


class SensorExtractor(nn.Module):
    """Features of each sensor over the last `rows` rows, at every position of a window that is longer.

    Level: the mean of the last third of the rows. Spread: the logarithm of the standard deviation over all of them. Learnt, if there
    is an encoder: the mean of its channels over all of them. Only known readings count. Rows are first gathered in sixths of
    `rows` (thirds, where sixths do not come out even), which is also the step between positions.
    """

    def __init__(self, rows: int, encoder: SensorEncoder | None = None, *, every_row: bool = False) -> None:
        """`rows` must be a multiple of 3. With `every_row` positions are a row apart instead of a step; not with an encoder."""
        super().__init__()
        assert not (every_row and encoder), "what an encoder sees depends on where the window begins"
        self.rows = rows
        self.parts = 6 if rows % 6 == 0 else 3
        self.step = rows // self.parts
        self.encoder = encoder
        self.every_row = every_row
        self.hop = self.step if every_row else 1  # chunks from one part of a position to its next

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, 2, T, C), T >= rows -> [level (N, C, P), spread (N, C, P), learnt (N, C * k, P), known (N, C, P)].

        P positions a step (or a row) apart, the last of them ending at the window's last row. `known` is the share of rows with a reading.
        """
        if not self.every_row:  # what is left over at the front belongs to no position
            x = x[:, :, x.shape[2] - self.rows - (x.shape[2] - self.rows) // self.step * self.step :]
        chunks = self._chunks(x)
        z, known = chunks[:, 0], chunks[:, 1]
        counted = _total(known)  # (N, K, C)
        sums = _total(z)  # values are 0 where there is no reading
        mean = sums / counted.clamp(min=1.0)
        apart = _total(((z - mean.unsqueeze(2)) * known).square())
        # Chan, Golub and LeVeque 1979: variances of parts make that of the whole without squares of far-away levels cancelling.
        rows, level_rows = self._over(counted, self.parts), self._over(counted, self.parts // LEVEL_PART)
        overall = self._over(sums, self.parts) / rows.clamp(min=1.0)
        recent = self._over(sums, self.parts // LEVEL_PART) / level_rows.clamp(min=1.0)
        between = sum(self._at(counted, i) * (self._at(mean, i) - overall).square() for i in range(self.parts))
        variance = (self._over(apart, self.parts) + between) / rows.clamp(min=1.0)
        maps = [torch.where(level_rows > 0, recent, overall), torch.log(variance.sqrt() + FLOOR)]
        if self.encoder is not None:
            maps.append(F.avg_pool1d(self.encoder(filled(x)), self.rows, stride=self.step).transpose(1, 2))
        return [m.transpose(1, 2) for m in (*maps, rows / self.rows)]

    def _chunks(self, x: Tensor) -> Tensor:
        """(N, 2, T, C) -> chunks of a step's rows (N, 2, K, step, C): one beside the other, or one that begins at every row."""
        count, _, rows, sensors = x.shape
        if not self.every_row:
            return x.reshape(count, 2, rows // self.step, self.step, sensors)
        return torch.stack([x[:, :, row : row + 1 - self.step or None] for row in range(self.step)], dim=3)

    def _at(self, chunks: Tensor, part: int) -> Tensor:
        """Each position's chunk (N, P, C) in place `part` of its rows, from chunks (N, K, C)."""
        return chunks[:, part * self.hop : (part + 1 - self.parts) * self.hop or None]  # from the end: the graph works out no size

    def _over(self, chunks: Tensor, last: int) -> Tensor:
        """Sums (N, P, C) over the `last` chunks of each position's rows."""
        total = self._at(chunks, self.parts - last)
        for part in range(self.parts - last + 1, self.parts):
            total = total + self._at(chunks, part)
        return total
