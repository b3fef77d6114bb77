"""The sensor scorer, fitted on random windows, for tests."""

from __future__ import annotations

import numpy as np
import torch

from anomaly.scorers.sensors.deviation import Deviation, fit_deviation
from tests.features.windows import ROWS, seen


def fitted(z: torch.Tensor) -> Deviation:
    return fit_deviation(seen(z), z.shape[1], np.arange(len(z)) * ROWS, ROWS)
