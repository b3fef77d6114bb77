"""Ranking on TSB-AD files and SKAB runs beside PCA, Sub-PCA and PaAno: VUS-PR, AUC-ROC and seconds a series, one run, same rows.

    python -m benchmarks.sensor.tsb_ad --tsb FOLDER --skab FOLDER [--peer PEER_PYTHON --paano CLONE [--all] [--missing]] [--out FILE.json]

FOLDER of TSB-AD holds files in its form (last column `Label`, `tr_N` in the name: the first N rows are learnt from). SKAB runs are
learnt from their first 400 rows. As TSB-AD does, all rows are judged, those learnt from too; VUS up to a width of 100 rows. Sub-PCA and
PaAno give a window's score to its middle; ours is stated both ways, at the row where the window ends (as a plant would see it) and in its
middle. PaAno is run from a clone of its own code (github.com/jinnnju/PaAno) by a Python of its own, as its scripts do (instance
normalisation, patch 96; 32 on SKAB), on TSB-AD's files, and with --all on the SKAB runs; where it is not run, its figures in --out stay.
Beside the default spec: our memory bank over windows as long as PaAno's patches.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from sklearn.decomposition import PCA

from anomaly.atomic import write_text
from anomaly.data.tables.conversion import LABEL, tsb_ad_parts
from anomaly.evaluation.figures import by_row
from anomaly.evaluation.metrics import auroc
from anomaly.evaluation.vus import vus
from anomaly.spec import Pretrain, SensorInput, SensorScorerSpec, SensorSpec
from benchmarks.protocols.sensors import SKAB_TRAINING_ROWS, learn_and_score, skab_runs

SPEC = SensorSpec(kind="sensor", pretrain=Pretrain(method="none"))
Floats = NDArray[np.float64]


def series(tsb: Path, skab: Path) -> dict[str, tuple[Floats, NDArray[np.bool_], int]]:
    """name -> (values (n, C), labels (n,), rows learnt from)."""
    found: dict[str, tuple[Floats, NDArray[np.bool_], int]] = {}
    for path in sorted(tsb.glob("*.csv")):
        train, frame = tsb_ad_parts(path)
        found[path.stem] = (frame.drop(columns=["time", LABEL]).to_numpy(float), frame[LABEL].to_numpy() > 0, len(train))
    for path in skab_runs(skab):
        frame = pd.read_csv(path, sep=";")
        values = frame.drop(columns=["datetime", "anomaly", "changepoint"]).to_numpy(float)
        found[f"skab_{path.parent.name}_{path.stem}"] = (values, frame["anomaly"].to_numpy() > 0, SKAB_TRAINING_ROWS)
    return found


def ours(values: Floats, learnt: int, spec: SensorSpec = SPEC) -> Floats:
    """Our detector, learnt from the first rows."""
    frame = pd.DataFrame(values, columns=[f"s{i}" for i in range(values.shape[1])])
    frame.insert(0, "time", np.arange(len(values), dtype=float))
    scored, _, p = learn_and_score(spec, Path("series.csv"), frame.head(learnt), frame)
    return by_row(scored, 0, len(values), p)[1]


def centred(scores: Floats, window: int) -> Floats:
    """Scores of the windows that end at each row, put where their middle is."""
    ahead = window // 2
    return np.pad(scores[ahead:], (0, ahead), mode="edge")


def pca(values: Floats, learnt: int, window: int = 1) -> Floats:
    """TSB-AD's (PyOD's) PCA: distances to the components, each over its share of variance; windows flattened for Sub-PCA."""
    from numpy.lib.stride_tricks import sliding_window_view

    mean, spread = values[:learnt].mean(0), values[:learnt].std(0)
    z = (values - mean) / np.where(spread > 0, spread, 1.0)
    rows = sliding_window_view(z, window, axis=0).reshape(len(z) - window + 1, -1)
    model = PCA().fit(rows[: max(2, learnt - window + 1)])
    kept = model.explained_variance_ratio_ > 1e-9
    score = (cdist(rows, model.components_[kept]) / model.explained_variance_ratio_[kept]).sum(1)
    ahead = (window - 1) // 2
    return np.pad(score, (ahead, window - 1 - ahead), mode="edge")


def paano(python: str, clone: Path, values: Floats, learnt: int, patch: int) -> tuple[Floats, float]:
    """PaAno's scores of every row, and its own seconds."""
    with tempfile.TemporaryDirectory() as scratch:
        job = Path(scratch)
        np.savez(job / "in.npz", values=values.astype(np.float32), learnt=learnt, patch=patch)
        script = Path(__file__).with_name("peer_paano.py").resolve()
        subprocess.run([python, str(script), str(clone.resolve()), str(job)], check=True, capture_output=True, cwd=scratch)
        out = np.load(job / "out.npz")
        return out["scores"], float(out["seconds"])


