"""Where the pictures of a line are: MVTec AD, MVTec AD 2, BTAD and VisA folders, a manifest table, or just a folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from anomaly.data.files import PICTURES, TABLES, find_files, find_folders
from anomaly.data.pictures.reading import Picture, PictureSet, read_image
from anomaly.errors import DataError, RecordError

GOOD_NAMES = {"good", "ok", "normal", "0"}  # how data sets call a part without a defect
SIDE = 32  # near duplicates: pixels a side of the thumbnails compared
NEAR = 0.97  # correlation of what is particular to two pictures from which they are called near

Floats = NDArray[np.float64]


def find_pictures(root: Path) -> PictureSet:
    """Find the pictures of a line.

    `root` is a folder in the layout of MVTec AD (train/good, test/KIND, ground_truth/KIND), MVTec AD 2 (test_public), BTAD
    (train/ok, test/ko) or VisA (Data/Images, split_csv beside it), a manifest (CSV or Parquet: image, split, label, mask), or
    a folder of good pictures. Raises DataError when there is no such thing or no picture of a good part, saying what is looked for.
    """
    if root.is_file() and root.suffix.lower() in TABLES:
        return _from_manifest(root, root.parent, None)
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; give the folder that holds train/good, a manifest, or a folder of good pictures")
    if (root / "Data" / "Images" / "Normal").is_dir():
        return _from_manifest(root.parent / "split_csv" / "1cls.csv", root.parent, root.name)
    good = next((root / "train" / name for name in ("good", "ok") if (root / "train" / name).is_dir()), None)
    if good is None:
        found = PictureSet(root, tuple(_pictures_of(root, root, None, None)), ())
    else:
        train = [*_pictures_of(root, good, None, None), *_pictures_of(root, root / "validation" / "good", None, None)]
        found = PictureSet(root, tuple(train), tuple(_test_pictures(root)))
    if not found.train:
        raise DataError(
            f"{root}: no pictures in it ({', '.join(sorted(PICTURES))}); put good parts in train/good, or straight into the folder"
        )
    return found


def find_faults(root: Path) -> list[Picture]:
    """Pictures of faults: a folder with a folder a kind (those named as good parts are passed over), or just a folder of one kind.

    Raises DataError when there are none.
    """
    folders = [p for p in find_folders(root) if p.name.lower() not in GOOD_NAMES]
    found = [q for folder in [root, *folders] for q in _pictures_of(root, folder, folder.name, None)]
    if not found:
        raise DataError(
            f"{root}: no pictures of faults; give a folder with a folder a kind, each with pictures ({', '.join(sorted(PICTURES))})"
        )
    return found


def has_test(root: Path) -> bool:
    """Whether a path has a part to test on: a manifest, or a folder in one of the layouts."""
    return root.is_file() or any((root / part).is_dir() for part in ("test", "test_public", "Data/Images/Normal"))


def _test_pictures(root: Path) -> list[Picture]:
    folder = next((root / name for name in ("test", "test_public") if (root / name).is_dir()), None)
    if folder is None:
        return []
    truth = next((t for t in (root / "ground_truth", folder / "ground_truth") if t.is_dir()), root / "ground_truth")
    kinds = [p for p in find_folders(folder) if p != truth]
    return [q for kind in kinds for q in _pictures_of(root, kind, None if kind.name.lower() in GOOD_NAMES else kind.name, truth)]


def _pictures_of(root: Path, folder: Path, defect: str | None, truth: Path | None) -> list[Picture]:
    return [
        Picture(p.relative_to(root).as_posix(), p, defect, _mask_of(truth, p) if defect and truth else None)
        for p in find_files(folder, PICTURES)
    ]


def _mask_of(truth: Path, path: Path) -> Path | None:
    folder = truth / path.parent.name
    names = (f"{path.stem}_mask.png", f"{path.stem}.png", path.name, f"{path.stem}.bmp")
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _from_manifest(path: Path, root: Path, only: str | None) -> PictureSet:
    """Pictures by a table: `image` (path from `root`), `split` (train or test), `label` (good, ok, normal, 0, or the
    defect's kind), `mask` (optional); rows of one `object` where `only` is given."""
    if not path.is_file():
        raise DataError(f"{path}: not there; VisA's own split_csv/1cls.csv says which pictures are for training")
    try:
        table = pd.read_csv(path, dtype=str) if path.suffix.lower() == ".csv" else pd.read_parquet(path)
    except (ValueError, OSError) as error:  # pandas' and pyarrow's parse errors are ValueErrors
        raise DataError(f"{path}: not a table that can be read: {error}") from error
    missing = [name for name in ("image", "split", "label") if name not in table.columns]
    if missing:
        raise DataError(f"{path}: no column {', '.join(missing)}; a manifest has image, split, label and, if there are masks, mask")
    if only is not None and "object" in table.columns:
        table = table[table["object"] == only]
    parts: dict[str, list[Picture]] = {"train": [], "test": []}
    for number, (_, row) in enumerate(table.iterrows(), start=2):
        parts[_split_of(path, number, str(row["split"]))].append(_row_picture(path, number, root, row))
    faulty = [p.id for p in parts["train"] if p.defect is not None]
    if faulty:
        raise DataError(f"{path}: {len(faulty)} training rows are labelled as defects ({faulty[0]}); training takes good parts alone")
    if not parts["train"]:
        raise DataError(f"{path}: no row with split = train{f' and object = {only}' if only else ''}")
    return PictureSet(root, tuple(parts["train"]), tuple(parts["test"]))


def _split_of(path: Path, number: int, split: str) -> str:
    if split.strip().lower() not in ("train", "test"):
        raise DataError(f"{path}: row {number}: split is {split!r}; write train or test")
    return split.strip().lower()


def _row_picture(path: Path, number: int, root: Path, row: pd.Series[str]) -> Picture:
    label, mask = str(row["label"]).strip(), row.get("mask")

    def below(name: str) -> Path:
        found = (root / name).resolve()
        if not found.is_relative_to(root.resolve()):
            raise DataError(f"{path}: row {number}: {name} leads out of {root}; name pictures and masks below the manifest's folder")
        return found

    mask_path = below(mask) if isinstance(mask, str) and mask.strip() else None
    return Picture(str(row["image"]), below(str(row["image"])), None if label.lower() in GOOD_NAMES else label, mask_path)


def near_duplicates(train: list[Picture], test: list[Picture]) -> dict[str, str]:
    """Test pictures that show what a training picture shows: {test id: training id}. Unreadable ones are left out.

    Gray thumbnails of 32 x 32, each of zero mean and unit deviation so that exposure does not matter, less their mean over
    the training pictures so that what all parts of a line share does not either; near is a correlation of at least 0.97.
    """
    known = {p.id: one for p in train if (one := _thumbnail(p.path)) is not None}
    if not known:
        return {}
    names, table = list(known), np.stack(list(known.values()))
    shared = table.mean(axis=0)
    table = _unit(table - shared)
    found = {}
    for picture in test:
        one = _thumbnail(picture.path)
        if one is not None:
            alike = table @ _unit(one - shared)
            if alike.max() >= NEAR:
                found[picture.id] = names[int(alike.argmax())]
    return found


def _unit(rows: Floats) -> Floats:
    length: Floats = np.linalg.norm(rows, axis=-1, keepdims=True)
    return rows / np.maximum(length, 1e-9)


def _thumbnail(path: Path) -> Floats | None:
    try:
        gray = Image.fromarray(read_image(path, "gray")[:, :, 0].astype(np.uint8))
    except RecordError:
        return None
    small = np.asarray(gray.resize((SIDE, SIDE), Image.Resampling.BOX), dtype=np.float64).ravel()
    return _unit(small - small.mean()) * SIDE
