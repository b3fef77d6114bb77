"""Pictures of a public set put where `anomaly fit` finds them: MVTec AD's layout."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anomaly.errors import DataError

GOOD, BAD = "test/good", "test/fault"  # beside train/good


@dataclass(frozen=True)
class Placed:
    """One picture: where it comes from, which folder it goes to, its name there, and where its fault is, (h, w) bool."""

    source: Path
    folder: str
    name: str
    mask: NDArray[np.bool_] | None = None


def place(out: Path, pictures: Sequence[Placed]) -> dict[str, int]:
    """Copy pictures and masks to a folder that is new or empty; returns how many went where.

    A picture with an alpha channel is written without it, as PNG; all others are copied as they are. Raises DataError for a folder that
    holds something, since left-over pictures would be judged too.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out}: there is something already; give a new folder")
    for one in pictures:
        target = out / one.folder / one.name
        target.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(one.source) as picture:
            if "A" in picture.getbands():
                picture.convert("L").save(target.with_suffix(".png"))
            else:
                shutil.copyfile(one.source, target)
        if one.mask is not None:
            truth = out / "ground_truth" / one.folder.removeprefix("test/") / f"{target.stem}_mask.png"
            truth.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(one.mask.astype(np.uint8) * 255).save(truth)
    return dict(Counter(one.folder for one in pictures))


def listed(folder: Path, pattern: str, repository: str) -> list[Path]:
    """The files of a checkout that fit a pattern, by path. Raises DataError when there is none, naming the repository they are from."""
    found = sorted(folder.glob(pattern))
    if not found:
        raise DataError(f"{folder}: no {pattern} in it; give a checkout of github.com/{repository}")
    return found
