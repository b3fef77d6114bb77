"""Records made up to judge sensors by, each of another nature: (values (n, C), labels (n,), rows learnt from). Seeded, so repeatable.

Only what comes after the rows learnt from is ever faulty.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Labels = NDArray[np.bool_]
Made = tuple[Floats, Labels, int]

STROKE = 40  # rows of a press' stroke
BEAT = 90  # rows of a beat, on average
DAY = 288  # rows of a day


def press(strokes: int = 400, judged: int = 200, seed: int = 0) -> Made:
    """Strokes of 40 rows, 3 sensors. Faults change a stroke's shape: a double peak, a late peak, a mirrored current."""
    rng, t = np.random.default_rng(seed), np.arange(STROKE) / STROKE

    def stroke(fault: int | None) -> Floats:
        size, late = rng.normal(1, 0.03), rng.normal(0, 0.01)

        def peak(at: float) -> Floats:
            return np.exp(-(((t - at - late) / 0.08) ** 2)) * size

        force = {0: 0.52 * (peak(0.42) + peak(0.6)), 1: peak(0.62)}.get(-1 if fault is None else fault, peak(0.5))
        current = np.sin(2 * np.pi * (t - late)) * 0.5 * size + 0.2
        way = np.clip((t - 0.3) / 0.4, 0, 1) * size
        return np.stack([force, way, current[::-1] if fault == 2 else current], axis=1) + rng.normal(0, 0.02, (STROKE, 3))

    faults = [None] * strokes + [int(rng.integers(3)) if rng.random() < 0.15 else None for _ in range(judged)]
    return np.concatenate([stroke(f) for f in faults]), np.repeat([f is not None for f in faults], STROKE), STROKE * strokes


def beats(learnt: int = 100, judged: int = 100, seed: int = 0) -> Made:
    """Like an ECG: beats of about 90 rows, each 5 % longer or shorter (one standard deviation), 2 leads, a baseline that wanders.

    Faults, a seventh of the beats judged: widened (three times as wide, no first wave), missing, inverted.
    """
    rng = np.random.default_rng(seed)
    waves = ((0.25, 0.035, 0.15, 0.10), (0.40, 0.015, 1.0, 0.7), (0.43, 0.012, -0.25, -0.35), (0.68, 0.06, 0.3, 0.2))  # at, width, leads

    def beat(fault: int | None) -> Floats:
        rows = max(BEAT // 2, round(rng.normal(BEAT, 0.05 * BEAT)))
        at, size = np.arange(rows), rng.normal(1, 0.04)
        lead = np.zeros((rows, 2))
        for number, (centre, width, *heights) in enumerate(waves):
            wide = 3 * width if fault == 0 and number in (1, 2) else width
            bump = np.exp(-(((at - centre * rows) / (wide * BEAT)) ** 2) / 2)
            lead += 0.0 if fault == 1 or (fault == 0 and number == 0) else size * bump[:, None] * np.array(heights)
        return -lead if fault == 2 else lead

    faults = [None] * learnt + [int(rng.integers(3)) if rng.random() < 1 / 7 else None for _ in range(judged)]
    found = [beat(fault) for fault in faults]
    values, lengths = np.concatenate(found), [len(b) for b in found]
    wander = 0.08 * np.sin(2 * np.pi * np.arange(len(values)) / 700)
    values += wander[:, None] + rng.normal(0, 0.02, values.shape)
    return values, np.repeat([f is not None for f in faults], lengths), sum(lengths[:learnt])


def remembering(rows: int = 6000, learnt: int = 3000, seed: int = 0) -> Made:
    """AR(1) of 0.95, 4 sensors. Faults: a sensor is three standard deviations too high for 60 rows."""
    rng = np.random.default_rng(seed)
    values, pushes = np.zeros((rows, 4)), rng.normal(size=(rows, 4)) * np.sqrt(1 - 0.95**2)
    for i in range(1, rows):
        values[i] = 0.95 * values[i - 1] + pushes[i]
    labels = np.zeros(rows, bool)
    for start in range(learnt + 200, rows - 200, 400):
        labels[start : start + 60] = True
        values[start : start + 60, rng.integers(4)] += 3
    return values, labels, learnt


def counts(rows: int = 6000, learnt: int = 3000, seed: int = 0) -> Made:
    """Poisson counts a row, 3 counters of 6, 2 and 0.4 on average. Faults of 60 rows: a counter counts twice as much, or nothing."""
    rng = np.random.default_rng(seed)
    rates, labels = np.tile([6.0, 2.0, 0.4], (rows, 1)), np.zeros(rows, bool)
    for number, start in enumerate(range(learnt + 200, rows - 200, 400)):
        labels[start : start + 60] = True
        rates[start : start + 60, rng.integers(3)] *= 2 if number % 2 else 0
    return rng.poisson(rates).astype(np.float64), labels, learnt


def daily(days: int = 20, learnt: int = 10, rows: int = DAY, seed: int = 0) -> Made:
    """A daily pattern, 2 sensors. Faults of 30 rows a day: the first sensor stands still, the second is higher by one."""
    rng, t = np.random.default_rng(seed), np.arange(days * rows) / rows
    second = np.cos(2 * np.pi * t) + 0.5 * np.sin(4 * np.pi * t)
    values = np.stack([np.sin(2 * np.pi * t), second], axis=1) + rng.normal(0, 0.15, (days * rows, 2))
    labels = np.zeros(days * rows, bool)
    for day in range(learnt, days):
        start = day * rows + int(rng.integers(1, rows - 40))
        labels[start : start + 30] = True
        if day % 2:
            values[start : start + 30, 0] = values[start - 1, 0]
        else:
            values[start : start + 30, 1] += 1.0
    return values, labels, learnt * rows


def sticking(rows: int = 8000, learnt: int = 4000, band: float = 0.8, seed: int = 0) -> Made:
    """A closed loop: flow, what the controller asks of the valve, pressure. Faults of 150 rows: the valve sticks until it jumps.

    The loop then swings about its set point: every sensor keeps its mean and hardly changes its spread, but moves otherwise. `band`: by how
    much the valve has to be asked to move, in percent, before it does.
    """
    rng, labels = np.random.default_rng(seed), np.zeros(rows, bool)
    for start in range(learnt + 150, rows - 200, 400):
        labels[start : start + 150] = True
    pushes, noise = rng.normal(0, 0.4 * np.sqrt(1 - 0.97**2), rows), rng.normal(0, (0.03, 0.005), (rows, 2))
    flow, asked, valve, load, error = 50.0, 50.0, 50.0, 0.0, 0.0
    values = np.empty((rows, 3))
    for i in range(rows):
        load = 0.97 * load + pushes[i]
        flow += 0.3 * (valve + 4 * load - flow)
        before, error = error, 50.0 - flow - noise[i, 0]
        asked += error - before + 0.3 * error  # proportional and integral
        valve = valve if labels[i] and abs(asked - valve) <= band else asked
        values[i] = flow + noise[i, 0], asked, 6 - 0.02 * flow + noise[i, 1]
    return values, labels, learnt
