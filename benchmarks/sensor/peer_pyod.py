"""The other side of sensor_speed.py: PyOD's detectors on flattened windows and Merlion's isolation forest, by a Python that has them.

    PEER_PYTHON benchmarks/sensor/peer_pyod.py JOB

JOB/in.npz holds learnt and scored windows (n, T * C) and the rows they end at (n, C); JOB/out.json gets windows, or rows, a second of
each detector's decision function.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
from pyod.models.knn import KNN
from pyod.models.mcd import MCD
from pyod.models.pca import PCA


def merlion(learnt: np.ndarray, scored: np.ndarray) -> float:
    """Rows a second of Merlion's isolation forest, its lightest detector for several sensors, at its defaults."""
    import pandas as pd
    from merlion.models.anomaly.isolation_forest import IsolationForest, IsolationForestConfig
    from merlion.utils import TimeSeries

    def series(rows: np.ndarray, start: int) -> TimeSeries:
        index = pd.date_range("2026-01-01", periods=start + len(rows), freq="s")[start:]
        return TimeSeries.from_pd(pd.DataFrame(rows.astype(float), index=index, columns=[f"s{i}" for i in range(rows.shape[1])]))

    model = IsolationForest(IsolationForestConfig())
    model.train(series(learnt, 0))
    later = series(scored, len(learnt))
    started = time.perf_counter()
    model.get_anomaly_score(later)
    return len(scored) / (time.perf_counter() - started)


def main() -> None:
    job = Path(sys.argv[1])
    given = np.load(job / "in.npz")
    learnt, scored = given["learnt"].astype(float), given["scored"].astype(float)
    mean, spread = learnt.mean(0), learnt.std(0) + 1e-9
    learnt, scored = (learnt - mean) / spread, (scored - mean) / spread
    rates = {}
    for name, model in {"KNN": KNN(n_jobs=1), "PCA": PCA(), "MCD": MCD(support_fraction=0.9)}.items():
        model.fit(learnt)
        started = time.perf_counter()
        model.decision_function(scored)
        rates[name] = len(scored) / (time.perf_counter() - started)
    rates["Merlion isolation forest"] = merlion(given["learnt_rows"], given["scored_rows"])
    (job / "out.json").write_text(json.dumps(rates))


if __name__ == "__main__":
    main()
