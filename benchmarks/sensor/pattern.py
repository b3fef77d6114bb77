"""Daily and weekly patterns: what taking them off is worth, and what looks like one and is none.

    python -m benchmarks.sensor.pattern [--seeds 4] [--json FILE]

An oven at work from 6 to 22 h: temperature follows the day, load and pressure the shifts, vibration neither. Its readings have noise and
slow changes of their own, and shifts begin some minutes early or late. Faults, a day each: temperature stands at its night level at noon;
load does; temperature is 2.5 K off for four hours; the shift begins three hours early. Rows within 60 rows after a fault are not judged.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.signal import lfilter
from sklearn.metrics import roc_auc_score

from anomaly.atomic import write_text
from anomaly.data.tables.pattern.learn import Rows, fit_patterns
from anomaly.evaluation.figures import by_row
from anomaly.schema import DAY_S, Channel
from anomaly.spec import Pretrain, SensorInput, SensorSpec
from benchmarks.protocols.sensors import Frame, learn

MONDAY, AFTER, TEST_DAYS = 1_704_067_200.0, 60, 14
FAULTS = ("temperature stands", "load stands", "temperature off", "early shift")
WEEKS: dict[str, Any] = {"row_s": 600.0, "weekly": True}
CASES: dict[str, dict[str, Any]] = {
    "3 days": {"days": 3},
    "7 days": {"days": 7},
    "30 days": {"days": 30},
    "7 days, threefold noise": {"days": 7, "noise": 3.0},
    "7 days, shifts 30 min early or late": {"days": 7, "jitter_min": 30.0},
    "3 weeks, weekends idle": {"days": 21, **WEEKS},
    "6 weeks, weekends idle": {"days": 42, **WEEKS},
}
Floats = NDArray[np.float64]


def slow(rows: int, hours: float, row_s: float, rng: np.random.Generator) -> Floats:
    """Readings (rows,) of spread 1 that forget within some hours (AR(1))."""
    keep = np.exp(-row_s / (3600 * hours))
    return np.asarray(lfilter([1], [1, -keep], np.sqrt(1 - keep**2) * rng.standard_normal(rows)))


def oven(
    begin: float, days: int, rng: np.random.Generator, faults: bool, row_s: float, noise: float, jitter_min: float, weekly: bool
) -> tuple[Frame, NDArray[np.str_]]:
    """Readings of some days, and the fault (n,) that each row lies in, "" for none."""
    times = begin + np.arange(round(days * DAY_S / row_s)) * row_s
    rows, day, hour = len(times), ((times - begin) // DAY_S).astype(int), times % DAY_S / 3600
    weekend = (times // DAY_S + 3) % 7 >= 5
    plan = [d for d in range(1, days - 1, 2) if not (weekly and weekend[day == d].any())] if faults else []
    kind_of = {d: FAULTS[number % len(FAULTS)] for number, d in enumerate(plan)}
    starts, ends = (at + rng.normal(0, jitter_min / 60, days) for at in (6.0, 22.0))
    for d, kind in kind_of.items():
        starts[d] -= 3 * (kind == "early shift")
    work = np.clip((hour - starts[day]) / 0.5, 0, 1) * np.clip((ends[day] - hour) / 0.5, 0, 1) * ~(weekend & weekly)
    load = 40 + 40 * work + noise * (2 * rng.standard_normal(rows) + 1.5 * slow(rows, 1, row_s, rng))
    heat = 20 + 5 * np.sin(2 * np.pi * hour / 24 - 2) + noise * (0.3 * rng.standard_normal(rows) + 0.7 * slow(rows, 2, row_s, rng))
    fault = np.full(rows, "", dtype="<U20")
    for d, kind in kind_of.items():
        first, last = {"early shift": (3.0, 6.0), "temperature off": (begun := rng.uniform(0, 20), begun + 4)}.get(kind, (10.0, 14.0))
        at = (day == d) & (hour >= first) & (hour < last)
        fault[at] = kind
        if kind == "temperature stands":
            heat[at] = 15.5 + 0.3 * noise * rng.standard_normal(int(at.sum()))
        elif kind == "load stands":
            load[at] = 40 + 2 * noise * rng.standard_normal(int(at.sum()))
        elif kind == "temperature off":
            heat[at] += 2.5
    pressure = 3 + 0.02 * load + 0.05 * noise * rng.standard_normal(rows)
    vibration = 1 + 0.1 * rng.standard_normal(rows) + 0.1 * slow(rows, 1, row_s, rng)
    stamps = pd.to_datetime(times, unit="s", utc=True).strftime("%Y-%m-%dT%H:%M:%SZ")
    return pd.DataFrame({"time": stamps, "temperature": heat, "load": load, "pressure": pressure, "vibration": vibration}), fault


def judged(pattern: str, seed: int, days: int, **how: Any) -> dict[str, float]:
    """Figures of one oven, learnt for `days` and judged on the fourteen after them, by the default spec for 1 % false alarms."""
    how = {"row_s": 300.0, "noise": 1.0, "jitter_min": 5.0, "weekly": False} | how
    rng, begin = np.random.default_rng(seed), MONDAY + seed * DAY_S
    train, _ = oven(begin, days, rng, False, **how)
    test, fault = oven(begin + days * DAY_S, TEST_DAYS, rng, True, **how)
    spec = SensorSpec(kind="sensor", pretrain=Pretrain(method="none"), input=SensorInput.model_validate({"pattern": pattern}))
    found = learn(spec, Path("oven.csv"), train, test)
    flagged, score = by_row(found.rows, 0, len(test), found.p)
    faulty = fault != ""
    near = np.convolve(faulty, np.ones(AFTER + 1))[: len(faulty)] > 0
    calm = ~near & (np.arange(len(faulty)) >= AFTER)
    kept = calm | faulty
    figures = {
        "roc_auc": roc_auc_score(faulty[kept], score[kept]),
        "found_in_hindsight": (score[faulty] > np.quantile(score[calm], 0.99)).mean(),
    }
    figures |= {"found": flagged[faulty].mean(), "false_alarm_rate": flagged[calm].mean()}
    figures["sensors_with_pattern"] = sum(channel.pattern is not None for channel in found.table.channels)
    return {name: float(value) for name, value in figures.items()}


def taken_for_one(seeds: int) -> dict[str, str]:
    """How many of `seeds` records of 3 and of 7 days, a row in five minutes, are said to have a pattern."""

    def of_its_own(times: Floats, rng: np.random.Generator) -> Floats:
        return np.asarray(np.sin(2 * np.pi * times / (3600 * rng.uniform(2, 13))) + 0.3 * rng.standard_normal(len(times)))

    kinds = {f"AR(1) that forgets in {hours:g} h": lambda t, r, h=hours: slow(len(t), h, 300, r) for hours in (0.1, 1, 6, 24)}
    kinds |= {"random walk": lambda t, r: np.cumsum(r.standard_normal(len(t))), "a cycle of its own, 2 to 13 h": of_its_own}
    kinds |= {"a day's sine (is one)": lambda t, r: np.sin(2 * np.pi * t / DAY_S) + r.standard_normal(len(t))}
    found = {}
    for days in (3, 7):
        times = MONDAY + np.arange(days * 288) * 300.0
        for name, make in kinds.items():
            records = (make(times, np.random.default_rng(seed)).astype(np.float32)[:, None] for seed in range(seeds))
            taken = sum(fit_patterns([Channel(name="x")], Rows(times, record), "", 300.0)[0] is not None for record in records)
            found[f"{name}, {days} days"] = f"{taken} of {seeds}"
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    result: dict[str, Any] = {"seeds": arguments.seeds, "ovens": {}, "taken_for_a_pattern": taken_for_one(25 * arguments.seeds)}
    print("\n".join(f"{name}: {taken}" for name, taken in result["taken_for_a_pattern"].items()))
    for name, how in CASES.items():
        for pattern in ("none", "auto"):
            frame = pd.DataFrame([judged(pattern, seed, **how) for seed in range(arguments.seeds)])
            figures = {column: round(float(frame[column].mean()), 4) for column in frame}
            result["ovens"].setdefault(name, {})[pattern] = figures
            print(f"{name}, {pattern}: " + ", ".join(f"{column} {value:.3f}" for column, value in figures.items()), flush=True)
    if arguments.json:
        write_text(arguments.json, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
