"""A few labelled faults of sensors: the normal-only score, and the same with the vote of one to ten of them, on other faults.

    python -m benchmarks.transfer.transfer_stretches [--skab SKAB] [--seeds 3] [--out FILE.json]

SKAB is your copy of its data folder. Each of its runs is learnt from its first 400 rows; the labelled faults are those of other runs of the
same folder, drawn at random, and the rest of the run is judged. Beside them the sample plant, with faults of other records of it, each kind
in turn, and the made-up records of `benchmarks.protocols.made`, whose first faults are labelled and whose later ones are judged.
TrAdaBoost's source: SKAB's other folder; a plant whose gains differ.

`vote`: what the vote would do if it were always taken. `kept`: with the guard, which is what a fit does. Thresholds are those for 1 % of
false alarms; a window counts as faulty if its last row is.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from anomaly.atomic import write_text
from anomaly.calibration.budget import score_threshold
from anomaly.calibration.conformal import fit_calibrator
from anomaly.calibration.dependence import independent_scores
from anomaly.data.samples.synthetic import PERIOD_S, plant
from anomaly.data.tables.labels.stretches import read_labelled
from anomaly.data.tables.windows import windows_at
from anomaly.evaluation.metrics import auroc
from anomaly.pipeline.sensor.few_labels.vote import FULL_VOTE, judge_vote, source_labels
from anomaly.pipeline.sensor.few_labels.windows import cut
from anomaly.pipeline.sensor.held_out import held_out_scores
from anomaly.pipeline.sensor.line import SensorLine
from anomaly.scorers.boosted import Rows, add_vote, evidence_of
from anomaly.spec import Pretrain, SensorInput, SensorSpec, Transfer
from benchmarks.protocols import made
from benchmarks.protocols.sensors import ANY_GAP_S, SKAB_LABELS, SKAB_TRAINING_ROWS, skab_runs

RATE = 0.01
FIGURES = ("roc_auc", "found", "false_alarms")
MADE = {"press": made.press, "AR(1)": made.remembering, "daily pattern": made.daily, "sticking valve": made.sticking}
Labels = NDArray[np.bool_]


@dataclass
class Case:
    """What a machine learns from, its labelled records, what is judged, and another machine with labels, if there is one."""

    normals: Rows
    labelled: list[tuple[Rows, Labels]]
    judged: tuple[Rows, Labels]
    source: tuple[Rows, list[tuple[Rows, Labels]]] | None = None
    period_s: float = 1.0


def write(path: Path, values: Rows, day: int, period_s: float, labels: Labels | None = None) -> None:
    frame = pd.DataFrame(values, columns=[f"s{i}" for i in range(values.shape[1])])
    start = pd.Timestamp("2026-01-01") + pd.Timedelta(days=30 * day)
    frame.insert(0, "time", pd.date_range(start, periods=len(values), freq=pd.Timedelta(seconds=period_s)))
    if labels is not None:
        frame["label"] = labels.astype(int)
    path.parent.mkdir(exist_ok=True)
    frame.to_csv(path, index=False)


def run(case: Case) -> dict[str, Any]:
    """Figures of one case. One labelled fault cannot be judged, so there is no vote."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write(folder / "train.csv", case.normals, 0, case.period_s)
        for number, (values, labels) in enumerate(case.labelled):
            write(folder / "faults" / f"{number}.csv", values, number + 1, case.period_s, labels)
        named: dict[str, Any] = {"faults": folder / "faults"}
        if case.source is not None:
            write(folder / "other.csv", case.source[0], 0, case.period_s)
            for number, (values, labels) in enumerate(case.source[1]):
                write(folder / "theirs" / f"{number}.csv", values, number + 1, case.period_s, labels)
            named |= {"normals": folder / "other.csv", "source_faults": folder / "theirs"}
        spec = SensorSpec(
            kind="sensor", pretrain=Pretrain(method="none"), input=SensorInput(max_gap_s=ANY_GAP_S), transfer=Transfer(**named)
        )
        return _figures(SensorLine(spec, folder / "train.csv"), case)


