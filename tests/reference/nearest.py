"""Nearest neighbours and the greedy coreset, every distance by itself."""

from __future__ import annotations

import numpy as np


def farthest_points(points: np.ndarray, count: int, first: int) -> list[int]:
    """Greedy k-centre, distances computed anew for every pick."""
    picked = [first]
    while len(picked) < count:
        nearest = [min(float(((p - points[q]) ** 2).sum()) for q in picked) for p in points]
        picked.append(int(np.argmax(nearest)))
    return picked


def nearest_distances(queries: np.ndarray, bank: np.ndarray) -> np.ndarray:
    return np.array([np.sqrt(((bank - q) ** 2).sum(1)).min() for q in queries])
