"""Synthetic signals like those of machines, made by simple laws: a source to transfer from that contains nobody's data.

`python -m anomaly.data.samples.generated OUT.csv [--rows 20000] [--sensors 8] [--seed 0]` writes a table of normal running.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.signal import lfilter

from anomaly.atomic import replacing

Signal = NDArray[np.float64]


def oscillator(load: Signal, rng: np.random.Generator) -> Signal:
    """A damped resonance that noise and the load keep going: x'' + 2 d w x' + w^2 x = u."""
    period, damping = rng.uniform(6, 120), rng.uniform(0.02, 0.5)
    pole = np.exp(-damping * 2 * np.pi / period)
    return lfilter([1.0], [1.0, -2 * pole * np.cos(2 * np.pi / period), pole**2], rng.standard_normal(len(load)) + load)


def thermal(load: Signal, rng: np.random.Generator) -> Signal:
    """A body that the load heats and a wandering surrounding cools: two time constants."""
    slow, fast = np.exp(-1 / rng.uniform(100, 1500)), np.exp(-1 / rng.uniform(10, 100))
    around = lfilter([1.0], [1.0, -0.9995], 0.02 * rng.standard_normal(len(load)))
    return lfilter([1 - fast], [1.0, -fast], lfilter([1 - slow], [1.0, -slow], load)) + 0.2 * around


def fluid(load: Signal, rng: np.random.Generator) -> Signal:
    """Pressure behind a pump and a valve: the square of speed less a loss, through a short lag."""
    lag = np.exp(-1 / rng.uniform(2, 20))
    return lfilter([1 - lag], [1.0, -lag], (1 + 0.5 * load) ** 2 - rng.uniform(0.1, 0.6) * load**2)


def queue(load: Signal, rng: np.random.Generator) -> Signal:
    """Parts waiting before a station: arrivals follow the load, service has a limit, none is ever below zero (Lindley's recursion)."""
    arrivals = rng.poisson(np.clip(1.5 + load, 0.05, None))
    served = rng.poisson(rng.uniform(2.5, 4.0), len(load))
    walk = np.cumsum(arrivals - served)
    return np.asarray(walk - np.minimum.accumulate(np.minimum(walk, 0)), dtype=np.float64)


def follower(load: Signal, rng: np.random.Generator) -> Signal:
    """A reading that follows the load at once, through its own gain curve."""
    return np.tanh(rng.uniform(0.3, 1.5) * load) + rng.uniform(-0.2, 0.2) * load


def vibration(load: Signal, rng: np.random.Generator) -> Signal:
    """The level of a vibration: noise whose size grows with the load, skewed as such levels are."""
    return (1 + 0.3 * load**2) * np.exp(rng.normal(0, rng.uniform(0.05, 0.3), len(load)))


LAWS: tuple[Callable[[Signal, np.random.Generator], Signal], ...] = (oscillator, thermal, fluid, queue, follower, vibration)


def regimes(rows: int, rng: np.random.Generator) -> Signal:
    """A load that switches between a few levels, each held for a while, and wanders a little within them."""
    levels = rng.normal(0, 1, int(rng.integers(2, 6)))
    lengths = rng.geometric(1 / rng.uniform(100, 800), size=rows // 20 + 2)
    held = np.repeat(rng.choice(levels, len(lengths)), lengths)[:rows]
    held = np.pad(held, (0, rows - len(held)), mode="edge")
    return held + lfilter([1.0], [1.0, -0.995], 0.02 * rng.standard_normal(rows))


def generated(rows: int, sensors: int, rng: np.random.Generator) -> Signal:
    """Readings (rows, sensors) of one synthetic machine: laws drawn at random, one load, measuring noise, unit spread."""
    load = regimes(rows, rng)
    columns = []
    for _ in range(sensors):
        clean = LAWS[int(rng.integers(len(LAWS)))](load, rng)
        clean = (clean - clean.mean()) / max(float(clean.std()), 1e-9)
        columns.append(clean + rng.uniform(0.01, 0.3) * rng.standard_normal(rows))
    return np.stack(columns, axis=1)


def write_generated(path: Path, names: list[str], rows: int, seed: int) -> Path:
    """Write a table of generated readings, one a second, with columns of these names."""
    frame = pd.DataFrame(generated(rows, len(names), np.random.default_rng(seed)), columns=names).round(5)
    frame.insert(0, "time", pd.date_range("2026-01-01", periods=rows, freq="s", tz="UTC").strftime("%Y-%m-%dT%H:%M:%SZ"))
    with replacing(path) as part:
        frame.to_csv(part, index=False)
    return path


def main() -> None:
    """Write a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--sensors", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    write_generated(arguments.out, [f"s{i}" for i in range(arguments.sensors)], arguments.rows, arguments.seed)


if __name__ == "__main__":
    main()
