"""Made-up marks of 2 to 64 px in pictures of 256 to 4,096 px a side: the size down to which they are found, by default.

Surfaces are made up, so anyone can run it: brushed metal, and a board of lines. Each is fitted with nothing set (the size of input is
chosen), without adaptation, up to the threshold for 1 %; marks are drawn on normals and scored without their own part.

    python -m benchmarks.camera.mark_sizes --out benchmarks/results/camera/mark_sizes.json
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter, uniform_filter1d

from anomaly.atomic import write_text
from anomaly.evaluation.marks_found import marks_found
from anomaly.pipeline.camera.line import CameraLine
from anomaly.pipeline.steps import Steps
from anomaly.spec import CameraSpec, Pretrain

SIDES = (256, 512, 1024, 2048, 4096)
NORMALS = 40
SURFACES = ("metal", "board")


def metal(side: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Brushed metal: streaks along the picture, uneven light, noise. The grain has the same size in pixels always."""
    streaks = uniform_filter1d(rng.normal(size=(side, side)).astype(np.float32), min(201, side // 2), axis=1, mode="wrap")
    streaks *= 9 / streaks.std()
    y, x = np.mgrid[:side, :side].astype(np.float32) / side
    light = 128 + 14 * rng.normal() * (x - 0.5) + 14 * rng.normal() * (y - 0.5) + 4 * rng.normal()
    return np.asarray(np.clip(light + streaks + rng.normal(0, 2, (side, side)).astype(np.float32), 0, 255).astype(np.uint8))


def board(side: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """A board: bright lines and pads in one layout, shifted by up to 4 pixels, with edges that are never quite the same, and noise."""
    layout = np.random.default_rng(0)
    copper = np.zeros((side, side), np.float32)
    for _ in range(max(12, side // 12)):
        y, x, long, width = layout.integers(side), layout.integers(side), layout.integers(side // 8, side // 2), int(layout.integers(4, 9))
        if layout.random() < 0.5:
            copper[y : y + width, x : x + long] = 1
        else:
            copper[y : y + long, x : x + width] = 1
        copper[y : y + 3 * width, x : x + 3 * width] = 1
    moved = np.roll(copper, rng.integers(-4, 5, 2), axis=(0, 1))
    ragged = gaussian_filter(rng.normal(size=(side, side)).astype(np.float32), 2.0)
    etched = np.clip((gaussian_filter(moved, 1.2) - 0.5 + 0.12 * ragged / ragged.std()) * 2.5 + 0.5, 0, 1)
    soft = 70 + 100 * etched + 4 * rng.normal() + rng.normal(0, 3, (side, side)).astype(np.float32)
    return np.asarray(np.clip(soft, 0, 255).astype(np.uint8))


def one(surface: str, side: int, normals: int, seed: int) -> dict[str, Any]:
    """Fit on `normals` made-up pictures, and what is found."""
    draw = {"metal": metal, "board": board}[surface]
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        data.mkdir()
        for i in range(normals):
            Image.fromarray(draw(side, np.random.default_rng([seed, side, i]))).save(data / f"{i:03}.png", compress_level=1)
        return fitted(data, Path(folder) / "work") | {"surface": surface, "side": side}


def made_up(surfaces: Sequence[str], sides: Sequence[int], normals: int, seed: int) -> Iterator[dict[str, Any]]:
    """A row for each surface and size of pictures."""
    for side in sides:
        for surface in surfaces:
            yield one(surface, side, normals, seed)


def real(sets: Sequence[str]) -> Iterator[dict[str, Any]]:
    """A row for each set of real pictures."""
    for item in sets:
        name, _, path = item.partition("=")
        with tempfile.TemporaryDirectory() as work:
            row = fitted(Path(path), Path(work))
        yield row | {"surface": name, "side": "their own"}


def fitted(data: Path, work: Path) -> dict[str, Any]:
    """What a default fit on a folder finds."""
    steps = Steps(CameraLine(CameraSpec(kind="camera", pretrain=Pretrain(method="none")), data), work, quick=True)
    began = time.process_time()
    report, threshold = steps.fitted.report, steps.threshold()
    seconds = time.process_time() - began
    found = marks_found(**report["marks"], threshold=threshold.score, rate=threshold.p_value)
    plan = report.get("plan", {})
    return {
        "normals": report["normals"],
        "input": plan.get("size"),
        "ms": plan.get("milliseconds"),
        "found": found["found"],
        "smallest": found["smallest"],
        "marks_of_a_size": len(next(iter(report["marks"]["scores"].values()))),
        "processor_s": round(seconds),
        "plan": report.get("views", {}).get("why"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--surfaces", nargs="+", default=list(SURFACES), choices=SURFACES)
    parser.add_argument("--sides", nargs="+", type=int, default=list(SIDES))
    parser.add_argument("--normals", type=int, default=NORMALS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="rows already there are kept, those run again are replaced")
    parser.add_argument("--data", nargs="*", default=[], help="NAME=PATH of real pictures, judged in place of the made-up ones")
    asked = parser.parse_args()
    rows = json.loads(asked.out.read_text()) if asked.out.exists() else []
    for row in real(asked.data) if asked.data else made_up(asked.surfaces, asked.sides, asked.normals, asked.seed):
        rows = [other for other in rows if (other["surface"], other["side"]) != (row["surface"], row["side"])] + [row]
        print(json.dumps(row), flush=True)
        asked.out.parent.mkdir(parents=True, exist_ok=True)
        write_text(asked.out, json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
