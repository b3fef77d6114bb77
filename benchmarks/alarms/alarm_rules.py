"""The alarm rules against those of version 0.8.0: precision of alarms, share of faults alarmed, delay. Process alarms only.

    python -m benchmarks.alarms.alarm_rules [--skab SKAB] [--tsb TSB] [--days 30] [--json FILE]

SKAB is the folder of its runs: the first 400 rows of each are learnt from, the rest is judged. TSB holds files in TSB-AD's form. Beside
them: a press whose strokes change shape, noise that remembers (AR(1)), a daily pattern, and a simulated month of the sample plant with one
of each kind of fault on every third day. Before: an alarm opens at once and closes after one calm window. Now: the delays that a spec which
is silent gets. And with an on-delay of a whole window, to show what that would cost. A spec's `context` is 0 but where it is said.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from anomaly.alarms.life import Settings
from anomaly.alarms.process import Rules
from anomaly.alarms.replay import Run, replay
from anomaly.atomic import write_text
from anomaly.data.samples.synthetic import PERIOD_S, plant
from anomaly.data.tables.conversion import LABEL, tsb_ad_parts
from anomaly.spec import Budget, Pretrain, SensorScorerSpec, SensorSpec
from benchmarks.protocols.sensors import SKAB_LABELS, SKAB_TRAINING_ROWS, learn_and_score, row_after_row, skab_runs

WINDOW = 30
NO_PRETRAINING = SensorSpec(kind="sensor", pretrain=Pretrain(method="none"))
PLANT = NO_PRETRAINING.model_copy(update={"scorer": SensorScorerSpec(method="gaussian"), "budget": Budget(false_alarms_per_day=1)})
ROWS_A_DAY = int(86_400 / PERIOD_S)
Floats = NDArray[np.float64]
Labels = NDArray[np.bool_]
Scored = list[tuple[Run, float]]  # runs, each with the p-value at which a row is flagged


def run_of(scored: pd.DataFrame, label: NDArray[Any]) -> Run:
    columns = (scored[name].to_numpy(np.float32) for name in ("p_value", "score"))
    return Run(scored["time"].to_numpy(np.float64), *columns, scored.filter(like="share:").to_numpy(np.float32), label)


def without_context(spec: SensorSpec, context: int = 0) -> SensorSpec:
    return spec.model_copy(update={"input": spec.input.model_copy(update={"context": context})})


def skab(data: Path, context: int) -> Iterator[tuple[Run, float]]:
    spec = without_context(row_after_row(NO_PRETRAINING), context)
    for path in skab_runs(data):
        frame = pd.read_csv(path, sep=";")
        values = frame.drop(columns=list(SKAB_LABELS))
        scored, _, p = learn_and_score(spec, path, values.head(SKAB_TRAINING_ROWS), values)
        scored = scored[scored["row"] >= SKAB_TRAINING_ROWS]
        yield run_of(scored, frame["anomaly"].to_numpy()[scored["row"]] > 0), p


def series(values: Floats, labels: Labels, learnt: int) -> tuple[Run, float]:
    """A record at a row a second, of which the first rows are learnt from."""
    frame = pd.DataFrame(values, columns=[f"s{i}" for i in range(values.shape[1])])
    frame.insert(0, "time", np.arange(len(values), dtype=float))
    scored, _, p = learn_and_score(without_context(NO_PRETRAINING), Path("series.csv"), frame.head(learnt), frame)
    scored = scored[scored["row"] >= learnt]
    return run_of(scored, labels[scored["row"]]), p


def tsb(data: Path) -> Iterator[tuple[str, Scored]]:
    for path in sorted(data.glob("*.csv")):
        train, frame = tsb_ad_parts(path)
        yield path.stem[:15], [series(frame.drop(columns=["time", LABEL]).to_numpy(float), frame[LABEL].to_numpy() > 0, len(train))]


def press(strokes: int = 400, judged: int = 200) -> tuple[Floats, Labels, int]:
    """Strokes of 40 rows, 3 sensors. Faults change a stroke's shape: a double peak, a late peak, a mirrored current."""
    rng, t = np.random.default_rng(0), np.arange(40) / 40

    def stroke(fault: int | None) -> Floats:
        size, late = rng.normal(1, 0.03), rng.normal(0, 0.01)

        def peak(at: float) -> Floats:
            return np.exp(-(((t - at - late) / 0.08) ** 2)) * size

        force = {0: 0.52 * (peak(0.42) + peak(0.6)), 1: peak(0.62)}.get(-1 if fault is None else fault, peak(0.5))
        current = np.sin(2 * np.pi * (t - late)) * 0.5 * size + 0.2
        way = np.clip((t - 0.3) / 0.4, 0, 1) * size
        return np.stack([force, way, current[::-1] if fault == 2 else current], axis=1) + rng.normal(0, 0.02, (40, 3))

    faults = [None] * strokes + [int(rng.integers(3)) if rng.random() < 0.15 else None for _ in range(judged)]
    return np.concatenate([stroke(f) for f in faults]), np.repeat([f is not None for f in faults], 40), 40 * strokes


