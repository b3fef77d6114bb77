"""Transferability: how far a source is from a target, and what its features are worth there. Taken before any training, to rank sources.

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
CHUNK = 1024  # rows of the target whose distances to all others are held at a time


def standardise(source: Rows, target: Rows) -> tuple[Rows, Rows]:
    """Both sides (n, D) and (m, D) in units of the target's standard deviation around its mean.

    A column that is constant in the target takes the source's deviation.
    """
    center, spread = target.mean(axis=0), target.std(axis=0)
    spread = np.where(spread > 1e-9, spread, np.maximum(source.std(axis=0), 1e-9))
    return (source - center) / spread, (target - center) / spread


def proxy_a_distance(source: Rows, target: Rows, groups: tuple[Sequence[int], Sequence[int]] | None = None) -> float:
    """Proxy A-distance, 2 (1 - 2 error) of a linear classifier of source against target rows: 0 = it cannot, 2 = without error.

    Ben-David et al. 2007, "Analysis of representations for domain adaptation". The error is the mean of the two sides' errors in a
    cross-validation of three folds. `source` (n, D) and `target` (m, D) are float64; `groups` names the record each row came from, on
    either side, so that rows of one record never lie on both sides of a split.

    >>> import numpy as np
    >>> a, b = np.random.default_rng(0).normal(size=(2, 200, 3))
    >>> proxy_a_distance(a, b) < 0.5, proxy_a_distance(a + 9, b)
    (True, 2.0)
    """
    a, b = standardise(source, target)
    rows, side = np.concatenate([a, b]), np.concatenate([np.zeros(len(a)), np.ones(len(b))])
    ids = np.concatenate([np.asarray(g) for g in groups]) if groups else np.arange(len(rows))
    ids = np.concatenate([ids[: len(a)], ids[len(a) :] + ids.max() + 1])
    model = LogisticRegression(C=0.1, class_weight="balanced", max_iter=200)
    predicted = cross_val_predict(model, rows, side, groups=ids, cv=GroupKFold(min(3, len(set(ids.tolist())))))
    error = 0.5 * (np.mean(predicted[side == 0] != 0) + np.mean(predicted[side == 1] != 1))
    return float(max(0.0, 2 * (1 - 2 * min(0.5, error))))


def nearest_ratio(source: Tensor, target: Tensor, owner: Tensor) -> float:
    """Nearest-neighbour distance ratio: from each target row to the source, over that to another record of the target; the median.

    1 = the source has what the target has, as near as the target's own records. `source` (m, D) and `target` (n, D) are of one dtype,
    `owner` (n,) names the record that each target row came from, two at least. It is what rows lent to a memory bank are good for. It still
    ranks sources where a classifier separates every one of them from the target without error (proxy A-distance 2).

    >>> import torch
    >>> target, owner = torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([0, 1, 2])
    >>> nearest_ratio(torch.tensor([[5.0]]), target, owner)  # 5, 4 and 3 away, the others 1
    4.0
    """
    ratios = []
    for rows, mine in zip(target.split(CHUNK), owner.split(CHUNK), strict=True):  # type: ignore[no-untyped-call]
        others = torch.cdist(rows, target).masked_fill(mine[:, None] == owner[None], torch.inf).amin(dim=1)
        ratios.append(torch.cdist(rows, source).amin(dim=1) / others.clamp(min=1e-9))
    return float(torch.cat(ratios).median())


def logme(features: Rows, labels: NDArray[np.bool_]) -> float:
    """LogME: log maximum evidence a record of a linear model from features to labels (You et al. 2021, arXiv:2102.11005).

    With synthetic faults as labels it says, without any training, how well features separate faults from normals. Features (n, D)
    float64, labels (n,) bool; higher is better.

    >>> import numpy as np
    >>> features = np.random.default_rng(0).normal(size=(100, 3))
    >>> logme(features, features[:, 0] > 0) > logme(features, np.random.default_rng(1).random(100) > 0.5)
    True
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
