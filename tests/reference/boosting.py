"""TrAdaBoost as the paper states it (Dai et al. 2007), one record at a time."""

from __future__ import annotations

import math

import numpy as np
from sklearn.tree import DecisionTreeClassifier


def tradaboost(
    source: np.ndarray, source_y: np.ndarray, target: np.ndarray, target_y: np.ndarray, rounds: int, asked: np.ndarray
) -> list[int]:
    """Labels of the rows asked. Stumps by scikit-learn; a stump's error is clipped to 0.0001..0.49, as `beta_of` does it."""
    x, y = np.concatenate([source, target]), [*source_y.tolist(), *target_y.tolist()]
    n, weights = len(source), [1.0] * len(y)
    fade = 1 / (1 + math.sqrt(2 * math.log(n) / rounds))
    votes = []
    for _ in range(rounds):
        total = sum(weights)
        weights = [w / total for w in weights]
        stump = DecisionTreeClassifier(max_depth=1, random_state=0).fit(x, y, sample_weight=weights)
        wrong = [int(found != label) for found, label in zip(stump.predict(x), y, strict=True)]
        error = sum(w * e for w, e in zip(weights[n:], wrong[n:], strict=True)) / sum(weights[n:])
        error = min(max(error, 1e-4), 0.49)
        beta = error / (1 - error)
        weights = [w * (fade**e if i < n else beta**-e) for i, (w, e) in enumerate(zip(weights, wrong, strict=True))]
        votes.append((beta, stump.predict(asked)))
    labels = []
    for i in range(len(asked)):
        left = math.prod(beta ** -float(found[i]) for beta, found in votes[rounds // 2 :])
        right = math.prod(beta**-0.5 for beta, _ in votes[rounds // 2 :])
        labels.append(int(left >= right))
    return labels
