"""Signals of many kinds that repeat themselves, made up from a seed, and faults that change their shape, for training the sensor encoder.

Nothing here is recorded, so an encoder that is trained on it belongs to nobody else.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

POINTS = 512  # of one cycle
TIMING = (0.0, 0.01, 0.03, 0.06)  # how much the length of a cycle varies, as a share of it
SIZE = (0.01, 0.03, 0.08)  # how much its height varies
SHIFT = (0.0, 0.005, 0.015)  # how much one sensor runs ahead of the others
FAULTS_DRAWN = 8  # faulty stretches that an episode's faulty windows are taken from
CLIP = 20.0  # standard deviations

Floats = NDArray[np.float64]


class Episode(NamedTuple):
    """Windows (N, C, T) float32 of one record, each sensor less its own mean, in units of spread: known ones, others, and faulty ones."""

    known: NDArray[np.float32]
    normal: NDArray[np.float32]
    faulty: NDArray[np.float32]


def cycle(rng: np.random.Generator) -> Floats:
    """One cycle (POINTS,) of a random kind, mean 0 and standard deviation 1."""
    t = np.arange(POINTS) / POINTS
    made = (_harmonics, _bumps, _levels, _ramps, _charge, _smooth)[int(rng.integers(6))](rng, t)
    return np.asarray((made - made.mean()) / (made.std() + 1e-9))


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _harmonics(rng: np.random.Generator, t: Floats) -> Floats:
    order = np.arange(1, 1 + rng.integers(1, 8))
    height = rng.normal(size=len(order)) / order ** rng.uniform(0.3, 1.5)
    return np.asarray(height @ np.sin(2 * np.pi * (order[:, None] * t + rng.random((len(order), 1)))))


def _bumps(rng: np.random.Generator, t: Floats) -> Floats:
    made = np.zeros_like(t)
    for _ in range(rng.integers(1, 7)):
        apart = (t - rng.random() + 0.5) % 1 - 0.5
        made += rng.normal() * np.exp(-((apart / _log_uniform(rng, 0.01, 0.15)) ** 2))
    return np.asarray(made)


def _levels(rng: np.random.Generator, t: Floats) -> Floats:
    """Levels with edges that are more or less steep."""
    edges, levels = np.sort(rng.random(int(rng.integers(2, 6)))), rng.normal(size=6)
    made = levels[np.searchsorted(edges, t) % len(edges)]
    width = max(1, int(POINTS * rng.choice([0.004, 0.02, 0.06])))
    return np.convolve(np.tile(made, 3), np.ones(width) / width, "same")[POINTS : 2 * POINTS]


def _ramps(rng: np.random.Generator, t: Floats) -> Floats:
    corners = np.sort(rng.random(int(rng.integers(2, 7))))
    return np.interp(t, corners, rng.normal(size=len(corners)), period=1)


def _charge(rng: np.random.Generator, t: Floats) -> Floats:
    """Rises to a level and falls from it, as a tank, a coil or a heater does."""
    turn, up, down = rng.uniform(0.2, 0.8), _log_uniform(rng, 0.03, 0.5), _log_uniform(rng, 0.03, 0.5)
    rising, falling = 1 - np.exp(-t / up), (1 - np.exp(-turn / up)) * np.exp(-(t - turn) / down)
    return np.asarray(rng.choice([-1, 1]) * np.where(t < turn, rising, falling))


def _smooth(rng: np.random.Generator, t: Floats) -> Floats:
    spectrum = np.fft.rfft(rng.normal(size=len(t)))
    spectrum[0] = 0
    return np.fft.irfft(spectrum * np.exp(-np.arange(len(spectrum)) / rng.uniform(2, 15)))


def record(rng: np.random.Generator, rows: int, period: float, sensors: int) -> Floats:
    """Normal readings (rows, sensors) of a machine whose cycles take about `period` rows. The sensors share the cycles' timing."""
    size, shift = float(rng.choice(SIZE)), float(rng.choice(SHIFT))
    count = int(rows / period * 1.6) + 4
    lengths = np.maximum(period * (1 + rng.choice(TIMING) * rng.normal(size=count)), 4)
    starts = np.concatenate([[0.0], lengths.cumsum()])
    at = np.arange(rows)
    which = np.searchsorted(starts, at, side="right") - 1
    phase = (at - starts[which]) / lengths[which]
    common = 1 + size * rng.normal(size=count)
    every = []
    for _ in range(sensors):
        place = (phase + shift * rng.normal(size=count)[which]) % 1 * POINTS
        x = (common * (1 + size / 2 * rng.normal(size=count)))[which] * np.interp(place, np.arange(POINTS), cycle(rng), period=POINTS)
        if rng.random() < 0.25:  # cycles vary in shape as well
            x += 5 * size * rng.normal(size=count)[which] * np.interp(place, np.arange(POINTS), cycle(rng), period=POINTS)
        if rng.random() < 0.4:
            x += _wander(rng, rows)
        every.append(x + rng.normal(size=rows) * _log_uniform(rng, 0.01, 0.3))
    return np.stack(every, axis=1)


def _wander(rng: np.random.Generator, rows: int) -> Floats:
    """A base line (rows,) that wanders slowly."""
    steps, line = rng.normal(size=rows) * rng.choice([0.003, 0.01, 0.03]), np.zeros(rows)
    for row in range(1, rows):
        line[row] = 0.99 * line[row - 1] + steps[row]
    return line


