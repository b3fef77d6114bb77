"""Processes that go on as they were: fresh data is of the same nature as what was learnt, so that a false alarm rate can be counted.

Each takes a seeded generator and a number of rows, and gives readings (rows, C) float64.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

Floats = NDArray[np.float64]
DAY = 288  # rows of a day: one every five minutes
HOURS = 24  # rows of a day: one an hour


class Process(NamedTuple):
    """`make` gives readings, `learnt` is how many rows are learnt from, `row_s` the seconds between two."""

    make: Callable[[np.random.Generator, int], Floats]
    learnt: int
    row_s: float = 1.0


def remembering(rng: np.random.Generator, rows: int, sensors: int = 2, memory: float = 0.95) -> Floats:
    """AR(1) of variance one."""
    pushes = rng.normal(size=(rows + 500, sensors))
    values: Floats = lfilter([np.sqrt(1 - memory**2)], [1, -memory], pushes, axis=0)[500:]
    return values


def white(rng: np.random.Generator, rows: int) -> Floats:
    """Independent readings of two sensors."""
    return rng.normal(size=(rows, 2))


def levels(rng: np.random.Generator, rows: int, held: int = 200) -> Floats:
    """A load that is held for 200 rows on average, each level drawn anew."""
    starts = rng.random(rows) < 1 / held
    return 3 * rng.normal(size=rows)[np.cumsum(starts) - 1][:, None] + 0.3 * rng.normal(size=(rows, 1))


def load(rng: np.random.Generator, rows: int) -> Floats:
    """A semi-Markov load of three levels, each held for about 180 rows; one sensor follows at once, another with a lag."""
    held = 1 + rng.gamma(3, 60, size=rows // 60 + 10).astype(int)
    level = np.cumsum(rng.integers(1, 3, size=len(held))) % 3
    at_once = np.repeat(level, held)[:rows].astype(np.float64)
    late = lfilter([0.1], [1, -0.9], at_once)
    return np.stack([10 * at_once + 0.5 * rng.normal(size=rows), 5 * late + 0.3 * rng.normal(size=rows)], axis=1)


def two_valued(rng: np.random.Generator, rows: int) -> Floats:
    """On or off: whether something slow lies above its mean."""
    return (remembering(rng, rows, 1, 0.9) > 1.0).astype(np.float64)


def switched(rng: np.random.Generator, rows: int) -> Floats:
    """On or off, each held for 120 rows on average."""
    return (np.cumsum(rng.random(rows) < 1 / 120) % 2).astype(np.float64)[:, None]


def few_valued(rng: np.random.Generator, rows: int) -> Floats:
    """Two sensors that are read to whole units, of which they take about ten."""
    return np.round(1.5 * remembering(rng, rows, 2, 0.9))


def counts(rng: np.random.Generator, rows: int) -> Floats:
    """Poisson counts, three a row on average."""
    return rng.poisson(3.0, size=(rows, 2)).astype(np.float64)


def daily(rng: np.random.Generator, rows: int) -> Floats:
    """Two sensors with a daily cycle of 288 rows and a memory of some rows."""
    angle = 2 * np.pi * np.arange(rows) / DAY
    cycle = np.stack([5 * np.sin(angle) + 0.5 * np.sin(2 * angle), 3 * np.cos(angle)], axis=1)
    return cycle + 0.5 * remembering(rng, rows, 2, 0.9)


def weekly(rng: np.random.Generator, rows: int) -> Floats:
    """Hourly readings, busy at noon on five days and hardly on two."""
    row = np.arange(rows)
    busy, hour = (row // HOURS) % 7 < 5, row % HOURS
    return (np.where(busy, 5, 1) * np.exp(-(((hour - 13) / 4) ** 2) / 2))[:, None] + 0.3 * remembering(rng, rows, 1, 0.7)


PROCESSES: dict[str, Process] = {
    "white noise, 3,000 rows": Process(white, 3000),
    "AR(1) 0.95, 600 rows": Process(remembering, 600),
    "AR(1) 0.95, 3,000 rows": Process(remembering, 3000),
    "AR(1) 0.95, 20,000 rows": Process(remembering, 20_000),
    "levels, 6,000 rows": Process(levels, 6000),
    "load of two sensors, 6,000 rows": Process(load, 6000),
    "two-valued, 3,000 rows": Process(two_valued, 3000),
    "two-valued, 20,000 rows": Process(two_valued, 20_000),
    "switched, 6,000 rows": Process(switched, 6000),
    "few-valued, 3,000 rows": Process(few_valued, 3000),
    "Poisson counts, 3,000 rows": Process(counts, 3000),
    "daily cycle, 2 days": Process(daily, 2 * DAY, 300.0),
    "daily cycle, 7 days": Process(daily, 7 * DAY, 300.0),
    "daily cycle, 30 days": Process(daily, 30 * DAY, 300.0),
    "weekly pattern, 6 weeks": Process(weekly, 6 * 7 * HOURS, 3600.0),
}
