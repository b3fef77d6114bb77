"""Cast pump impellers from above (Dabhi 2020), CC BY-NC-ND 4.0.

First published at kaggle.com/datasets/ravirajsinh45/real-life-industrial-dataset-of-casting-product. As held by
github.com/maomao7784/Casting-Product-Quality-Inspection: grey, 300 x 300; blow holes, burrs, shrinkage, chipped rims; no masks. The set
comes already turned and shifted at random by its author, so that a piece can be in it more than once. Learnt: 500 of its faultless
training pictures, drawn with seed 0. Judged: its whole test part.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.protocols.judges.placing import BAD, GOOD, Placed, listed

REPOSITORY = "maomao7784/Casting-Product-Quality-Inspection"
LEARNT = 500


def castings(checkout: Path) -> list[Placed]:
    """What goes where. Raises DataError for a folder that is no checkout."""
    root = "data/casting_data"
    normals = listed(checkout, f"{root}/train/ok_front/*.jpeg", REPOSITORY)
    drawn = np.random.default_rng(0).permutation(len(normals))[:LEARNT]
    placed = [Placed(normals[i], "train/good", normals[i].name) for i in sorted(drawn.tolist())]
    for kind, folder in (("ok_front", GOOD), ("def_front", BAD)):
        placed += [Placed(path, folder, path.name) for path in listed(checkout, f"{root}/test/{kind}/*.jpeg", REPOSITORY)]
    return placed
