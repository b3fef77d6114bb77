"""Pictures in: reading one file, and what a set of pictures is.

Plain NumPy and Pillow: the edge reads pictures with the same functions, so both sides see the same bytes. What is read is what a viewer
shows: turned as EXIF says, one page. What a viewer would show otherwise, or not at all, is refused in words.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, JpegImagePlugin, TiffImagePlugin, UnidentifiedImageError

from anomaly.errors import RecordError
from anomaly.names import record_name
from anomaly.schema import InputSchema

MAX_PIXELS = 200_000_000  # a 14k x 14k frame; more is a decompression bomb, not a camera
Image.MAX_IMAGE_PIXELS = MAX_PIXELS  # Pillow refuses twice this by itself
STRAY = 1e-4  # share of a picture's values that may lie beyond its range, as hot pixels do
TAIL = 4096  # bytes at the end of a file that are all 0: a zero tail
JPEG_END_WITHIN = 65_536  # bytes at the end of a JPEG, its maker's own data included, within which its end marker is
HALVED = "16 bits read as 8"  # key of `Image.info`: of a color picture, of which Pillow keeps the upper half of each value
TURNED = "turned by EXIF"  # and of one that was
SIZE = "size before it was shrunk"  # and of one that was decoded smaller: (high, wide), upright
SHRINKS = 1.5  # times a picture's sides must be those that are enough, before it is worth the work to make it smaller
SHADES = 16  # values in a mask; those of more are not classes, but soft edges

Color = Literal["gray", "rgb"]
_SUBFILE_TYPE, _NOT_FULL_PAGE = 254, 0b101  # TIFF tag NewSubfileType: a smaller copy of another page, or its transparency mask


@dataclass(frozen=True, slots=True)
class Picture:
    """One labelled picture of a data set. `defect` is None for a good part; `mask` marks the defect's pixels."""

    id: str
    path: Path
    defect: str | None = None
    mask: Path | None = None


@dataclass(frozen=True)
class PictureSet:
    """The pictures of one line: `train` holds normals only, `test` is empty for a flat folder. `notes`: what was passed over, in words."""

    root: Path
    train: tuple[Picture, ...]
    test: tuple[Picture, ...]
    notes: tuple[str, ...] = ()


class PictureFormat(NamedTuple):
    """How every picture of a line is read: its color, whether it keeps 16 bits a channel, and how many bits of 16 its camera uses.

    `bits` counts from the lowest: 12 where a 16-bit file holds 0 to 4,095 (Mono12 of GenICam's naming). Such values are spread over the
    whole range, so that a detector sees the same whatever container a camera writes.
    """

    color: Color
    deep: bool = False
    bits: int = 16


def format_of(schema: InputSchema) -> PictureFormat:
    """How pictures are read for a bundle's input."""
    return PictureFormat("gray" if schema.channels == 1 else "rgb", schema.dtype == "uint16", schema.significant_bits or 16)


class Decoded(NamedTuple):
    """A picture (H, W, C) as a detector takes it, and what a person should know of how it was read, "" for nothing."""

    pixels: NDArray[Any]
    note: str


class Smaller(NamedTuple):
    """A picture (h, w, C) with no more pixels than are needed, and the size (high, wide) of the picture itself, upright."""

    pixels: NDArray[Any]
    size: tuple[int, int]

    @property
    def whole(self) -> bool:
        """Whether it is the picture itself, with all its pixels."""
        return self.pixels.shape[:2] == self.size

    @property
    def scale(self) -> float:
        """How many pixels of the picture itself the side of one of these stands for."""
        return self.size[0] / int(self.pixels.shape[0])


class _RefusedError(ValueError):
    """A picture that is whole, but not to be read as anything sure; the words say what to do."""


def read_image(path: Path, color: Color, *, deep: bool = False, bits: int = 16) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """`read_picture` without its note."""
    return read_picture(path, PictureFormat(color, deep, bits)).pixels


