"""Five labelled faults of one kind: AdaBoost on them, TrAdaBoost with a source's labels, the normal-only score, and both together.

    python -m benchmarks.transfer.transfer_labels TILE SOLAR [--faults 5] [--normals 100] [--seeds 5] [--out FILE.json]

TILE and SOLAR are in MVTec AD layout. The target knows `--normals` good tiles and `--faults` labelled tiles of one kind; it is judged on
all good test tiles and the rest of that kind: F1 and AUROC. Votes call a picture faulty from half of all say on; the normal-only score
and the two together at p <= 0.01, from the training normals. Sources: `other kinds` (good tiles and the other four kinds), `solar` (good
and broken solar cells), `unrelated` (solar cells with labels drawn at random). `taken`: how often the guard took TrAdaBoost.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import t as student

from anomaly.atomic import write_text
from anomaly.data.pictures.layouts import find_pictures
from anomaly.data.pictures.reading import Picture
from anomaly.evaluation.metrics import auroc, decisions
from anomaly.features.build import build_camera_extractor
from anomaly.pipeline.camera.few_labels import FOLDS
from anomaly.pipeline.camera.line import CameraLine
from anomaly.pipeline.few_labels import Labelled, choose_vote
from anomaly.scorers.boosted import FULL_VOTE, Rows, add_vote, fit_adaboost, fit_tradaboost, pooled_features, stratified_folds
from anomaly.scorers.build import fit_camera_scorer
from anomaly.spec import CameraSpec

RATE = 0.01


def features(line: CameraLine, pictures: list[Picture]) -> list[torch.Tensor]:
    """Frozen features of pictures."""
    extractor, origin = build_camera_extractor(line.settled())
    return line.pictures.features_of(extractor, line.pictures.preprocess(origin), pictures)


def f1(labels: NDArray[np.bool_], flagged: NDArray[np.bool_]) -> float:
    """F1, 0 where nothing was found."""
    return float(decisions(labels, flagged).get("f1") or 0.0)


def main() -> None:
    """Every kind, every seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tile", type=Path)
    parser.add_argument("solar", type=Path)
    parser.add_argument("--faults", type=int, default=5)
    parser.add_argument("--normals", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/transfer/transfer_labels.json"))
    arguments = parser.parse_args()
    spec = CameraSpec(kind="camera")
    line, solar = CameraLine(spec, arguments.tile), CameraLine(spec, arguments.solar)
    test = [p for p in line.pictures.test if line.pictures.read(p) is not None]
    kinds = np.array([p.defect or "good" for p in test])
    train_maps, test_maps = features(line, line.pictures.readable), features(line, test)
    train, tested = (pooled_features(maps).double().numpy() for maps in (train_maps, test_maps))
    broken = [p for p in find_pictures(arguments.solar).test if p.defect is not None]
    cells = [pooled_features(features(solar, pictures)).double().numpy() for pictures in (solar.pictures.readable[:200], broken[:200])]
    solar_x, solar_y = np.concatenate(cells), np.concatenate([np.full(len(c), i) for i, c in enumerate(cells)])
    runs: dict[str, list[dict[str, Any]]] = {}
    for kind in sorted(set(kinds) - {"good"}):
        for seed in range(arguments.seeds):
            rng = np.random.default_rng([seed, 7])
            own = np.sort(rng.permutation(len(train))[: arguments.normals])
            of_kind = rng.permutation(np.flatnonzero(kinds == kind))
            known, judged = of_kind[: arguments.faults], np.concatenate([of_kind[arguments.faults :], np.flatnonzero(kinds == "good")])
            if len(of_kind) <= arguments.faults:
                continue
            x = np.concatenate([train[own], tested[known]])
            y = np.concatenate([np.zeros(len(own), np.int64), np.ones(len(known), np.int64)])
            rest = np.setdiff1d(np.arange(len(train)), own)[:200]
            others = np.flatnonzero((kinds != kind) & (kinds != "good"))
            sources: dict[str, tuple[Rows, NDArray[np.int64]]] = {
                "other kinds": (np.concatenate([train[rest], tested[others]]), np.repeat([0, 1], [len(rest), len(others)])),
                "solar": (solar_x, solar_y),
                "unrelated": (solar_x, rng.permutation(solar_y)),
            }
            runs.setdefault(kind, []).append(
                one(line.settled(), x, y, sources, [m[own] for m in train_maps], test_maps, tested, kinds, judged, known, seed)
            )
            print(kind, seed, json.dumps(runs[kind][-1]), flush=True)
    write_text(arguments.out, json.dumps({"runs": runs, "means": means(runs)}, indent=1, sort_keys=True) + "\n")
    print(json.dumps(means(runs), indent=1))


def one(
    spec: CameraSpec,
    x: Rows,
    y: NDArray[np.int64],
    sources: dict[str, tuple[Rows, NDArray[np.int64]]],
    maps: list[torch.Tensor],
    test_maps: list[torch.Tensor],
    tested: Rows,
    kinds: NDArray[np.str_],
    judged: NDArray[np.int64],
    known: NDArray[np.int64],
    seed: int,
) -> dict[str, Any]:
    """One draw of normals and faults."""
    labels = kinds[judged] != "good"
    fitted = fit_camera_scorer(spec, maps, torch.Generator().manual_seed(seed), largest=4000)
    with torch.inference_mode():
        scores = fitted.scorer([m[torch.from_numpy(judged)] for m in test_maps])[0].double().numpy()
    own = fitted.held_out.double().numpy()
    row: dict[str, Any] = {}

    def note(name: str, values: Rows, flagged: NDArray[np.bool_]) -> None:
        row[name] = {"f1": f1(labels, flagged), "auroc": auroc(labels, values)}

    note("normal only", scores, scores > np.quantile(own, 1 - RATE))
    ada = fit_adaboost(x, y).share(tested[judged])
    note("adaboost", ada, ada >= 0.5)
    for name, (source, source_y) in sources.items():
        share = fit_tradaboost(source, source_y, x, y).share(tested[judged])
        note(f"tradaboost, {name}", share, share >= 0.5)
        folds = stratified_folds(y, min(FOLDS, int(y.sum())), np.random.default_rng(seed))
        vote, held_out, report = choose_vote(Labelled(x, y), Labelled(source, source_y), folds, seed)
        step = FULL_VOTE * float(own.std())
        both, normals = add_vote(scores, vote.share(tested[judged]), step), add_vote(own, held_out[: len(own)], step)
        note(f"together, {name}", both, both > np.quantile(normals, 1 - RATE))
        row[f"taken, {name}"] = report["vote"]
    return row


def means(runs: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Mean and 95 % interval over seeds, by kind and over all kinds."""

    def interval(values: list[float]) -> dict[str, float]:
        half = float(student.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5) if len(values) > 1 else 0.0
        return {"mean": float(np.mean(values)), "half_ci95": half}

    table: dict[str, Any] = {}
    for kind, rows in [*runs.items(), ("all", [row for every in runs.values() for row in every])]:
        table[kind] = {
            name: (
                {figure: interval([row[name][figure] for row in rows]) for figure in ("f1", "auroc")}
                if isinstance(rows[0][name], dict)
                else sum(row[name] == "tradaboost" for row in rows) / len(rows)
            )
            for name in rows[0]
        }
    return table


if __name__ == "__main__":
    main()
