"""Synthetic faults on normal sensor windows, for judging features where no real fault has been seen."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

KINDS = ("spike", "step", "drift", "stuck", "noise", "decoupled")


def inject(
    window: NDArray[np.float32], rng: np.random.Generator, scale: NDArray[np.float32], kind: str | None = None
) -> tuple[NDArray[np.float32], int]:
    """Put one fault on one sensor of a window (T, C) in engineering units; `scale` (C,) is each sensor's normal spread.

    Returns the faulty copy and the index of the sensor that carries the fault. `kind` is one of KINDS or None for any.
    The last row always lies in the fault.

    >>> window = np.zeros((6, 2), np.float32)
    >>> faulty, sensor = inject(window, np.random.default_rng(0), np.ones(2, np.float32), "step")
    >>> sensor, [int(row) for row in np.flatnonzero(faulty[:, sensor])]
    (1, [1, 2, 3, 4, 5])
    """
    name = kind or KINDS[int(rng.integers(len(KINDS)))]
    rows, sensors = window.shape
    faulty = window.copy()
    sensor = int(rng.integers(sensors))
    start = int(rng.integers(0, max(1, rows // 2)))
    length = rows - start
    spread = float(scale[sensor])
    size = float(rng.uniform(1.0, 4.0)) * spread * float(rng.choice([-1.0, 1.0]))
    series = faulty[start:, sensor]
    if name == "spike":
        series[rng.integers(length, size=max(1, length // 10))] += 2 * size
    elif name == "step":
        series += size
    elif name == "drift":
        series += np.linspace(0, 1.5 * size, length, dtype=np.float32)
    elif name == "stuck":
        series[:] = series[0]
    elif name == "noise":
        series += rng.normal(0, abs(size) / 1.5, length).astype(np.float32)
    else:  # decoupled: right values, wrong moment
        series[:] = np.roll(series[::-1], int(rng.integers(1, max(2, length))))
    return faulty, sensor
