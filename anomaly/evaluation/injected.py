"""Judging features without a single real fault: how well are made-up ones ranked above normals not used for fitting?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anomaly.evaluation.metrics import auroc


@dataclass(frozen=True)
class Ranking:
    """Scores of normals (n,) and of made-up faults on them (n, k): pairs, so that two detectors can be compared."""

    clean: NDArray[np.float64]
    faulty: NDArray[np.float64]

    def auroc(self, rows: NDArray[np.int64] | None = None) -> float:
        """AUROC over the records chosen (all when None)."""
        clean = self.clean if rows is None else self.clean[rows]
        faulty = (self.faulty if rows is None else self.faulty[rows]).ravel()
        labels = np.concatenate([np.zeros(len(clean), bool), np.ones(len(faulty), bool)])
        return auroc(labels, np.concatenate([clean, faulty])) or 0.0


def joined(rankings: Sequence[Ranking]) -> Ranking:
    """One ranking of the records of several."""
    return Ranking(np.concatenate([r.clean for r in rankings]), np.concatenate([r.faulty for r in rankings]))


def gain_interval(ours: Ranking, theirs: Ranking, rng: np.random.Generator, rounds: int = 500) -> tuple[float, float, float]:
    """AUROC of `ours` minus `theirs` on the same records, with its paired 95 % bootstrap interval (gain, low, high)."""
    count = len(ours.clean)
    draws: Sequence[NDArray[np.int64]] = [rng.integers(count, size=count) for _ in range(rounds)]
    gains = [ours.auroc(rows) - theirs.auroc(rows) for rows in draws]
    low, high = np.percentile(gains, [2.5, 97.5])
    return ours.auroc() - theirs.auroc(), float(low), float(high)
