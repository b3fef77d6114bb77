"""Learning curves: the target alone, weights from nothing, against three sources for tiles and two for SKAB.

    python -m benchmarks.transfer.transfer_curves --tile DATA --solar SOLAR --steel STEEL --skab SKAB [--seeds 5] [--out F.json]

Cameras: the target's spec names an untrained EfficientNet-Lite0. Sources: its ImageNet weights; the same network trained from nothing on
solar cells or on steel surfaces by dense VICReg (what a plant without public weights could bring along); and the ImageNet weights adapted
to them. `from nothing` is the same training on the target's own normals. Image AUROC on the labelled pictures; banks of at most 2,000
patches.

SKAB: the source is the anomaly-free record, or a record of generated signals; the target's first n windows are all that it knows. Mean
ROC-AUC of the runs' rows after their first 400, and F1 and false-alarm rate at the default budget. A seed is where in the first 400 rows
the n windows begin. Below about 100 windows the target alone cannot be fitted.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from anomaly.atomic import write_text
from anomaly.data.files import PICTURES, find_files
from anomaly.data.samples.generated import write_generated
from anomaly.errors import DataError
from anomaly.evaluation import metrics
from anomaly.evaluation.figures import by_row
from anomaly.evaluation.report.curve import curve_table
from anomaly.features.build import build_camera_extractor, save_extractor
from anomaly.features.training.adapt_domains import reestimate_batch_norm
from anomaly.features.training.pretrain_images import pretrain_images
from anomaly.pipeline.camera.adaptation import describe_extractor
from anomaly.pipeline.camera.curve import ALL, SIZES, camera_curve
from anomaly.pipeline.camera.line import CameraLine
from anomaly.pipeline.rank_sources import rank_sources
from anomaly.scorers.sensors.choice import LEVEL_ROWS
from anomaly.spec import CameraExtractor, CameraSpec, Pretrain, SensorSpec, Transfer
from benchmarks.protocols.sensors import SKAB_LABELS, SKAB_TRAINING_ROWS, learn_and_score, row_after_row, skab_runs

NOTHING = CameraExtractor(backbone="untrained:efficientnet_lite0")
WINDOWS = (20, 50, 120, 371)


def trained(data: Path, backbone: CameraExtractor, out: Path, epochs: int) -> Path:
    """An extractor trained on a source's pictures, kept whatever the gate says: the curve is the judge here."""
    new = backbone == NOTHING
    settings = Pretrain(epochs=max(1, epochs), max_minutes=20.0, depth="all" if new else 2, learning_rate=1e-2 if new else 1e-3)
    spec = CameraSpec(kind="camera", extractor=backbone, pretrain=settings)
    line = CameraLine(spec, data)
    extractor, origin = build_camera_extractor(spec)
    generator, preprocess = torch.Generator().manual_seed(0), line.pictures.preprocess(origin)
    first, second = line.judging.halves()
    if new and epochs:
        # Random weights leave activations of any size, and batch norm stays frozen in training: the source's pictures set it first.
        some = [line.pictures.readable[i : i + 16] for i in range(0, 128, 16)]
        reestimate_batch_norm(extractor, [line.pictures.crops(part, preprocess, generator) for part in some])
    if epochs:
        pretrain_images(
            extractor,
            lambda indices: line.pictures.crops([line.pictures.readable[i] for i in indices], preprocess, generator),
            len(line.pictures.readable),
            spec.pretrain,
            generator,
            lambda e: line.judging.rank(e, preprocess, first, second, seed=1).auroc(),
        )
    about = describe_extractor(line.settled(), origin) | {
        "changed": True,
        "adaptation": {"kept": False, "why": "trained for a learning curve"},
    }
    save_extractor(out, extractor, about)
    return out


