"""CORAL: align the source's mean and covariance with the target's, in closed form.

Sun, Feng and Saenko 2016, "Return of frustratingly easy domain adaptation", arXiv:1511.05547.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Alignment:
    """x -> (x - source mean) @ matrix + target mean, for rows (n, D)."""

    source_mean: Tensor
    matrix: Tensor
    target_mean: Tensor

    def __call__(self, rows: Tensor) -> Tensor:
        """Rows (n, D) of the source moved to the target's mean and covariance."""
        return (rows - self.source_mean) @ self.matrix + self.target_mean


def coral(source: Tensor, target: Tensor, ridge: float = 1e-3, prior: float = 0.0) -> Alignment:
    """CORAL (Sun, Feng and Saenko 2016, arXiv:1511.05547) of source rows (n, D) with target rows (m, D), n >= 2, m >= 1.

    Rows are whitened with the source's covariance and re-coloured with the target's, each with `ridge` times the source's mean variance
    on its diagonal (the paper adds one, for features of unit variance). The target's covariance is shrunk towards the source's as
    if `prior` rows of it had been seen (the mean of a conjugate inverse-Wishart prior): a target of few rows cannot estimate its own.

    >>> generator = torch.Generator().manual_seed(0)
    >>> source, target = torch.randn(500, 3, generator=generator), 2 * torch.randn(400, 3, generator=generator) + 5
    >>> moved = coral(source, target, ridge=1e-9)(source)
    >>> torch.allclose(moved.mean(0), target.mean(0), atol=1e-3), torch.allclose(moved.std(0), target.std(0), rtol=1e-2)
    (True, True)
    """
    a, b = source.double(), target.double()
    floor = ridge * a.var(dim=0, unbiased=False).mean().clamp(min=1e-12) * torch.eye(a.shape[1], dtype=torch.float64)
    of_source, of_target = covariance(a), covariance(b) if len(b) > 1 else torch.zeros(a.shape[1], a.shape[1], dtype=torch.float64)
    of_target = (len(b) * of_target + prior * of_source) / (len(b) + prior)
    matrix = _power(of_source + floor, -0.5) @ _power(of_target + floor, 0.5)
    return Alignment(a.mean(dim=0).float(), matrix.float(), b.mean(dim=0).float())


def covariance(rows: Tensor) -> Tensor:
    """Covariance (D, D) of rows (n, D), over n - 1."""
    centred = rows - rows.mean(dim=0)
    return centred.T @ centred / (rows.shape[0] - 1)


def align_maps(source: list[Tensor], target: list[Tensor]) -> list[Tensor]:
    """CORAL a stage: maps (n, C, h, w) of the source, each place a row, aligned with the target's maps of the stage."""
    aligned = []
    for a, b in zip(source, target, strict=True):
        rows = a.permute(0, 2, 3, 1).reshape(-1, a.shape[1])
        found = coral(rows, b.permute(0, 2, 3, 1).reshape(-1, b.shape[1]))
        aligned.append(found(rows).reshape(a.shape[0], *a.shape[2:], a.shape[1]).permute(0, 3, 1, 2).contiguous())
    return aligned


def _power(matrix: Tensor, exponent: float) -> Tensor:
    """A symmetric positive definite matrix (D, D) to a real power."""
    values, vectors = torch.linalg.eigh(matrix)
    powered: Tensor = (vectors * values.clamp(min=1e-12) ** exponent) @ vectors.T
    return powered
