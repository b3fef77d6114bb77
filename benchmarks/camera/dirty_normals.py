"""What defects hidden among the normals cost: 5, 10 and 20 % of the training pictures replaced by defects from the test part.

    python -m benchmarks.camera.dirty_normals NAME=DATA... [--spec SPEC.toml] [--seeds 3] [--out FILE.json]

DATA is in MVTec AD layout. The defects used are taken out of the test part. Reported for each share: image AUROC of a clean fit, of a
fit that learns them all, and of the trimmed fit that the pipeline makes, on the same test pictures, and how many suspects are right.
"other_pieces" is the same without the test pictures that nearly repeat a hidden one: the piece that was hidden, under another light.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from anomaly.atomic import write_text
from anomaly.data.pictures.repeats import near_duplicates
from anomaly.features.build import build_camera_extractor
from anomaly.pipeline.camera.line import CameraLine
from anomaly.scorers.build import fit_camera_scorer
from anomaly.scorers.pictures.memory_bank import FittedBanks
from anomaly.scorers.suspects import fit_trimmed
from anomaly.spec import CameraSpec, read_spec

SHARES = (0.05, 0.1, 0.2)


def scores(fitted: FittedBanks, features: list[Tensor], rows: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        parts = [fitted.scorer([maps[chunk] for maps in features])[0] for chunk in torch.from_numpy(rows).split(32)]
    return torch.cat(parts).numpy()


def measure(spec: CameraSpec, root: Path, seeds: int) -> list[dict[str, Any]]:
    """One row a share and seed."""

    def fit(features: list[Tensor], _: Tensor | None = None) -> FittedBanks:
        return fit_camera_scorer(line.settled(), features, torch.Generator().manual_seed(0))

    line = CameraLine(spec, root)
    found, (extractor, source) = line.pictures, build_camera_extractor(line.settled())
    train, test = (line.pictures.features_of(extractor, line.pictures.preprocess(source), part) for part in (found.train, found.test))
    faulty = np.array([p.defect is not None for p in found.test])
    clean, count = fit(train), len(found.train)
    rows = []
    for share in SHARES:
        for seed in range(seeds):
            rng = np.random.default_rng(seed)
            hidden = rng.choice(np.flatnonzero(faulty), min(round(share * count), int(faulty.sum()) - 20), replace=False)
            kept = np.sort(rng.permutation(count)[: count - len(hidden)])
            mixed = [torch.cat([a[kept], b[hidden]]) for a, b in zip(train, test, strict=True)]
            dirty = np.arange(count) >= len(kept)
            rest = np.setdiff1d(np.arange(len(faulty)), hidden)
            trimmed = fit_trimmed(fit, mixed)
            suspect = trimmed.suspect.numpy()
            shown = near_duplicates([*found.train, *(found.test[i] for i in hidden)], [found.test[i] for i in rest])
            hidden_ids = {found.test[i].id for i in hidden}
            other = np.array([shown.get(found.test[i].id) not in hidden_ids for i in rest])
            auroc, other_pieces = {}, {}
            for name, one in (("clean", clean), ("all_learnt", fit(mixed)), ("trimmed", trimmed.fitted)):
                scored = scores(one, test, rest)
                auroc[name] = float(roc_auc_score(faulty[rest], scored))
                other_pieces[name] = float(roc_auc_score(faulty[rest][other], scored[other]))
            right = int((suspect & dirty).sum())
            found_share = {"suspects": int(suspect.sum()), "precision": right / max(1, int(suspect.sum())), "recall": right / len(hidden)}
            other_pieces |= {"left_out": int((~other).sum())}
            rows.append({"share": len(hidden) / count, "seed": seed, **auroc, "other_pieces": other_pieces, **found_share})
            print(root.name, json.dumps(rows[-1]), flush=True)
    return rows


def main() -> None:
    """Measure each data set and write all rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", help="NAME=PATH")
    parser.add_argument("--spec", type=Path, help="a camera spec instead of the default one")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/camera/dirty_normals.json"))
    arguments = parser.parse_args()
    spec = read_spec(arguments.spec) if arguments.spec else CameraSpec(kind="camera")
    assert isinstance(spec, CameraSpec)
    results = {name: measure(spec, Path(path), arguments.seeds) for name, _, path in (item.partition("=") for item in arguments.data)}
    write_text(arguments.out, json.dumps(results, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
