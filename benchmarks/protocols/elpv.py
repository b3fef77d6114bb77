"""The ELPV solar cells (Deitsch et al. 2019, doi:10.1016/j.solener.2019.02.067) laid out for this package.

    python -m benchmarks.protocols.elpv --out FOLDER [--train 400] [--seed 0]

The pictures come with the `elpv-dataset` package (CC BY-NC-SA 4.0), which the user installs; nothing of it is shipped here.
"""

from __future__ import annotations

import argparse
import importlib.util
import shutil
from pathlib import Path
from typing import Literal

import numpy as np

from anomaly.errors import AnomalyError, DataError


def write_elpv(out: Path, kind: Literal["mono", "poly"] = "mono", train: int = 400, seed: int = 0) -> dict[str, int]:
    """Copy the cells of one kind into MVTec AD layout under `out`; returns how many went where.

    Normal = defect probability 0, defect = probability 1, the doubtful rest is left out. `train` normals, drawn with
    `seed`, go to train/good, the other normals to test/good. Raises DataError when the package is not installed.
    """
    found = importlib.util.find_spec("elpv_dataset")
    if found is None or found.origin is None:
        raise DataError("the package elpv-dataset is not installed; run: pip install elpv-dataset")
    root = Path(found.origin).parent / "data"
    rows = [line.split() for line in (root / "labels.csv").read_text(encoding="utf-8").splitlines() if line.strip()]
    cells = [(root / name, float(probability)) for name, probability, label in rows if label == kind]
    normal = [path for path, probability in cells if probability == 0.0]
    defect = [path for path, probability in cells if probability == 1.0]
    if train >= len(normal):
        raise DataError(f"{kind} has {len(normal)} normal cells; --train {train} leaves none to test on; give fewer")
    order = np.random.default_rng(seed).permutation(len(normal))
    jobs = {
        "train/good": [normal[i] for i in sorted(order[:train])],
        "test/good": [normal[i] for i in sorted(order[train:])],
        "test/defect": defect,
    }
    for folder, paths in jobs.items():
        (out / folder).mkdir(parents=True, exist_ok=True)
        for path in paths:
            shutil.copyfile(path, out / folder / path.name)
    return {folder: len(paths) for folder, paths in jobs.items()}


def main(arguments: list[str] | None = None) -> None:
    """Lay out the mono cells and print how many pictures went where."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="the folder to make")
    parser.add_argument("--train", type=int, default=400, help="normal cells to learn from")
    parser.add_argument("--seed", type=int, default=0, help="which ones")
    given = parser.parse_args(arguments)
    try:
        counts = write_elpv(given.out, "mono", given.train, given.seed)
    except AnomalyError as error:
        parser.exit(1, f"{error}\n")
    for folder, count in counts.items():
        print(f"{given.out / folder}: {count} pictures")


if __name__ == "__main__":
    main()