def remembering(rows: int = 6000, learnt: int = 3000) -> tuple[Floats, Labels, int]:
    """AR(1) of 0.95, 4 sensors. Faults: a sensor is three standard deviations too high for 60 rows."""
    rng = np.random.default_rng(0)
    values, pushes = np.zeros((rows, 4)), rng.normal(size=(rows, 4)) * np.sqrt(1 - 0.95**2)
    for i in range(1, rows):
        values[i] = 0.95 * values[i - 1] + pushes[i]
    labels = np.zeros(rows, bool)
    for start in range(learnt + 200, rows - 200, 400):
        labels[start : start + 60] = True
        values[start : start + 60, rng.integers(4)] += 3
    return values, labels, learnt


def daily(days: int = 20, learnt: int = 10, rows: int = 288) -> tuple[Floats, Labels, int]:
    """A daily pattern, 2 sensors. Faults of 30 rows a day: the first sensor stands still, the second is higher by one."""
    rng, t = np.random.default_rng(0), np.arange(days * rows) / rows
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


def plant_month(days: int) -> Scored:
    train = plant(6000, np.random.default_rng(2026)).drop(columns=["anomaly", "fault_kind"])
    starts = pd.date_range("2026-02-01", periods=days, freq="D", tz="UTC").strftime("%Y-%m-%dT%H:%M:%SZ")
    parts = [plant(ROWS_A_DAY, np.random.default_rng([7, d]), faults=d % 3 == 2, start=start) for d, start in enumerate(starts)]
    frame = pd.concat(parts, ignore_index=True)
    scored, _, p = learn_and_score(PLANT, Path("plant.csv"), train, frame.drop(columns=["anomaly", "fault_kind"]))
    return [(run_of(scored, frame["anomaly"].to_numpy()[scored["row"]] > 0), p)]


def compare(found: Scored, period_s: float = 1.0) -> dict[str, Any]:
    runs, p, window_s = [run for run, _ in found], found[0][1], WINDOW * period_s
    bare = [Run(run.times, run.p_values, run.scores, None, run.faulty) for run in runs]
    figures = {"before": _shares(replay(Rules(Settings(threshold=p, off_delay_s=window_s)), bare))}
    for name, rows in (("now", WINDOW // 6 - 1), ("a whole window", WINDOW)):
        settings = Settings(threshold=p, on_delay_s=rows * period_s, off_delay_s=3 * window_s)
        figures[name] = _shares(replay(Rules(settings, window_s), runs))
    return figures


def _shares(figures: dict[str, Any]) -> dict[str, Any]:
    right = figures["alarms"] - figures["false_alarms"]
    return figures | {"right": right, "precision": right / figures["alarms"] if figures["alarms"] else None}


def main(arguments: list[str] | None = None) -> None:
    """Run, print, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--skab", type=Path, help="your copy of SKAB's data folder")
    parser.add_argument("--tsb", type=Path, help="a folder of files in TSB-AD's form")
    parser.add_argument("--days", type=int, default=30, help="of the simulated plant, 0 for none")
    parser.add_argument("--json", type=Path, help="where the figures go")
    given = parser.parse_args(arguments)
    figures: dict[str, Any] = {}
    if given.skab:
        figures |= {f"SKAB, context {context}": compare(list(skab(given.skab, context))) for context in (200, 0)}
    if given.tsb:
        figures |= {name: compare(found) for name, found in tsb(given.tsb)}
    made = {"press": press(), "AR(1)": remembering(), "daily pattern": daily()}
    figures |= {name: compare([series(*record)]) for name, record in made.items()}
    if given.days:
        figures[f"plant, {given.days} days, context 200"] = compare(plant_month(given.days), PERIOD_S)
    for name, ways in figures.items():
        for when, one in ways.items():
            told = f"{one['alarms']} alarms, precision {one['precision'] or 0:.2f}, {one['faults_alarmed']} of {one['faults']} faults"
            print(f"{name}, {when}: {told}, delay {one['median_delay_s']} s", flush=True)
    if given.json:
        write_text(given.json, json.dumps(figures, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
