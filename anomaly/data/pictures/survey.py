"""One look at all training pictures before anything is fitted: which can be read, and how all pictures of the line are to be read."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anomaly.data.files import TABLES
from anomaly.data.pictures.items import items_in_words
from anomaly.data.pictures.layouts import find_pictures
from anomaly.data.pictures.reading import (
    HALVED,
    TURNED,
    Color,
    Picture,
    PictureFormat,
    PictureSet,
    gray_16_bit,
    is_16_bit,
    opened,
    top_value,
)
from anomaly.data.pictures.repeats import THUMBNAIL, group_repeats
from anomaly.errors import DataError, RecordError
from anomaly.names import record_name
from anomaly.progress import Progress, counted, silent

THREADS = 2  # that decode pictures; Pillow lets other threads run meanwhile
FEWEST, FEWEST_PARTS = 16, 8  # readable training pictures, and different parts that they show, at least
BITS = (8, 10, 12, 14, 16)  # that cameras use of a 16-bit file
COLORED, COLORED_SHARE = 12.0, 5e-4  # channels that differ by this much, of 255, on this share of places in one picture: color
TINTED = 1.0  # mean difference of the channels, of 255, from which a whole picture has a tint
LOWEST_COLOR = 64  # of 255: the upper halves of 16-bit color stay below this where a camera uses 14 bits or fewer
BLACK = 4  # of 255: a picture without anything brighter shows nothing
SIZES = 4  # of pictures, that are named
FLOOR, COARSE = 256, 16  # pixels of a side left when blocks are averaged before colored places, or a tint, are looked for


@dataclass(frozen=True, slots=True)
class Facts:
    """What one picture shows of how it is to be read.

    `top`: see `reading.top_value`, 0 for 8 bits. `cut`: 16-bit color read as 8 bits. `size`: (high, wide) in pixels, upright; `turned`: it
    lies otherwise in the file.
    """

    deep: bool
    top: int
    colored: float
    tint: float
    cut: bool
    brightest: int
    content: bytes
    thumbnail: NDArray[np.float32]
    size: tuple[int, int]
    turned: bool = False


@dataclass(frozen=True)
class Survey:
    """How the pictures of a line are read, and which of them.

    groups: (n,) a number for each readable picture; those of one part have the same, see `repeats.group_repeats`
    sizes: of each readable picture, (high, wide) in pixels
    rejected: by the picture's id, why it is left out
    notes: what was found, in words, a line each
    """

    format: PictureFormat
    readable: list[Picture]
    groups: NDArray[np.int64]
    sizes: list[tuple[int, int]]
    rejected: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def parts(self) -> int:
        """How many different parts the readable pictures show."""
        return len(np.unique(self.groups))


def survey_pictures(
    pictures: Sequence[Picture], color: Literal["auto"] | Color = "auto", bits: int | None = None, progress: Progress = silent
) -> Survey:
    """Decode every picture once, and decide on the format; what `color` and `bits` say is not looked for.

    Color: "rgb" where any picture carries color on more than 0.05 % of its places (blocks of a 256th of its side, so that noise and JPEG
    do not count), or is tinted as a whole. Depth: 16 bits where all pictures are gray with 16 bits; of these, as many as the brightest
    picture takes up. Left out are pictures that cannot be read and those that are black all over.
    """
    rejected: dict[str, str] = {}
    seen: list[tuple[Picture, Facts]] = []
    with ThreadPoolExecutor(THREADS) as pool:
        attempts = pool.map(_attempt, pictures)
        for picture in counted(pictures, progress, "pictures decoded"):
            facts = next(attempts)
            if isinstance(facts, RecordError):
                rejected[picture.id] = str(facts)
            elif facts.brightest <= _black(facts):
                rejected[picture.id] = f"{record_name(picture.path)}: black all over (a covered lens, or no light); left out"
            else:
                seen.append((picture, facts))
    found = [facts for _, facts in seen]
    top = max((facts.top for facts in found), default=0)
    chosen = PictureFormat(_color(found) if color == "auto" else color, bool(found) and all(f.deep for f in found), bits or _bits(top))
    groups = group_repeats([f.content for f in found], [f.thumbnail for f in found])
    survey = Survey(chosen, [picture for picture, _ in seen], groups, [facts.size for facts in found], rejected)
    return replace(survey, notes=tuple(_words(survey, found, top, color == "auto", bits is None)))


def check_enough(survey: Survey, root: Path) -> None:
    """Raise DataError, with reasons, when the readable pictures are too few or show too few different parts to be fitted to."""
    count, parts = len(survey.readable), survey.parts
    if count < FEWEST:
        reasons = (f"  {reason}" for reason in list(survey.rejected.values())[:5])
        raise DataError(f"{root}: {count} readable pictures of good parts; at least {FEWEST} are needed", *reasons)
    if parts < FEWEST_PARTS:
        raise DataError(
            f"{root}: {count} pictures show only {parts} different part{'s' if parts > 1 else ''} (identical or nearly so); pictures of at "
            f"least {FEWEST_PARTS} different good parts are needed, {FEWEST} pictures in all, to know how good parts differ"
        )


def describe_pictures(data: Path) -> list[str]:
    """What a fit would find in a folder of pictures or a manifest, in words, a line each; what it would refuse is said last."""
    if data.is_dir() or data.suffix.lower() in TABLES:
        found = find_pictures(data)
    else:
        found = PictureSet(data.parent, (Picture(data.name, data),), ())
    survey = survey_pictures(found.train)
    kinds = Counter("good" if picture.defect is None else picture.defect for picture in found.test)
    lines = [*survey.notes, *found.notes, *list(survey.rejected.values())[:10]]
    if kinds:
        masks = sum(picture.mask is not None for picture in found.test)
        lines.append(f"to test on: {', '.join(f'{count} {kind}' for kind, count in kinds.items())}; {masks} masks")
    try:
        check_enough(survey, data)
    except DataError as error:
        lines.append(str(error).splitlines()[0])
    return lines


def _attempt(picture: Picture) -> Facts | RecordError:
    try:
        return look_at(picture.path)
    except RecordError as error:
        return error


def look_at(path: Path) -> Facts:
    """Decode one picture and say what it shows. Raises RecordError when it cannot be read."""
    with opened(path) as image:
        cut = bool(image.info.get(HALVED))
        if cut and int(np.asarray(image).max()) < LOWEST_COLOR:
            raise RecordError(
                f"{path}: color with 16 bits a channel of which only the lower are used, and 8-bit reading keeps the upper ones; save it "
                "with 8 bits a channel"
            )
        if is_16_bit(image):
            wide = gray_16_bit(image)
            top = top_value(wide)
            full = (1 << _bits(top)) - 1  # thumbnails of 8 and of 16 bits are compared with each other: on one scale
            small = _small(Image.fromarray(wide.astype(np.float32) * np.float32(255 / full)))
            return Facts(True, top, 0.0, 0.0, False, top, _digest(wide), small, image.size[::-1], TURNED in image.info)
        colored, tint = (0.0, 0.0) if image.mode in ("L", "1", "LA") else _color_of(image)
        gray = image.convert("L")
        brightest = _brightest(gray) if colored == 0 else 255
        turned = TURNED in image.info
        return Facts(False, 0, colored, tint, cut, brightest, _digest(np.asarray(image)), _small(gray), image.size[::-1], turned)


def _brightest(gray: Image.Image) -> int:
    """The smallest value that no more than one in 10,000 of a picture's values is above."""
    counts = np.cumsum(gray.histogram())
    return int(np.searchsorted(counts, (1 - 1e-4) * (counts[-1] - 1), side="right"))


