"""Bare printed boards, DeepPCB (Tang et al. 2019, arXiv:1902.06197): github.com/tangsanli5201/DeepPCB, MIT licence, "for research purpose".

Black and white, 640 x 640; opens, shorts, mouse bites, spurs, pin holes and spurious copper of few pixels, each with a box. Three of the
eleven layouts, whose 523 templates are faultless: 300 of them, drawn with seed 0, are learnt; the other 223 and their faulty pictures
are judged. The boxes stand in for masks, so the overlap of regions (AUPRO) is with boxes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anomaly.errors import DataError
from benchmarks.protocols.judges.placing import BAD, GOOD, Placed, listed

REPOSITORY = "tangsanli5201/DeepPCB"
LAYOUTS = ("12300", "20085", "44000")
LEARNT = 300
SIDE = 640


def boards(checkout: Path) -> list[Placed]:
    """What goes where. Raises DataError for a folder that is no checkout, or a box that cannot be read."""
    templates = [path for layout in LAYOUTS for path in listed(checkout, f"PCBData/group{layout}/{layout}/*_temp.jpg", REPOSITORY)]
    learnt = set(np.random.default_rng(0).permutation(len(templates))[:LEARNT].tolist())
    placed = []
    for i, template in enumerate(templates):
        if i in learnt:
            placed.append(Placed(template, "train/good", template.name))
            continue
        faulty = template.with_name(template.name.replace("_temp", "_test"))
        boxes = template.parents[1] / f"{template.parent.name}_not" / f"{template.stem.removesuffix('_temp')}.txt"
        placed += [Placed(template, GOOD, template.name), Placed(faulty, BAD, faulty.name, mask_of(boxes))]
    return placed


def mask_of(boxes: Path) -> NDArray[np.bool_]:
    """The faults' boxes as a mask (640, 640); a line is `x1 y1 x2 y2 kind`, in pixels. Raises DataError for another line."""
    mask = np.zeros((SIDE, SIDE), dtype=bool)
    for number, line in enumerate(boxes.read_text(encoding="utf-8").splitlines(), 1):
        if line.strip():
            try:
                left, top, right, bottom, _ = (int(word) for word in line.split())
            except ValueError:
                raise DataError(f"{boxes}, line {number}: {line!r} is no box: x1 y1 x2 y2 kind") from None
            mask[top : bottom + 1, left : right + 1] = True
    return mask