def read_picture(path: Path, form: PictureFormat) -> Decoded:
    """Decode one picture to (H, W, C): uint8, or uint16 where the format is deep; C is 1 for gray, 3 for rgb.

    8-bit, palette, alpha, CMYK and 16-bit gray files are all brought to that one form, turned as EXIF says. Values 0 to 2 ** bits - 1 of a
    16-bit picture become 0 to 255 (0 to 65,535 where deep); those above are cut off, and the note says so when they are more than one
    in 10,000. An 8-bit picture for a deep format is multiplied by 257. Raises RecordError naming the file, the cause and what to do.
    """
    with opened(path) as image:
        return _in_form(image, form, record_name(path))


def read_smaller(path: Path, form: PictureFormat, enough: tuple[int, int]) -> Smaller:
    """`read_picture`, shrunk to about the sides (high, wide) that are `enough`, and never below; its proportions stay.

    A picture with sides less than 1.5 times as long comes as it is. Each pixel is the mean of those that it stands for. A JPEG is decoded
    at a half, a quarter or an eighth where twice the sides that are enough are left.
    """
    with opened(path, enough) as image:
        size = image.info.get(SIZE, image.size[::-1])
        factor = min(own / side for own, side in zip(size, enough, strict=True))
        if factor < SHRINKS:
            return Smaller(_in_form(image, form, record_name(path)).pixels, size)
        high, wide = (round(side / factor) for side in size)
        if is_16_bit(image):
            pixels = _in_form(image, form, record_name(path)).pixels
            plane = Image.fromarray(pixels[:, :, 0].astype(np.float32)).resize((wide, high), Image.Resampling.BOX)
            return Smaller(np.repeat(np.rint(np.asarray(plane)).astype(pixels.dtype)[:, :, None], pixels.shape[2], axis=2), size)
        plain = image.convert("L" if form.color == "gray" else "RGB")
        return Smaller(_in_form(plain.resize((wide, high), Image.Resampling.BOX), form, record_name(path)).pixels, size)


