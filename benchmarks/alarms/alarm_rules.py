"""The alarm rules against those of version 0.8.0: precision of alarms, share of faults alarmed, delay. Process alarms only.

    python -m benchmarks.alarms.alarm_rules --skab SKAB [--days 30] [--json FILE]

SKAB is the folder of its runs: the first 400 rows of each are learnt from, the rest is judged. The plant is a simulated month by the sample
generator, with one of each kind of fault on every third day. Before: an alarm opens at once and closes after one calm window.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from anomaly.alarms.life import Settings
from anomaly.alarms.process import Rules
from anomaly.alarms.replay import Run, replay
from anomaly.atomic import write_text
from anomaly.data.samples.synthetic import PERIOD_S, plant
from anomaly.spec import Budget, Pretrain, SensorScorerSpec, SensorSpec
from benchmarks.protocols.sensors import SKAB_LABELS, SKAB_TRAINING_ROWS, learn_and_score, row_after_row, skab_runs

NO_PRETRAINING = SensorSpec(kind="sensor", pretrain=Pretrain(method="none"))
PLANT = NO_PRETRAINING.model_copy(update={"scorer": SensorScorerSpec(method="gaussian"), "budget": Budget(false_alarms_per_day=1)})
ROWS_A_DAY = int(86_400 / PERIOD_S)


def run_of(scored: pd.DataFrame, label: np.ndarray[Any, Any]) -> Run:
    columns = (scored[name].to_numpy(np.float32) for name in ("p_value", "score"))
    return Run(scored["time"].to_numpy(np.float64), *columns, scored.filter(like="share:").to_numpy(np.float32), label)


def skab(data: Path, context: int) -> Iterator[tuple[Run, float]]:
    spec = row_after_row(NO_PRETRAINING)
    spec = spec.model_copy(update={"input": spec.input.model_copy(update={"context": context})})
    for path in skab_runs(data):
        frame = pd.read_csv(path, sep=";")
        values = frame.drop(columns=list(SKAB_LABELS))
        scored, _, p = learn_and_score(spec, path, values.head(SKAB_TRAINING_ROWS), values)
        scored = scored[scored["row"] >= SKAB_TRAINING_ROWS]
        yield run_of(scored, frame["anomaly"].to_numpy()[scored["row"]] > 0), p


def plant_month(days: int) -> Iterator[tuple[Run, float]]:
    train = plant(6000, np.random.default_rng(2026)).drop(columns=["anomaly", "fault_kind"])
    starts = pd.date_range("2026-02-01", periods=days, freq="D", tz="UTC").strftime("%Y-%m-%dT%H:%M:%SZ")
    parts = [plant(ROWS_A_DAY, np.random.default_rng([7, d]), faults=d % 3 == 2, start=start) for d, start in enumerate(starts)]
    frame = pd.concat(parts, ignore_index=True)
    scored, _, p = learn_and_score(PLANT, Path("plant.csv"), train, frame.drop(columns=["anomaly", "fault_kind"]))
    yield run_of(scored, frame["anomaly"].to_numpy()[scored["row"]] > 0), p


def compare(found: list[tuple[Run, float]], window_s: float) -> dict[str, Any]:
    runs, p = [run for run, _ in found], found[0][1]
    bare = [Run(run.times, run.p_values, run.scores, None, run.faulty) for run in runs]
    before = replay(Rules(Settings(threshold=p, off_delay_s=window_s)), bare)
    after = replay(Rules(Settings(threshold=p, on_delay_s=window_s, off_delay_s=3 * window_s), window_s), runs)
    return {"before": _shares(before), "after": _shares(after)}


def _shares(figures: dict[str, Any]) -> dict[str, Any]:
    right = figures["alarms"] - figures["false_alarms"]
    return figures | {"precision": right / figures["alarms"] if figures["alarms"] else None}


def main(arguments: list[str] | None = None) -> None:
    """Run, print, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--skab", type=Path, help="your copy of SKAB's data folder")
    parser.add_argument("--days", type=int, default=30, help="of the simulated plant, 0 for none")
    parser.add_argument("--json", type=Path, help="where the figures go")
    given = parser.parse_args(arguments)
    figures: dict[str, Any] = {}
    if given.skab:
        figures |= {f"skab, context {context}": compare(list(skab(given.skab, context)), 30.0) for context in (200, 0)}
    if given.days:
        figures[f"plant, {given.days} days"] = compare(list(plant_month(given.days)), 30 * PERIOD_S)
    for name, both in figures.items():
        for when, one in both.items():
            told = f"{one['alarms']} alarms, precision {one['precision'] or 0:.2f}, {one['faults_alarmed']} of {one['faults']} faults"
            print(f"{name}, {when}: {told}, delay {one['median_delay_s']} s")
    if given.json:
        write_text(given.json, json.dumps(figures, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
