"""Shape of a window: the distance of its readings, each sensor less its own mean, to the nearest normal window in a memory bank.

PatchCore for series (Roth et al. 2022, arXiv:2106.08265). Normal windows are kept in a basis of their principal components, which leaves
out most of their noise. Of many a random sample is kept: a greedy coreset, as for pictures, costs more and finds no more.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

SIZE = 2000  # windows kept at most
COMPONENTS = 64  # of their basis, at most
PRODUCT = 1 << 18  # components times readings of a window, at most, so that a row of many sensors takes no longer; 16 components at least
ENTRIES, FEWEST = 1 << 18, 256  # of the table that a row is looked up in, at most, by fewer windows; and windows kept at least
DECOMPOSED, DECOMPOSED_WIDE = 4096, 1024  # windows that the basis is taken from, at most; the latter of more readings than that
AT_ONCE = 4096  # windows that are compared with the bank at a time
WHOLE = 0.9  # a sensor's shape counts when at least this share of its rows has a reading


class ShapeBank(nn.Module):
    """Score = root mean square distance of a window to the nearest in the bank, over the readings of the sensors that count.

    The contribution of a sensor is its share of the squared distance, times the score. Contributions are never negative and sum to the
    score.
    """

    center: Tensor
    basis: Tensor
    bank: Tensor
    norms: Tensor
    rows: Tensor

    def __init__(self, center: Tensor, basis: Tensor, bank: Tensor, norms: Tensor, rows: Tensor) -> None:
        super().__init__()
        self.register_buffer("center", center)  # (D,): mean of normal windows
        self.register_buffer("basis", basis)  # (K, D): orthonormal rows; D = C * E, sensor by sensor
        self.register_buffer("bank", bank)  # (M, K): normal windows in that basis
        self.register_buffer("norms", norms)  # (C, M) float64: squared length of each sensor's part of each of them
        self.register_buffer("rows", rows)  # () int64: readings of a sensor

    @property
    def reads_rows(self) -> bool:
        """Whether what is looked at are the readings themselves; an encoder's embedding has none that could be missing."""
        return int(self.rows) == self.basis.shape[1] // self.norms.shape[0]

    def forward(self, shape: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        """`shape` (N, C * E, 1), `known` (N, C * T, 1) which readings there are -> score (N,), contribution (N, C).

        A reading that is missing helps to find the nearest window, by the one that stands for it, and takes no part in the distance.
        """
        sensors = self.norms.shape[0]
        each = self.basis.shape[1] // sensors
        there = known.reshape(len(known), sensors, -1)
        counts = (there.mean(dim=2) >= WHOLE).to(shape.dtype)
        x = (shape.squeeze(2) - self.center).reshape(-1, sensors, each) * counts.unsqueeze(2)
        along = x.reshape(-1, sensors * each) @ self.basis.T  # (N, K)
        table = self.lookup()
        nearest = torch.cat([(part @ table.T).argmax(dim=1) for part in torch.split(torch.cat([along, counts], dim=1).double(), AT_ONCE)])
        apart = x - (self.bank[nearest] @ self.basis).reshape(-1, sensors, each)
        if self.reads_rows:
            read = there.sum(dim=2, keepdim=True).clamp(min=1.0)
            apart = (apart - (apart * there).sum(dim=2, keepdim=True) / read) * there * (each / read).sqrt()
        squared = (apart * counts.unsqueeze(2)).square().sum(dim=2)  # (N, C); of the difference: no digits are lost to cancelling
        total = squared.sum(dim=1)
        score = (total / (sensors * each)).sqrt()
        return score, squared / total.clamp(min=1e-12).unsqueeze(1) * score.unsqueeze(1)

    def lookup(self) -> Tensor:
        """(M, K + C) float64: its product with a window's place in the basis, and 1 a sensor that counts, is largest for the nearest.

        Strokes may be many times as large as what tells them apart: in float32 that would drown.
        """
        return torch.cat([self.bank.double(), -0.5 * self.norms.T], dim=1)


def fit_shape(shape: Tensor, known: Tensor, sensors: int, generator: torch.Generator) -> ShapeBank:
    """Fit on the shapes of normal windows of C `sensors`: `shape` (N, C * E, 1), `known` (N, C * T, 1).

    Windows in which a reading is missing are left out, or where few are whole those in which a sensor does not count.

    >>> strokes = torch.sin(torch.arange(30) / 5)[None, :, None] * torch.linspace(0.9, 1.1, 50)[:, None, None]  # one sensor
    >>> bank = fit_shape(strokes, torch.ones(50, 30, 1), 1, torch.Generator().manual_seed(0))
    >>> score, _ = bank(torch.cat([strokes[:1], -strokes[:1]]), torch.ones(2, 30, 1))
    >>> bool(score[0] < 0.01), bool(score[1] > 1)
    (True, True)
    """
    there = known.reshape(len(known), sensors, -1)
    whole, counting = (there.amin(dim=(1, 2)) > 0), (there.mean(dim=2) >= WHOLE).all(dim=1)
    taken = next((some for some in (whole, counting) if int(some.sum()) >= min(FEWEST, len(some) // 2)), torch.ones_like(whole))
    rows = shape.squeeze(2)[taken]
    center = rows.double().mean(dim=0).float()
    rows = rows - center
    some = rows[_some(len(rows), DECOMPOSED if rows.shape[1] <= DECOMPOSED_WIDE else DECOMPOSED_WIDE, generator)]
    gram = some.double() @ some.double().T if len(some) < some.shape[1] else some.double().T @ some.double()
    values, vectors = torch.linalg.eigh(gram)
    kept = vectors[:, values > values[-1].clamp(min=1e-12) * 1e-9][:, -max(16, min(COMPONENTS, PRODUCT // rows.shape[1])) :].flip(1)
    basis = kept.T if len(some) >= some.shape[1] else torch.linalg.qr(some.double().T @ kept)[0].T
    basis = basis.float().contiguous()
    size = min(SIZE, max(FEWEST, ENTRIES // (len(basis) + sensors)))
    bank = rows[_some(len(rows), size, generator)] @ basis.T
    norms = (bank.double() @ basis.double()).reshape(len(bank), sensors, -1).square().sum(dim=2).T.contiguous()
    return ShapeBank(center, basis, bank.contiguous(), norms, torch.tensor(there.shape[2]))


def _some(count: int, most: int, generator: torch.Generator) -> Tensor:
    """Places of `most` of `count` windows at random, in order. Every k-th would meet the same part of a cycle."""
    return torch.randperm(count, generator=generator)[:most].sort().values
