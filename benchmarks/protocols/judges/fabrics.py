"""Woven fabrics, AITEX (Silvestre-Blanes et al. 2019, doi:10.2478/aut-2019-0035): for research, to be cited; the copy names no licence.

As held by github.com/mhzobaer26/TextileAI_Dataset: grey strips of 4,096 x 256, seven fabrics of 20 faultless strips each, and faults of
many kinds (broken ends and picks, creases, knots, neps, a cut selvage); the masks are not there. One detector for all seven: of each
fabric the first 14 faultless strips are learnt and the last 6 judged, with every faulty strip of these fabrics.
"""

from __future__ import annotations

import re
from pathlib import Path

from benchmarks.protocols.judges.placing import BAD, GOOD, Placed, listed

REPOSITORY = "mhzobaer26/TextileAI_Dataset"
LEARNT = 14  # strips of a fabric
NAME = re.compile(r"\d{4}_\d{3}_(\d{2})")  # number, kind of fault, fabric; one stray copy is named otherwise


def fabrics(checkout: Path) -> list[Placed]:
    """What goes where. Raises DataError for a folder that is no checkout."""
    placed, seen = [], dict[str, int]()
    for path in listed(checkout, "no_defect/*/*.png", REPOSITORY):
        if named := NAME.fullmatch(path.stem):
            seen[named[1]] = seen.get(named[1], 0) + 1
            placed.append(Placed(path, "train/good" if seen[named[1]] <= LEARNT else GOOD, path.name))
    for path in listed(checkout, "defect/*.png", REPOSITORY):
        if (named := NAME.fullmatch(path.stem)) and named[1] in seen:
            placed.append(Placed(path, BAD, path.name))
    return placed