def _small(image: Image.Image) -> NDArray[np.float32]:
    return np.asarray(image.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX), dtype=np.float32)


def _digest(pixels: NDArray[np.generic]) -> bytes:
    digest = hashlib.blake2b(str(pixels.shape).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.digest()


def _color_of(image: Image.Image) -> tuple[float, float]:
    """(share of places with color, mean difference of the channels) of a picture."""
    whole = image.convert("RGB")
    small, coarse = (np.asarray(whole.reduce(max(2, min(image.size) // side))).astype(np.int16) for side in (FLOOR, COARSE))
    differ = small.max(axis=2) - small.min(axis=2)
    return float((differ > COLORED).mean()), float(np.abs(coarse - coarse[:, :, :1]).mean())


def _color(found: Sequence[Facts]) -> Color:
    return "rgb" if any(f.colored > COLORED_SHARE or f.tint > TINTED for f in found) else "gray"


def _bits(top: int) -> int:
    """The fewest bits that hold a value; 16 where there is none to go by.

    >>> [_bits(top) for top in (0, 255, 4095, 4096, 65535)]
    [16, 8, 12, 14, 16]
    """
    return next(bits for bits in BITS if top < 1 << bits) if top else 16


def _black(facts: Facts) -> int:
    """The value up to which a picture counts as black, in its own units: of those of its bits where it has 16."""
    return BLACK * ((1 << _bits(facts.top)) - 1) // 255 if facts.deep and facts.top > 255 else BLACK


# --- in words ---


def _words(survey: Survey, found: Sequence[Facts], top: int, color_found: bool, bits_found: bool) -> list[str]:
    form, count = survey.format, len(survey.readable)
    how = f"{_color_words(form, found, color_found)}, {_depth_words(form, found, top, bits_found)}"
    lines = [f"{count} pictures of good parts, read as {how}"]
    if form.deep is False and any(f.deep for f in found):
        lines.append(f"{sum(f.deep for f in found)} of the pictures have 16 bits and the others 8: all are read as 8 bits")
    cut = sum(f.cut for f in found)
    if cut:
        lines.append(f"{cut} pictures are in color with 16 bits a channel: read as 8 bits, the upper half of each value")
    sizes = Counter(np.unique(survey.groups, return_counts=True)[1].tolist())
    repeated = sum(groups for size, groups in sizes.items() if size > 1)
    if repeated:
        lines.append(
            f"{count} pictures show {survey.parts} different parts: {repeated} were taken more than once (identical or nearly so); such "
            "pictures are left out together when normals are scored, and count once"
        )
    several = items_in_words([picture.path for picture in survey.readable], [f.thumbnail for f in found])
    if several:
        lines.append(several)
    if survey.rejected:
        lines.append(f"{len(survey.rejected)} pictures are left out (cannot be read, or black all over)")
    if found:
        lines.append(sizes_in_words([f.size for f in found], [f.turned for f in found]))
    return lines


def sizes_in_words(sizes: Sequence[tuple[int, int]], turned: Sequence[bool], *, all_seen: bool = True) -> str:
    """Which sizes (high, wide) pictures have, the most frequent first, and how many of each where all are seen.

    >>> sizes_in_words([(300, 400)] * 3, [False] * 3)
    'size of the pictures (high x wide): 300 x 400 pixels'
    >>> sizes_in_words([(300, 400)] * 20 + [(400, 300)] * 4, [False] * 20 + [True] * 4)
    'sizes of the pictures (high x wide, pixels): 300 x 400 (20), 400 x 300 (4, turned by EXIF)'
    """
    counts, lying = Counter(sizes), Counter(size for size, one in zip(sizes, turned, strict=True) if one)
    said = []
    for size, count in counts.most_common(SIZES):
        part = "" if lying[size] == count or not all_seen else f"{lying[size]} of them "
        more = [*([str(count)] if all_seen and len(counts) > 1 else []), *([f"{part}turned by EXIF"] if lying[size] else [])]
        unit = " pixels" if len(counts) == 1 else ""
        said.append(f"{size[0]} x {size[1]}{unit}" + (f" ({', '.join(more)})" if more else ""))
    if len(counts) == 1:
        return f"size of the pictures (high x wide): {said[0]}"
    if len(counts) > SIZES:
        (low_h, low_w), (high_h, high_w) = np.min(sizes, axis=0), np.max(sizes, axis=0)
        said.append(f"and {len(counts) - SIZES} sizes more; {low_h} to {high_h} high, {low_w} to {high_w} wide")
    return f"sizes of the pictures (high x wide, pixels): {', '.join(said)}"


def _color_words(form: PictureFormat, found: Sequence[Facts], was_found: bool) -> str:
    if not was_found:
        return f"{form.color} (as the spec says)"
    most = max((f.colored for f in found), default=0.0)
    if form.color == "rgb":
        colored = sum(f.colored > COLORED_SHARE or f.tint > TINTED for f in found)
        where = f"on up to {most:.1%} of their places" if most > COLORED_SHARE else "a tint all over"
        return f"rgb ({colored} carry color, {where})"
    return 'gray (none carries color; a colored fault then counts by its brightness only, [input] color = "rgb" looks at color too)'


def _depth_words(form: PictureFormat, found: Sequence[Facts], top: int, was_found: bool) -> str:
    if not any(f.deep for f in found):
        return "8 bits"
    how = f"their values go up to {top:,}" if was_found else "as the spec says"
    return f"{form.bits} of 16 bits in use ({how})" if form.bits < 16 else "16 bits"