def bend(rng: np.random.Generator, x: Floats, first: int, last: int) -> Floats:
    """A copy of readings (n, C) with a fault in the rows from `first` to before `last`: on one sensor, or on several."""
    x = x.copy()
    sensors = x.shape[1]
    hit = rng.permutation(sensors)[: 1 if rng.random() < 0.6 else int(rng.integers(1, sensors + 1))]
    make = (_mirrored, _early_or_late, _scaled, _bump, _stuck, _smoothed, _noisy, _wrong_moment, _turned)[int(rng.integers(9))]
    for sensor in hit:
        x[first:last, sensor] = make(rng, x[first:last, sensor], x[:, sensor])
    return x


def _mirrored(rng: np.random.Generator, s: Floats, whole: Floats) -> Floats:
    return np.asarray(s[::-1])


def _early_or_late(rng: np.random.Generator, s: Floats, whole: Floats) -> Floats:
    at = np.arange(len(s))
    moved = at + np.hanning(len(s) + 2)[1:-1] * len(s) * rng.uniform(0.08, 0.3) * rng.choice([-1, 1])
    return np.asarray(np.interp(moved, at, s))


def _scaled(rng: np.random.Generator, s: Floats, whole: Floats) -> Floats:
    return np.asarray(s.mean() + (s - s.mean()) * rng.choice([0.3, 0.5, 0.7, 1.4, 2.0]))


def _bump(rng: np.random.Generator, s: Floats, whole: Floats) -> Floats:
    apart = (np.arange(len(s)) - rng.uniform(0, len(s))) / (len(s) * rng.uniform(0.04, 0.25))
    return np.asarray(s + np.exp(-(apart**2)) * (s.std() + 0.1) * rng.uniform(0.5, 2) * rng.choice([-1, 1]))


def _stuck(rng: np.random.Generator, s: Floats, whole: Floats) -> Floats:
    return np.asarray(s[0] + 0.02 * rng.normal(size=len(s)))


def _smoothed(rng: np.random.Generator, s: Floats, whole: Floats) -> Floats:
    width = max(3, int(len(s) * rng.uniform(0.1, 0.4)))
    return np.convolve(np.pad(s, width, mode="edge"), np.ones(width) / width, "same")[width:-width]


def _noisy(rng: np.random.Generator, s: Floats, whole: Floats) -> Floats:
    return np.asarray(s + rng.normal(size=len(s)) * (s.std() + 0.1) * rng.uniform(0.15, 0.6))


def _wrong_moment(rng: np.random.Generator, s: Floats, whole: Floats) -> Floats:
    start = int(rng.integers(0, len(whole) - len(s) + 1))
    return np.asarray(whole[start : start + len(s)] - whole[start] + s[0])


def _turned(rng: np.random.Generator, s: Floats, whole: Floats) -> Floats:
    """Upside down, or with an oscillation on top."""
    if rng.random() < 0.5:
        return np.asarray(2 * s.mean() - s)
    wave = np.sin(2 * np.pi * np.arange(len(s)) / rng.uniform(3, max(len(s) / 3, 4)))
    return np.asarray(s + (s.std() + 0.1) * rng.uniform(0.3, 1) * wave)


def episode(rng: np.random.Generator, rows: int, known: int = 160, asked: int = 32) -> Episode:
    """Windows of `rows` rows of one made-up machine of one to three sensors, of which 3 to 40 cycles are known.

    >>> [part.shape[0] for part in episode(np.random.default_rng(0), 30)]
    [46, 32, 32]
    """
    sensors, period = int(rng.integers(1, 4)), rows * _log_uniform(rng, 0.25, 2.5)
    learnt = int(period * _log_uniform(rng, 3, 40)) + rows
    later = int(6 * period + 6 * rows)
    x = record(rng, learnt + later, period, sensors)
    x = (x - x[:learnt].mean(axis=0)) / (x[:learnt].std(axis=0) + 1e-9)
    some = rng.choice(learnt - rows, min(known, learnt - rows), replace=False)
    normal = learnt + rng.integers(0, later - rows, asked)
    faulty = []
    for _ in range(FAULTS_DRAWN):
        length = int(np.clip(rows * _log_uniform(rng, 0.3, 1.3), 6, later - 2))
        first = learnt + int(rng.integers(0, later - length))
        low, high = first + length - rows - length // 4, first + length // 4  # at least three quarters of the shorter lies in the other
        low, high = sorted((max(learnt, low), min(learnt + later - rows, high)))
        faulty.append(_windows(bend(rng, x, first, first + length), rng.integers(low, high + 1, asked // FAULTS_DRAWN), rows))
    return Episode(_windows(x, some, rows), _windows(x, normal, rows), np.concatenate(faulty))


def _windows(x: Floats, starts: NDArray[np.int64], rows: int) -> NDArray[np.float32]:
    """Windows (N, C, rows) of readings (n, C) that begin at these rows, each sensor less its own mean."""
    found = np.stack([x[start : start + rows] for start in starts]).transpose(0, 2, 1)
    return np.asarray(np.clip(found - found.mean(axis=2, keepdims=True), -CLIP, CLIP), np.float32)
