"""Sets that had no part in development: what `anomaly fit` makes of each, fitted on its normals and judged on the rest, a JSON line a set.

    python -m benchmarks.camera.judges boards=PATH commutators=PATH … [--spec SPEC] [--out F]

A PATH is a folder in MVTec AD layout (`python -m benchmarks.protocols.judges NAME CHECKOUT --out PATH`). Each set has a process of its
own, so that the peak of memory is its own. Figures are those of the bundle's float graph in ONNX Runtime; `int8` beside them. Times are
processor time: a fit on all cores, a picture on one thread, decoding left out.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import resource
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binom, binomtest

from anomaly import __version__
from anomaly.atomic import write_text
from anomaly.bundle.archive import VARIANTS, Bundle, read_bundle
from anomaly.data.pictures.layouts import find_labelled
from anomaly.data.pictures.reading import format_of, read_picture
from anomaly.edge.runtime.session import open_session
from anomaly.evaluation.figures import evaluate_pictures
from anomaly.pipeline.kinds import open_line
from anomaly.pipeline.steps import Steps
from anomaly.spec import read_spec

SPECS = Path(__file__).parents[2] / "specs"
SHARES = (0.01, 0.02)  # of good parts, at which the recall in hindsight is told
TIMED = 24  # pictures that are timed


def judge(data: Path, spec: Path) -> dict[str, Any]:
    """Fit, export and judge one set. The fit is given the folder of normals alone, so that it spends nothing on labelled pictures."""
    with tempfile.TemporaryDirectory() as scratch:
        started, worked = time.monotonic(), time.process_time()
        bundle = read_bundle(Steps(open_line(read_spec(spec), data / "train" / "good"), Path(scratch)).export())
        fit = {"fit_s": round(time.monotonic() - started), "fit_processor_s": round(time.process_time() - worked)}
        fit["fit_peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    judged = {name: _judged(bundle, data, name) for name in ("float", "int8") if VARIANTS[name] in bundle.members}
    normals = bundle.manifest.provenance["fit"]["normals"]
    asked = bundle.manifest.threshold.budget
    found = {"version": __version__, "normals": normals, "asked": asked, **judged.pop("float"), **fit, **judged, **_chosen(bundle)}
    return {"bundle": bundle.hash, **found}


def _judged(bundle: Bundle, data: Path, variant: str) -> dict[str, Any]:
    """Figures of one of the bundle's graphs on the labelled pictures, and its time a picture."""
    threshold = bundle.manifest.threshold
    pictures = find_labelled(data) if variant == "float" else [replace(one, mask=None) for one in find_labelled(data)]
    run = open_session(bundle, "cpu", variant=variant).run
    found = evaluate_pictures(run, pictures, format_of(bundle.manifest.input), threshold.p_value, threshold.score)
    figures = {
        "good": int((found.records["label"] == "good").sum()),
        "bad": int((found.records["label"] != "good").sum()),
        "image_auroc": found.figures["image_auroc"],
        "image_auroc_ci95": found.figures.get("ci95", {}).get("image_auroc"),
        "pixel_aupro": found.figures.get("pixel_aupro"),
        "rejected": found.figures["rejected"],
    }
    return figures | decisions(found.records, float(threshold.budget["false_alarm_rate"])) | _speed(bundle, data, variant)


def decisions(records: pd.DataFrame, asked: float) -> dict[str, Any]:
    """Recall and false alarms at the threshold, and what recall a threshold set in hindsight would reach.

    `records` has a row a picture: label ("good" or a fault), score, flagged. In hindsight: at as many false alarms as came, and at no more
    than 1 and 2 % of the good parts. `would_be` is the 95 % range of false alarms if `asked` were kept exactly.

    >>> frame = pd.DataFrame({"label": ["good"] * 3 + ["bad"] * 2, "score": [1.0, 2.0, 5.0, 4.0, 6.0], "flagged": [False] * 4 + [True]})
    >>> found = decisions(frame, 0.01)
    >>> found["recall"], found["false_alarms"], found["recall_in_hindsight"]["1%"]
    (0.5, 0, 0.5)
    """
    is_good = (records["label"] == "good").to_numpy()
    flagged, scores = records["flagged"].to_numpy(dtype=bool), records["score"].to_numpy(dtype=np.float64)
    good, bad = np.sort(scores[is_good])[::-1], scores[~is_good]
    alarms = int(flagged[is_good].sum())

    def recall(allowed: int) -> float:
        """The share of faults above all good parts but `allowed` of them."""
        return float((bad > good[allowed]).mean()) if allowed < len(good) else 1.0

    rate = binomtest(alarms, len(good)).proportion_ci()
    return {
        "recall": float(flagged[~is_good].mean()),
        "false_alarms": alarms,
        "false_alarm_rate": alarms / len(good),
        "false_alarm_rate_ci95": [float(rate.low), float(rate.high)],
        "would_be": [int(v) for v in binom.interval(0.95, len(good), asked)],
        "recall_in_hindsight": {
            "same false alarms": recall(alarms),
            **{f"{share:.0%}": recall(math.floor(share * len(good))) for share in SHARES},
        },
    }


def _speed(bundle: Bundle, data: Path, variant: str) -> dict[str, float]:
    """Median processor milliseconds from raw picture to decision on one thread, over pictures spread over the set."""
    session, form = open_session(bundle, "cpu", threads=1, variant=variant), format_of(bundle.manifest.input)
    pictures = find_labelled(data)
    times = []
    for picture in pictures[:: max(1, len(pictures) // TIMED)][:TIMED]:
        raw = read_picture(picture.path, form).pixels[None]
        session.run(raw)
        started = time.process_time()
        session.run(raw)
        times.append(time.process_time() - started)
    return {"ms": round(1000 * float(np.median(times)), 2)}


def _chosen(bundle: Bundle) -> dict[str, Any]:
    """What was chosen for the set: the plan of size and views where the fit wrote one, else what the spec says."""
    provenance = bundle.manifest.provenance
    fit = provenance["fit"]
    plan = fit.get("extractor", {}).get("plan")
    size = (plan or provenance["spec"])["input"]["size"]
    return {"size": size, "plan": plan, "multiply_adds": provenance["multiply_adds"], "injected_auroc": fit.get("injected_auroc")}


def main() -> None:
    """Judge what is asked for, print each result, and write all of them beside those that are there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", help="NAME=PATH")
    parser.add_argument("--spec", type=Path, default=SPECS / "camera.toml")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/camera/judges.json"))
    arguments = parser.parse_args()
    results: dict[str, Any] = json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
    for item in arguments.data:
        name, _, path = item.partition("=")
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            results[name] = process.submit(judge, Path(path), arguments.spec).result()
        print(json.dumps({"set": name} | results[name]), flush=True)
        write_text(arguments.out, json.dumps(results, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
