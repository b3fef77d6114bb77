"""Figures of merit with 95 % intervals. Nothing is point-adjusted."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def auroc(labels: Bools, scores: Floats) -> float | None:
    """Area under the ROC curve, or None when only one class is there."""
    return float(roc_auc_score(labels, scores)) if labels.any() and not labels.all() else None


def average_precision(labels: Bools, scores: Floats) -> float | None:
    """Area under the precision-recall curve by step-wise sum, or None when only one class is there."""
    return float(average_precision_score(labels, scores)) if labels.any() and not labels.all() else None


def best_f1(labels: Bools, scores: Floats) -> float | None:
    """The largest F1 over all thresholds: a figure for ranking, not one a plant will see."""
    if not labels.any() or labels.all():
        return None
    precision, recall, _ = precision_recall_curve(labels, scores)
    return float((2 * precision * recall / np.maximum(precision + recall, 1e-12)).max())


def decisions(labels: Bools, flagged: Bools) -> dict[str, float]:
    """precision, recall, f1, accuracy, false_alarm_rate (FP / normal rows), missed_alarm_rate (FN / faulty rows)."""
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
    """95 % percentile bootstrap interval: whole groups (pictures, or blocks of rows that hang together) are drawn again.

    `figure(indices)` computes the figure on a resample; rounds in which it is undefined are left out.
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


def aupro(masks: Sequence[Bools], maps: Sequence[NDArray[np.float32]], limit: float = 0.3) -> float | None:
    """Area under the per-region overlap curve up to a false-positive rate of `limit`, divided by it.

    Bergmann et al. 2021, doi:10.1007/s11263-020-01400-4. Exact: every distinct score is a threshold, the last segment is
    cut at the limit by interpolation. `masks` and `maps` are (H, W), pairwise of one size; good pictures have empty masks.
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
    """Stretches [start, stop) of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def detection_delay(times: Floats, labels: Bools, flagged: Bools) -> tuple[float | None, int, int]:
    """(median seconds from a fault's first row to its first flagged row, faults found, faults there are)."""
    faults = runs(labels)
    delays = []
    for start, stop in faults:
        hits = np.flatnonzero(flagged[start:stop])
        if len(hits):
            delays.append(float(times[start + hits[0]] - times[start]))
    return (float(np.median(delays)) if delays else None), len(delays), len(faults)


def false_alarms_per_day(times: Floats, labels: Bools, flagged: Bools, period_s: float) -> float | None:
    """Stretches of flags that touch no fault, divided by the days of normal running."""
    normal_s = float((~labels).sum()) * period_s
    if normal_s <= 0:
        return None
    false = sum(1 for start, stop in runs(flagged) if not labels[start:stop].any())
    return false / (normal_s / 86_400.0)