def _figures(line: SensorLine, case: Case) -> dict[str, Any]:
    spec, readings, rows = line.spec, line.readings, line.readings.window
    extractor, normals = readings.extractor(), readings.normals
    assert spec.transfer.faults is not None
    faults = cut(read_labelled(spec.transfer.faults, spec.input, readings.tables, []), readings.tables, rows)
    scorer = held_out_scores(spec, normals, extractor, normals.features(extractor)).scorer
    offset = np.array([channel.offset for channel in readings.tables[0].channels])
    values, labels = case.judged
    ends = np.arange(rows - 1, len(values))
    maps = normals.features(extractor, windows_at((values - offset).astype(np.float32), ends, rows))
    with torch.inference_mode():
        score, evidence = scorer(maps)[0].double().numpy(), evidence_of(scorer, maps).double().numpy()
    if len(faults.names) < 2:
        return {"faults": len(faults.names), "verdict": "cannot be judged"}
    source = source_labels(readings, extractor) if case.source is not None else None
    judged = judge_vote(spec, normals, extractor, faults, source)
    own = judged.alone[: len(normals.windows)]
    step = FULL_VOTE * float(own.std())
    held_out = add_vote(own, judged.share[: len(own)], step, judged.floor)
    both = add_vote(score, judged.vote.share(evidence), step, judged.floor)
    alone, vote = (_judge(scores, held, labels[ends]) for scores, held in ((score, own), (both, held_out)))
    return {
        "faults": len(faults.names),
        "verdict": "kept" if judged.kept else "not kept",
        "learner": judged.report["vote"],
        "gain_held_out": judged.report["over_normal_only"]["gain"],
        "alone": alone,
        "vote": vote,
        "kept": vote if judged.kept else alone,
    }


def _judge(scores: Rows, held_out: Rows, labels: Labels) -> dict[str, float]:
    threshold = score_threshold(fit_calibrator(held_out, independent_scores([held_out]), in_time=True), RATE)
    flagged = scores > threshold
    return {
        "roc_auc": auroc(labels, scores) or 0.0,
        "found": float(flagged[labels].mean()),
        "false_alarms": float(flagged[~labels].mean()),
    }


# --- the records ---


def skab_cases(data: Path, folder: str, count: int, *, source: bool = False) -> Iterator[Case]:
    """Each run of a folder as the machine, with the faults of `count` other runs of it."""

    def read(path: Path) -> tuple[Rows, Labels]:
        frame = pd.read_csv(path, sep=";")
        return frame.drop(columns=["datetime", *SKAB_LABELS]).to_numpy(float), frame["anomaly"].to_numpy() > 0

    runs = {name: [read(p) for p in skab_runs(data) if p.parent.name == name] for name in ("valve2", "other")}
    runs = {name: [one for one in each if not one[1][:SKAB_TRAINING_ROWS].any()] for name, each in runs.items()}
    elsewhere = runs["other" if folder == "valve2" else "valve2"]
    for index, (values, labels) in enumerate(runs[folder]):
        rng = np.random.default_rng(index)
        others = rng.permutation([i for i in range(len(runs[folder])) if i != index])[:count]
        theirs = elsewhere[int(rng.integers(len(elsewhere)))]
        yield Case(
            values[:SKAB_TRAINING_ROWS],
            [runs[folder][i] for i in others],
            (values[SKAB_TRAINING_ROWS:], labels[SKAB_TRAINING_ROWS:]),
            (theirs[0][:SKAB_TRAINING_ROWS], elsewhere) if source else None,
        )


