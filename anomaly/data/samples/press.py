"""Synthetic readings of a cyclic machine: a hydraulic press whose strokes all look alike, and whose faults change a stroke's shape.

The same bytes on every machine: shapes are polynomials, noise is sums of uniform draws, and sums are exact (`math.fsum`), so that no
library function that rounds in its own way on another processor takes part.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from anomaly.atomic import replacing

PRESS_SENSORS = {"force": "kN", "ram_position": "mm", "motor_current": "A", "oil_temp": "degC"}
PRESS_FAULTS = ("double_peak", "late_peak", "mirrored_current", "soft_stroke", "stuck_valve")
PRESS_CULPRIT = dict(zip(PRESS_FAULTS, ("force", "force", "motor_current", "force", "ram_position"), strict=True))
PERIOD_MS = 200
STROKE_ROWS = 40  # on average, and PAUSE_ROWS between two strokes
PAUSE_ROWS = 10
BAD_IN_A_ROW = 5  # strokes of a kind of fault, after a single one of it
REST = (2.0, 400.0, 11.0, 0.0)  # of each sensor between two strokes; the oil's is added
DECIMALS = (1, 1, 2, 2)
WEAR_ROWS = 40_000  # over which the motor works a twentieth harder, and a stroke comes a tenth of a second later

Array = NDArray[np.float64]


def press(rows: int, rng: np.random.Generator, faults: bool = False, start: str = "2026-03-02T06:00:00Z", worn: int = 0) -> pd.DataFrame:
    """A hydraulic press: `rows` readings of 4 sensors, five a second. A stroke takes about 40 rows, the pause after it about 10.

    Strokes differ in length, height and pause; tools wear slowly (`worn` rows have been run before), a cooler keeps the oil between two
    temperatures, the clock is some milliseconds off, readings are missing now and then. With `faults`, each kind of PRESS_FAULTS comes
    in one stroke, and later in BAD_IN_A_ROW strokes one after the other. They change the shape of one sensor's stroke, keep its mean and
    hardly change its spread. `anomaly` is 1 from onset to end and `fault_kind` names it.
    """
    strokes = _strokes(rows, rng)
    kinds = _plan(len(strokes)) if faults else [""] * len(strokes)
    clean = np.tile(np.array(REST), (rows, 1))
    anomaly, named = np.zeros(rows, np.int64), np.full(rows, "", object)
    for index, ((first, length), kind) in enumerate(zip(strokes, kinds, strict=True)):
        last = min(first + length, rows)
        clean[first:last] = _stroke(length, (worn + first) / WEAR_ROWS, kind, rng)[: last - first]
        if kind:
            end = strokes[index + 1][0] if index + 1 < len(strokes) and kinds[index + 1] == kind else last
            anomaly[first:end], named[first:end] = 1, kind
    clean[:, 3] += _oil(rows, clean[:, 2], rng)
    values = clean + np.stack([_noise(rows, rng) for _ in PRESS_SENSORS], axis=1) * np.array([1.2, 0.6, 0.25, 0.03])
    values[rng.random(values.shape) < 0.001] = np.nan
    frame = pd.DataFrame({name: values[:, i].round(DECIMALS[i]) for i, name in enumerate(PRESS_SENSORS)})
    late = rng.integers(-4, 5, rows)  # milliseconds
    times = np.datetime64(start.removesuffix("Z"), "ms") + (np.arange(rows) * PERIOD_MS + 5 + late)
    frame.insert(0, "time", [f"{moment}Z" for moment in np.datetime_as_string(times, unit="ms")])
    frame["anomaly"], frame["fault_kind"] = anomaly, named
    return frame


def write_press(folder: Path, seed: int, train: int = 6000, test: int = 8000) -> None:
    """Write train.csv and test.csv, each with a line of units below its header: the same bytes for the same seed."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    normal = press(train, rng).drop(columns=["anomaly", "fault_kind"])
    _write(folder / "train.csv", normal)
    _write(folder / "test.csv", press(test, rng, faults=True, start="2026-03-02T07:00:00Z", worn=train))


def _write(path: Path, frame: pd.DataFrame) -> None:
    units = pd.DataFrame([[PRESS_SENSORS.get(str(name), "") for name in frame]], columns=frame.columns)
    with replacing(path) as part:
        pd.concat([units, frame.astype(object)]).to_csv(part, index=False, lineterminator="\n")


