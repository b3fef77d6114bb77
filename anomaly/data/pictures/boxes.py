"""Boxes round labelled faults, from COCO files: what labelling tools (CVAT, Label Studio, Roboflow) export beside the pictures.

Source: the COCO data format, https://cocodataset.org/#format-data: `bbox` is [x, y, width, height] in pixels from the upper left corner.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from anomaly.data.pictures.reading import Picture
from anomaly.errors import DataError
from anomaly.names import record_name


class _Image(BaseModel):
    id: int | str
    file_name: str
    width: int | None = None
    height: int | None = None


class _Annotation(BaseModel):
    image_id: int | str
    bbox: tuple[float, float, float, float]


class _Coco(BaseModel):
    images: list[_Image]
    annotations: list[_Annotation]


@dataclass(frozen=True)
class Boxes:
    """The boxes of one picture: (n, 4) as x, y, width, height in pixels, and the (high, wide) of the picture they were drawn on."""

    file: Path
    boxes: NDArray[np.float64]
    drawn_on: tuple[int, int] | None = None

    def mask(self, size: tuple[int, int]) -> NDArray[np.bool_] | None:
        """The boxes as a mask (high, wide) of a picture of that size; None where they were drawn on another, or lie outside of it.

        >>> Boxes(Path("a.json"), np.array([[1.0, 0.0, 2.0, 1.5]])).mask((3, 4)).astype(int)
        array([[0, 1, 1, 0],
               [0, 1, 1, 0],
               [0, 0, 0, 0]])
        """
        if self.drawn_on not in (None, size):
            return None
        mask = np.zeros(size, bool)
        for x, y, wide, high in self.boxes:
            left, top = max(0, int(x)), max(0, int(y))
            mask[top : max(top, int(np.ceil(y + high))), left : max(left, int(np.ceil(x + wide)))] = True
        return mask if mask.any() else None


@dataclass
class LabelledBoxes:
    """All boxes of a folder by their pictures' names; `notes` says what could not be used."""

    by_path: dict[str, Boxes] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def leave_out_shared(self, pictures: Sequence[Picture], root: Path) -> None:
        """Leave out boxes whose name fits several of the pictures below `root`: it cannot be told whose they are. `notes` say so."""
        fits: dict[str, list[Picture]] = defaultdict(list)
        for picture in pictures:
            inside = _inside(picture, root)
            for name in self.by_path:
                if name != inside and f"/{inside}".endswith(f"/{name}"):
                    fits[name].append(picture)
        for name, some in fits.items():
            if len(some) > 1:
                these = ", ".join(picture.id for picture in some[:3])
                self.notes.append(
                    f"{self.by_path[name].file}: {len(some)} pictures are called {record_name(name)} ({these}), so its boxes are left out; "
                    "export file names with their folders"
                )
                del self.by_path[name]

    def tell_unused(self, pictures: Sequence[Picture], root: Path) -> None:
        """Note how many boxes fit none of the pictures, with a name of those."""
        used = {id(one) for picture in pictures if (one := self.of(picture, root)) is not None}
        lost = [name for name, one in self.by_path.items() if id(one) not in used]
        if lost:
            one = self.by_path[lost[0]]
            self.notes.append(f"{one.file}: boxes of {len(lost)} pictures fit none that is there, such as {record_name(lost[0])}; left out")

    def of(self, picture: Picture, root: Path) -> Boxes | None:
        """The boxes of a picture below `root`: by its path there, by a longer or shorter one that ends alike, where only one does.

        A file that names scratch/1.png says nothing of dent/1.png.
        """
        inside = _inside(picture, root)
        if inside in self.by_path:
            return self.by_path[inside]
        alike = [one for name, one in self.by_path.items() if f"/{name}".endswith(f"/{inside}") or f"/{inside}".endswith(f"/{name}")]
        return alike[0] if len(alike) == 1 else None


def _inside(picture: Picture, root: Path) -> str:
    return picture.path.relative_to(root).as_posix().lower() if picture.path.is_relative_to(root) else picture.path.name.lower()


def read_boxes(root: Path) -> LabelledBoxes:
    """The boxes of the COCO files in a folder and those below it. JSON files that are no COCO are passed over.

    Boxes of one picture in several files are put together. Raises DataError for a file that has COCO's `annotations` and cannot be read as
    such, or whose boxes are shares of the picture and not pixels.
    """
    found = LabelledBoxes()
    for path in sorted(root.rglob("*.json")) if root.is_dir() else ():
        _read(path, found)
    return found


def _read(path: Path, found: LabelledBoxes) -> None:
    try:
        raw: Any = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        found.notes.append(f"{path}: not read, since it is no JSON ({str(error).splitlines()[0]}); boxes in it are not known")
        return
    if not isinstance(raw, dict) or "annotations" not in raw:
        return
    try:
        coco = _Coco.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise DataError(f"{path}: not a COCO file at {where}: {first['msg']}; export boxes as COCO, or take the file away") from None
    sides = [side for annotation in coco.annotations for side in annotation.bbox]
    if sides and max(sides) <= 1:  # in pixels all of them would be the one pixel in the corner
        raise DataError(f"{path}: all boxes lie between 0 and 1: shares of the picture, where COCO has pixels; export them in pixels")
    images = {image.id: image for image in coco.images}
    if len(images) < len(coco.images):
        raise DataError(f"{path}: several of its images have one id, so it cannot be told whose its boxes are; export it again")
    alike = _alike([image.file_name for image in coco.images])
    boxes: dict[int | str, list[tuple[float, float, float, float]]] = defaultdict(list)
    for annotation in coco.annotations:
        if annotation.image_id not in images:
            raise DataError(f"{path}: a box belongs to picture {annotation.image_id!r}, which is not among its images")
        if np.isfinite(annotation.bbox).all() and min(annotation.bbox[2:]) > 0:
            boxes[annotation.image_id].append(annotation.bbox)
        else:
            found.notes.append(f"{path}: a box of {record_name(images[annotation.image_id].file_name)} has no area and is left out")
    for id_, some in boxes.items():
        image = images[id_]
        drawn_on = None if image.width is None or image.height is None else (image.height, image.width)
        name = image.file_name.replace("\\", "/").lower()
        if name in alike:
            found.notes.append(
                f"{path}: {record_name(' and '.join(alike[name]))} differ in capital letters alone, so it cannot be told whose the boxes "
                f"of {record_name(image.file_name)} are; left out: rename one of them"
            )
            continue
        before = found.by_path.get(name)
        if before is not None and before.drawn_on != drawn_on:
            found.notes.append(f"{path}: boxes of {record_name(name)} were drawn on another size than in {before.file}; left out")
            continue
        every = np.array(some) if before is None else np.concatenate([before.boxes, np.array(some)])
        found.by_path[name] = Boxes(path, every, drawn_on)


def _alike(names: Sequence[str]) -> dict[str, list[str]]:
    """Names that differ in capital letters alone, by the name in small ones: pictures are looked for without regard to these.

    >>> _alike(["A.png", "a.png", "b.png", "b.png"])
    {'a.png': ['A.png', 'a.png']}
    """
    spelt: dict[str, list[str]] = defaultdict(list)
    for name in dict.fromkeys(names):
        spelt[name.replace("\\", "/").lower()].append(name)
    return {name: some for name, some in spelt.items() if len({one.replace("\\", "/") for one in some}) > 1}
