"""SKAB and NAB as their authors judge them: one spec for every series, and no label is seen while learning.

    python -m benchmarks.protocols.sensors skab|nab --data FOLDER --json FILE
        [--spec SPEC.toml] [--records FOLDER] [--extractor FILE] [--rate 0.05]

FOLDER is your copy of the benchmark's data folder, as its repository lays it out. `--records` are normal records of the same kind of
machine ([calibration] records); `--rate` is the false-alarm rate asked for ([budget] false_alarm_rate); `--extractor` comes from
`anomaly pretrain` and is used for every series.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from anomaly.alarms.life import Settings
from anomaly.alarms.process import Rules
from anomaly.atomic import write_text
from anomaly.data.files import TABLES, find_files
from anomaly.data.tables.files import table_schema
from anomaly.data.tables.reader import SensorTable, read_table
from anomaly.data.tables.windows import score_table
from anomaly.errors import AnomalyError, DataError
from anomaly.evaluation import metrics
from anomaly.evaluation.figures import by_row
from anomaly.evaluation.ranges import PROFILES, affiliation, nab_probation, nab_score, onsets, point_adjusted, skab_nab
from anomaly.evaluation.vus import vus
from anomaly.export.detector import Detector
from anomaly.pipeline.sensor.line import SensorLine
from anomaly.pipeline.steps import Steps
from anomaly.progress import Progress
from anomaly.schema import AlarmSettings
from anomaly.spec import Budget, SensorSpec, read_spec

SKAB_TRAINING_ROWS = 400
SKAB_LABELS = ("anomaly", "changepoint")
ANY_GAP_S = 3e8  # ten years: longer than any record
Frame = pd.DataFrame


def benchmark_skab(spec: SensorSpec, data: Path, extractor: Path | None, progress: Progress) -> dict[str, Any]:
    """SKAB (github.com/waico/SKAB): each run's first 400 rows are learnt from, unlabelled, and all later rows of all runs are judged."""
    spec = row_after_row(spec)
    rows, runs, changes = [], {}, []
    for path in skab_runs(data):
        frame = pd.read_csv(path, sep=";")
        if not set(SKAB_LABELS) <= set(frame):
            raise DataError(f"{path}: no columns {', '.join(SKAB_LABELS)}; SKAB's files have them (v0.9, folders other, valve1, valve2)")
        name = f"{path.parent.name}/{path.stem}"
        values = frame.drop(columns=list(SKAB_LABELS))
        scored, table, p = learn_and_score(spec, path, values.head(SKAB_TRAINING_ROWS), values, extractor)
        label = frame["anomaly"].to_numpy()[SKAB_TRAINING_ROWS:] > 0
        flagged, score = by_row(scored, SKAB_TRAINING_ROWS, len(frame), p)
        changes.append((table.times[SKAB_TRAINING_ROWS:], frame["changepoint"].to_numpy()[SKAB_TRAINING_ROWS:] > 0, flagged))
        rows.append(Frame({"label": label, "flagged": flagged}))
        runs[name] = _run_figures(table.times[SKAB_TRAINING_ROWS:], label, flagged, score)
        progress(f"{name}: ROC-AUC {runs[name]['roc_auc']:.3f}, F1 {runs[name].get('f1', 0):.3f}")
    every = pd.concat(rows, ignore_index=True)
    labels, flags = every["label"].to_numpy(bool), every["flagged"].to_numpy(bool)
    return {
        "runs": len(runs),
        **metrics.decisions(labels, flags),
        **_means(runs, ("roc_auc", "vus_roc", "vus_pr", "affiliation_precision", "affiliation_recall")),
        "median_detection_delay_s": _median([r["detection_delay_s"] for r in runs.values()]),
        "runs_without_detection": sum(r["detection_delay_s"] is None for r in runs.values()),
        "nab": {profile: _nab(skab_nab(changes, profile)) for profile in PROFILES},
        "point_adjusted_inflated": point_adjusted(labels, flags),
        "by_run": runs,
    }


