"""Volume under the surface (Paparrizos et al. 2022, doi:10.14778/3551793.3551830): ROC and PR areas of range-based
detection, averaged over the width of a tolerance around each fault."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from anomaly.evaluation.metrics import runs

Floats = NDArray[np.float64]


def soften(labels: NDArray[np.bool_], width: int) -> Floats:
    """Labels (n,) as float64 in [0, 1], with slopes of half `width` rows, falling as a square root, on both sides of every fault."""
    soft = labels.astype(np.float64)
    n = len(labels)
    for start, stop in runs(labels):
        after = np.arange(stop - 1, min(stop - 1 + width // 2, n))
        soft[after] += np.sqrt(1 - (after - stop + 1) / max(width, 1))
        before = np.arange(max(start - width // 2, 0), start)
        soft[before] += np.sqrt(1 - (start - before) / max(width, 1))
    return np.minimum(soft, 1.0)


def vus(labels: NDArray[np.bool_], scores: Floats, max_width: int = 100, thresholds: int = 250) -> tuple[float, float] | None:
    """(VUS-ROC, VUS-PR) of scores (n,) against labels (n,), tolerances of 0 to `max_width` rows. None when only one class is there.

    The definitions of the authors' public implementation: recall counts (faults + softened faults) / 2 as positives, and is multiplied by
    the share of softened faults that are flagged anywhere. `thresholds` is how many quantiles of the scores stand for all thresholds.

    >>> import numpy as np
    >>> labels = np.zeros(200, bool)
    >>> labels[50:80] = True
    >>> roc, pr = vus(labels, labels + 0.1 * np.random.default_rng(0).random(200), max_width=10)
    >>> (round(roc, 2), round(pr, 2))
    (1.0, 1.0)
    """
    if not labels.any() or labels.all():
        return None
    cuts = np.sort(scores)[::-1][np.linspace(0, len(scores) - 1, thresholds).astype(int)]
    flagged = scores[None, :] >= cuts[:, None]  # (thresholds, n)
    predicted = flagged.sum(1)
    areas = [_areas(labels, soften(labels, width), flagged, predicted) for width in range(max_width + 1)]
    roc, pr = np.mean(areas, axis=0)
    return float(roc), float(pr)


def _areas(labels: NDArray[np.bool_], soft: Floats, flagged: NDArray[np.bool_], predicted: NDArray[np.int64]) -> tuple[float, float]:
    positives = labels.sum()
    touched = soft > 0
    hit = flagged @ soft
    # Softened positives: the fault itself in full, its slopes only where flagged.
    softened = positives + flagged @ np.where(labels, 0.0, soft)
    wanted = (positives + softened) / 2
    stretches = runs(touched)
    found = np.mean([flagged[:, a:b].any(axis=1) for a, b in stretches], axis=0)
    recall = np.minimum(hit / wanted, 1.0) * found
    false = (predicted - hit) / (len(labels) - wanted)
    precision = hit / predicted
    x, y = np.concatenate([[0.0], false, [1.0]]), np.concatenate([[0.0], recall, [1.0]])
    roc = float(np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2))
    pr = float(np.sum(np.diff(np.concatenate([[0.0], recall])) * precision))
    return roc, pr
