"""Figures of merit of scores and of flags, with bootstrap intervals. Nothing is point-adjusted.

Labels and flags are (n,) bool, one a record or row in time order, True = faulty or flagged. Scores are (n,) float64; higher is worse.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.stats import binomtest

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def auroc(labels: Bools, scores: Floats) -> float | None:
    """ROC-AUC: the chance that a faulty record scores above a normal one, ties counted half. None when only one class is there.

    Scores must be finite. By the Mann-Whitney statistic: a bootstrap asks a thousand times, and scikit-learn's checks take milliseconds.

    >>> import numpy as np
    >>> auroc(np.array([False, False, True, True]), np.array([0.1, 0.4, 0.3, 0.9]))
    0.75
    """
    if not labels.any() or labels.all():
        return None
    if not np.isfinite(scores).all():
        raise ValueError("scores must be finite")
    normal, faulty = np.sort(scores[~labels]), np.sort(scores[labels])
    below = np.searchsorted(normal, faulty, "left") + np.searchsorted(normal, faulty, "right")  # twice, so that ties count half
    return float(below.sum() / (2.0 * len(normal) * len(faulty)))


def average_precision(labels: Bools, scores: Floats) -> float | None:
    """PR-AUC as average precision: the step-wise sum over the precision-recall curve. None when only one class is there.

    >>> import numpy as np
    >>> round(average_precision(np.array([False, False, True, True]), np.array([0.1, 0.4, 0.3, 0.9])), 4)
    0.8333
    """
    if not labels.any() or labels.all():
        return None
    flagged, found = _by_threshold(labels, scores)
    return float((np.diff(found, prepend=0) * found / flagged).sum() / found[-1])


def best_f1(labels: Bools, scores: Floats) -> float | None:
    """The largest F1 over all thresholds. It knows the labels: no threshold set beforehand reaches it. None when only one class is there.

    >>> import numpy as np
    >>> round(best_f1(np.array([False, False, True, True]), np.array([0.1, 0.4, 0.3, 0.9])), 4)
    0.8
    """
    if not labels.any() or labels.all():
        return None
    flagged, found = _by_threshold(labels, scores)
    return float((2 * found / (flagged + found[-1])).max())


def _by_threshold(labels: Bools, scores: Floats) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How many records score at or above each distinct score, highest first, and how many of them are faulty. Scores must be finite."""
    if not np.isfinite(scores).all():
        raise ValueError("scores must be finite")
    order = np.argsort(scores)[::-1]
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    return ends + 1, np.cumsum(labels[order])[ends]


def decisions(labels: Bools, flagged: Bools) -> dict[str, float]:
    """precision, recall, f1, accuracy, false_alarm_rate (FP / normal rows), missed_alarm_rate (FN / faulty rows).

    Those that need a class which is not there are left out.

    >>> import numpy as np
    >>> found = decisions(np.array([False, False, False, True, True]), np.array([False, False, True, True, True]))
    >>> {name: round(value, 2) for name, value in found.items()}
    {'accuracy': 0.8, 'precision': 0.67, 'recall': 1.0, 'f1': 0.8, 'missed_alarm_rate': 0.0, 'false_alarm_rate': 0.33}
    """
    tp, fp = int((flagged & labels).sum()), int((flagged & ~labels).sum())
    fn, tn = int((~flagged & labels).sum()), int((~flagged & ~labels).sum())
    figures = {"accuracy": (tp + tn) / max(1, len(labels))}
    if tp + fn:
        figures |= {
            "precision": tp / max(1, tp + fp),
            "recall": tp / (tp + fn),
            "f1": 2 * tp / max(1, 2 * tp + fp + fn),
            "missed_alarm_rate": fn / (tp + fn),
        }
    if fp + tn:
        figures["false_alarm_rate"] = fp / (fp + tn)
    return figures


def interval(
    figure: Callable[[NDArray[np.int64]], float | None], groups: Sequence[NDArray[np.int64]], rng: np.random.Generator, rounds: int = 300
) -> tuple[float, float] | None:
    """95 % percentile interval by the cluster bootstrap: whole groups of records are drawn again, with replacement.

    A group is a picture, or a block of rows (moving-block bootstrap) that are not independent of each other. `figure(indices)` is the
    figure on a resample; rounds in which it is None are left out. None for fewer than two groups, or when over half of the rounds are.
    """
    if len(groups) < 2:
        return None
    values = []
    for _ in range(rounds):
        drawn = rng.integers(len(groups), size=len(groups))
        value = figure(np.concatenate([groups[i] for i in drawn]))
        if value is not None:
            values.append(value)
    if len(values) < rounds // 2:
        return None
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def exact_share(hits: int, of: int) -> tuple[float, float]:
    """The exact 95 % interval of a share seen as `hits` of `of` (Clopper and Pearson 1934); (0, 1) for 0 of 0.

    >>> [round(end, 3) for end in exact_share(0, 30)]
    [0.0, 0.116]
    """
    if not of:
        return 0.0, 1.0
    found = binomtest(hits, of).proportion_ci(method="exact")
    return float(found.low), float(found.high)


