"""CORAL by SciPy's matrix square roots."""

from __future__ import annotations

import numpy as np
from scipy.linalg import inv, sqrtm


def coral(source: np.ndarray, target: np.ndarray, ridge: float) -> np.ndarray:
    """Source rows whitened by their own covariance, coloured by the target's, and moved to the target's mean."""
    more = ridge * source.var(axis=0).mean() * np.eye(source.shape[1])
    whiten = inv(sqrtm(np.cov(source.T) + more))
    colour = sqrtm(np.cov(target.T) + more)
    return np.real((source - source.mean(axis=0)) @ whiten @ colour + target.mean(axis=0))
