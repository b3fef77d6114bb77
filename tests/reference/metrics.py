"""Metrics by their published definitions, one threshold at a time."""

from __future__ import annotations

import itertools

import numpy as np


def aupro(masks: list[np.ndarray], maps: list[np.ndarray], limit: float) -> float:
    """Every threshold in turn, regions by flood fill, trapezoids cut at the limit."""
    regions = [(i, region) for i, mask in enumerate(masks) for region in _regions(mask)]
    background = sum(int((~m).sum()) for m in masks)
    curve = [(0.0, 0.0)]
    for cut in sorted({float(v) for m in maps for v in m.ravel()}, reverse=True):
        fpr = sum(int(((s >= cut) & ~m).sum()) for m, s in zip(masks, maps, strict=True)) / background
        pro = np.mean([np.mean([maps[i][p] >= cut for p in region]) for i, region in regions])
        curve.append((fpr, float(pro)))
    area = 0.0
    for (x0, y0), (x1, y1) in itertools.pairwise(curve):
        if x0 >= limit:
            break
        end = min(x1, limit)
        y_end = y0 + (y1 - y0) * (end - x0) / (x1 - x0) if x1 > x0 else y1
        area += (end - x0) * (y0 + y_end) / 2
    return area / limit


def _regions(mask: np.ndarray) -> list[list[tuple[int, int]]]:
    left = {tuple(map(int, p)) for p in np.argwhere(mask)}
    found = []
    while left:
        stack, region = [left.pop()], []
        while stack:
            y, x = stack.pop()
            region.append((y, x))
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= near
            stack += near
        found.append(region)
    return found


def vus(labels: np.ndarray, scores: np.ndarray, widths: int, thresholds: int) -> tuple[float, float]:
    """The published definition, one threshold and one width at a time."""
    n = len(labels)
    order = np.sort(scores)[::-1]
    cuts = [order[i] for i in np.linspace(0, n - 1, thresholds).astype(int)]
    volume = []
    for width in range(widths + 1):
        soft = labels.astype(float).copy()
        for start, stop in _stretches(labels):
            for x in range(stop - 1, min(stop - 1 + width // 2, n)):
                soft[x] += np.sqrt(1 - (x - (stop - 1)) / width)
            for x in range(max(start - width // 2, 0), start):
                soft[x] += np.sqrt(1 - (start - x) / width)
        soft = np.minimum(soft, 1)
        stretches = _stretches(soft > 0)
        points, precisions = [(0.0, 0.0)], []
        for cut in cuts:
            flagged = scores >= cut
            hit = sum(soft[i] for i in range(n) if flagged[i])
            positive = sum(1.0 if labels[i] else soft[i] * flagged[i] for i in range(n))
            wanted = (labels.sum() + positive) / 2
            found = np.mean([flagged[a:b].any() for a, b in stretches])
            points.append(((flagged.sum() - hit) / (n - wanted), min(hit / wanted, 1) * found))
            precisions.append(hit / flagged.sum())
        roc = sum((x1 - x0) * (y0 + y1) / 2 for (x0, y0), (x1, y1) in zip(points, [*points[1:], (1.0, 1.0)], strict=True))
        pr = sum((b[1] - a[1]) * q for a, b, q in zip(points, points[1:], precisions, strict=False))
        volume.append((roc, pr))
    roc, pr = np.mean(volume, axis=0)
    return float(roc), float(pr)


def affiliation(labels: np.ndarray, flagged: np.ndarray, fine: int = 200) -> tuple[float | None, float] | None:
    """The survival probabilities of the definition, each by looking at every point of a fine grid of the fault's zone."""
    faults, flags = _stretches(labels), _stretches(flagged)
    if not faults:
        return None

    def points(low: float, high: float) -> np.ndarray:
        return low + (np.arange(round((high - low) * fine)) + 0.5) / fine

    def to_spans(x: np.ndarray, spans: list[tuple[float, float]]) -> np.ndarray:
        return np.min([np.maximum(np.maximum(a - x, x - b), 0) for a, b in spans], axis=0)

    precisions, recalls = [], []
    for k, (start, stop) in enumerate(faults):
        low = 0.0 if k == 0 else (faults[k - 1][1] + start) / 2
        high = float(len(labels)) if k == len(faults) - 1 else (stop + faults[k + 1][0]) / 2
        near = [(max(a, low), min(b, high)) for a, b in flags if min(b, high) > max(a, low)]
        if not near:
            recalls.append(0.0)
            continue
        zone, fault = points(low, high), [(start, stop)]
        distances = to_spans(zone, fault)
        at = to_spans(np.concatenate([points(a, b) for a, b in near]), fault)
        precisions.append(np.mean([np.mean(distances > d) if d > 0 else 1.0 for d in at]))
        inside = points(start, stop)[::10]
        recalls.append(np.mean([np.mean(np.abs(zone - x) > d) for x, d in zip(inside, to_spans(inside, near), strict=True)]))
    return (float(np.mean(precisions)) if precisions else None), float(np.mean(recalls))


def _stretches(flags: np.ndarray) -> list[tuple[int, int]]:
    found, start = [], None
    for i, flag in enumerate([*flags, False]):
        if flag and start is None:
            start = i
        if not flag and start is not None:
            found.append((start, i))
            start = None
    return found
