"""The sensor scorer, fitted on random windows, for tests."""

from __future__ import annotations

import numpy as np
import torch

from anomaly.scorers.sensors.choice import ViewPlan
from anomaly.scorers.sensors.views import Views, fit_views
from tests.features.windows import ROWS, seen


def fitted(z: torch.Tensor, shape: int = 0) -> Views:
    """Views of windows (N, C, T): the level, and the shape of so many rows."""
    return fit_views(seen(z, shape=shape), z.shape[1], np.arange(len(z)) * ROWS, ViewPlan(ROWS, shape), seed=0)
