"""Boxes round labelled faults, from COCO files: what labelling tools (CVAT, Label Studio, Roboflow) export beside the pictures.

Source: the COCO data format, https://cocodataset.org/#format-data: `bbox` is [x, y, width, height] in pixels from the upper left corner.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from anomaly.data.pictures.reading import Picture
from anomaly.errors import DataError
from anomaly.names import record_name

PLACES = ("", "annotations")  # folders, below that of the faults, in which such files lie


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

    def of(self, picture: Picture, root: Path) -> Boxes | None:
        """The boxes of a picture below `root`: by its path there, by a longer or shorter one that ends alike, where only one does.

        A file that names scratch/1.png says nothing of dent/1.png.
        """
        inside = picture.path.relative_to(root).as_posix().lower() if picture.path.is_relative_to(root) else picture.path.name.lower()
        if inside in self.by_path:
            return self.by_path[inside]
        alike = [one for name, one in self.by_path.items() if f"/{name}".endswith(f"/{inside}") or f"/{inside}".endswith(f"/{name}")]
        return alike[0] if len(alike) == 1 else None


def read_boxes(root: Path) -> LabelledBoxes:
    """The boxes of the COCO files in a folder, or in `annotations` in it. JSON files that are no COCO are passed over.

    Raises DataError for a file that has COCO's `annotations` and cannot be read as such.
    """
    found = LabelledBoxes()
    for place in PLACES if root.is_dir() else ():
        for path in sorted((root / place).glob("*.json")):
            _read(path, found)
    return found


def _read(path: Path, found: LabelledBoxes) -> None:
    try:
        raw: Any = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
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
    images = {image.id: image for image in coco.images}
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
        one = Boxes(path, np.array(some), drawn_on)
        name = image.file_name.replace("\\", "/").lower()
        found.by_path[name] = one
