"""Synthetic data to try the product on: a pumping plant's sensors, and pictures of a machined part. Seeded, so repeatable.

`python -m anomaly.data.samples.synthetic data_samples` writes again what the project ships. The defects here are drawn by other
code than `anomaly.data.pictures.defects`, so that a detector tuned on those is still judged on something it has not seen.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from anomaly.data.samples.press import write_press

PLANT_SENSORS = {
    "pump_speed": "rpm",
    "motor_current": "A",
    "flow": "m3/h",
    "pressure": "bar",
    "bearing_temp": "degC",
    "vibration": "mm/s",
    "tank_level": "m",
    "valve_position": "%",
}
PLANT_FAULTS = ("bearing_wear", "valve_stuck", "leak", "sensor_drift", "frozen_sensor")
PLANT_CULPRIT = dict(zip(PLANT_FAULTS, ("vibration", "valve_position", "flow", "pressure", "bearing_temp"), strict=True))
PERIOD_S = 5.0

Array = NDArray[np.float64]


def plant(rows: int, rng: np.random.Generator, faults: bool = False, start: str = "2026-01-05T06:00:00Z") -> pd.DataFrame:
    """A pump, its motor and a loop with a control valve and a tank: `rows` readings of 8 sensors, one every 5 s.

    Demand changes by steps, everything follows with its own lag, speed drives current, flow and pressure by the affinity
    laws; noise, wandering ambient temperature and missing readings as in life. With `faults`, each kind of PLANT_FAULTS
    occurs once, spread evenly; `anomaly` is 1 from onset to end and `fault_kind` names it.
    """
    demand = _steps(rows, rng)
    spans = _fault_spans(rows) if faults else {}
    wear, leak = (_ramp(rows, spans.get(kind)) for kind in ("bearing_wear", "leak"))
    valve_wish = 30 + 55 * demand
    valve = _lag(valve_wish, 4)
    if "valve_stuck" in spans:
        low, high = spans["valve_stuck"]
        valve[low:high] = valve[low] + 0.04 * (valve[low:high] - valve[low])
    speed = _lag(900 + 600 * demand + 0.9 * (valve_wish - valve), 6)  # the controller pushes against a stuck valve
    flow = _lag((speed / 1500) * (0.35 + 0.65 * valve / 85) * 42, 3) * (1 - 0.10 * leak)
    pressure = 6.2 * (speed / 1500) ** 2 - 0.0011 * flow**2 - 0.35 * leak
    current = 4 + 14 * (speed / 1500) ** 3 * (0.6 + 0.4 * flow / 42) * (1 + 0.05 * wear)
    ambient = 21 + 3 * np.sin(np.arange(rows) * PERIOD_S / 7200 + rng.uniform(0, 6)) + _walk(rows, rng, 0.004)
    bearing = _lag(ambient + 22 * (speed / 1500) ** 1.5 + 6 * wear, 90)
    vibration = (1.1 + 1.5 * (speed / 1500) ** 2) * np.exp(rng.normal(0, 0.10, rows)) * (1 + 0.55 * wear)
    level = 2.4 + 0.12 * np.sin(np.arange(rows) * PERIOD_S / 900) + _lag(0.004 * (30 - flow), 60) - 0.22 * _lag(leak, 120)
    clean = np.column_stack([speed, current, flow, pressure, bearing, vibration, level, valve])
    noise = np.array([2.5, 0.15, 0.35, 0.035, 0.12, 0.0, 0.006, 0.25])
    values = clean + rng.normal(0, 1, clean.shape) * noise
    _sensor_faults(values, spans)
    values[rng.random(values.shape) < 0.002] = np.nan
    return _plant_frame(values, spans, start)


def _sensor_faults(values: Array, spans: dict[str, tuple[int, int]]) -> None:
    names = list(PLANT_SENSORS)
    if "sensor_drift" in spans:
        low, high = spans["sensor_drift"]
        values[low:high, names.index("pressure")] += np.linspace(0, 1.1, high - low)
    if "frozen_sensor" in spans:
        low, high = spans["frozen_sensor"]
        values[low:high, names.index("bearing_temp")] = values[low, names.index("bearing_temp")]


def _plant_frame(values: Array, spans: dict[str, tuple[int, int]], start: str) -> pd.DataFrame:
    frame = pd.DataFrame(values, columns=list(PLANT_SENSORS))
    for name in frame:
        frame[name] = frame[name].round(1 if name in ("pump_speed", "valve_position") else 3)
    frame.insert(0, "time", pd.date_range(start, periods=len(frame), freq=f"{int(PERIOD_S)}s").strftime("%Y-%m-%dT%H:%M:%SZ"))
    frame["anomaly"], frame["fault_kind"] = 0, ""
    for kind, (low, high) in spans.items():
        frame.loc[low : high - 1, "anomaly"] = 1
        frame.loc[low : high - 1, "fault_kind"] = kind
    return frame


def _fault_spans(rows: int) -> dict[str, tuple[int, int]]:
    """Each kind once: five equal stretches, the fault in the middle 40 % of each."""
    part = rows // len(PLANT_FAULTS)
    return {kind: (int(part * (i + 0.35)), int(part * (i + 0.75))) for i, kind in enumerate(PLANT_FAULTS)}


def _steps(rows: int, rng: np.random.Generator) -> Array:
    demand = np.empty(rows)
    at = 0
    while at < rows:
        length = int(rng.integers(40, 160))
        demand[at : at + length] = rng.choice([0.15, 0.4, 0.65, 0.9]) + rng.normal(0, 0.02)
        at += length
    return demand


def _lag(series: Array, rows: float) -> Array:
    """First-order lag with a time constant in rows."""
    share = 1 - np.exp(-1 / rows)
    out = np.empty_like(series)
    state = series[0]
    for index, value in enumerate(series):
        state += share * (value - state)
        out[index] = state
    return out


def _walk(rows: int, rng: np.random.Generator, step: float) -> Array:
    return np.cumsum(rng.normal(0, step, rows))


def _ramp(rows: int, span: tuple[int, int] | None) -> Array:
    """0 outside the span; inside it grows to 1 over the first half."""
    out = np.zeros(rows)
    if span is not None:
        low, high = span
        out[low:high] = np.minimum(1.0, np.linspace(0, 2, high - low))
    return out


# --- pictures -------------------------------------------------------------------------------------------------------

PART_DEFECTS = ("scratch", "dent", "stain", "chipped_edge", "missing_hole")
SIDE = 160


@dataclass(frozen=True)
class _Part:
    """Where one machined flange lies in its picture: brushed face, centre bore, six bolt holes."""

    centre: tuple[float, float]
    radius: float
    turn: float

    def holes(self) -> list[tuple[float, float]]:
        angles = self.turn + np.arange(6) * np.pi / 3
        return [(self.centre[0] + 0.7 * self.radius * np.cos(a), self.centre[1] + 0.7 * self.radius * np.sin(a)) for a in angles]


def part_picture(rng: np.random.Generator, defect: str | None = None) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """One picture (160, 160, 3) uint8 of a machined flange, and its defect mask (160, 160), all False for a good part."""
    part = _Part((80 + rng.normal(0, 1.5), 80 + rng.normal(0, 1.5)), 66 + rng.normal(0, 0.6), rng.uniform(0, np.pi / 3))
    clean = _render(part, rng, skip_hole=None)
    if defect is None:
        return _develop(clean, rng), np.zeros((SIDE, SIDE), dtype=bool)
    marked, mask = _DEFECTS[defect](clean.copy(), part, rng)
    return _develop(marked, rng), mask


def _grid() -> tuple[Array, Array]:
    y, x = np.mgrid[0:SIDE, 0:SIDE].astype(np.float64)
    return x, y


def _disc(x0: float, y0: float, radius: float, soft: float = 0.7) -> Array:
    x, y = _grid()
    return np.clip((radius - np.hypot(x - x0, y - y0)) / soft + 0.5, 0, 1)


def _render(part: _Part, rng: np.random.Generator, skip_hole: int | None) -> Array:
    x, y = _grid()
    x0, y0 = part.centre
    distance = np.hypot(x - x0, y - y0)
    rings = np.interp(distance, np.arange(0, 120, 0.5), rng.normal(0, 9, 240))  # lathe marks
    angle = np.arctan2(y - y0, x - x0)
    sheen = 22 * np.cos(2 * (angle - rng.normal(0.6, 0.08)))
    face = 150 + rings + sheen
    body = _disc(x0, y0, part.radius)
    belt = 58 + 5 * np.sin(y / 3.1) + rng.normal(0, 3, (SIDE, SIDE))
    picture = belt * (1 - body) + face * body
    picture = picture * (1 - _disc(x0, y0, 18)) + 28 * _disc(x0, y0, 18)
    for index, (hx, hy) in enumerate(part.holes()):
        if index != skip_hole:
            picture = picture * (1 - _disc(hx, hy, 6)) + 34 * _disc(hx, hy, 6)
    tinted: Array = np.repeat(picture[:, :, None], 3, axis=2) * np.array([1.0, 0.99, 0.96])
    return tinted


def _develop(picture: Array, rng: np.random.Generator) -> NDArray[np.uint8]:
    """The camera: uneven light, gain, blur and grain."""
    x, y = _grid()
    light = 1 + 0.06 * (x - 80) / 80 * rng.normal() + 0.06 * (y - 80) / 80 * rng.normal()
    exposed = picture * light[:, :, None] * rng.normal(1, 0.04)
    soft = Image.fromarray(np.clip(exposed, 0, 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(0.6))
    return np.clip(np.asarray(soft) + rng.normal(0, 2.5, (SIDE, SIDE, 1)), 0, 255).astype(np.uint8)


def _on_face(part: _Part, rng: np.random.Generator) -> tuple[float, float, float]:
    angle = rng.uniform(0, 2 * np.pi)
    distance = part.radius * rng.uniform(0.4, 0.88)
    return part.centre[0] + distance * np.cos(angle), part.centre[1] + distance * np.sin(angle), angle


def _blend(picture: Array, alpha: Array, change: Array | float) -> tuple[Array, NDArray[np.bool_]]:
    return picture + alpha[:, :, None] * change, alpha > 0.25


def _scratch(picture: Array, part: _Part, rng: np.random.Generator) -> tuple[Array, NDArray[np.bool_]]:
    x0, y0, angle = _on_face(part, rng)
    heading, length = angle + np.pi / 2 + rng.normal(0, 0.7), rng.uniform(15, 40)
    canvas = Image.new("L", (SIDE, SIDE))
    steps = np.linspace(-0.5, 0.5, 9) * length
    bend = rng.normal(0, 0.01)
    points = [(x0 + s * np.cos(heading + bend * s), y0 + s * np.sin(heading + bend * s)) for s in steps]
    ImageDraw.Draw(canvas).line(points, fill=255, width=int(rng.integers(1, 3)))
    return _blend(picture, np.asarray(canvas) / 255.0 * _disc(*part.centre, part.radius), float(rng.choice([-55, 60])))


def _dent(picture: Array, part: _Part, rng: np.random.Generator) -> tuple[Array, NDArray[np.bool_]]:
    x0, y0, _ = _on_face(part, rng)
    x, y = _grid()
    radius = rng.uniform(4, 8)
    bump = np.exp(-((x - x0) ** 2 + (y - y0) ** 2) / (2 * (radius / 2) ** 2))
    return picture + (bump * (x - x0 + y - y0) / radius * 45)[:, :, None], np.hypot(x - x0, y - y0) < radius


def _stain(picture: Array, part: _Part, rng: np.random.Generator) -> tuple[Array, NDArray[np.bool_]]:
    x0, y0, _ = _on_face(part, rng)
    alpha = np.zeros((SIDE, SIDE))
    for _ in range(5):
        alpha = np.maximum(alpha, _disc(x0 + rng.normal(0, 4), y0 + rng.normal(0, 4), rng.uniform(3, 7), soft=4))
    return _blend(picture, alpha * _disc(*part.centre, part.radius), np.array([-18.0, -28.0, -48.0]))


def _chipped_edge(picture: Array, part: _Part, rng: np.random.Generator) -> tuple[Array, NDArray[np.bool_]]:
    angle = rng.uniform(0, 2 * np.pi)
    x0, y0 = part.centre[0] + part.radius * np.cos(angle), part.centre[1] + part.radius * np.sin(angle)
    chip = _disc(x0, y0, rng.uniform(4, 8)) * _disc(*part.centre, part.radius)
    return picture * (1 - chip[:, :, None]) + 66 * chip[:, :, None], chip > 0.3


def _missing_hole(picture: Array, part: _Part, rng: np.random.Generator) -> tuple[Array, NDArray[np.bool_]]:
    index = int(rng.integers(6))
    x0, y0 = part.holes()[index]
    hole = _disc(x0, y0, 7)
    turned = np.rot90(picture, 2)  # face texture from elsewhere on the part
    face = float(np.median(turned[_disc(*part.centre, part.radius * 0.55) > 0.5]))
    return picture * (1 - hole[:, :, None]) + (face + rng.normal(0, 7, (SIDE, SIDE, 1))) * hole[:, :, None], hole > 0.3


_DEFECTS: dict[str, Callable[[Array, _Part, np.random.Generator], tuple[Array, NDArray[np.bool_]]]] = {
    "scratch": _scratch,
    "dent": _dent,
    "stain": _stain,
    "chipped_edge": _chipped_edge,
    "missing_hole": _missing_hole,
}


# --- what the project ships -----------------------------------------------------------------------------------------


def write_samples(root: Path, seed: int = 2026, train: int = 60, good: int = 20, each: int = 6) -> None:
    """Write `root/camera` (MVTec AD layout), and `root/plant` and `root/press` (train.csv, test.csv): the same bytes for the same seed."""
    rng = np.random.default_rng(seed)
    _write_pictures(root / "camera", rng, train, good, each)
    (root / "plant").mkdir(parents=True, exist_ok=True)
    plant(6000, rng).drop(columns=["anomaly", "fault_kind"]).to_csv(root / "plant" / "train.csv", index=False)
    plant(4000, rng, faults=True, start="2026-01-12T06:00:00Z").to_csv(root / "plant" / "test.csv", index=False)
    write_press(root / "press", seed)


def _write_pictures(root: Path, rng: np.random.Generator, train: int, good: int, each: int) -> None:
    jobs = [("train/good", None, train), ("test/good", None, good), *((f"test/{kind}", kind, each) for kind in PART_DEFECTS)]
    for folder, defect, count in jobs:
        (root / folder).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            picture, mask = part_picture(rng, defect)
            Image.fromarray(picture).save(root / folder / f"{index:03d}.jpg", quality=88)
            if defect is not None:
                truth = root / "ground_truth" / defect / f"{index:03d}_mask.png"
                truth.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(mask.astype(np.uint8) * 255).save(truth)


if __name__ == "__main__":
    write_samples(Path(sys.argv[1] if len(sys.argv) > 1 else "data_samples"))
