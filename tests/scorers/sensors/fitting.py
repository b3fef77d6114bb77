"""A sensor scorer of each method, fitted on random windows, for tests."""

from __future__ import annotations

import numpy as np
import torch

from anomaly.scorers.build import fit_sensor_scorer
from tests.features.windows import ROWS, seen

METHODS = ("deviation", "gaussian", "pca", "memory_bank")


def fitted(method: str, z: torch.Tensor) -> torch.nn.Module:
    return fit_sensor_scorer(method, seen(z), z.shape[1], np.arange(len(z)) * ROWS, ROWS, seed=0)  # type: ignore[arg-type]
