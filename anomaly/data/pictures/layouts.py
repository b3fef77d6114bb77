"""Where the pictures of a line are: MVTec AD, MVTec AD 2, BTAD and VisA folders, a manifest table, or just a folder.

Folder names are taken in any case.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from anomaly.data.files import PICTURES, TABLES, find_files, find_folders
from anomaly.data.pictures.labels import is_good
from anomaly.data.pictures.manifest import read_manifest
from anomaly.data.pictures.reading import Picture, PictureSet
from anomaly.errors import DataError
from anomaly.names import record_name

TRAIN, VALIDATION, TEST = ("train", "training"), ("validation", "val"), ("test", "test_public", "testing")
TRUTH = ("ground_truth", "ground truth", "ground-truth", "groundtruth", "masks", "mask", "gt")
MASK_ENDINGS = ("_mask", "", "-mask", "_gt", "_label", ".mask")  # between a picture's name and a mask's suffix


def find_pictures(root: Path) -> PictureSet:
    """Find the pictures of a line.

    `root` is a folder in the layout of MVTec AD (train/good, test/KIND, ground_truth/KIND), MVTec AD 2 (test_public), BTAD
    (train/ok, test/ko) or VisA (Data/Images, split_csv beside it), a manifest (CSV or Parquet: image, split, label, mask), or
    a folder of good pictures. Raises DataError when there is no such thing or no picture of a good part, saying what is looked for.
    """
    listed = _listed(root, test_only=False)
    if listed is not None:
        return listed
    parts = _children(root, TRAIN)
    train = _train_pictures(root) if parts else _pictures_of(root, root)
    found = PictureSet(root, tuple(train), tuple(_test_pictures(root)), tuple(_passed_over(root, parts, train)))
    if not found.train:
        raise DataError(
            f"{root}: no pictures in it ({', '.join(sorted(PICTURES))}); put good parts in train/good, or straight into the folder",
            *(f"  {note}" for note in found.notes),
        )
    return found


def find_labelled(root: Path, *, layout: str | None = None) -> tuple[Picture, ...]:
    """Labelled pictures to judge a detector on; no training part is needed.

    `layout` is "mvtec" (the test part of the layouts above, or of a manifest) or "folder" (a folder a kind of defect and one for good
    parts; pictures in no subfolder are good). None takes "mvtec" where there is a test part. Raises DataError when there are none.
    """
    if layout == "mvtec" or (layout is None and has_test(root)):
        listed = _listed(root, test_only=True)
        found = listed.test if listed is not None else tuple(_test_pictures(root))
        if not found:
            raise DataError(f"{root}: no test pictures; MVTec AD layout has test/good and test/KIND, a manifest rows with split = test")
        return found
    if not root.is_dir():
        raise DataError(f"{root}: no such folder")
    truths = _children(root, TRUTH)
    paths = [path for path in find_files(root, PICTURES, deep=True) if not set(path.parents) & set(truths)]
    masks = {folder: _masks_of(truths, folder) for folder in {path.parent for path in paths}}
    found = tuple(_by_folder(root, path, masks[path.parent]) for path in paths)
    if not found:
        raise DataError(f"{root}: no pictures in it")
    return found


def find_faults(root: Path) -> list[Picture]:
    """Pictures of faults: a folder with a folder a kind (those named as good parts are passed over), just a folder of one kind, or a
    folder in one of the layouts, whose test part's are taken.

    Masks are found in a folder ground_truth in it or beside it (KIND/NAME_mask.png; of one kind NAME_mask.png too), and next to their
    pictures (NAME_mask.png). Raises DataError when there are no pictures.
    """
    if root.is_dir() and has_test(root):
        found = [picture for picture in find_labelled(root, layout="mvtec") if picture.defect is not None]
    else:
        inside = _children(root, TRUTH)
        truths = [*inside, *_children(root.absolute().parent, TRUTH)]
        folders = [p for p in find_folders(root) if not is_good(p.name) and p not in inside]
        own = _named_masks([*inside, *_of_kind([*truths, *_children(root.absolute().parent.parent, TRUTH)], root)])
        found = _pictures_of(root, root, record_name(root.name), own)
        found += [q for p in folders for q in _pictures_of(root, p, record_name(p.name), _masks_of(truths, p), deep=True)]
    found = _masks_apart(found)
    if not found:
        raise DataError(
            f"{root}: no pictures of faults; give a folder with a folder a kind, each with pictures ({', '.join(sorted(PICTURES))})"
        )
    return found


def has_test(root: Path) -> bool:
    """Whether a path has a part to test on: a manifest, or a folder in one of the layouts."""
    return root.is_file() or bool(_children(root, TEST)) or _visa_normals(root) is not None


def _listed(root: Path, *, test_only: bool) -> PictureSet | None:
    """The pictures of a manifest, or of a VisA folder; None for any other folder. Raises DataError where nothing is."""
    if root.is_file() and root.suffix.lower() in TABLES:
        return read_manifest(root, root.parent, test_only=test_only)
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; give the folder that holds train/good, a manifest, or a folder of good pictures")
    if _visa_normals(root) is not None:
        return read_manifest(root.parent / "split_csv" / "1cls.csv", root.parent, root.name, test_only=test_only)
    return None


def _visa_normals(root: Path) -> Path | None:
    """VisA's Data/Images/Normal below a folder."""
    here = [root]
    for name in ("data", "images", "normal"):
        here = [found for folder in here for found in _children(folder, (name,))]
    return here[0] if here else None