def certain_interval(
    name: str, value: float, labels: Bools, flagged: Bools, groups: Sequence[NDArray[np.int64]]
) -> tuple[float, float] | None:
    """The exact 95 % interval of a figure of `decisions` that is 0 or 1 on all records.

    Records of one group count once, since they are not independent. F1 goes by the share of records that are both faulty and flagged among
    those that are either. None where no record counts.

    >>> import numpy as np
    >>> normal = np.zeros(30, bool)
    >>> [round(end, 3) for end in certain_interval("false_alarm_rate", 0.0, normal, normal, [np.array([i]) for i in range(30)])]
    [0.0, 0.116]
    """
    counted = {"precision": flagged, "recall": labels, "missed_alarm_rate": labels, "f1": labels | flagged, "false_alarm_rate": ~labels}
    which = counted.get(name, np.ones_like(labels))
    of = sum(bool(which[rows].any()) for rows in groups)
    if not of:
        return None
    low, high = exact_share(of if value else 0, of)
    return (2 * low / (1 + low), 2 * high / (1 + high)) if name == "f1" else (low, high)


def aupro(masks: Sequence[Bools], maps: Sequence[NDArray[np.float32]], limit: float = 0.3) -> float | None:
    """AUPRO: area under the per-region overlap curve up to a false-positive rate of `limit`, divided by it.

    Bergmann et al. 2021, doi:10.1007/s11263-020-01400-4. Exact: every distinct score is a threshold, and the last segment is cut at the
    limit by interpolation; `pixels.PixelFigures` counts the same in bins, in a fixed memory. `masks` (H, W) bool and `maps` (H, W)
    float32 are pairwise of one size; good pictures have empty masks. None without a defect or without background.

    >>> import numpy as np
    >>> mask = np.zeros((4, 4), bool)
    >>> mask[0, 0] = mask[3, 3] = True  # two regions of one pixel
    >>> heat = np.zeros((4, 4), np.float32)
    >>> heat[0, 0] = 1.0  # only the first is seen
    >>> round(aupro([mask], [heat], limit=1.0), 2)
    0.75
    """
    scores, weights, normal = [], [], []
    regions = 0
    for mask, scored in zip(masks, maps, strict=True):
        labelled, count = ndimage.label(mask, structure=np.ones((3, 3)))
        sizes = np.bincount(labelled.ravel(), minlength=count + 1)
        regions += count
        share = np.where(labelled > 0, 1.0 / np.maximum(sizes[labelled], 1), 0.0)
        scores.append(scored.ravel())
        weights.append(share.ravel())
        normal.append(labelled.ravel() == 0)
    score, weight, background = np.concatenate(scores), np.concatenate(weights), np.concatenate(normal)
    if regions == 0 or not background.any():
        return None
    order = np.argsort(-score, kind="stable")
    ordered = score[order]
    last = np.append(ordered[1:] != ordered[:-1], True)  # ties move together
    fpr = np.append(0.0, np.cumsum(background[order])[last] / background.sum())
    pro = np.append(0.0, np.cumsum(weight[order])[last] / regions)
    at = int(np.searchsorted(fpr, limit, side="right"))
    if at < len(fpr):
        edge = pro[at - 1] + (pro[at] - pro[at - 1]) * (limit - fpr[at - 1]) / (fpr[at] - fpr[at - 1])
        fpr, pro = np.append(fpr[:at], limit), np.append(pro[:at], edge)
    return float(np.trapezoid(pro, fpr) / limit)


def runs(flags: Bools) -> list[tuple[int, int]]:
    """Runs of True as [(start, stop)], stop exclusive.

    >>> import numpy as np
    >>> runs(np.array([False, True, True, False, True]))
    [(1, 3), (4, 5)]
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def detection_delay(times: Floats, labels: Bools, flagged: Bools) -> tuple[float | None, int, int]:
    """Detection delay: (median seconds from a fault's first row to its first flagged row, faults found, faults there are).

    `times` (n,) float64 are in seconds. The median is over the faults found, None when none is.

    >>> import numpy as np
    >>> fault, flagged = np.array([0, 1, 1, 1, 0], bool), np.array([0, 0, 0, 1, 1], bool)
    >>> detection_delay(np.arange(5) * 10.0, fault, flagged)
    (20.0, 1, 1)
    """
    faults = runs(labels)
    delays = []
    for start, stop in faults:
        hits = np.flatnonzero(flagged[start:stop])
        if len(hits):
            delays.append(float(times[start + hits[0]] - times[start]))
    return (float(np.median(delays)) if delays else None), len(delays), len(faults)


def false_alarms_per_day(times: Floats, labels: Bools, flagged: Bools, period_s: float) -> float | None:
    """False alarms a day: runs of flags that touch no fault, divided by the days of normal running.

    `period_s` is the time from row to row in seconds. None when no row is normal.

    >>> import numpy as np
    >>> flagged = np.zeros(86_400, bool)  # a day of normal running, a row a second
    >>> flagged[100:160] = flagged[5000] = True
    >>> false_alarms_per_day(np.arange(86_400.0), np.zeros(86_400, bool), flagged, period_s=1.0)
    2.0
    """
    normal_s = float((~labels).sum()) * period_s
    if normal_s <= 0:
        return None
    false = sum(1 for start, stop in runs(flagged) if not labels[start:stop].any())
    return false / (normal_s / 86_400.0)
