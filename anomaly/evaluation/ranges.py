"""Figures for faults that last: affiliation precision and recall, NAB scores, and point adjustment for comparison with old papers."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from math import exp, floor

import numpy as np
from numpy.typing import NDArray

from anomaly.evaluation.metrics import Bools, Floats, decisions, runs

PROFILES = {"standard": (0.11, 1.0), "reward_low_fp": (0.22, 1.0), "reward_low_fn": (0.11, 2.0)}  # weights of false alarms and misses
PARTS = 4  # points a row is divided into: the integrands below are linear between quarters of a row


def affiliation(labels: Bools, flagged: Bools) -> tuple[float | None, float] | None:
    """Affiliation (precision, recall) of flags (n,) against faults (n,): Huet et al. 2022, doi:10.1145/3534678.3539339.

    Each fault owns the zone of rows nearer to it than to any other fault. Precision is how likely a row drawn from the zone would lie
    farther from the fault than a flagged one does. Recall is how likely it would lie farther from a faulty row than the nearest flag does.
    Both are means over faults; precision over those with a flag in their zone, None when there is none. None without faults. A row is an
    interval of length one.

    >>> import numpy as np
    >>> fault, late = np.zeros(100, bool), np.zeros(100, bool)
    >>> fault[40:50] = late[52:56] = True
    >>> precision, recall = affiliation(fault, late)
    >>> (round(precision, 2), round(recall, 2))
    (0.82, 0.86)
    """
    faults = runs(labels)
    if not faults:
        return None
    edges = [0.0, *((a[1] + b[0]) / 2 for a, b in itertools.pairwise(faults)), float(len(labels))]
    flags = runs(flagged)
    precisions, recalls = [], []
    for fault, low, high in zip(faults, edges[:-1], edges[1:], strict=True):
        near = [(max(a, low), min(b, high)) for a, b in flags if min(b, high) > max(a, low)]
        if not near:
            recalls.append(0.0)
            continue
        at = np.concatenate([_points(a, b) for a, b in near])
        precisions.append(float(np.mean(_farther_from(fault, _distance(at, [fault]), low, high))))
        inside = _points(*fault)
        reach = _distance(inside, near)
        covered = np.minimum(inside + reach, high) - np.maximum(inside - reach, low)
        recalls.append(float(np.mean(1.0 - covered / (high - low))))
    return (float(np.mean(precisions)) if precisions else None), float(np.mean(recalls))


def _points(low: float, high: float) -> Floats:
    count = round((high - low) * PARTS)
    return low + (np.arange(count) + 0.5) * (high - low) / count


def _distance(at: Floats, spans: Sequence[tuple[float, float]]) -> Floats:
    """Distance of points (n,) to the nearest of some spans."""
    result: Floats = np.min([np.maximum(np.maximum(a - at, at - b), 0.0) for a, b in spans], axis=0)
    return result


def _farther_from(fault: tuple[float, float], distance: Floats, low: float, high: float) -> Floats:
    """The share of the zone [low, high] that lies farther from the fault than each distance; 1 inside the fault, as published."""
    before, after = np.maximum(fault[0] - low - distance, 0.0), np.maximum(high - fault[1] - distance, 0.0)
    share = (before + after) / (high - low)
    return np.where(distance > 0, share, 1.0)


def nab_probation(rows: int) -> int:
    """The first rows of a series that NAB leaves for learning (its probationary period): 15 %, at most 750."""
    return min(floor(0.15 * rows), 750)


def nab_score(flagged: Bools, windows: Sequence[tuple[int, int]], profile: str = "standard") -> float | None:
    """NAB's score of one series, 0 for silence and 100 for a perfect detector (Lavin and Ahmad 2015, arXiv:1510.03336).

    `flagged` (n,) are detections; `windows` are rows (first, last), inclusive. Rows of its probation do not count. The
    earlier in a window the first detection, the more it is worth; every detection outside costs, little just after a window.
    """
    weight_fp, weight_fn = PROFILES[profile]
    probation = nab_probation(len(flagged))
    scored = [w for w in windows if w[1] >= probation]
    if not scored:
        return None
    total, before = 0.0, None
    spans = sorted(windows)
    ends = {last: (first, last) for first, last in spans}
    best: dict[tuple[int, int], float] = dict.fromkeys(scored, -weight_fn)
    for row in range(len(flagged)):
        window = next((w for w in spans if w[0] <= row <= w[1]), None)
        if flagged[row] and row >= probation:
            if window is not None:
                value = _sigmoid(-(window[1] - row + 1) / (window[1] - window[0] + 1)) / _sigmoid(-1.0)
                best[window] = max(best[window], value)
            else:
                past = 3.0 if before is None else (row - before[1]) / max(1, before[1] - before[0])
                total += weight_fp * (-1.0 if past >= 3.0 else _sigmoid(past))
        before = ends.get(row, before)
    raw, silence = total + sum(best.values()), -weight_fn * len(scored)
    return 100 * (raw - silence) / (len(scored) - silence)


def _sigmoid(position: float) -> float:
    return 2 / (1 + exp(5 * position)) - 1


def skab_nab(
    series: Sequence[tuple[Floats, Bools, Bools]], profile: str = "standard", width_s: float = 60.0
) -> tuple[float, int, int] | None:
    """SKAB's change-point score over its runs, 0 for silence and 100 for perfect: (score, change points missed, false detections).

    Each series is times (n,) s, change points (n,) and flags (n,). A change of the flag is a detection. A change point's window is the
    60 s after it, cut where the next one's begins later in the one before (SKAB's own `chp_score`, window "righter").
    """
    weight_fp, weight_fn = PROFILES[profile]
    total, count, missed, false = 0.0, 0, 0, 0
    for times, changes, flagged in series:
        moves = np.flatnonzero(np.diff(np.concatenate([[False], flagged]).astype(np.int8)))
        detections = times[moves]
        windows = [[float(t), float(t) + width_s] for t in times[changes]]
        for one, after in itertools.pairwise(windows):
            after[0] = max(one[1], after[0])
        inside = np.zeros(len(detections), dtype=bool)
        for low, high in windows:
            hits = (detections >= low) & (detections <= high)
            inside |= hits
            if hits.any() and high > low:
                place = min(int((detections[hits][0] - low) / (high - low) * 1000), 999)
                x = -np.pi / 2 + np.pi * place / 999
                half = (1.0 + weight_fp) / 2
                total += -half * np.tanh(x) / np.tanh(np.pi / 2) + half - weight_fp
            else:
                total -= weight_fn
                missed += 1
        false += int((~inside).sum())
        count += len(windows)
    if count == 0:
        return None
    total -= weight_fp * false
    return 100 * (total + weight_fn * count) / ((1 + weight_fn) * count), missed, false


def point_adjusted(labels: Bools, flagged: Bools) -> dict[str, float]:
    """Decisions after point adjustment: one flag in a fault counts as all of it found.

    INFLATED (Kim et al. 2022, doi:10.1609/aaai.v36i7.20680: a random score does well). For comparison with old papers only.
    """
    adjusted = flagged.copy()
    for start, stop in runs(labels):
        adjusted[start:stop] |= flagged[start:stop].any()
    return decisions(labels, adjusted)


def onsets(flagged: Bools, calm: int = 1) -> NDArray[np.bool_]:
    """The rows (n,) bool at which alarms open, when one closes after `calm` rows without a flag.

    >>> import numpy as np
    >>> onsets(np.array([1, 1, 0, 1, 0, 0, 0, 1], bool), calm=2).nonzero()[0].tolist()
    [0, 7]
    """
    rows = np.flatnonzero(flagged)
    opened = np.zeros(len(flagged), dtype=bool)
    opened[rows[np.concatenate([[True], np.diff(rows) > calm])[: len(rows)]]] = True
    return opened
