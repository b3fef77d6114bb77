"""PCA, Sub-PCA and PaAno on TSB-AD files and SKAB runs: VUS-PR, AUC-ROC and seconds a series, beside `benchmarks.sensor.every_record`.

    python -m benchmarks.sensor.tsb_ad --tsb FOLDER --skab FOLDER [--peer PEER_PYTHON --paano CLONE [--all] [--missing]] [--out FILE.json]

FOLDER of TSB-AD holds files in its form (last column `Label`, `tr_N` in the name: the first N rows are learnt from). SKAB runs are
learnt from their first 400 rows. As TSB-AD does, all rows are judged, those learnt from too; VUS up to a width of 100 rows. Sub-PCA gives a
window's score to its middle, PaAno gives each row the mean over the windows that hold it. PaAno is run from a clone of its own code
(github.com/jinnnju/PaAno) by a Python of its own, as its scripts do (instance normalisation, patch 96; 32 on SKAB), on TSB-AD's files, and
with --all on the SKAB runs; where it is not run, its figures in --out stay.
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
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from sklearn.decomposition import PCA

from anomaly.atomic import write_text
from anomaly.evaluation.metrics import auroc
from anomaly.evaluation.vus import vus
from benchmarks.protocols import records

METHODS = ("pca", "sub_pca", "paano")
Floats = NDArray[np.float64]


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
    for record in (*records.tsb_ad(arguments.tsb), *records.skab(arguments.skab)):
        name, values, labels, learnt = record.name, record.values, record.labels, record.first
        row: dict[str, Any] = {"rows": len(values), "sensors": values.shape[1]}
        for method, window in {"pca": 1, "sub_pca": 30}.items():
            started = time.perf_counter()
            scores = pca(values, learnt, window)
            row[method] = figures(labels, scores, time.perf_counter() - started)
        asked = (arguments.all or record.kind != "skab") and not (arguments.missing and "paano" in before.get(name, {}))
        if arguments.peer and arguments.paano and asked:
            scores, seconds = paano(arguments.peer, arguments.paano, values, learnt, 32 if record.kind == "skab" else 96)
            row["paano"] = figures(labels, scores, seconds)
        elif "paano" in before.get(name, {}):
            row["paano"] = before[name]["paano"]
        results[name] = row | {"kind": record.kind}
        print(name, json.dumps(row), flush=True)
    groups = {
        **{kind: [r for r in results.values() if r["kind"] == kind] for kind in ("tsb_ad", "skab")},
        "beside_paano": [r for r in results.values() if "paano" in r],
    }
    means = {
        group: {
            m: {k: float(np.mean([r[m][k] for r in rows])) for k in ("auc_roc", "vus_pr", "seconds")}
            for m in METHODS
            if rows and all(m in r for r in rows)
        }
        for group, rows in groups.items()
    }
    write_text(arguments.out, json.dumps({"means": means, "series": results}, indent=1, sort_keys=True) + "\n")
    print(json.dumps(means, indent=1))


if __name__ == "__main__":
    main()
