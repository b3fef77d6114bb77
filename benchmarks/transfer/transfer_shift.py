"""Adaptation to a shifted camera: how much of the loss each way wins back, with a few unlabelled pictures of the new camera.

    python -m benchmarks.transfer.transfer_shift DATA [--target 20] [--seeds 3] [--ways coral ...] [--out FILE.json]

DATA is in MVTec AD layout. Its training normals, up to 100 of them, are the source line. The target line sees the same parts through a
shifted camera (SHIFTS below): `--target` training pictures other than those are all that it has, and every test picture is shifted. The
banks hold the source's normals alone, so that what is measured is the adaptation: image AUROC of the source alone unshifted, on shifted
pictures without adaptation, and with each way; `recovered` is the share of the drop that is won back. Beside them `target only`: the same
extractor and a bank of the target pictures alone; `fitted with` each way: the banks that a bundle really has, of the target's own
pictures and the source's adapted ones; and `source shifted`: a bank of the source's very pictures taken through the shifted camera, which
no adaptation has: what that does not win back either is lost in the pictures. The guard is what `anomaly transfer` would have said.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from anomaly.atomic import write_text
from anomaly.data.pictures.layouts import find_pictures
from anomaly.data.pictures.reading import Picture
from anomaly.evaluation.metrics import auroc
from anomaly.evaluation.transfer import ALONE, judge
from anomaly.features.stages import Stages
from anomaly.pipeline.camera.line import CameraLine
from anomaly.pipeline.camera.transfer import CameraTransfer
from anomaly.scorers.build import fit_camera_scorer
from anomaly.spec import CameraSpec, Transfer, TransferMethod

Gray = NDArray[np.float32]
BANK = 4000
GUARDED: tuple[TransferMethod, ...] = ("coral", "batch-norm")  # judging a way that trains takes minutes
WAYS: tuple[TransferMethod, ...] = ("coral", "batch-norm", "deep-coral", "dann")


def vignette(x: Gray) -> Gray:
    """Down to a third of the light in the corners."""
    high, wide = x.shape
    y, z = np.linspace(-1, 1, high)[:, None], np.linspace(-1, 1, wide)[None]
    return np.asarray(x * (1 - 0.33 * (y**2 + z**2)), dtype=np.float32)


def blur(x: Gray) -> Gray:
    """Out of focus: a Gaussian of 1.5 pixels."""
    return np.asarray(Image.fromarray(x.astype(np.uint8)).filter(ImageFilter.GaussianBlur(1.5)), dtype=np.float32)


SHIFTS: dict[str, Callable[[Gray, np.random.Generator], Gray]] = {
    "gamma 1.8": lambda x, _: np.asarray(255 * (x / 255) ** 1.8, dtype=np.float32),
    "vignetting": lambda x, _: vignette(x),
    "blur 1.5 px": lambda x, _: blur(x),
    "noise 12": lambda x, rng: np.asarray(x + 12 * rng.standard_normal(x.shape), dtype=np.float32),
    "gain 0.5 + 20": lambda x, _: np.asarray(0.5 * x + 20, dtype=np.float32),
    "all of them, milder": lambda x, rng: np.asarray(
        0.75 * vignette(blur(255 * (x / 255) ** 1.3)) + 10 + 6 * rng.standard_normal(x.shape), dtype=np.float32
    ),
}


def shifted(pictures: list[Picture], shift: str, root: Path) -> None:
    """Write pictures through a shifted camera, in the layout they lie in."""
    for number, picture in enumerate(pictures):
        x = np.asarray(Image.open(picture.path).convert("L"), dtype=np.float32)
        path = (root / picture.id).with_suffix(".png")
        path.parent.mkdir(parents=True, exist_ok=True)
        seen = SHIFTS[shift](x, np.random.default_rng(number))
        Image.fromarray(np.clip(seen, 0, 255).astype(np.uint8)).save(path)


def rate(line: CameraLine, fit: list[torch.Tensor], tested: list[torch.Tensor], borrowed: list[torch.Tensor], seed: int) -> float:
    """Image AUROC of banks of these features, one (N, C_s, h_s, w_s) a stage, on the features of the labelled pictures."""
    scorer = fit_camera_scorer(line.settled(), fit, torch.Generator().manual_seed(seed), largest=BANK, borrowed=borrowed).scorer
    with torch.inference_mode():
        scores = [scorer([maps[i : i + 32] for maps in tested])[0] for i in range(0, len(tested[0]), 32)]
    return auroc(np.array([p.defect is not None for p in line.pictures.test]), torch.cat(scores).double().numpy()) or 0.0


def main() -> None:
    """Every shift, every way, over seeds that draw other target pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--target", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/transfer/transfer_shift.json"))
    arguments = parser.parse_args()
    found = find_pictures(arguments.data)
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch) / "source"
        normals = list(found.train)[:: max(1, len(found.train) // 100)][:100]
        rest = [p for p in found.train if p not in normals]
        for picture in normals:
            path = source / Path(picture.id).name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.symlink_to(picture.path.resolve())
        base = CameraSpec(kind="camera", transfer=Transfer(normals=source, method="coral"))
        unshifted: dict[int, float] = {}
        for shift in SHIFTS:
            for seed in range(arguments.seeds):
                chosen = [rest[i] for i in np.random.default_rng(seed).permutation(len(rest))[: arguments.target]]
                root = Path(scratch) / f"{shift}-{seed}"
                shifted([*chosen, *found.test], shift, root)
                spec = base.model_copy(
                    update={"seed": seed, "pretrain": base.pretrain.model_copy(update={"epochs": 3, "max_minutes": 1.0})}
                )
                line = CameraLine(spec, root)
                transfer = CameraTransfer(line.settled(), line.pictures, line.judging, lambda _: None)
                if seed not in unshifted:
                    seen = line.pictures.features_of(transfer.source, transfer.preprocess, list(found.test))
                    unshifted[seed] = rate(line, transfer.borrowed, seen, [], seed)
                shifted(normals, shift, root / "source shifted")
                row = {"unshifted": unshifted[seed]} | one_draw(line, transfer, arguments.ways, seed)
                guarded = [m for m in GUARDED if m in arguments.ways]
                if seed == 0 and guarded:
                    row["guard"] = {
                        m: {"verdict": j.verdict, "gain": j.gain, "ci95": [j.low, j.high]}
                        for m, j in judge(transfer.rankings(guarded), seed).items()
                    }
                results.setdefault(shift, []).append(row)
                print(shift, seed, json.dumps(row), flush=True)
    write_text(arguments.out, json.dumps({"shifts": results, "means": means(results)}, indent=1, sort_keys=True) + "\n")


def one_draw(line: CameraLine, transfer: CameraTransfer, ways: list[TransferMethod], seed: int) -> dict[str, Any]:
    """Image AUROC on the shifted pictures, without adaptation and by each way."""

    def seen(extractor: Stages, pictures: list[Picture]) -> list[torch.Tensor]:
        return line.pictures.features_of(extractor, transfer.preprocess, pictures)

    test = list(line.pictures.test)
    own, tested = seen(transfer.source, line.pictures.readable), seen(transfer.source, test)
    there = seen(transfer.source, list(find_pictures(line.pictures.root / "source shifted").train))
    row: dict[str, Any] = {
        "source shifted": rate(line, there, tested, [], seed),
        "source only": rate(line, transfer.borrowed, tested, [], seed),
        ALONE: rate(line, own, tested, [], seed),
        "fitted with frozen": rate(line, own, tested, transfer.borrowed, seed),
    }
    for method in ways:
        way = transfer.candidate(method, line.pictures.readable)
        mine, other = (own, tested) if method == "coral" else (seen(way.extractor, line.pictures.readable), seen(way.extractor, test))
        row[method] = rate(line, way.borrowed, other, [], seed)
        row[f"fitted with {method}"] = rate(line, mine, other, way.borrowed, seed)
    return row


def means(results: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Means over seeds, and the share of the mean drop that each way, and each way's bundle, wins back."""
    table = {}
    for shift, rows in results.items():
        mean = {k: float(np.mean([row[k] for row in rows])) for k in rows[0] if k != "guard"}
        drop = mean["unshifted"] - mean["source only"]
        won = {k: (v - mean["source only"]) / drop for k, v in mean.items() if k not in ("unshifted", "source only") and drop > 0.002}
        table[shift] = mean | {"drop": drop, "recovered": won}
    return table


if __name__ == "__main__":
    main()
