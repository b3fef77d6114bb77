"""Features of sensor windows: level, spread, movement and shape of each sensor, the latter by convolution kernels too."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from statistics import NormalDist

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LEVEL_PART = 3  # a level is that of the last third of a window's rows
STD_FLOOR = 0.05  # added to a standard deviation before its logarithm, in units of normal spread
LENGTH = 9  # of an encoder's kernel
STEEP = 0.7  # of its soft threshold
GOLDEN = (5**0.5 - 1) / 2  # multiples of it, less their whole part, are spread evenly
QUARTERS = 4  # parts of a window in which an encoder's responses are counted
STILL = 0.1  # added to a window's own movement before it is divided by it, in units of normal spread
BALANCED = 1000  # windows that an encoder's units are taken from
LEAST_UNIT = 1e-3


class SensorEncoder(nn.Module):
    """Shape of a window by convolution kernels, beside its readings themselves.

    Dilated kernels of 9 rows, and how often each responds in each quarter of the window: MiniRocket (Dempster et al. 2021,
    arXiv:2012.08791) with soft thresholds, so that it can be trained, and with quarters, so that position is kept. Half of the kernels see
    the readings in units of spread, half in units of the window's own movement. Nothing here is random: kernels and thresholds are spread
    evenly.

    The same weights serve every sensor, so an encoder learnt on other signals fits any machine, and permuting sensors permutes features.
    Relations between sensors are left to the scorer. `unit` is what the distance of a normal window to its nearest comes to, in the
    readings and in the responses: each is divided by its own, so that both have a say in a distance (`balanced`).

    >>> SensorEncoder(kernels=4)(torch.zeros(2, 3, 30)).shape  # two windows, three sensors, 30 rows: 30 + 3 * 4 * 4 values a sensor
    torch.Size([2, 234, 1])
    """

    unit: Tensor

    def __init__(self, kernels: int = 4, dilations: Sequence[int] = (1, 2, 4)) -> None:
        """`kernels` of each dilation."""
        super().__init__()
        self.dilations = tuple(dilations)
        self.layers = nn.ModuleList(nn.Conv1d(2, kernels, LENGTH, dilation=d, padding=LENGTH // 2 * d) for d in dilations)
        with torch.no_grad():
            for index, (weight, bias) in enumerate(_kernels(kernels * len(self.dilations))):
                layer, kernel = self.layers[index // kernels], index % kernels
                assert isinstance(layer, nn.Conv1d)
                assert layer.bias is not None
                layer.weight[kernel].zero_()
                layer.weight[kernel, kernel % 2] = torch.tensor(weight)
                layer.bias[kernel] = bias
        self.register_buffer("unit", torch.ones(2))

    def embed(self, apart: Tensor) -> Tensor:
        """(N, C, T), each sensor less its own mean, in units of normal spread -> (N, C, kernels * dilations * 4), each 0 to 1."""
        count, sensors, rows = apart.shape
        x = apart.reshape(-1, 1, rows)  # (N * C, 1, T)
        x = torch.cat([x, x / (x.square().mean(dim=2, keepdim=True).sqrt() + STILL)], dim=1)
        responses = torch.cat([torch.sigmoid(layer(x)) for layer in self.layers], dim=1)  # (N * C, K, T)
        return (responses @ quarters(rows)).reshape(count, sensors, -1)

    def forward(self, apart: Tensor) -> Tensor:
        """(N, C, T), each sensor less its own mean, in units of normal spread -> (N, C * E, 1), sensor by sensor: readings, responses."""
        return torch.cat([apart / self.unit[0], self.embed(apart) / self.unit[1]], dim=2).flatten(1).unsqueeze(2)


def _kernels(count: int) -> list[tuple[list[float], float]]:
    """Kernels, three weights 2 and six -1, times a steepness, each with its threshold; both spread evenly over all there are."""
    twos = list(combinations(range(LENGTH), 3))
    made = []
    for index in range(count):
        chosen = twos[int((index + 0.5) * len(twos) / count)]
        threshold = NormalDist().inv_cdf((index + 1) * GOLDEN % 1)
        made.append(([STEEP * (2.0 if place in chosen else -1.0) for place in range(LENGTH)], threshold))
    return made


def quarters(rows: int) -> Tensor:
    """(rows, 4): the mean over each quarter of so many rows, as a product; where they do not divide evenly, neighbours share a row.

    >>> quarters(8)[:, 0]
    tensor([0.5000, 0.5000, 0.0000, 0.0000, 0.0000, 0.0000, 0.0000, 0.0000])
    """
    return F.adaptive_avg_pool1d(torch.eye(rows), QUARTERS)


def balanced(encoder: SensorEncoder, apart: Tensor, places: Tensor) -> SensorEncoder:
    """The same encoder, its units taken from normal windows `apart` (N, C, T) that end at rows `places` (N,).

    A unit is the root mean square distance of a window to the nearest one that shares no row with it. Of many windows some are taken.
    """
    chosen = torch.randperm(len(apart), generator=torch.Generator().manual_seed(0))[:BALANCED]  # every k-th would meet a cycle
    apart, places = apart[chosen], places[chosen]
    near = (places[:, None] - places).abs() < apart.shape[2]
    with torch.inference_mode():
        units = []
        for part in (apart, encoder.embed(apart)):
            flat = part.flatten(1).double()
            distance = torch.cdist(flat, flat).masked_fill(near, torch.inf).amin(dim=1)
            distance = distance[distance.isfinite()]
            units.append(float(distance.square().mean().sqrt().clamp(min=LEAST_UNIT)) if len(distance) else 1.0)
    encoder.unit = torch.tensor(units)
    return encoder


def fill_widths(rows: int) -> list[int]:
    """Steps in which a missing reading takes one near it, each twice as far as the one before: a tenth of `rows` in all.

    A sensor with more missing than that does not count in its shape (`scorers.sensors.shape.WHOLE`).

    >>> fill_widths(30), fill_widths(66)
    ([1, 2], [1, 2, 4])
    """
    widths: list[int] = []
    while sum(widths) < rows // 10:
        widths.append(2 ** len(widths))
    return widths


def fill_rows(z: Tensor, known: Tensor, window: int) -> tuple[Tensor, ...]:
    """Values and what is known (N, T, C) -> what a missing reading takes (N, T, C): (before, away, after, ahead, between).

    `before` is the last known value before it, from `away` rows back, `after` the first one after it, from `ahead` rows on; `between` lies
    on the straight line from one to the other. Rows away are `window` or more where there is none near enough. A window that does not
    hold that reading must leave the value out.
    """
    before = after = z
    away = ahead = torch.where(known > 0, 0.0, float(window))
    for width in fill_widths(window):
        missing = away >= window
        before = torch.where(missing, F.pad(before[:, :-width], (0, 0, width, 0)), before)
        away = torch.where(missing, F.pad(away[:, :-width] + width, (0, 0, width, 0), value=float(window)), away)
        missing = ahead >= window
        after = torch.where(missing, F.pad(after[:, width:], (0, 0, 0, width)), after)
        ahead = torch.where(missing, F.pad(ahead[:, width:] + width, (0, 0, 0, width), value=float(window)), ahead)
    between = before + (after - before) * (away / (away + ahead).clamp(min=1.0))
    return before, away, after, ahead, between


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

    Level: the mean of the last third of the `level` rows, or of all of them. Spread: the logarithm of their standard deviation. Movement:
    the logarithm of the root mean square of differences between neighbouring rows. Shape, where `shape` rows are asked for: the readings
    themselves, less their own mean, and with an encoder its responses to them too. Only known readings count; in the shape a missing one
    lies on the line between its neighbours.
    Rows are first summed in chunks of a sixth of `level` (a third, where it does not divide by six).

    >>> window = torch.ones(1, 2, 30, 3)  # one window of 30 rows and 3 sensors: values, and 1 where there is a reading
    >>> level, spread, movement, known = SensorExtractor(30)(window)
    >>> level[0, :, 0], known.shape
    (tensor([1., 1., 1.]), torch.Size([1, 3, 1]))
    """

    def __init__(
        self, level: int, shape: int = 0, encoder: SensorEncoder | None = None, *, part: int = LEVEL_PART, every_row: bool = False
    ) -> None:
        """`level` must be a multiple of 3; the level is the mean of the last `part`-th of these rows, 1 or 3.

        With `every_row` a window ends at each row from the first that has a whole one before it."""
        super().__init__()
        self.level, self.shape, self.part = level, shape, part
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
        rows, level_rows = self._over(counted, self.parts), self._over(counted, self.parts // self.part)
        overall = self._over(sums, self.parts) / rows.clamp(min=1.0)
        recent = self._over(sums, self.parts // self.part) / level_rows.clamp(min=1.0)
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
        """(N, 2, T, C) -> [shape (N, C * E, P), and of each reading whether it is known (N, C * T, P)]."""
        filled = fill_rows(x[:, 0], x[:, 1], self.shape)
        before, away, after, ahead, between = (v.unfold(1, self.shape, 1) for v in filled)  # (N, P, C, T)
        row = torch.arange(self.shape, device=x.device)
        follows, leads = away <= row, ahead <= row.flip(0)
        there = follows | leads
        z = torch.where(follows, torch.where(leads, between, before), after)
        mean = (z * there).sum(dim=3, keepdim=True) / there.sum(dim=3, keepdim=True).clamp(min=1)
        apart = (z - mean) * there
        count, places, sensors, _ = apart.shape
        if self.encoder is not None:
            apart = self.encoder(apart.flatten(0, 1)).reshape(count, places, sensors, -1)
        return [m.flatten(2).transpose(1, 2) for m in (apart, (away == 0).to(x.dtype))]

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
