"""What sensor detectors promise beyond a leaderboard: dirty normals, the alarm budget, the sensor at fault.

    python -m benchmarks.sensor.sensors --skab SKAB [--seeds 5] [--out FILE.json]

SKAB is the folder of its runs. Default spec, without the encoder.
Contamination: windows of the record's own fault stand among the normals, in a table of their own, and leave the test.
Budget: SKAB's long normal record is learnt from its first half, alarms are counted in the second; and so for shorter stretches of it.
Contribution: synthetic faults of one sensor on readings of the sample plant that were not learnt from.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import t as student
from sklearn.metrics import roc_auc_score

from anomaly.atomic import write_text
from anomaly.data.samples.synthetic import PLANT_SENSORS, plant
from anomaly.data.tables.faults import KINDS, inject
from anomaly.data.tables.files import table_schema
from anomaly.data.tables.reader import read_table
from anomaly.data.tables.windows import score_table, window_ends, windows_at
from anomaly.evaluation.figures import by_row
from anomaly.evaluation.ranges import onsets
from anomaly.features.tensors import load_tensors
from anomaly.pipeline.sensor.line import SensorLine
from anomaly.pipeline.steps import Steps
from anomaly.scorers.sensors.choice import LEVEL_ROWS
from anomaly.scorers.suspects import is_outlier
from anomaly.spec import Budget, Pretrain, SensorScorerSpec, SensorSpec
from benchmarks.protocols.sensors import SKAB_LABELS, SKAB_TRAINING_ROWS, learn_and_score, skab_runs

SPEC = SensorSpec(kind="sensor", pretrain=Pretrain(method="none"))
LEAVE_OUT = SPEC.model_copy(update={"scorer": SensorScorerSpec(suspects="leave_out")})
CUTS = ((0, 1 / 2, 1), (0, 1 / 4, 1 / 2), (1 / 4, 1 / 2, 3 / 4), (1 / 2, 3 / 4, 1), (0, 1 / 3, 2 / 3), (1 / 3, 2 / 3, 1))  # of the record
Frame = pd.DataFrame


def fitted(spec: SensorSpec, tables: dict[str, Frame], scratch: Path) -> Steps:
    """Steps on normal tables."""
    data = scratch / "data"
    data.mkdir()
    for name, frame in tables.items():
        frame.to_csv(data / f"{name}.csv", index=False)
    return Steps(SensorLine(spec, data), scratch / "work")


def scores(steps: Steps, frame: Frame, scratch: Path) -> NDArray[np.float64]:
    """The score of every row of a table; rows that end no window rank lowest."""
    path = scratch / "test.csv"
    frame.to_csv(path, index=False)
    found = score_table(steps.detector().run, read_table(path, table_schema(SPEC.input)), steps.line.input_schema().window or 1)
    return by_row(found, 0, len(frame), 0.0)[1]


def one_contamination(train: Frame, test: Frame, label: NDArray[np.bool_], share: float, start: int) -> dict[str, float]:
    """ROC-AUC learnt clean and with `share` faulty windows among the normals, on the same test rows; suspects' precision and recall.

    Both with suspects learnt, as by default, and left out.
    """
    window = LEVEL_ROWS
    count = int(share / (1 - share) * (len(train) - window + 1))
    taken = np.arange(start, start + count + window - 1)
    assert label[taken].all(), "the fault is too short"
    kept = np.ones(len(test), dtype=bool)
    kept[taken] = False
    dirty = test.iloc[taken]
    results: dict[str, float] = {"share": count / (count + len(train) - window + 1)}
    for name, tables in {"clean": {"train1": train}, "dirty": {"train1": train, "train2": dirty}}.items():
        for suffix, spec in {"": SPEC, "_left_out": LEAVE_OUT}.items():
            with tempfile.TemporaryDirectory() as scratch:
                steps = fitted(spec, tables, Path(scratch))
                score = scores(steps, test, Path(scratch))
                results[f"roc_auc_{name}{suffix}"] = float(roc_auc_score(label[kept], score[kept]))
                if name == "dirty" and not suffix:
                    results |= suspects(steps, len(train) - window + 1)
    return results


def suspects(steps: Steps, clean: int) -> dict[str, float]:
    """Precision and recall of the windows that stand out; the first `clean` windows are normal, the rest faulty."""
    held_out = load_tensors(steps.fit())[0]["held_out"]
    found = is_outlier(held_out).numpy()
    right = int(found[clean:].sum())
    return {"suspects": int(found.sum()), "precision": right / max(1, int(found.sum())), "recall": right / (len(found) - clean)}


def contamination(skab: Path, seeds: int) -> dict[str, Any]:
    """5 and 10 % of the windows, on SKAB's runs (but other/2, whose own rows are dirty) and on the sample plant."""
    result: dict[str, Any] = {}
    for share in (0.05, 0.1):
        runs = []
        for path in skab_runs(skab):
            frame = pd.read_csv(path, sep=";")
            label = frame["anomaly"].to_numpy()[SKAB_TRAINING_ROWS:] > 0
            if frame["anomaly"][:SKAB_TRAINING_ROWS].any():
                continue
            sensors = frame.drop(columns=list(SKAB_LABELS))
            train, test = sensors[:SKAB_TRAINING_ROWS], sensors[SKAB_TRAINING_ROWS:].reset_index(drop=True)
            runs.append(one_contamination(train, test, label, share, int(np.flatnonzero(label)[0]) + 40))
        result[f"skab_{share}"] = summary(runs)
        runs = []
        for seed in range(seeds):
            rng = np.random.default_rng(seed)
            train = plant(6000, rng).drop(columns=["anomaly", "fault_kind"])
            test = plant(10_000, rng, faults=True, start="2026-01-12T06:00:00Z")
            label = test["anomaly"].to_numpy() > 0
            start = int(np.flatnonzero(test["fault_kind"] == "leak")[0])
            runs.append(one_contamination(train, test.drop(columns=["anomaly", "fault_kind"]), label, share, start))
        result[f"plant_{share}"] = summary(runs)
    return result


