"""The alarm rules against those of version 0.8.0: precision of alarms, share of faults alarmed, delay. Process alarms only.

    python -m benchmarks.alarms.alarm_rules [--skab SKAB] [--tsb TSB] [--days 30] [--json FILE]

SKAB is the folder of its runs: the first 400 rows of each are learnt from, the rest is judged. TSB holds files in TSB-AD's form. Beside
them: a press whose strokes change shape, noise that remembers (AR(1)), a daily pattern, and a simulated month of the sample plant with one
of each kind of fault on every third day. Before: an alarm opens at once and closes after one calm window. Now: the delays that a spec which
is silent gets. And with an on-delay of a whole window, to show what that would cost.
"""

from __future__ import annotations

import argparse
import json
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
from anomaly.spec import Budget, Pretrain, SensorSpec
from benchmarks.protocols import records
from benchmarks.protocols.records import Record
from benchmarks.protocols.sensors import learn_and_score, row_after_row

WINDOW = 30
NO_PRETRAINING = SensorSpec(kind="sensor", pretrain=Pretrain(method="none"))
PLANT = NO_PRETRAINING.model_copy(update={"budget": Budget(false_alarms_per_day=1)})
ROWS_A_DAY = int(86_400 / PERIOD_S)
MADE = ("press", "AR(1)", "daily pattern")
Scored = list[tuple[Run, float]]  # runs, each with the p-value at which a row is flagged


def run_of(rows: pd.DataFrame, label: NDArray[Any]) -> Run:
    columns = (rows[name].to_numpy(np.float32) for name in ("p_value", "score"))
    return Run(rows["time"].to_numpy(np.float64), *columns, rows.filter(like="share:").to_numpy(np.float32), label)


def scored(record: Record) -> tuple[Run, float]:
    """A record's rows that were not learnt from, scored."""
    spec = row_after_row(NO_PRETRAINING) if record.row_after_row else NO_PRETRAINING
    rows, _, p = learn_and_score(spec, Path("series.csv"), record.train, record.whole)
    rows = rows[rows["row"] >= record.first]
    return run_of(rows, record.labels[rows["row"]]), p


def plant_month(days: int) -> Scored:
    train = plant(6000, np.random.default_rng(2026)).drop(columns=["anomaly", "fault_kind"])
    starts = pd.date_range("2026-02-01", periods=days, freq="D", tz="UTC").strftime("%Y-%m-%dT%H:%M:%SZ")
    parts = [plant(ROWS_A_DAY, np.random.default_rng([7, d]), faults=d % 3 == 2, start=start) for d, start in enumerate(starts)]
    frame = pd.concat(parts, ignore_index=True)
    rows, _, p = learn_and_score(PLANT, Path("plant.csv"), train, frame.drop(columns=["anomaly", "fault_kind"]))
    return [(run_of(rows, frame["anomaly"].to_numpy()[rows["row"]] > 0), p)]


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
        figures["SKAB"] = compare([scored(record) for record in records.skab(given.skab)])
    if given.tsb:
        figures |= {record.name[:15]: compare([scored(record)]) for record in records.tsb_ad(given.tsb)}
    figures |= {name: compare([scored(records.of_rows(name, *records.MADE[name](), name))]) for name in MADE}
    if given.days:
        figures[f"plant, {given.days} days"] = compare(plant_month(given.days), PERIOD_S)
    for name, ways in figures.items():
        for when, one in ways.items():
            told = f"{one['alarms']} alarms, precision {one['precision'] or 0:.2f}, {one['faults_alarmed']} of {one['faults']} faults"
            print(f"{name}, {when}: {told}, delay {one['median_delay_s']} s", flush=True)
    if given.json:
        write_text(given.json, json.dumps(figures, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
