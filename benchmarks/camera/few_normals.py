"""Thresholds from few normal pictures: false alarms that come for those asked for, recall, and what one odd normal does.

    python -m benchmarks.camera.few_normals NAME=DATA... [--largest 1000] [--draws 40] [--out FILE.json]

DATA is in MVTec AD layout; good pictures of both its parts are one pool. A detector learns 60 of them. Scores of the others, which are
exchangeable, are drawn as the normals that a threshold is set from, 40 times each number, and the rest is judged. So no law is judged by
scores of another detector. "odd": one of the normals is a defect. "counts" is the law until 0.8.0: all scores counted, a tail beyond the
largest only. Figures: false alarms over those asked for, mean and share of the draws within 0.5 and 1.2, and recall; "hindsight" is the
recall at the rate asked for. "level" is how far held-out scores of the normals learnt lie above those of others, in standard deviations,
at the median and at the upper tenth. `--largest`: patches a bank at most.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anomaly.atomic import write_text
from anomaly.calibration.budget import score_threshold
from anomaly.calibration.conformal import fit_calibrator
from anomaly.features.build import build_camera_extractor
from anomaly.pipeline.camera.line import CameraLine
from anomaly.scorers.build import fit_camera_scorer
from anomaly.spec import CameraSpec

LEARNT = 60
NORMALS, ASKED = (30, 60, 120, 245), (0.01, 0.02)
Scores = NDArray[np.float64]


def scores_of(root: Path, largest: int) -> tuple[Scores, Scores, Scores]:
    """Held-out scores (60,) of the pictures learnt, scores of other normals, and of defects."""
    spec = CameraSpec.model_validate({"kind": "camera", "input": {"size": [256, 256]}})
    line = CameraLine(spec, root)
    extractor, source = build_camera_extractor(spec)
    normals = [*line.pictures.readable, *(p for p in line.pictures.test if p.defect is None)]
    pictures = [*normals, *(p for p in line.pictures.test if p.defect is not None)]
    features = line.pictures.features_of(extractor, line.pictures.preprocess(source), pictures)
    order = np.random.default_rng(0).permutation(len(normals))
    learnt = [maps[order[:LEARNT]] for maps in features]
    fitted = fit_camera_scorer(spec, learnt, torch.Generator().manual_seed(0), largest=largest)

    def scored(rows: NDArray[np.int64]) -> Scores:
        with torch.inference_mode():
            parts: list[Tensor] = [fitted.scorer([maps[rows[i : i + 32]] for maps in features])[0] for i in range(0, len(rows), 32)]
        return torch.cat(parts).double().numpy()

    return fitted.held_out.double().numpy(), scored(order[LEARNT:]), scored(np.arange(len(normals), len(pictures)))


def counted_threshold(scores: Scores, asked: float) -> float:
    """Until 0.8.0: the score that as many lie above as the rate allows; beyond the largest an exponential tail of the upper tenth."""
    ordered, count = np.sort(scores), len(scores)
    above = int(np.floor(asked * (count + 1) - 1 + 1e-9))
    if above >= 0:
        return float(ordered[-1 - above])
    start = np.quantile(ordered, 0.9)
    mean = float((ordered[ordered > start] - start).mean())
    scale = mean + 0.1 * (float(ordered[-1]) - float(start))
    return float(ordered[-1] + scale * ((1 / (count + 1) / asked) ** 0.1 - 1) / 0.1)


def measure(root: Path, largest: int, draws: int) -> dict[str, Any]:
    """All figures of one set."""
    held_out, others, faults = scores_of(root, largest)
    shift = [float((np.quantile(held_out, q) - np.quantile(others, q)) / others.std()) for q in (0.5, 0.9)]
    found: dict[str, Any] = {"level": shift, "others": len(others), "faults": len(faults)}
    for count in (n for n in NORMALS if len(others) >= n + 80):
        for asked in ASKED:
            found[f"{count} normals, {asked:.0%}"] = _compared(others, faults, count, asked, draws)
    return found


def _compared(others: Scores, faults: Scores, count: int, asked: float, draws: int) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    came: dict[str, list[tuple[float, float]]] = {}
    for _ in range(draws):
        order = rng.permutation(len(others))
        clean, rest = others[order[:count]], others[order[count:]]
        for name, learnt in (("clean", clean), ("odd", np.append(clean[1:], rng.choice(faults)))):
            by = {"counts": counted_threshold(learnt, asked), "tail": score_threshold(fit_calibrator(learnt, count), asked)}
            for law, threshold in by.items():
                came.setdefault(f"{name}, {law}", []).append((float((rest > threshold).mean()) / asked, float((faults > threshold).mean())))
    figures: dict[str, Any] = {"hindsight": float((faults > np.quantile(others, 1 - asked)).mean())}
    for name, pairs in came.items():
        ratio, recall = np.array(pairs).T
        near = float(((ratio >= 0.5) & (ratio <= 1.2)).mean())
        figures[name] = {"ratio": float(ratio.mean()), "near": near, "recall": float(recall.mean())}
    return figures


def main() -> None:
    """Measure each data set, print its figures and write all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", help="NAME=PATH")
    parser.add_argument("--largest", type=int, default=1000)
    parser.add_argument("--draws", type=int, default=40)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/camera/few_normals.json"))
    arguments = parser.parse_args()
    results: dict[str, Any] = {}
    for name, _, path in (item.partition("=") for item in arguments.data):
        results[name] = measure(Path(path), arguments.largest, arguments.draws)
        print(name, json.dumps(results[name], sort_keys=True), flush=True)
        write_text(arguments.out, json.dumps(results, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
