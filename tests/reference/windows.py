"""Windows without a gap, row by row."""

from __future__ import annotations

import numpy as np


def window_ends(times: np.ndarray, usable: np.ndarray, rows: int, max_gap: float) -> list[int]:
    found = []
    for end in range(rows - 1, len(times)):
        span = range(end - rows + 1, end + 1)
        if all(usable[i] for i in span) and all(times[i] - times[i - 1] <= max_gap for i in span if i > span[0]):
            found.append(end)
    return found
