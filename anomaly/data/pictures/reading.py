"""Pictures in: reading one file, and what a set of pictures is.

Plain NumPy and Pillow: the edge reads pictures with the same function, so both sides see the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from anomaly.errors import RecordError

MAX_PIXELS = 200_000_000  # a 14k x 14k frame; more is a decompression bomb, not a camera
Image.MAX_IMAGE_PIXELS = MAX_PIXELS  # Pillow refuses twice this by itself

Color = Literal["gray", "rgb"]


@dataclass(frozen=True, slots=True)
class Picture:
    """One labelled picture of a data set. `defect` is None for a good part; `mask` marks the defect's pixels."""

    id: str
    path: Path
    defect: str | None = None
    mask: Path | None = None


@dataclass(frozen=True)
class PictureSet:
    """The pictures of one line: `train` holds normals only, `test` is empty for a flat folder."""

    root: Path
    train: tuple[Picture, ...]
    test: tuple[Picture, ...]


def read_image(path: Path, color: Color, *, deep: bool = False) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Decode one picture to (H, W, C): uint8, or uint16 when `deep`; C is 1 for gray, 3 for rgb.

    8-bit, palette, alpha, CMYK and 16-bit gray files are all brought to that one form. With `deep` off a 16-bit picture
    is divided by 257; with it on an 8-bit one is multiplied by 257. Raises RecordError naming the file and the cause.
    """
    try:
        with Image.open(path) as image:
            image.load()
            return _to_array(image, color, deep)
    except FileNotFoundError as error:
        raise RecordError(f"{path}: the file is gone") from error
    except UnidentifiedImageError as error:
        size = path.stat().st_size if path.exists() else 0
        what = "the file is empty (0 bytes)" if size == 0 else "not a picture that can be decoded"
        raise RecordError(f"{path}: {what}; send it again or remove it") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise RecordError(f"{path}: the picture is damaged or cut short ({error}); send it again") from error


def _to_array(image: Image.Image, color: Color, deep: bool) -> NDArray[np.uint8] | NDArray[np.uint16]:
    if image.mode in ("I;16", "I;16B", "I;16L", "I"):
        wide = np.asarray(image).astype(np.int64)
        if wide.size and (wide.min() < 0 or wide.max() > 65535):
            raise ValueError("gray values outside 0 to 65535")
        array = np.repeat(wide.astype(np.uint16)[:, :, None], 3 if color == "rgb" else 1, axis=2)
        return array if deep else ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if image.mode == "F":
        raise ValueError("floating-point pixels have no known range; save as 8- or 16-bit")
    narrow: NDArray[np.uint8] = np.asarray(image.convert("L" if color == "gray" else "RGB"))
    narrow = narrow[:, :, None] if narrow.ndim == 2 else narrow
    return narrow.astype(np.uint16) * 257 if deep else narrow


def read_mask(path: Path) -> NDArray[np.bool_]:
    """Decode a ground-truth mask to (H, W) bool, True on the defect."""
    return read_image(path, "gray")[:, :, 0] > 127


def decide_color(paths: Sequence[Path], sample: int = 20) -> tuple[Color, bool]:
    """Look at a few files: ("gray" when all of them carry no colour, else "rgb"; whether they are 16 bit)."""
    gray, deep, seen = True, True, 0
    for path in paths[:: max(1, len(paths) // sample)]:
        try:
            with Image.open(path) as image:
                image.load()
                deep = deep and image.mode.startswith("I")
                array = np.asarray(image.convert("RGB")).astype(np.int16) if not image.mode.startswith(("I", "L", "1")) else None
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
            continue  # a broken file is reported where it is read, and decides nothing here
        seen += 1
        if array is not None and np.abs(array - array[:, :, :1]).mean() > 1.0:  # JPEG noise on gray stays below
            gray = False
    return ("gray" if gray else "rgb"), deep and seen > 0