def plant_case(count: int, seed: int, *, source: bool = False) -> Case:
    """The sample plant with `count` labelled faults, and three records of five faults to judge."""

    def record(number: int, kind: int, gain: float = 1.0) -> tuple[Rows, Labels]:
        frame = plant(4000, np.random.default_rng([kind, seed, number]), faults=True)
        return frame.iloc[:, 1:9].to_numpy(float) * gain, frame["anomaly"].to_numpy() > 0

    def normal(number: int, gain: float = 1.0) -> Rows:
        return plant(6000, np.random.default_rng(number + seed)).iloc[:, 1:9].to_numpy(float) * gain

    labelled = [record(number, 7) for number in range(-(-count // 5))]
    if count % 5:
        values, labels = labelled[-1]
        labelled[-1] = values[: 800 * (count % 5)], labels[: 800 * (count % 5)]
    judged = [record(number, 9) for number in range(3)]
    theirs = (normal(4052, 1.3), [record(number, 11, 1.3) for number in range(4)]) if source else None
    whole = np.concatenate([values for values, _ in judged]), np.concatenate([labels for _, labels in judged])
    return Case(normal(2026), labelled, whole, theirs, PERIOD_S)


def made_case(record: Any, count: int, seed: int) -> Case | None:
    """A made-up record whose first `count` faults are labelled, or half of them where it has fewer; None for fewer than six."""
    values, labels, learnt = record(seed=seed)
    change = np.diff(np.concatenate([[0], labels.astype(int), [0]]))
    begins, stops = np.flatnonzero(change == 1), np.flatnonzero(change == -1)
    count = min(count, len(begins) // 2)
    if count < 3:
        return None
    middle = (stops[count - 1] + begins[count]) // 2
    return Case(values[:learnt], [(values[learnt:middle], labels[learnt:middle])], (values[middle:], labels[middle:]))


def cases(skab: Path | None, seeds: int) -> Iterator[tuple[str, list[Case]]]:
    """Every record with every number of labels."""
    for count in (1, 5, 10):
        yield f"plant, {count}", [plant_case(count, seed) for seed in range(seeds)]
    if skab is not None:
        yield "SKAB valve2, 1", list(skab_cases(skab, "valve2", 1))
        yield "SKAB valve2, 2", list(skab_cases(skab, "valve2", 2))
        yield "SKAB other, 4", list(skab_cases(skab, "other", 4))
        yield "SKAB valve2, 2, TrAdaBoost", list(skab_cases(skab, "valve2", 2, source=True))
    for name, record in MADE.items():
        yield f"{name}, 8", [one for one in (made_case(record, 8, seed) for seed in range(seeds)) if one is not None]
    yield "plant, 5, TrAdaBoost", [plant_case(5, seed, source=True) for seed in range(seeds)]


def mean_of(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over draws, and the 95 % interval of what a vote changes, by the bootstrap over draws."""
    rows = [row for row in rows if "alone" in row]
    if not rows:
        return {"verdict": "cannot be judged"}
    table: dict[str, Any] = {"draws": len(rows), "kept": sum(row["verdict"] == "kept" for row in rows)}
    table["tradaboost"] = sum(row["learner"] == "tradaboost" for row in rows)
    rng = np.random.default_rng(0)
    drawn = rng.integers(len(rows), size=(2000, len(rows)))
    for way in ("alone", "vote", "kept"):
        table[f"{way} "] = {figure: float(np.mean([row[way][figure] for row in rows])) for figure in FIGURES}
    for figure in FIGURES:
        apart = np.array([row["kept"][figure] - row["alone"][figure] for row in rows])
        table[f"change of {figure}"] = [float(apart.mean()), *map(float, np.percentile(apart[drawn].mean(axis=1), [2.5, 97.5]))]
    return table


def main(arguments: list[str] | None = None) -> None:
    """Run, print, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--skab", type=Path, help="your copy of SKAB's data folder")
    parser.add_argument("--seeds", type=int, default=3, help="draws of what is made up")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/transfer/transfer_stretches.json"))
    given = parser.parse_args(arguments)
    found: dict[str, Any] = {}
    for name, each in cases(given.skab, given.seeds):
        rows = [run(case) for case in each]
        found[name] = {"means": mean_of(rows), "draws": rows}
        print(name, json.dumps(found[name]["means"]), flush=True)
        write_text(given.out, json.dumps(found, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
