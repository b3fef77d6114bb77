"""The published picture sets: which categories each has, and where their pictures lie in the archives as published.

mvtec    MVTec AD (Bergmann et al. 2021, doi:10.1007/s11263-020-01400-4): CATEGORY/{train/good, test/KIND, ground_truth/KIND}
mvtec2   MVTec AD 2 (Heckler-Kram et al. 2025, arXiv:2503.21622): CATEGORY/{train/good, validation/good, test_public/{good, bad,
         ground_truth/bad}}; what is in test_private has no published truth, and is not judged
visa     VisA (Zou et al. 2022, arXiv:2207.14315): CATEGORY/Data/{Images/{Normal, Anomaly}, Masks/Anomaly}, split_csv/1cls.csv beside them
btad     BTAD (Mishra et al. 2021, arXiv:2104.10036): CATEGORY/{train/ok, test/{ok, ko}, ground_truth/ko}
kolektor KolektorSDD (Tabernik et al. 2019, doi:10.1007/s10845-019-01476-x): kosNN/PartM.jpg with PartM_label.bmp; KolektorSDD2 (Bozic et
         al. 2021, doi:10.1016/j.compind.2021.103459): {train, test}/N.png with N_GT.png. A picture is faulty where its mask is not blank
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from anomaly.data.files import find_folders
from anomaly.errors import DataError
from anomaly.evaluation.pixels import AUPRO_LIMIT
from benchmarks.protocols.judges.commutators import by_item
from benchmarks.protocols.judges.placing import BAD, GOOD, Placed, place

PICTURE = re.compile(r"\d+\.png")  # of KolektorSDD2; copies and masks have other names


@dataclass(frozen=True)
class PublishedSet:
    """A published set.

    title       its name in words
    categories  the names of its categories
    inside      what each category's folder holds, by which it is found (a pattern of names)
    lay_out     what goes where, by category, for sets that do not lie as `anomaly fit` takes them
    limit       the false-positive rate up to which its AUPRO is published
    """

    title: str
    categories: tuple[str, ...]
    inside: Mapping[str, str]
    lay_out: Mapping[str, Callable[[Path], list[Placed]]] = field(default_factory=dict)
    limit: float = AUPRO_LIMIT

    def folder_of(self, category: str, root: Path) -> Path | None:
        """The folder of a category under `root`, or under a folder in it, as archives have it; None where it is not there."""
        where = "" if self.lay_out else category
        for folder in (root, *find_folders(root)):
            if next((folder / where).glob(self.inside[category]), None) is not None:
                return folder / where
        return None

    def data_of(self, category: str, root: Path, work: Path) -> Path:
        """What `anomaly fit --data` takes: the category's own folder, or a copy below `work` in MVTec AD layout, made once.

        Raises DataError when the category is not there, or not whole.
        """
        folder = self.folder_of(category, root)
        if folder is None:
            raise DataError(f"{root}: no {category} of {self.title} in it; {self.inside[category]} is looked for")
        if category not in self.lay_out:
            return folder
        laid, part = work / category, work / f"{category}.part"
        if not laid.exists():
            shutil.rmtree(part, ignore_errors=True)
            place(part, self.lay_out[category](folder))
            part.rename(laid)
        return laid


def items(folder: Path) -> list[Placed]:
    """KolektorSDD: learnt by items, so that no other side of a judged item is learnt (`judges/commutators.py`)."""
    return by_item(sorted(folder.glob("kos*/Part*.jpg")))


def surfaces(folder: Path) -> list[Placed]:
    """KolektorSDD2: its faultless training pictures are learnt from, all of its test pictures judged.

    Raises DataError for a folder without such pictures, or with a picture that has no mask.
    """
    placed = []
    for part in ("train", "test"):
        pictures = _numbered(folder / part)
        for path in pictures:
            truth = path.with_name(f"{path.stem}_GT.png")
            if not truth.is_file():
                raise DataError(f"{truth}: there is no such mask; each picture of KolektorSDD2 has one beside it; unpack it again")
            with Image.open(truth) as opened:
                mask = np.asarray(opened.convert("L")) > 0
            if part == "train" and not mask.any():
                placed.append(Placed(path, "train/good", path.name))
            elif part == "test":
                placed.append(Placed(path, BAD, path.name, mask) if mask.any() else Placed(path, GOOD, path.name))
    return placed


def _numbered(folder: Path) -> Sequence[Path]:
    found = sorted(path for path in folder.glob("*.png") if PICTURE.fullmatch(path.name))
    if not found:
        raise DataError(f"{folder}: no pictures such as 20000.png in it; give the folder that holds KolektorSDD2's train and test")
    return found


MVTEC = (
    "bottle", "cable", "capsule", "carpet", "grid", "hazelnut", "leather", "metal_nut", "pill", "screw", "tile", "toothbrush",
    "transistor", "wood", "zipper",
)  # fmt: skip
MVTEC2 = ("can", "fabric", "fruit_jelly", "rice", "sheet_metal", "vial", "wallplugs", "walnuts")
VISA = (
    "candle", "capsules", "cashew", "chewinggum", "fryum", "macaroni1", "macaroni2", "pcb1", "pcb2", "pcb3", "pcb4", "pipe_fryum",
)  # fmt: skip
BTAD = ("01", "02", "03")

SETS = {
    "mvtec": PublishedSet("MVTec AD", MVTEC, dict.fromkeys(MVTEC, "train/good")),
    "mvtec2": PublishedSet("MVTec AD 2, public test part", MVTEC2, dict.fromkeys(MVTEC2, "test_public"), limit=0.05),
    "visa": PublishedSet("VisA, one class", VISA, dict.fromkeys(VISA, "Data/Images/Normal")),
    "btad": PublishedSet("BTAD", BTAD, dict.fromkeys(BTAD, "train/ok")),
    "kolektor": PublishedSet(
        "KolektorSDD and KolektorSDD2",
        ("KolektorSDD", "KolektorSDD2"),
        {"KolektorSDD": "kos*/Part*.jpg", "KolektorSDD2": "train/*_GT.png"},
        {"KolektorSDD": items, "KolektorSDD2": surfaces},
    ),
}