def figures(labels: NDArray[np.bool_], scores: Floats, seconds: float) -> dict[str, Any]:
    surface = vus(labels, np.nan_to_num(scores))
    return {"auc_roc": auroc(labels, np.nan_to_num(scores)), "vus_pr": surface[1] if surface else None, "seconds": seconds}


def main() -> None:
    """Run every detector on every series and print the means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tsb", type=Path, required=True)
    parser.add_argument("--skab", type=Path, required=True)
    parser.add_argument("--peer")
    parser.add_argument("--paano", type=Path)
    parser.add_argument("--all", action="store_true", help="PaAno on the SKAB runs too, minutes each")
    parser.add_argument("--missing", action="store_true", help="PaAno only where --out has no figures of it yet")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/sensor/tsb_ad.json"))
    arguments = parser.parse_args()
    before = json.loads(arguments.out.read_text())["series"] if arguments.out.exists() else {}
    results: dict[str, dict[str, Any]] = {}
    for name, (values, labels, learnt) in series(arguments.tsb, arguments.skab).items():
        row: dict[str, Any] = {"rows": len(values), "sensors": values.shape[1]}
        patch = 32 if name.startswith("skab_") else 96
        bank = SPEC.model_copy(update={"scorer": SensorScorerSpec(method="memory_bank"), "input": SensorInput(window=patch // 3 * 3)})
        for method, run in {
            "ours": lambda: ours(values, learnt),  # noqa: B023 - called at once
            "ours_memory_bank": lambda: ours(values, learnt, bank),  # noqa: B023
            "pca": lambda: pca(values, learnt),  # noqa: B023
            "sub_pca": lambda: pca(values, learnt, 30),  # noqa: B023
        }.items():
            started = time.perf_counter()
            scores = run()
            row[method] = figures(labels, scores, time.perf_counter() - started)
            if method.startswith("ours"):
                window = (SPEC if method == "ours" else bank).input.window
                row[f"{method}_centred"] = figures(labels, centred(scores, window), row[method]["seconds"])
        asked = (arguments.all or not name.startswith("skab_")) and not (arguments.missing and "paano" in before.get(name, {}))
        if arguments.peer and arguments.paano and asked:
            scores, seconds = paano(arguments.peer, arguments.paano, values, learnt, patch)
            row["paano"] = figures(labels, scores, seconds)
        elif "paano" in before.get(name, {}):
            row["paano"] = before[name]["paano"]
        results[name] = row
        print(name, json.dumps(row), flush=True)
    groups = {
        "tsb_ad": [r for n, r in results.items() if not n.startswith("skab_")],
        "skab": [r for n, r in results.items() if n.startswith("skab_")],
        "beside_paano": [r for r in results.values() if "paano" in r],
    }
    means = {
        group: {
            m: {k: float(np.mean([r[m][k] for r in rows])) for k in ("auc_roc", "vus_pr", "seconds")}
            for m in ("ours", "ours_centred", "ours_memory_bank", "ours_memory_bank_centred", "pca", "sub_pca", "paano")
            if rows and all(m in r for r in rows)
        }
        for group, rows in groups.items()
    }
    write_text(arguments.out, json.dumps({"means": means, "series": results}, indent=1, sort_keys=True) + "\n")
    print(json.dumps(means, indent=1))


if __name__ == "__main__":
    main()