# --- folders by kind ---


def _children(root: Path, names: Iterable[str]) -> list[Path]:
    """Subfolders with one of these names, in any case and in the order of the names."""
    there = find_folders(root)
    return [folder for name in names for folder in there if folder.name.lower() == name]


def _train_pictures(root: Path) -> list[Picture]:
    """Good parts: in train/good (and its subfolders) and validation/good; straight in train where it has no folder of good parts."""
    found = []
    for part in (*_children(root, TRAIN), *_children(root, VALIDATION)):
        good = [folder for folder in find_folders(part) if is_good(folder.name)]
        found += [q for folder in good for q in _pictures_of(root, folder, deep=True)]
        if not good and part.name.lower() in TRAIN:
            found += _pictures_of(root, part)
    return found


def _passed_over(root: Path, parts: list[Path], train: list[Picture]) -> list[str]:
    """Words for pictures beside those that are learnt from, so that nobody thinks they were."""
    learnt = {picture.path for picture in train}
    aside = {*_children(root, VALIDATION), *_children(root, TEST), *_children(root, TRUTH)} if not parts else set()
    notes = []
    for part in parts or [root]:
        for place in (part, *(folder for folder in find_folders(part) if folder not in aside)):
            count = len({*find_files(place, PICTURES, deep=place != part)} - learnt)
            if count:
                notes.append(f"{record_name(place)}: {count} pictures in it are not learnt from; put good parts in train/good")
    return notes


def _test_pictures(root: Path) -> list[Picture]:
    found = []
    for folder in _children(root, TEST)[:1]:
        truths = [*_children(root, TRUTH), *_children(folder, TRUTH)]
        found += [q for kind in find_folders(folder) if kind not in truths for q in _kind_pictures(root, kind, truths)]
    return found


def _by_folder(root: Path, path: Path, masks: dict[str, Path]) -> Picture:
    """A picture labelled by the folders that it lies in: good where one of them says so or there is none, else of the last one's kind."""
    name, folders = record_name(path.relative_to(root)), path.relative_to(root).parts[:-1]
    if not folders or any(is_good(folder) for folder in folders):
        return Picture(name, path)
    return Picture(name, path, record_name(folders[-1]), masks.get(path.stem.lower()))


def _kind_pictures(root: Path, kind: Path, truths: list[Path]) -> list[Picture]:
    """The pictures of one kind of defect (or of good parts) with their masks, also in subfolders."""
    if is_good(kind.name):
        return _pictures_of(root, kind, deep=True)
    return _pictures_of(root, kind, record_name(kind.name), _masks_of(truths, kind), deep=True)


def _pictures_of(
    root: Path, folder: Path, defect: str | None = None, masks: dict[str, Path] | None = None, *, deep: bool = False
) -> list[Picture]:
    return [
        Picture(record_name(p.relative_to(root)), p, defect, (masks or {}).get(p.relative_to(folder).with_suffix("").as_posix().lower()))
        for p in find_files(folder, PICTURES, deep=deep)
    ]


def _masks_of(truths: list[Path], kind: Path) -> dict[str, Path]:
    """The masks of a kind's pictures, by the picture's name below the kind's folder, without its suffix and in lower case."""
    return _named_masks(_of_kind(truths, kind))


def _of_kind(truths: list[Path], kind: Path) -> list[Path]:
    """The folders with a kind's masks."""
    return [folder for truth in truths for folder in _children(truth, (kind.name.lower(),))]


def _named_masks(folders: list[Path]) -> dict[str, Path]:
    """The masks in folders, those of the first before others, by their pictures' names as `_masks_of` gives them."""
    there = {
        path.relative_to(folder).with_suffix("").as_posix().lower(): path
        for folder in reversed(folders)
        for path in find_files(folder, PICTURES, deep=True)
    }
    names = {
        name.removesuffix(ending) if ending else name for name in there for ending in MASK_ENDINGS if not ending or name.endswith(ending)
    }
    return {name: next(there[name + ending] for ending in MASK_ENDINGS if name + ending in there) for name in names}


def _masks_apart(pictures: list[Picture]) -> list[Picture]:
    """Pictures without those that are masks of others next to them (NAME_mask.png beside NAME.png), which are given those masks."""

    def name(path: Path) -> str:
        return path.with_suffix("").as_posix().lower()

    there = {name(picture.path): picture.path for picture in pictures}
    endings = [ending for ending in MASK_ENDINGS if ending]
    masks = {of: there[of + ending] for of in there for ending in reversed(endings) if of + ending in there}
    taken = {name(path) for path in masks.values()}
    return [replace(p, mask=p.mask or masks.get(name(p.path))) for p in pictures if name(p.path) not in taken]