def _strokes(rows: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    """(first row, rows) of each stroke."""
    found, at = [], int(rng.integers(3, PAUSE_ROWS))
    while at < rows:
        length = STROKE_ROWS + int(rng.integers(-2, 3))
        found.append((at, length))
        at += length + PAUSE_ROWS + int(rng.integers(-2, 3))
    return found


def _plan(strokes: int) -> list[str]:
    """The kind of each stroke, "" for a good one: equal stretches, a kind each, with one bad stroke and later some in a row."""
    part = strokes // len(PRESS_FAULTS)
    plan = [""] * strokes
    for i, kind in enumerate(PRESS_FAULTS):
        begin = part * i + part // 4
        run = part * i + part // 2
        for stroke in (begin, *range(run, run + BAD_IN_A_ROW)):
            plan[stroke] = kind
    return plan


def _stroke(length: int, wear: float, kind: str, rng: np.random.Generator) -> Array:
    """One stroke (length, 4) without noise, the oil's part in it as a rise above its temperature."""
    begin, height = rng.random() - 0.5, 1 + 0.03 * (rng.random() - 0.5)
    phase = (np.arange(length) + begin) / length - 0.5 * wear / length
    force, ram, current = _force(phase), _ram(phase), _current(phase)
    bent = _BENT.get(kind)
    if bent is not None:
        name, change = bent
        series = {"force": force, "ram_position": ram, "motor_current": current}[name]
        bent_series = change(phase, series)
        at_rest = REST[list(PRESS_SENSORS).index(name)]
        series[:] = at_rest + (bent_series - at_rest) * (math.fsum(series - at_rest) / math.fsum(bent_series - at_rest))
    current = 11 + (current - 11) * (1 + 0.05 * wear)
    return np.stack([2 + (force - 2) * height, ram, current, 0.25 * _pulse(phase, 0.45, 0.95)], axis=1)


def _force(phase: Array) -> Array:
    """kN: the tool meets the part at 0.3, presses harder up to 0.55, holds to 0.65 and lets go."""
    return np.interp(phase, [0.0, 0.30, 0.42, 0.50, 0.55, 0.65, 0.70, 1.0], [2, 2, 45, 95, 150, 120, 2, 2])


def _ram(phase: Array) -> Array:
    """mm above the die: a quick way down, a slow one while it presses, a halt, a quick way up."""
    return 400 - 250 * _ease(phase, 0.02, 0.28) - 130 * _ease(phase, 0.28, 0.56) + 380 * _ease(phase, 0.66, 0.96)


def _current(phase: Array) -> Array:
    """A: the pump idles at 11, works most while it presses, and less on the way up."""
    return np.interp(phase, [0.0, 0.06, 0.26, 0.32, 0.55, 0.60, 0.68, 0.90, 1.0], [11, 26, 24, 34, 62, 28, 33, 22, 11])


def _double_peak(phase: Array, force: Array) -> Array:
    return np.interp(phase, [0.0, 0.31, 0.41, 0.46, 0.53, 0.60, 0.69, 1.0], [2, 2, 60, 140, 66, 140, 2, 2])


def _late_peak(phase: Array, force: Array) -> Array:
    return _force(phase - 0.12)


def _mirrored(phase: Array, current: Array) -> Array:
    return current[::-1].copy()


def _soft_stroke(phase: Array, force: Array) -> Array:
    return np.interp(phase, [0.0, 0.36, 0.42, 0.60, 0.66, 1.0], [2, 2, 98, 106, 2, 2])


def _stuck_valve(phase: Array, ram: Array) -> Array:
    """The valve of the way up sticks: the ram jumps half of the way, stands, and jumps again."""
    return np.where(phase < 0.64, ram, 20 + 190 * _ease(phase, 0.64, 0.74) + 190 * _ease(phase, 0.88, 0.98))


_BENT: dict[str, tuple[str, Callable[[Array, Array], Array]]] = {
    kind: (PRESS_CULPRIT[kind], change)
    for kind, change in zip(PRESS_FAULTS, (_double_peak, _late_peak, _mirrored, _soft_stroke, _stuck_valve), strict=True)
}


def _ease(phase: Array, low: float, high: float) -> Array:
    """0 up to `low`, 1 from `high` on, a cubic between."""
    share = np.clip((phase - low) / (high - low), 0.0, 1.0)
    return share * share * (3 - 2 * share)


def _pulse(phase: Array, low: float, high: float) -> Array:
    return 4 * _ease(phase, low, high) * (1 - _ease(phase, low, high))


def _oil(rows: int, current: Array, rng: np.random.Generator) -> Array:
    """degC: the pump warms the oil, a cooler comes on above 47 and stays on down to 44."""
    out = np.empty(rows)
    oil, cooling = 44.5 + rng.random(), False
    for row in range(rows):
        cooling = oil > 47 if not cooling else oil > 44
        oil += 0.00024 * float(current[row]) - (0.016 if cooling else 0.0)
        out[row] = oil
    return out


def _noise(rows: int, rng: np.random.Generator) -> Array:
    """Nearly normal noise of variance 1: four uniform draws added up."""
    return (rng.random(rows) + rng.random(rows) + rng.random(rows) + rng.random(rows) - 2.0) * math.sqrt(3.0)