def nab_windows(table: SensorTable) -> list[tuple[float, float]]:
    """A NAB series' label windows (first, last), seconds since 1970 UTC, from windows.json beside it, which must be there."""
    path = table.path.parent / "windows.json"
    if not path.is_file():
        raise DataError(f"{path}: not there; NAB's label windows are expected beside the CSV")
    windows = json.loads(path.read_text(encoding="utf-8"))
    spans = windows if isinstance(windows, list) else next((v for k, v in windows.items() if Path(k).name == table.path.name), None)
    if spans is None:
        raise DataError(f"{path}: has no windows for {table.path.name}")
    return [(pd.Timestamp(start, tz="UTC").timestamp(), pd.Timestamp(stop, tz="UTC").timestamp()) for start, stop in spans]


def benchmark_nab(spec: SensorSpec, data: Path, extractor: Path | None, progress: Progress) -> dict[str, Any]:
    """NAB (github.com/numenta/NAB): the first 15 % of each series, at most 750 rows, are learnt from; alarms' first rows are judged."""
    series: dict[str, Any] = {}
    for path in tables_of(data):
        frame = pd.read_csv(path)
        learnt = nab_probation(len(frame))
        found = learn(spec, path, frame.head(learnt), frame, extractor)
        table = found.table
        flagged, _ = by_row(found.rows, 0, len(table.times), found.p)
        opened = onsets(flagged, found.window)
        windows = nab_windows(table)
        spans = [(int(np.flatnonzero(table.times >= low)[0]), int(np.flatnonzero(table.times <= high)[-1])) for low, high in windows]
        fired = [np.flatnonzero(opened[a : b + 1]) for a, b in spans]
        series[path.stem] = {
            "nab": {profile: nab_score(opened, spans, profile) for profile in PROFILES},
            "fired_at_share_of_window": [
                round(float(f[0]) / max(1, b - a), 3) if len(f) else None for f, (a, b) in zip(fired, spans, strict=True)
            ],
            "alarms_outside_windows": int(sum(1 for row in np.flatnonzero(opened) if not any(a <= row <= b for a, b in spans))),
        }
        progress(f"{path.stem}: NAB standard {series[path.stem]['nab']['standard']}")
    means = {profile: float(np.mean([s["nab"][profile] for s in series.values()])) for profile in PROFILES}
    return {"series": len(series), "mean_nab": means, "by_series": series}


def row_after_row(spec: SensorSpec) -> SensorSpec:
    """The spec with which no gap ends a window: SKAB's published baselines take a run so, whatever time lies between two rows."""
    return spec.model_copy(update={"input": spec.input.model_copy(update={"max_gap_s": ANY_GAP_S})})


def skab_runs(data: Path) -> list[Path]:
    """SKAB's labelled runs under its data folder, without the normal record."""
    return [p for p in tables_of(data) if p.parent.name != "anomaly-free"]


def tables_of(data: Path) -> list[Path]:
    """The tables under a benchmark's data folder; there is at least one."""
    found = find_files(data, TABLES, deep=True)
    if not found:
        raise DataError(f"{data}: no tables; give the benchmark's data folder, as its repository lays it out")
    return found


@dataclass(frozen=True)
class Scored:
    """A scored series: `rows` as `score_table` gives them, the p-value `p` to flag from, and how the detector came about.

    fit_s: processor seconds from the rows to a calibrated detector
    report: what the fit step says of itself
    rules: of its process alarm
    """

    rows: Frame
    table: SensorTable
    p: float
    window: int
    fit_s: float
    report: dict[str, Any]
    rules: Rules


def learn(
    spec: SensorSpec,
    path: Path,
    train: Frame,
    whole: Frame,
    extractor: Path | None = None,
    alter: Callable[[Detector], object] | None = None,
) -> Scored:
    """Fit on some rows of the series at `path`, in a file of their own as a user has them; score it whole.

    `alter` may change the fitted detector before it scores.
    """
    with tempfile.TemporaryDirectory() as scratch:
        learnt, every = Path(scratch) / "train.csv", Path(scratch) / f"{path.stem}.csv"
        train.to_csv(learnt, index=False)
        whole.to_csv(every, index=False)
        began = time.process_time()
        steps = Steps(SensorLine(spec, learnt), Path(scratch) / "work", extractor)
        detector, p = steps.detector(), steps.threshold().p_value
        fit_s = time.process_time() - began
        if alter is not None:
            alter(detector)
        schema = steps.line.input_schema()
        table = read_table(every, table_schema(schema))
        scored = score_table(detector.run, table, schema.window or 1)
        delays = AlarmSettings(**steps.line.delays()._asdict()).model_dump()
        rules = Rules(Settings(threshold=p, **delays), (schema.window or 0) * (schema.period_s or 0.0))
        return Scored(scored, replace(table, path=path), p, schema.window or 0, fit_s, steps.fitted.report, rules)


