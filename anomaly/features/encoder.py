"""Features of sensor windows: level and spread of each sensor, and those of a small temporal convolutional network if there is one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LEVEL_PART = 3  # a level is that of the last third of a window's rows
STD_FLOOR = 0.05  # added to a standard deviation before its logarithm, in units of normal spread


class SensorEncoder(nn.Module):
    """Temporal convolutional network (Bai et al. 2018, arXiv:1803.01271): dilated causal convolutions over each sensor's series.

    The same weights serve every sensor, so an encoder learnt on one machine fits another with other sensors, and permuting sensors permutes
    features. Relations between sensors are left to the scorer.

    >>> SensorEncoder(channels=4)(torch.zeros(2, 3, 30)).shape  # two windows, three sensors, 30 rows
    torch.Size([2, 12, 30])
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


def fill_missing(x: Tensor) -> Tensor:
    """Mean imputation: (N, 2, T, C), values and 1 where known -> (N, C, T). A missing reading takes its sensor's mean in the window."""
    z, known = x[:, 0], x[:, 1]
    mean = (z * known).sum(dim=1, keepdim=True) / known.sum(dim=1, keepdim=True).clamp(min=1.0)
    return (z * known + mean * (1.0 - known)).transpose(1, 2)


def fill_widths(rows: int) -> list[int]:
    """Steps in which a missing reading takes the last one before it, each twice as far as the one before: a tenth of `rows` in all.

    A sensor with more missing than that does not count in its shape (`scorers.sensors.shape.WHOLE`).

    >>> fill_widths(30), fill_widths(66)
    ([1, 2], [1, 2, 4])
    """
    widths: list[int] = []
    while sum(widths) < rows // 10:
        widths.append(2 ** len(widths))
    return widths


def _sum_rows(chunks: Tensor) -> Tensor:
    """(N, K, R, C) -> sums (N, K, C) over a few rows R, one by one: ONNX Runtime reduces a middle axis three times as slowly."""
    if chunks.shape[2] > 16:
        return chunks.sum(dim=2)
    total = chunks[:, :, 0]
    for row in range(1, chunks.shape[2]):
        total = total + chunks[:, :, row]
    return total


