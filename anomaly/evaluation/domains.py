"""How far a source is from a target, and how much its features tell: figures taken before any training, to rank sources by.

All of them take features as rows (n, D) of float64, standardised here by the target's own centre and spread, so that sources
with other units can be compared.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import svd
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict
from torch import Tensor

Rows = NDArray[np.float64]
CHUNK = 1024  # rows of the target at a time, whose distances to all others are held


def standardise(source: Rows, target: Rows) -> tuple[Rows, Rows]:
    """Both sides in units of the target's spread around its centre; a constant column counts for nothing on the target's side."""
    center, spread = target.mean(axis=0), target.std(axis=0)
    spread = np.where(spread > 1e-9, spread, np.maximum(source.std(axis=0), 1e-9))
    return (source - center) / spread, (target - center) / spread


def proxy_a_distance(source: Rows, target: Rows, groups: tuple[Sequence[int], Sequence[int]] | None = None) -> float:
    """2 (1 - 2 error) of a linear classifier that tells the two apart on rows it has not seen: 0 = cannot, 2 = always.

    Ben-David et al. 2007, "Analysis of representations for domain adaptation". `groups` names the record each row came from, on either
    side, so that rows of one record never lie on both sides of the split. The error is the mean of the two sides' errors.
    """
    a, b = standardise(source, target)
    rows, side = np.concatenate([a, b]), np.concatenate([np.zeros(len(a)), np.ones(len(b))])
    ids = np.concatenate([np.asarray(g) for g in groups]) if groups else np.arange(len(rows))
    ids = np.concatenate([ids[: len(a)], ids[len(a) :] + ids.max() + 1])
    model = LogisticRegression(C=0.1, class_weight="balanced", max_iter=200)
    told = cross_val_predict(model, rows, side, groups=ids, cv=GroupKFold(min(3, len(set(ids.tolist())))))
    error = 0.5 * (np.mean(told[side == 0] != 0) + np.mean(told[side == 1] != 1))
    return float(max(0.0, 2 * (1 - 2 * min(0.5, error))))


def nearest_ratio(source: Tensor, target: Tensor, owner: Tensor) -> float:
    """How much farther the source's nearest row (m, D) is than that of another record of the target; median over its rows (n, D).

    1 = the source shows what the target shows, as near as its own records do. `owner` (n,) names the record that each row of the target
    came from, two at least. It is what rows lent to a memory bank are good for, and tells sources apart where a classifier tells
    every one of them from the target without error.
    """
    ratios = []
    for rows, mine in zip(target.split(CHUNK), owner.split(CHUNK), strict=True):  # type: ignore[no-untyped-call]
        others = torch.cdist(rows, target).masked_fill(mine[:, None] == owner[None], torch.inf).amin(dim=1)
        ratios.append(torch.cdist(rows, source).amin(dim=1) / others.clamp(min=1e-9))
    return float(torch.cat(ratios).median())


def logme(features: Rows, labels: NDArray[np.bool_]) -> float:
    """Logarithm of the evidence a record that a linear model explains the labels from the features (You et al. 2021, arXiv:2102.11005).

    With made-up faults as labels it tells, without training anything, how well features separate faults from normals.
    Features (n, D) and labels (n,); higher is better.
    """
    x = (features - features.mean(axis=0)) / np.maximum(features.std(axis=0), 1e-9)
    y = labels.astype(np.float64) - labels.mean()
    n, width = x.shape
    left, singular, _ = svd(x, full_matrices=False)
    sigma, projected = np.square(singular), np.square(left.T @ y)
    rest = max(float(y @ y - projected.sum()), 0.0)
    alpha = beta = 1.0
    for _ in range(100):  # fixed point of MacKay's evidence maximisation, as in the paper's algorithm 1
        shrink = alpha + beta * sigma
        gamma = float((beta * sigma / shrink).sum())
        weights = float((beta**2 * sigma * projected / shrink**2).sum())
        residual = rest + float((projected * (alpha / shrink) ** 2).sum())
        before, alpha, beta = alpha / beta, gamma / max(weights, 1e-12), (n - gamma) / max(residual, 1e-12)
        if abs(alpha / beta - before) <= 1e-4 * before:
            break
    shrink = alpha + beta * sigma
    weights = float((beta**2 * sigma * projected / shrink**2).sum())
    residual = rest + float((projected * (alpha / shrink) ** 2).sum())
    determinant = float(np.log(shrink).sum()) + (width - len(sigma)) * np.log(alpha)
    evidence = width * np.log(alpha) + n * np.log(beta) - determinant - beta * residual - alpha * weights - n * np.log(2 * np.pi)
    return float(evidence / (2 * n))