def learn_and_score(
    spec: SensorSpec, path: Path, train: Frame, whole: Frame, extractor: Path | None = None
) -> tuple[Frame, SensorTable, float]:
    """As `learn`: the scored rows, the table, and the p-value to flag from."""
    found = learn(spec, path, train, whole, extractor)
    return found.rows, found.table, found.p


def _run_figures(
    times: NDArray[np.float64], label: NDArray[np.bool_], flagged: NDArray[np.bool_], score: NDArray[np.float64]
) -> dict[str, Any]:
    surface, near = vus(label, score), affiliation(label, flagged)
    delay, _, _ = metrics.detection_delay(times, label, flagged)
    return {
        **metrics.decisions(label, flagged),
        "roc_auc": metrics.auroc(label, score),
        "vus_roc": surface[0] if surface else None,
        "vus_pr": surface[1] if surface else None,
        "affiliation_precision": near[0] if near else None,
        "affiliation_recall": near[1] if near else None,
        "detection_delay_s": delay,
    }


def _means(runs: dict[str, dict[str, Any]], names: tuple[str, ...]) -> dict[str, float]:
    def values(name: str) -> Iterator[float]:
        return (run[name] for run in runs.values() if run[name] is not None)

    return {f"mean_{name}": float(np.mean(list(values(name)))) for name in names}


def _median(values: list[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return float(np.median(known)) if known else None


def _nab(found: tuple[float, int, int] | None) -> dict[str, float] | None:
    return None if found is None else {"score": found[0], "missed": found[1], "false": found[2]}


PROTOCOLS: dict[str, Callable[[SensorSpec, Path, Path | None, Progress], dict[str, Any]]] = {
    "skab": benchmark_skab,
    "nab": benchmark_nab,
}


def run_protocol(
    protocol: str, data: Path, spec: SensorSpec, records: Path | None, extractor: Path | None, rate: float | None, progress: Progress
) -> dict[str, Any]:
    """Figures of one protocol, and the spec they were made with; `records` and `rate` replace what the spec says of them."""
    if records is not None:
        spec = spec.model_copy(update={"calibration": spec.calibration.model_copy(update={"records": records})})
    if rate is not None:
        spec = spec.model_copy(update={"budget": Budget(false_alarm_rate=rate)})
    figures = PROTOCOLS[protocol](spec, data, extractor, progress)
    used = spec.model_dump(mode="json")
    used["calibration"]["records"] = records.name if records else None  # the folder's place on this machine is nobody else's concern
    return figures | {"spec": used}


def main(arguments: list[str] | None = None) -> None:
    """Run a protocol, write its figures and print those that are not of a single series."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("protocol", choices=sorted(PROTOCOLS), help="whose protocol to follow")
    parser.add_argument("--data", type=Path, required=True, help="your copy of the benchmark's data folder")
    parser.add_argument("--json", type=Path, required=True, help="where the figures go")
    parser.add_argument("--spec", type=Path, help="a sensor spec; the defaults when not given")
    parser.add_argument("--records", type=Path, help="normal records of the same kind of machine")
    parser.add_argument("--extractor", type=Path, help="an extractor from `anomaly pretrain`, for every series")
    parser.add_argument("--rate", type=float, help="false-alarm rate asked for")
    given = parser.parse_args(arguments)
    try:
        spec = read_spec(given.spec) if given.spec else SensorSpec(kind="sensor")
        if not isinstance(spec, SensorSpec):
            parser.error(f"{given.spec}: a camera spec; these benchmarks are of sensors")
        figures = run_protocol(
            given.protocol, given.data, spec, given.records, given.extractor, given.rate, lambda text: print(text, file=sys.stderr)
        )
    except AnomalyError as error:
        parser.exit(1, f"{error}\n")
    write_text(given.json, json.dumps(figures, indent=1, sort_keys=True) + "\n")
    for name, value in figures.items():
        if not name.startswith("by_") and name != "spec":
            print(f"{name}: {json.dumps(value)}")


if __name__ == "__main__":
    main()
