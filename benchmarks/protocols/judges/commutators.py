"""Grey commutators, KolektorSDD (Tabernik et al. 2019, doi:10.1007/s10845-019-01476-x), CC BY-NC-SA 4.0.

As held by github.com/songpeixuan22/Unet-Defect-Detection-in-kolektorSSD: 50 items of eight pictures, 500 wide and about 1,250 high, with
hair-fine cracks and masks. Learnt: the 245 faultless pictures of the first 35 items. Judged: the 103 faultless pictures of the other 15,
and all 52 faulty ones. In the published set items 1 and 26, and 27 and 34, are the same pictures: all four are among those learnt.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from anomaly.errors import DataError
from benchmarks.protocols.judges.placing import BAD, GOOD, Placed, listed

REPOSITORY = "songpeixuan22/Unet-Defect-Detection-in-kolektorSSD"
ITEMS_LEARNT = 35


def commutators(checkout: Path) -> list[Placed]:
    """What goes where. Raises DataError for a folder that is no checkout."""
    return by_item(listed(checkout, "data/kos*/Part*.jpg", REPOSITORY))


def by_item(pictures: Sequence[Path]) -> list[Placed]:
    """Where pictures kosNN/PartM.jpg go, as their masks beside them (PartM_label.bmp) say. Raises DataError where a mask is missing."""
    placed = []
    for path in pictures:
        item, truth = path.parent.name, path.with_name(f"{path.stem}_label.bmp")
        if not truth.is_file():
            raise DataError(f"{truth}: there is no such mask; each picture of the set has one beside it; unpack it again")
        mask = np.asarray(Image.open(truth).convert("L")) > 0
        folder = "train/good" if int(item.removeprefix("kos")) <= ITEMS_LEARNT else GOOD
        name = f"{item}_{path.name}"
        placed.append(Placed(path, BAD, name, mask) if mask.any() else Placed(path, folder, name))
    return placed
