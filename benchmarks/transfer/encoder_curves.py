"""What the sensors' encoder gives: the readings by themselves, and with kernels, with so many rows of the machine known.

    python -m benchmarks.transfer.encoder_curves [--tsb TSB] [--generated FILE] [--draws 5] [--json FILE]

Kernels: fixed ones (the default), the same trained on the machine's own known rows, and those of FILE, which
`python -m anomaly.features.training.pretrain_sensors FILE` trains on generated signals; no record here had a part in that. Every detector
has all its views. Known rows begin at a random place of the normals; figures are those of rows, scores put in the middle of their window.
"by default" is what a fit takes: kernels where made-up faults of shape on the known rows rank better with them, else the readings.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from anomaly.atomic import write_text
from anomaly.data.tables.windows import windows_at
from anomaly.errors import DataError
from anomaly.evaluation.metrics import auroc
from anomaly.evaluation.vus import vus
from anomaly.features.build import build_sensor_encoder, load_sensor_encoder
from anomaly.features.encoder import SensorEncoder
from anomaly.pipeline.sensor.held_out import held_out_scores
from anomaly.pipeline.sensor.line import SensorLine
from anomaly.pipeline.sensor.tables import NormalReadings
from anomaly.pipeline.sensor.transfer import fitted_encoder, own_encoder
from anomaly.spec import Pretrain, SensorSpec
from benchmarks.protocols.records import Record, made_up, samples, tsb_ad

KNOWN = (300, 600, 1500, 4000)  # rows
NO_SHAPE = ("AR(1)", "counts")
JUDGED = 1500  # windows, evenly spread
SPEC = SensorSpec(kind="sensor", pretrain=Pretrain(epochs=4, batch=64))


def encoders(readings: NormalReadings, generated: SensorEncoder | None) -> Iterator[tuple[str, SensorEncoder | None, float]]:
    """(way, encoder, seconds of processor time)."""
    normals, fixed = readings.normals, build_sensor_encoder(SPEC)
    yield "readings", None, 0.0
    for way, encoder, training in (("fixed kernels", fixed, None), ("trained", fixed, SPEC.pretrain), ("generated", generated, None)):
        if encoder is not None:
            started = time.process_time()
            yield way, fitted_encoder(encoder, normals, SPEC.seed, training), time.process_time() - started


def judged(record: Record, readings: NormalReadings, encoder: SensorEncoder | None) -> dict[str, Any]:
    """ROC-AUC and VUS-PR of the rows that were not learnt from."""
    extractor = readings.extractor(encoder)
    found = held_out_scores(SPEC, readings.normals, extractor, readings.normals.features(extractor))
    values = record.whole[readings.names].to_numpy(np.float32)
    ends = np.arange(max(record.first, readings.window - 1), len(values))
    step = max(1, len(ends) // JUDGED)
    with torch.inference_mode():
        scores, _ = found.scorer(readings.normals.features(extractor, windows_at(values, ends[::step], readings.window)))
    half = readings.window // 2
    labels, rows = record.labels[ends - half], np.repeat(scores.double().numpy(), step)[: len(ends)]
    area = vus(labels, rows, 30, 60)
    return {"roc_auc": auroc(labels, rows), "vus_pr": area[1] if area else None, "shapes_auroc": found.shapes.auroc()}


def curve(record: Record, sizes: Sequence[int], draws: int, generated: SensorEncoder | None, folder: Path) -> Iterator[dict[str, Any]]:
    for known in sizes:
        if known > len(record.train):
            break
        for draw in range(draws):
            start = int(np.random.default_rng(draw).integers(0, len(record.train) - known + 1))
            record.train.iloc[start : start + known].to_csv(folder / "train.csv", index=False)
            readings = SensorLine(SPEC, folder / "train.csv").readings
            try:
                if not readings.plan.shape:
                    continue
                taken = own_encoder(readings)[0] is not None
                for way, encoder, seconds in encoders(readings, generated):
                    about = {"record": record.name, "known": known, "draw": draw, "way": way, "kernels_taken": taken}
                    yield {**about, "encoder_s": round(seconds, 2), **judged(record, readings, encoder)}
            except DataError:  # too few rows for a fit
                continue


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tsb", type=Path, help="folder of files in TSB-AD's form")
    parser.add_argument("--generated", type=Path, help="extractor file of an encoder trained on generated signals")
    parser.add_argument("--known", type=int, nargs="+", default=KNOWN, help="rows")
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--json", type=Path, help="where the figures go")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    generated = load_sensor_encoder(SPEC, asked.generated)[0] if asked.generated else None
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for record in chain(samples(), made_up(), tsb_ad(asked.tsb) if asked.tsb else ()):
            if record.name in NO_SHAPE:
                continue
            rows += curve(record, asked.known, asked.draws, generated, Path(folder))
            print(record.name, len(rows), flush=True)
            if asked.json:
                write_text(asked.json, json.dumps(rows, indent=1))
    found = pd.DataFrame(rows)
    default = found[found["way"] == np.where(found["kernels_taken"], "fixed kernels", "readings")]
    found = pd.concat([found, default.assign(way="by default")])
    for figure in ("roc_auc", "vus_pr", "shapes_auroc"):
        print(figure, found.pivot_table(index=["record", "known"], columns="way", values=figure).round(3).to_string(), sep="\n")
    print(found.groupby("way")[["roc_auc", "vus_pr", "encoder_s"]].mean().round(3).to_string())


if __name__ == "__main__":
    main()
