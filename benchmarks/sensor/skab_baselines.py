"""SKAB's T2+Q chart, reproduced from its published settings, and a plain Mahalanobis distance, by SKAB's protocol.

    python -m benchmarks.sensor.skab_baselines SKAB [--out FILE.json]

T2+Q: standardised sensors, components for 85 % of the variance, limits at 0.999 (F law; Jackson and Mudholkar), median of five rows.
Mahalanobis: Ledoit-Wolf on 30-row means, flagged above the 99 % quantile of the distances of its own training rows.
Encoder: ours by the default spec, with the encoder trained on the anomaly-free record, and taken whatever the guard says of it.
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
from scipy import special, stats
from sklearn.covariance import ledoit_wolf

from anomaly.atomic import write_text
from anomaly.evaluation import metrics
from anomaly.evaluation.ranges import PROFILES, skab_nab
from anomaly.features.tensors import load_tensors, save_tensors
from anomaly.pipeline.sensor.line import SensorLine
from anomaly.progress import silent
from anomaly.spec import SensorSpec
from benchmarks.protocols.sensors import SKAB_TRAINING_ROWS, benchmark_skab, skab_runs

Floats = NDArray[np.float64]


def t2_q(values: Floats) -> tuple[NDArray[np.bool_], Floats]:
    """(flagged, largest of both statistics over their limits) of the rows after those learnt from."""
    train, test = values[:SKAB_TRAINING_ROWS], values[SKAB_TRAINING_ROWS:]
    mean, spread = train.mean(0), train.std(0)
    train, test = (train - mean) / spread, (test - mean) / spread
    variances, vectors = np.linalg.eigh(np.cov(train.T))
    variances, vectors = variances[::-1], vectors[:, ::-1]
    kept = int(np.searchsorted(np.cumsum(variances) / variances.sum(), 0.85)) + 1
    limit = (
        kept
        * (SKAB_TRAINING_ROWS - 1)
        * (SKAB_TRAINING_ROWS + 1)
        / (SKAB_TRAINING_ROWS * (SKAB_TRAINING_ROWS - kept))
        * stats.f.ppf(0.999, kept, SKAB_TRAINING_ROWS - kept)
    )
    scores = test @ vectors
    t2 = (scores[:, :kept] ** 2 / variances[:kept]).sum(1)
    q = (scores[:, kept:] ** 2).sum(1)
    smooth = pd.DataFrame({"t2": t2 / limit, "q": q / spe_limit(variances[kept:], 0.999)}).rolling(5).median().fillna(0).max(axis=1)
    return smooth.to_numpy() > 1, smooth.to_numpy()


def spe_limit(residual_variances: Floats, confidence: float) -> float:
    """Control limit of the squared prediction error by Jackson and Mudholkar (1979, doi:10.1080/00401706.1979.10489779).

    `residual_variances` are the eigenvalues of the covariance that the principal components leave out.
    """
    one, two, three = (float(np.sum(residual_variances**power)) for power in (1, 2, 3))
    h = 1 - 2 * one * three / (3 * two**2)
    if h <= 1e-3:  # far from normal: Box's chi-square approximation
        return two / one * float(special.chdtri(one**2 / two, 1 - confidence))
    c = float(special.ndtri(confidence))
    return float(one * (1 + c * np.sqrt(2 * two * h**2) / one + two * h * (h - 1) / one**2) ** (1 / h))


def mahalanobis(values: Floats) -> tuple[NDArray[np.bool_], Floats]:
    """(flagged, distance) of the rows after those learnt from."""
    means = pd.DataFrame(values).rolling(30).mean().to_numpy()
    train, test = means[29:SKAB_TRAINING_ROWS], means[SKAB_TRAINING_ROWS:]
    mean, spread = train.mean(0), train.std(0)
    covariance, _ = ledoit_wolf((train - mean) / spread)
    inverse = np.linalg.inv(covariance)

    def distance(rows: Floats) -> Floats:
        z = (rows - mean) / spread
        return np.sqrt(np.einsum("ni,ij,nj->n", z, inverse, z))

    score = distance(test)
    return score > np.quantile(distance(train), 0.99), score


def with_encoder(skab: Path) -> dict[str, Any]:
    """Our figures with an encoder that has learnt from the anomaly-free record."""
    spec = SensorSpec(kind="sensor")
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "encoder.safetensors"
        SensorLine(spec, skab / "anomaly-free").pretrain(path, silent)
        tensors, about = load_tensors(path)
        save_tensors(path, tensors, about | {"changed": True})
        found = benchmark_skab(spec, skab, path, silent)
    found["nab_standard"] = found["nab"]["standard"]["score"]
    return {k: v for k, v in found.items() if isinstance(v, float)}


def main() -> None:
    """Run all on every run and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("skab", type=Path)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/sensor/skab_baselines.json"))
    arguments = parser.parse_args()
    figures: dict[str, Any] = {}
    for name, method in {"T2+Q": t2_q, "Mahalanobis": mahalanobis}.items():
        labels, flags, areas, changes = [], [], [], []
        for path in skab_runs(arguments.skab):
            frame = pd.read_csv(path, sep=";", parse_dates=["datetime"])
            values = frame.drop(columns=["datetime", "anomaly", "changepoint"]).to_numpy(float)
            flagged, score = method(values)
            label = frame["anomaly"].to_numpy()[SKAB_TRAINING_ROWS:] > 0
            times = (frame["datetime"] - frame["datetime"].iloc[0]).dt.total_seconds().to_numpy()[SKAB_TRAINING_ROWS:]
            changes.append((times, frame["changepoint"].to_numpy()[SKAB_TRAINING_ROWS:] > 0, flagged))
            labels.append(label)
            flags.append(flagged)
            areas.append(metrics.auroc(label, score))
        nab = skab_nab(changes, next(iter(PROFILES)))
        pooled = metrics.decisions(np.concatenate(labels), np.concatenate(flags))
        figures[name] = {
            **pooled,
            "mean_roc_auc": float(np.mean([a for a in areas if a is not None])),
            "nab_standard": nab[0] if nab else None,
        }
    figures["encoder from anomaly-free"] = with_encoder(arguments.skab)
    write_text(arguments.out, json.dumps(figures, indent=1, sort_keys=True) + "\n")
    print(json.dumps(figures, indent=1, sort_keys=True))


if __name__ == "__main__":
    main()
