"""Synthetic faults on normal sensor windows, for judging features where no real fault has been seen."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

KINDS = ("spike", "step", "drift", "stuck", "noise", "decoupled")
SHAPES = ("mirrored", "shifted", "flattened", "wrong_moment")  # that leave a sensor's mean and spread as they are

Floats = NDArray[np.float32]


def inject(
    window: Floats, rng: np.random.Generator, scale: Floats, kind: str | None = None, elsewhere: Floats | None = None
) -> tuple[Floats, int]:
    """Put one fault on one sensor of a window (T, C) in engineering units; `scale` (C,) is each sensor's normal spread.

    Returns the faulty copy and the index of the sensor that carries the fault. `kind` is one of KINDS or SHAPES, or None for any of KINDS.
    "wrong_moment" needs `elsewhere` (T, C), another normal window. The last row always lies in the fault.

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
    if name in SHAPES:
        series[:] = _bent(series, name, rng, None if elsewhere is None else elsewhere[start:, sensor])
    elif name == "spike":
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


def _bent(series: Floats, kind: str, rng: np.random.Generator, elsewhere: Floats | None) -> Floats:
    """A stretch of readings (L,) in another shape, with its own mean and standard deviation. NaN stays missing."""
    if kind == "mirrored":
        return series[::-1]
    if kind == "shifted":  # by a quarter to three quarters of its length; what is pushed out comes in at the beginning
        return np.roll(series, round(len(series) * float(rng.uniform(0.25, 0.75))))
    mean, std = _moments(series)
    if kind == "flattened":  # cut at half a standard deviation from the mean: peaks lose most of their height
        bent = np.clip(series, mean - 0.5 * std, mean + 0.5 * std)
    else:
        assert elsewhere is not None, "a wrong moment is taken from another window"
        bent = elsewhere
    bent_mean, bent_std = _moments(bent)
    if bent_std == 0:  # what does not move has no shape
        return series
    return np.asarray(mean + (bent - bent_mean) * (std / bent_std), dtype=np.float32)


def _moments(series: Floats) -> tuple[float, float]:
    """Mean and standard deviation of what is known; zeros where nothing is."""
    known = series[np.isfinite(series)].astype(np.float64)
    return (float(known.mean()), float(known.std())) if len(known) else (0.0, 0.0)
