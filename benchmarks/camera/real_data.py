"""Figures on real data: fit on normals alone, threshold from them, evaluate and monitor; one JSON line a data set.

    python -m benchmarks.camera.real_data tile=DATA/magnetic_tile solar=SOLAR [--spec SPEC] [--rates 0.01 0.02] [--seeds 1] [--out F]

`tile` and `solar` are folders in MVTec AD layout (`python -m benchmarks.protocols.elpv --out SOLAR` makes the
second). SKAB and NAB: `python -m benchmarks.protocols.sensors`.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binom
from scipy.stats import t as student

from anomaly.alarms.store import Store
from anomaly.atomic import write_text
from anomaly.bundle.archive import read_bundle
from anomaly.edge.monitor import Monitor
from anomaly.edge.runtime.self_test import self_test
from anomaly.edge.runtime.session import open_session
from anomaly.edge.sources.uri import open_source
from anomaly.pipeline.assess import evaluate_bundle
from anomaly.pipeline.kinds import open_line
from anomaly.pipeline.steps import Steps
from anomaly.spec import Budget, CameraSpec, read_spec

SPECS = Path(__file__).parents[2] / "specs"
KEPT = (
    "near_duplicates_of_training",
    "image_auroc_without_near_duplicates",
    "injected_auroc",
    "n",
    "image_auroc",
    "image_ap",
    "pixel_auroc",
    "pixel_aupro",
    "f1",
    "recall",
    "false_alarm_rate",
    "per_defect",
    "ci95",
)


def monitored(bundle: Path, source: Path, folder: Path) -> dict[str, int]:
    """What the edge loop makes of a source, on a fresh store."""
    opened = read_bundle(bundle)
    session, store = open_session(opened), Store(folder / "s.db")
    self_test(opened, session)
    records = open_source(str(source), opened.manifest.input, lambda r: store.known("l", r), {})
    totals = Monitor(opened, session, records, store, "l").run(threading.Event(), once=True)
    return dict(vars(totals))


def camera_again(data: Path, seed: int, asked: CameraSpec, rates: list[float]) -> dict[str, Any]:
    """Figures of another seed, without adaptation and without the edge: the detector in PyTorch; false alarms at each rate asked for."""
    spec = asked.model_copy(update={"seed": seed, "pretrain": asked.pretrain.model_copy(update={"method": "none"})})
    with tempfile.TemporaryDirectory() as scratch:
        started = time.monotonic()
        steps = Steps(open_line(spec, data), Path(scratch))
        steps.fit()
        seconds = time.monotonic() - started
        by_rate = {}
        for rate in rates:  # the fit is the same, and found again in the work folder
            again = Steps(open_line(spec.model_copy(update={"budget": Budget(false_alarm_rate=rate)}), data), Path(scratch))
            found = json.loads(again.evaluate().read_text())
            good = found["n"] - found["n_defect"]
            alarms = {
                "flagged": round(good * found["false_alarm_rate"]),
                "good": good,
                "binomial95": [int(v) for v in binom.interval(0.95, good, rate)],
            }
            by_rate[str(rate)] = {"recall": found["recall"], "false_alarms": alarms}
        figures = json.loads(steps.evaluate().read_text())
    kept = {k: figures[k] for k in KEPT if k in figures}
    return {"seed": seed, **kept, "by_rate": by_rate, "fit_without_adaptation_s": round(seconds)}


def over_seeds(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean of each figure over seeds with its 95 % interval (Student's t)."""
    figures: dict[str, Any] = {}
    for name in ("image_auroc", "pixel_aupro", "recall", "false_alarm_rate", "image_auroc_without_near_duplicates"):
        values = np.array([run[name] for run in runs if run.get(name) is not None])
        if len(values) > 1:
            half = float(student.ppf(0.975, len(values) - 1)) * float(values.std(ddof=1)) / len(values) ** 0.5
            figures[name] = {"mean": float(values.mean()), "ci95": [float(values.mean()) - half, float(values.mean()) + half]}
    kinds = runs[0]["per_defect"]
    figures["per_defect"] = {kind: float(np.mean([run["per_defect"][kind]["image_auroc"] for run in runs])) for kind in kinds}
    return figures


def camera(data: Path, seed: int, asked: CameraSpec) -> dict[str, Any]:
    """One camera line, adapted, exported and monitored."""
    spec = asked.model_copy(update={"seed": seed})
    with tempfile.TemporaryDirectory() as scratch:
        started = time.monotonic()
        steps = Steps(open_line(spec, data), Path(scratch))
        bundle = steps.export()
        seconds = time.monotonic() - started
        opened = read_bundle(bundle)
        figures = evaluate_bundle(opened, open_session(opened), data).figures
        watched = monitored(bundle, data / "test", Path(scratch))
    adaptation = opened.manifest.provenance["fit"]["extractor"]["adaptation"]
    fit = {"fit_s": round(seconds), "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, "parity": opened.manifest.parity}
    return {"seed": seed, **{k: figures[k] for k in KEPT if k in figures}, **fit, "adaptation": adaptation, "monitor": watched}


def main() -> None:
    """Run what is asked for, print each result, and write all of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", help="tile=PATH solar=PATH")
    parser.add_argument("--spec", type=Path, default=SPECS / "camera.toml")
    parser.add_argument("--rates", type=float, nargs="+", default=[0.01, 0.02], help="false-alarm rates asked for")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--only-seeds", action="store_true", help="cameras: no adaptation, export and monitoring")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/camera/real_data.json"))
    arguments = parser.parse_args()
    spec = read_spec(arguments.spec)
    assert isinstance(spec, CameraSpec)
    results: dict[str, Any] = json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
    for item in arguments.data:
        name, _, path = item.partition("=")
        again = [camera_again(Path(path), seed, spec, arguments.rates) for seed in range(arguments.seeds)]
        results[name] = {"seeds": again, "over_seeds": over_seeds(again) if len(again) > 1 else {}}
        if not arguments.only_seeds:
            results[name]["whole"] = camera(Path(path), 0, spec)
        print(name, json.dumps(results[name], sort_keys=True), flush=True)
        write_text(arguments.out, json.dumps(results, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
