"""Judging without a single real fault: how well are synthetic ones ranked above normals that were not fitted on?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anomaly.evaluation.metrics import auroc

HARDLY = 0.1  # share of the synthetic faults found below which they are hardly found


@dataclass(frozen=True)
class Ranking:
    """Scores of normals (n,) and of the same normals with k synthetic faults each (n, k), float64.

    They are pairs: two detectors that score the same records can be compared record by record.

    >>> import numpy as np
    >>> found = Ranking(clean=np.array([1.0, 2.0]), faulty=np.array([[3.0], [1.5]]))
    >>> found.auroc()
    0.75
    """

    clean: NDArray[np.float64]
    faulty: NDArray[np.float64]

    def auroc(self, rows: NDArray[np.int64] | None = None) -> float:
        """ROC-AUC of faulty against clean over the records `rows`, all when None; 0 when there are none."""
        clean = self.clean if rows is None else self.clean[rows]
        faulty = (self.faulty if rows is None else self.faulty[rows]).ravel()
        labels = np.concatenate([np.zeros(len(clean), bool), np.ones(len(faulty), bool)])
        return auroc(labels, np.concatenate([clean, faulty])) or 0.0


def joined(rankings: Sequence[Ranking]) -> Ranking:
    """One ranking over the records of several, end to end."""
    return Ranking(np.concatenate([r.clean for r in rankings]), np.concatenate([r.faulty for r in rankings]))


def share_found(faulty: Mapping[str, Sequence[float]], threshold: float) -> dict[str, float]:
    """Share of the synthetic faults of each kind that score at or above the `threshold`. Kinds without a fault are left out.

    >>> share_found({"step": [99.5, 120.0], "stuck": [3.0, 99.5], "drift": []}, 99.5)
    {'step': 1.0, 'stuck': 0.5}
    """
    return {kind: round(sum(score >= threshold for score in scores) / len(scores), 3) for kind, scores in faulty.items() if scores}


def hardly_any(found: Mapping[str, float]) -> bool:
    """Whether so few of the synthetic faults are found, on average over the kinds, that the detector deserves a warning.

    >>> hardly_any({"step": 0.1, "stuck": 0.0}), hardly_any({"step": 0.9, "stuck": 0.0})
    (True, False)
    """
    return sum(found.values()) < HARDLY * len(found)


def gain_interval(ours: Ranking, theirs: Ranking, rng: np.random.Generator, rounds: int = 500) -> tuple[float, float, float]:
    """ROC-AUC of `ours` minus `theirs` on the same records, with its 95 % interval by the paired bootstrap: (gain, low, high)."""
    count = len(ours.clean)
    draws: Sequence[NDArray[np.int64]] = [rng.integers(count, size=count) for _ in range(rounds)]
    gains = [ours.auroc(rows) - theirs.auroc(rows) for rows in draws]
    low, high = np.percentile(gains, [2.5, 97.5])
    return ours.auroc() - theirs.auroc(), float(low), float(high)