def summary(runs: list[dict[str, float]]) -> dict[str, Any]:
    """Means over runs, and the loss of ROC-AUC with its 95 % interval (Student's t, paired)."""
    found: dict[str, Any] = {"runs": len(runs), **{name: float(np.mean([r[name] for r in runs])) for name in runs[0]}}
    for loss in ("dirty", "dirty_left_out", "clean_left_out"):
        lost = np.array([r["roc_auc_clean"] - r[f"roc_auc_{loss}"] for r in runs])
        half = float(student.ppf(0.975, len(lost) - 1)) * float(lost.std(ddof=1)) / len(lost) ** 0.5
        found[f"loss_{loss}"] = float(lost.mean())
        found[f"loss_{loss}_ci95"] = [float(lost.mean()) - half, float(lost.mean()) + half]
    return found


def budget(skab: Path) -> dict[str, Any]:
    """Alarms in later parts of SKAB's normal record, learnt from the part before, for two budgets."""
    path = skab / "anomaly-free" / "anomaly-free.csv"
    frame = pd.read_csv(path, sep=";")
    result: dict[str, Any] = {}
    for name, per_day in {"1 an hour": 24.0, "1 in 10 minutes": 144.0}.items():
        spec = SPEC.model_copy(update={"budget": Budget(false_alarms_per_day=per_day)})
        cuts = {}
        for first, learnt, last in CUTS:
            start, stop = round(first * len(frame)), round(last * len(frame))
            part, half = frame[start:stop].reset_index(drop=True), round(learnt * len(frame)) - start
            scored, table, p = learn_and_score(spec, path, part.head(half), part)
            flagged, _ = by_row(scored, half, len(part), p)
            hours = float(table.times[-1] - table.times[half]) / 3600
            cuts[f"{first:.2f} to {learnt:.2f}, then to {last:.2f}"] = {
                "hours": hours,
                "asked": per_day / 24 * hours,
                "alarms": int(onsets(flagged, LEVEL_ROWS).sum()),
                "flagged_share": float(flagged.mean()),
                "p_value": p,
            }
        result[name] = {"cuts": cuts, **{total: sum(cut[total] for cut in cuts.values()) for total in ("asked", "alarms")}}
    return result


def contribution(seeds: int, each: int = 400) -> dict[str, Any]:
    """How often the sensor at fault has the largest, or one of the two largest, shares: all synthetic faults, and the flagged ones."""
    ranks, flags, kinds = [], [], []
    for seed in range(seeds):
        rng = np.random.default_rng([seed, 1])
        train, test = (plant(6000, rng).drop(columns=["anomaly", "fault_kind"]) for _ in range(2))
        with tempfile.TemporaryDirectory() as scratch:
            steps = fitted(SPEC, {"train": train}, Path(scratch))
            detector, p = steps.detector(), steps.threshold().p_value
            path = Path(scratch) / "t.csv"
            test.to_csv(path, index=False)
            table, rows = read_table(path, table_schema(SPEC.input)), steps.line.input_schema().window or 1
        ends = window_ends(table.times, table.usable, rows, table.max_gap_s)
        windows = windows_at(table.values, rng.choice(ends, each, replace=False), rows)
        spread = (np.nanquantile(table.values, 0.84, axis=0) - np.nanquantile(table.values, 0.16, axis=0)) / 2
        for window in windows:
            kind = KINDS[len(kinds) % len(KINDS)]
            faulty, sensor = inject(window, rng, spread.astype(np.float32), kind)
            _, p_value, share = detector.run(faulty[None])
            ranks.append(int((share[0] > share[0, sensor]).sum()))
            flags.append(float(p_value[0]) <= p)
            kinds.append(kind)
    rank, flag, kind_of = np.array(ranks), np.array(flags), np.array(kinds)
    figures: dict[str, Any] = {"faults": len(rank), "sensors": len(PLANT_SENSORS), "all": _ranked(rank), "flagged": _ranked(rank[flag])}
    figures["by_kind_flagged"] = {k: _ranked(rank[flag & (kind_of == k)]) for k in KINDS}
    return figures


def _ranked(ranks: NDArray[np.int64]) -> dict[str, float]:
    return {"n": len(ranks), "first": float((ranks == 0).mean()), "first_two": float((ranks <= 1).mean())} if len(ranks) else {"n": 0}


def main() -> None:
    """Run all parts and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--skab", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/sensor/sensors.json"))
    arguments = parser.parse_args()
    figures: dict[str, Any] = {"budget": budget(arguments.skab), "contribution": contribution(arguments.seeds)}
    print(json.dumps(figures, indent=1), flush=True)
    figures["contamination"] = contamination(arguments.skab, arguments.seeds)
    write_text(arguments.out, json.dumps(figures, indent=1, sort_keys=True) + "\n")
    print(json.dumps(figures["contamination"], indent=1, sort_keys=True))


if __name__ == "__main__":
    main()