class SensorExtractor(nn.Module):
    """What the views of a window see: features of each sensor over the window's last rows, or at every row of a longer stretch.

    Level: the mean of the last third of the `level` rows. Spread: the logarithm of their standard deviation. Movement: the logarithm of the
    root mean square of differences between neighbouring rows. Shape, where `shape` rows are asked for: the readings themselves, less their
    own mean, or the encoder's embedding of them. Only known readings count; a missing one takes the one before it in the shape.
    Rows are first summed in chunks of a sixth of `level` (a third, where it does not divide by six).

    >>> window = torch.ones(1, 2, 30, 3)  # one window of 30 rows and 3 sensors: values, and 1 where there is a reading
    >>> level, spread, movement, known = SensorExtractor(30)(window)
    >>> level[0, :, 0], known.shape
    (tensor([1., 1., 1.]), torch.Size([1, 3, 1]))
    """

    def __init__(self, level: int, shape: int = 0, encoder: SensorEncoder | None = None, *, every_row: bool = False) -> None:
        """`level` must be a multiple of 3. With `every_row` a window ends at each row from the first that has a whole one before it."""
        super().__init__()
        self.level, self.shape = level, shape
        self.rows = max(level, shape)
        self.parts = 6 if level % 6 == 0 else 3
        self.step = level // self.parts
        self.encoder = encoder
        self.every_row = every_row
        self.hop = self.step if every_row else 1  # chunks from one part of a position to its next

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, 2, T, C) -> [level, spread, movement, shape and its `known` where there is one, known], each (N, C * k, P).

        P = 1 and T = rows; with `every_row` P = T - rows + 1 windows. `known` is the share of rows with a reading.
        """
        own = x[:, :, self.rows - self.level :]
        chunks = self._chunks(own)
        z, known = chunks[:, 0], chunks[:, 1]
        counted = _sum_rows(known)  # (N, K, C)
        sums = _sum_rows(z)  # values are 0 where there is no reading
        mean = sums / counted.clamp(min=1.0)
        squares = _sum_rows(((z - mean.unsqueeze(2)) * known).square())
        # Pairwise variance (Chan, Golub and LeVeque 1979): that of the whole from those of its parts, without cancellation at large levels.
        rows, level_rows = self._over(counted, self.parts), self._over(counted, self.parts // LEVEL_PART)
        overall = self._over(sums, self.parts) / rows.clamp(min=1.0)
        recent = self._over(sums, self.parts // LEVEL_PART) / level_rows.clamp(min=1.0)
        between = sum(self._at(counted, i) * (self._at(mean, i) - overall).square() for i in range(self.parts))
        variance = (self._over(squares, self.parts) + between) / rows.clamp(min=1.0)
        maps = [torch.where(level_rows > 0, recent, overall), torch.log(variance.sqrt() + STD_FLOOR), self._movement(own)]
        maps = [m.transpose(1, 2) for m in maps]
        if self.shape:
            maps += self._shapes(x[:, :, self.rows - self.shape :])
        return [*maps, (rows / self.level).transpose(1, 2)]

    def _movement(self, x: Tensor) -> Tensor:
        """(N, P, C) from values and what is known (N, 2, T, C). The step into a position's first row is not its own."""
        known = x[:, 1, 1:] * x[:, 1, :-1]
        squared = ((x[:, 0, 1:] - x[:, 0, :-1]) * known).square()
        chunks = self._chunks(F.pad(torch.stack([squared, known], dim=1), (0, 0, 1, 0)))
        totals = []
        for plane in (chunks[:, 0], chunks[:, 1]):
            first = self._at(_sum_rows(plane[:, :, 1:]) if self.step > 1 else torch.zeros_like(plane[:, :, 0]), 0)
            totals.append(first + self._over(_sum_rows(plane), self.parts - 1))
        return torch.log((totals[0] / totals[1].clamp(min=1.0)).sqrt() + STD_FLOOR)

    def _shapes(self, x: Tensor) -> list[Tensor]:
        """(N, 2, T, C) -> [shape (N, C * E, P), its known (N, C, P)]."""
        x = x.unfold(2, self.shape, 1) if self.every_row else x.transpose(2, 3).unsqueeze(2)  # (N, 2, P, C, T)
        z, known = x[:, 0], x[:, 1]
        share = known.mean(dim=3)
        for width in fill_widths(self.shape):
            z = torch.where(known > 0, z, F.pad(z[..., :-width], (width, 0)))
            known = torch.maximum(known, F.pad(known[..., :-width], (width, 0)))
        mean = (z * known).sum(dim=3, keepdim=True) / known.sum(dim=3, keepdim=True).clamp(min=1.0)
        apart = (z - mean) * known  # (N, P, C, T)
        count, places, sensors, _ = apart.shape
        if self.encoder is not None:
            apart = self.encoder(apart.flatten(0, 1)).reshape(count, places, sensors, -1)
        return [apart.flatten(2).transpose(1, 2), share.transpose(1, 2)]

    def _chunks(self, x: Tensor) -> Tensor:
        """(N, 2, T, C) -> chunks of `step` rows (N, 2, K, step, C): side by side, or with `every_row` one beginning at each row."""
        count, _, rows, sensors = x.shape
        if not self.every_row:
            return x.reshape(count, 2, rows // self.step, self.step, sensors)
        return torch.stack([x[:, :, row : row + 1 - self.step or None] for row in range(self.step)], dim=3)

    def _at(self, chunks: Tensor, part: int) -> Tensor:
        """Each position's chunk (N, P, C) in place `part` of its rows, from chunks (N, K, C)."""
        return chunks[:, part * self.hop : (part + 1 - self.parts) * self.hop or None]  # from the end: no sizes to compute in the graph

    def _over(self, chunks: Tensor, last: int) -> Tensor:
        """Sums (N, P, C) over the `last` chunks of each position's rows."""
        total = self._at(chunks, self.parts - last)
        for part in range(self.parts - last + 1, self.parts):
            total = total + self._at(chunks, part)
        return total
