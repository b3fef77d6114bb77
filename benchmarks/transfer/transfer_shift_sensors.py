"""Adaptation to a shifted machine: how much of the loss each way wins back, with a few unlabelled rows of the new machine.

    python -m benchmarks.transfer.transfer_shift_sensors SKAB [--target 79] [--out FILE.json]

SKAB is the benchmark's data folder. Of each run the first 400 rows are the source machine's normal record. The target machine is the same
run seen through a shift (SHIFTS below; gains, offsets and loads are drawn once a run): its first `--target` rows are all that is known of
it, and its rows after the 400th are judged. Mean ROC-AUC over the runs, and normal rows flagged at the default budget, of the source's
detector on rows without the shift and on shifted rows, and of the detector that each way makes of the source's record and the target's
rows. `recovered` is the share of ROC-AUC's drop that is won back. Below about 100 windows the target alone cannot be fitted.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from anomaly.atomic import write_text
from anomaly.evaluation import metrics
from anomaly.evaluation.figures import by_row
from anomaly.spec import Pretrain, SensorSpec, Transfer, TransferMethod
from benchmarks.protocols.sensors import SKAB_LABELS, SKAB_TRAINING_ROWS, learn_and_score, row_after_row, skab_runs

Rows = NDArray[np.float64]
WAYS: tuple[TransferMethod, ...] = ("coral", "batch-norm")
DWELL = 60  # rows that a load lasts on average
LOAD = 3.0  # by how many spreads the higher load moves a sensor at most


def gains(x: Rows, usual: Rows, spread: Rows, rng: np.random.Generator) -> Rows:
    """Every sensor answers with another gain around its usual level, from half to double."""
    return usual + (x - usual) * 2.0 ** rng.uniform(-1, 1, x.shape[1])


def offsets(x: Rows, usual: Rows, spread: Rows, rng: np.random.Generator) -> Rows:
    """Every sensor reads higher or lower by up to five spreads."""
    return x + spread * rng.uniform(-5, 5, x.shape[1])


def loads(x: Rows, spread: Rows, rng: np.random.Generator, high: float) -> Rows:
    """Two loads, the higher one for a share `high` of the time: it moves every sensor by a number of spreads of its own."""
    moves = spread * rng.uniform(-LOAD, LOAD, x.shape[1])
    state, states = rng.random() < high, []
    for _ in range(len(x)):
        if rng.random() < 1 / DWELL:
            state = rng.random() < high
        states.append(state)
    return x + np.array(states)[:, None] * moves


Shift = Callable[[Rows, Rows, Rows, int], tuple[Rows, Rows]]  # rows, usual levels, spreads, seed -> the source's rows, the target's


def _both(x: Rows, usual: Rows, spread: Rows, seed: int) -> Rows:
    return offsets(gains(x, usual, spread, np.random.default_rng(seed)), usual, spread, np.random.default_rng(seed + 1000))


def _load_mix(x: Rows, usual: Rows, spread: Rows, seed: int) -> tuple[Rows, Rows]:
    """One load nine tenths of the time at the source, the other nine tenths at the target; the loads move both machines alike."""
    del usual
    here, there = (loads(x, spread, np.random.default_rng(seed), high) for high in (0.1, 0.9))
    return here, there


SHIFTS: dict[str, Shift] = {
    "gain, half to double": lambda x, u, s, n: (x, gains(x, u, s, np.random.default_rng(n))),
    "offset, up to 5 spreads": lambda x, u, s, n: (x, offsets(x, u, s, np.random.default_rng(n))),
    "gain and offset": lambda x, u, s, n: (x, _both(x, u, s, n)),
    "load mix, 10 % to 90 %": _load_mix,
}


def one_run(path: Path, shift: Shift, target: int, seed: int, scratch: Path) -> dict[str, float]:
    """ROC-AUC of one run's rows after the training rows, by each way."""
    frame = pd.read_csv(path, sep=";")
    label = frame["anomaly"].to_numpy()[SKAB_TRAINING_ROWS:] > 0
    values = frame.drop(columns=list(SKAB_LABELS))
    names = list(values.columns[1:])
    x = values[names].to_numpy(np.float64)
    learnt = x[:SKAB_TRAINING_ROWS]
    usual, spread = np.median(learnt, axis=0), learnt.std(axis=0)

    def again(rows: Rows) -> pd.DataFrame:
        other = values.copy()
        other[names] = rows
        return other

    source, shifted = (again(rows) for rows in shift(x, usual, spread, seed))
    record = scratch / "source.csv"
    source.head(SKAB_TRAINING_ROWS).to_csv(record, index=False)
    base = row_after_row(SensorSpec(kind="sensor", pretrain=Pretrain(method="none")))

    row: dict[str, float] = {}

    def judged(name: str, spec: SensorSpec, train: pd.DataFrame, whole: pd.DataFrame) -> None:
        scored, _, p = learn_and_score(spec, path, train, whole)
        flagged, score = by_row(scored, SKAB_TRAINING_ROWS, len(whole), p)
        row[name] = metrics.auroc(label, score) or 0.0
        row[f"{name}: normal rows flagged"] = float(flagged[~label].mean())

    judged("unshifted", base, source.head(SKAB_TRAINING_ROWS), source)
    judged("source only", base, source.head(SKAB_TRAINING_ROWS), shifted)
    for method in WAYS:
        spec = base.model_copy(update={"transfer": Transfer(normals=record, method=method)})
        judged(method, spec, shifted.head(target), shifted)
    judged("target, all 400 rows", base, shifted.head(SKAB_TRAINING_ROWS), shifted)
    return row


def main() -> None:
    """Every shift, every run, every way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--target", type=int, default=79)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/transfer/transfer_shift_sensors.json"))
    arguments = parser.parse_args()
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name, shift in SHIFTS.items():
            runs = {
                f"{path.parent.name}/{path.stem}": one_run(path, shift, arguments.target, seed, Path(scratch))
                for seed, path in enumerate(skab_runs(arguments.data))
            }
            mean = {k: float(np.mean([run[k] for run in runs.values()])) for k in next(iter(runs.values()))}
            drop = mean["unshifted"] - mean["source only"]
            won = {k: (mean[k] - mean["source only"]) / drop for k in [*WAYS, "target, all 400 rows"] if drop > 0.002}
            harmed = {k: sum(run[k] < run["source only"] - 0.02 for run in runs.values()) for k in WAYS}
            figures = {"mean": mean, "drop": drop, "recovered": won, "runs worse than source only by over 0.02": harmed}
            print(name, json.dumps(figures), flush=True)
            results[name] = figures | {"by_run": runs}
    write_text(arguments.out, json.dumps(results, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