def decode_pixels(pixels: NDArray[Any], form: PictureFormat, name: str) -> Decoded:
    """A picture in memory as `read_picture` would give it from a file: (H, W) or (H, W, 1, 3 or 4) uint8, or (H, W) or (H, W, 1) uint16.

    Raises RecordError for another array, with `name` in it.

    >>> decode_pixels(np.full((2, 2, 3), 200, np.uint8), PictureFormat("gray"), "a frame").pixels.shape
    (2, 2, 1)
    """
    plain = pixels[:, :, 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels
    narrow = plain.dtype == np.uint8 and (plain.ndim == 2 or (plain.ndim == 3 and plain.shape[2] in (3, 4)))
    if not (narrow or (plain.dtype == np.uint16 and plain.ndim == 2)) or not plain.size:
        raise RecordError(
            f"{name}: an array {pixels.shape} of {pixels.dtype} is no picture; give (high, wide) or (high, wide, 3) of uint8, 0 to 255, "
            "or (high, wide) of uint16"
        )
    return _in_form(Image.fromarray(np.ascontiguousarray(plain)), form, name)


def _in_form(image: Image.Image, form: PictureFormat, name: str) -> Decoded:
    if is_16_bit(image):
        wide = gray_16_bit(image)
        pixels = np.repeat(_spread(wide, form)[:, :, None], 3 if form.color == "rgb" else 1, axis=2)
        return Decoded(pixels, _beyond(name, wide, form.bits))
    narrow: NDArray[np.uint8] = np.asarray(image.convert("L" if form.color == "gray" else "RGB"))
    narrow = narrow[:, :, None] if narrow.ndim == 2 else narrow
    return Decoded(narrow.astype(np.uint16) * 257 if form.deep else narrow, "")


def read_mask(path: Path) -> NDArray[np.bool_]:
    """Decode a ground-truth mask to (H, W) bool, True on the defect: every pixel that is not 0, whatever the file calls it.

    Gray values (255, 1, or a class number), indices of a palette, and any color count alike; what is transparent is background, and of a
    picture that is black all over the part that is not transparent is the defect. A mask in more than 16 shades up to white has soft edges,
    or was a JPEG once: there a pixel must be above half of the brightest. Raises RecordError as `read_picture` does.
    """
    with opened(path) as image:
        if image.mode == "P" or is_16_bit(image):
            return np.asarray(np.asarray(image) != 0)
        if image.mode not in ("RGBA", "LA", "PA", "RGBa", "La"):
            return _marked(np.asarray(image.convert("RGB")).max(axis=2), image.format in ("JPEG", "MPO", "WEBP"))
        values = np.asarray(image.convert("RGBA"))
        solid = np.asarray(values[:, :, 3] > 0)
        bright = np.where(solid, values[:, :, :3].max(axis=2), 0)
        return _marked(bright) if bright.any() else solid & ~solid.all()


def _marked(values: NDArray[np.uint8], inexact: bool = False) -> NDArray[np.bool_]:
    """What a mask (H, W) marks; `inexact`: its format does not keep values as they are."""
    found = np.flatnonzero(np.bincount(values.ravel(), minlength=256))
    soft = (inexact or len(found) > SHADES) and found[-1] > 127
    return np.asarray(values > (found[-1] // 2 if soft else 0))


# --- one file, opened as a viewer shows it ---


@contextmanager
def opened(path: Path, enough: tuple[int, int] | None = None) -> Iterator[Image.Image]:
    """A decoded picture file, turned upright. Raises RecordError, also for what fails while it is in use.

    A JPEG of far more pixels than are `enough` (high, wide) is decoded at a half, a quarter or an eighth; `info` then says its size.
    """
    try:
        with Image.open(path) as image:
            _check_pages(image)
            _check_end(image, path)
            halved = any(";16" in str(tile[3]) for tile in image.tile)  # told by what it is decoded from; no longer once it is
            whole = image.size
            if enough is not None and isinstance(image, JpegImagePlugin.JpegImageFile):
                image.draft(None, (2 * max(enough), 2 * max(enough)))  # however it lies in the file; box filters do the rest
            image.load()
            shrunk = image.size != whole
            image.info[HALVED] = halved and not is_16_bit(image)
            lies = image.size
            _turn(image)
            if shrunk:
                image.info[SIZE] = whole if image.size != lies else whole[::-1]
            why = refused_mode(image.mode)
            if why:
                raise _RefusedError(f"{why}; save it {'with 8 or 16 bits' if image.mode == 'F' else 'as RGB or gray'}")
            yield image
    except FileNotFoundError as error:
        raise RecordError(f"{path}: the file is not there") from error
    except UnidentifiedImageError as error:
        size = path.stat().st_size if path.exists() else 0
        what = "the file is empty (0 bytes)" if size == 0 else "not a picture that can be decoded"
        raise RecordError(f"{path}: {what}; send it again or remove it") from error
    except _RefusedError as error:
        raise RecordError(f"{path}: {error}") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise RecordError(f"{path}: the picture is damaged or cut short ({error}); send it again") from error


def refused_mode(mode: str) -> str:
    """Why a picture of one of Pillow's modes is not taken, "" where it is.

    >>> refused_mode("LAB"), refused_mode("RGB")
    ('its colors are stored as LAB', '')
    """
    if mode == "F":
        return "floating-point pixels have no known range"
    return f"its colors are stored as {mode}" if mode in ("LAB", "HSV") else ""


def _check_pages(image: Image.Image) -> None:
    """Refuse files of several pictures. A smaller copy or a mask beside the picture (TIFF), or a phone's second picture (MPO), is none."""
    pages = getattr(image, "n_frames", 1)
    if pages == 1 or image.format == "MPO":
        return
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        full = 0
        for page in range(pages):
            image.seek(page)
            full += not int(image.tag_v2.get(_SUBFILE_TYPE, 0)) & _NOT_FULL_PAGE
        image.seek(0)
        if full <= 1:
            return
        pages = full
    raise _RefusedError(f"holds {pages} pictures ({image.format} pages or frames); save each as a file of its own")


def _turn(image: Image.Image) -> None:
    """Turn a picture in place as its EXIF orientation says. EXIF that cannot be read turns nothing."""
    try:
        turned = image.getexif().get(ExifTags.Base.Orientation, 1) != 1
    except Exception:  # whatever a damaged EXIF block raises, the picture itself is sound
        return
    if turned:
        ImageOps.exif_transpose(image, in_place=True)
        image.info[TURNED] = True


# --- a file that is not written to its end ---


def zero_tail(path: Path) -> float:
    """The share of a file, from its end, that is 0 and nothing else: space that was reserved for a copy and is not filled yet, or the
    picture's own black. 0.0 for less than 4,096 bytes, or a file that is gone.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "half.bmp"
    ...     _ = path.write_bytes(b"x" * 10_000 + bytes(10_000))
    ...     zero_tail(path)
    0.5
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            zeros, at, block = 0, size, TAIL
            while at:
                start = max(0, at - block)
                file.seek(start)
                read = file.read(at - start)
                kept = len(read.rstrip(b"\0"))
                zeros += len(read) - kept
                if kept:
                    break
                at, block = start, 1 << 20
    except OSError:
        return 0.0
    return zeros / size if zeros >= TAIL else 0.0


def _check_end(image: Image.Image, path: Path) -> None:
    """Refuse a JPEG whose end is reserved space: its decoder takes zeros for gray, where others find that data is missing."""
    if not isinstance(image, JpegImagePlugin.JpegImageFile) or image.fp is None:
        return
    at = image.fp.tell()
    image.fp.seek(-1, 2)
    last = image.fp.read(1)
    image.fp.seek(at)
    share = zero_tail(path) if last == b"\0" else 0.0  # most files end otherwise, and need no second look
    if not share:
        return
    with path.open("rb") as file:
        end = round(file.seek(0, 2) * (1 - share))
        file.seek(max(0, end - JPEG_END_WITHIN))
        if b"\xff\xd9" not in file.read(min(end, JPEG_END_WITHIN) + 1):
            raise _RefusedError("the picture is cut short: its end is missing, and zeros stand in its place; send it again")


# --- 16 bits ---


def is_16_bit(image: Image.Image) -> bool:
    """Whether a picture is gray with 16 bits (or whole numbers of 32)."""
    return image.mode.startswith("I")


def gray_16_bit(image: Image.Image) -> NDArray[np.uint16]:
    """The values (H, W) of such a picture as they are in the file."""
    wide = np.asarray(image)
    if wide.dtype != np.uint16:
        if wide.dtype.itemsize > 2 and wide.size and (wide.min() < 0 or wide.max() > 65535):
            raise _RefusedError("gray values outside 0 to 65535; save it with 8 or 16 bits")
        wide = wide.astype(np.uint16)
    return wide


def top_value(wide: NDArray[np.uint16]) -> int:
    """The smallest value that one in 10,000 (or just one) of a picture's values (H, W) may be above: its range without hot pixels.

    >>> picture = np.full((200, 200), 3000, np.uint16)
    >>> picture[0, 0] = 65535  # a hot pixel
    >>> top_value(picture)
    3000
    """
    flat = wide.ravel()
    stray = max(1, int(STRAY * len(flat)))
    return int(np.partition(flat, len(flat) - 1 - stray)[len(flat) - 1 - stray]) if len(flat) > stray else 0


def _spread(wide: NDArray[np.uint16], form: PictureFormat) -> NDArray[Any]:
    """0 to 2 ** bits - 1 -> 0 to 65,535 where deep, else 0 to 255; what is above is cut off."""
    top = (1 << form.bits) - 1
    if form.deep and form.bits == 16:
        return wide
    values = np.minimum(wide, top).astype(np.uint32)
    full = 65535 if form.deep else 255
    return ((values * full + top // 2) // top).astype(np.uint16 if form.deep else np.uint8)


def _beyond(name: str, wide: NDArray[np.uint16], bits: int) -> str:
    """Words for a picture with values beyond the range that the detector knows."""
    if bits >= 16 or not wide.size:
        return ""
    over = int((wide >= 1 << bits).sum())
    if over <= max(1, STRAY * wide.size):
        return ""
    top = (1 << bits) - 1
    named = f"{name}: {over / wide.size:.2%} of its values are above {top:,} (up to {int(wide.max()):,})"
    return (
        f"{named}, beyond the {bits} bits the detector was fitted to, and are cut off there; has the camera's pixel format or exposure "
        "changed? Fit again, or set [input] bits"
    )