def pictures(source: Path, out: Path, count: int = 400) -> Path:
    """A flat folder of some of a source's pictures."""
    train = source / "train" / "good"
    found = find_files(train if train.is_dir() else source, PICTURES)
    out.mkdir()
    for path in found[:: max(1, len(found) // count)][:count]:
        (out / path.name).symlink_to(path.resolve())
    return out


def cameras(tile: Path, sources: dict[str, Path], only: str, seeds: int, scratch: Path) -> dict[str, Any]:
    """Curves of tiles from each source."""
    flat = {name: pictures(path, scratch / name) for name, path in sources.items()}
    makers = {
        "imagenet": lambda out: trained_none(tile, out),
        "untrained": lambda out: trained(flat["steel"], NOTHING, out, 0),
        "solar from nothing": lambda out: trained(flat["solar"], NOTHING, out, 3),
        "steel from nothing": lambda out: trained(flat["steel"], NOTHING, out, 3),
        "solar from imagenet": lambda out: trained(flat["solar"], CameraExtractor(), out, 4),
        "steel from imagenet": lambda out: trained(flat["steel"], CameraExtractor(), out, 4),
    }
    results: dict[str, Any] = {}
    line = CameraLine(CameraSpec(kind="camera", extractor=NOTHING), tile)
    for name, make in makers.items():
        if only and name not in only.split(","):
            continue
        weights = make(scratch / f"{name.replace(' ', '-')}.safetensors")
        results.setdefault("logme", {})[name] = rank_sources(line, [weights], lambda _: None)[0]["logme"]
        print(name, "logme", results["logme"][name], flush=True)
        if name != "untrained":
            results[name] = tile_curve(tile, weights, "frozen", seeds, (*SIZES, ALL))
    if not only or "tile from nothing" in only.split(","):
        spec = CameraSpec(kind="camera", extractor=NOTHING)
        weights = scratch / "none.safetensors"
        extractor, origin = build_camera_extractor(spec)
        save_extractor(weights, extractor, describe_extractor(spec, origin))
        results["tile from nothing"] = tile_curve(tile, weights, "finetune", 1, (20, 100))
    return results


def trained_none(data: Path, out: Path) -> Path:
    """ImageNet's weights as an extractor file."""
    line = CameraLine(CameraSpec(kind="camera"), data)
    extractor, origin = build_camera_extractor(line.settled())
    save_extractor(out, extractor, describe_extractor(line.settled(), origin) | {"changed": True})
    return out


def tile_curve(tile: Path, weights: Path, method: Any, seeds: int, sizes: tuple[int, ...]) -> list[dict[str, Any]]:
    """One curve, mean and interval a size."""
    spec = CameraSpec(
        kind="camera",
        extractor=NOTHING,
        transfer=Transfer(source=weights, method=method),
        pretrain=Pretrain(epochs=6, max_minutes=20.0, depth="all", learning_rate=1e-2),
    )
    curve = camera_curve(CameraLine(spec, tile), method, sizes, seeds, lambda text: print(text, flush=True))
    rows = curve_table(curve).to_dict("records")
    return [{k: (None if isinstance(v, float) and np.isnan(v) else v) for k, v in row.items()} for row in rows]


def skab_point(path: Path, windows: int, start: int, transfer: Transfer) -> dict[str, Any] | None:
    """One run learnt from `windows` windows; None where that cannot be."""
    frame = pd.read_csv(path, sep=";")
    spec = row_after_row(SensorSpec(kind="sensor", pretrain=Pretrain(method="none"), transfer=transfer))
    values = frame.drop(columns=list(SKAB_LABELS))
    rows = windows + LEVEL_ROWS - 1
    try:
        scored, _, p = learn_and_score(spec, path, values.iloc[start : start + rows], values)
    except DataError:
        return None
    flagged, score = by_row(scored, SKAB_TRAINING_ROWS, len(frame), p)
    label = frame["anomaly"].to_numpy()[SKAB_TRAINING_ROWS:] > 0
    return {"auc": metrics.auroc(label, score), "label": label, "flagged": flagged}


def skab(data: Path, seeds: int, scratch: Path, only: str) -> dict[str, Any]:
    """Curves of all SKAB runs, with what each source lends and without."""
    free = next(p for p in sorted((data / "anomaly-free").glob("*.csv")))
    generated = write_generated(scratch / "generated.csv", list(pd.read_csv(free, sep=";", nrows=2).columns[1:]), 9400, 0)
    ways = {
        "target only": Transfer(),
        "anomaly-free by coral": Transfer(normals=free, method="coral"),
        "anomaly-free by batch-norm": Transfer(normals=free, method="batch-norm"),
        "generated by coral": Transfer(normals=generated, method="coral"),
    }
    results: dict[str, Any] = {}
    for name, transfer in ways.items():
        if only and name not in only.split(","):
            continue
        for windows in WINDOWS:
            aucs, labels, flags = [], [], []
            for seed in range(seeds if windows < WINDOWS[-1] else 1):
                for path in skab_runs(data):
                    room = SKAB_TRAINING_ROWS - windows - 29
                    start = int(np.random.default_rng([seed, windows]).integers(room + 1)) if room > 0 else 0
                    found = skab_point(path, windows, start, transfer)
                    if found is None:
                        break
                    aucs.append((seed, found["auc"]))
                    labels.append(found["label"])
                    flags.append(found["flagged"])
            if not aucs:
                continue
            by_seed = pd.DataFrame(aucs, columns=["seed", "auc"]).groupby("seed")["auc"].mean().to_numpy()
            decided = metrics.decisions(np.concatenate(labels), np.concatenate(flags))
            row = {"normals": windows, "mean_roc_auc": float(by_seed.mean()), "by_seed": by_seed.tolist(), **decided}
            results.setdefault(name, []).append(row)
            print(name, json.dumps(row), flush=True)
    return results


def main() -> None:
    """Everything asked for, into one file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tile", type=Path)
    parser.add_argument("--solar", type=Path)
    parser.add_argument("--steel", type=Path)
    parser.add_argument("--skab", type=Path)
    parser.add_argument("--only", default="")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/transfer/transfer_curves.json"))
    arguments = parser.parse_args()
    results: dict[str, Any] = json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
    with tempfile.TemporaryDirectory() as scratch:
        if arguments.tile:
            sources = {"solar": arguments.solar, "steel": arguments.steel}
            results["tile"] = results.get("tile", {}) | cameras(arguments.tile, sources, arguments.only, arguments.seeds, Path(scratch))
            write_text(arguments.out, json.dumps(results, indent=1, sort_keys=True) + "\n")
        if arguments.skab:
            results["skab"] = results.get("skab", {}) | skab(arguments.skab, arguments.seeds, Path(scratch), arguments.only)
            write_text(arguments.out, json.dumps(results, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
