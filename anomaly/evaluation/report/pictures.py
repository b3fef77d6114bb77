"""Pictures of a report: each with its heat-map over it, the outline of its mask, and its file's name."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import contourpy
import matplotlib as mpl
import numpy as np
from matplotlib import font_manager
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from anomaly.data.pictures.reading import Picture, read_mask
from anomaly.errors import RecordError
from anomaly.evaluation.figures import SHOWN, Evaluation
from anomaly.evaluation.report.drawing import INK
from anomaly.evaluation.report.page import Card, Gallery, Tone
from anomaly.names import one_line
from anomaly.rarity import Shades, least_p, one_in, shades_of

SIDE = 360  # pixels of a picture's longer side in a page
LEAST_WIDE = 480  # pixels, of a picture with text under it
STRONGEST = 0.6  # how much of the picture the brightest places of a heat-map cover
_OUTLINE_SIDE = 256  # pixels to which a mask is reduced before its outline is drawn

Map = NDArray[np.float32]


def colored(heat: Map, shades: Shades) -> NDArray[np.uint8]:
    """A map (h, w) as RGBA (h, w, 4) uint8: the more unusual a place, the brighter and the less transparent."""
    share = np.clip((heat - shades[0]) / (shades[1] - shades[0]), 0, 1)
    rgba = mpl.colormaps["inferno"](0.25 + 0.75 * share)
    rgba[..., 3] = STRONGEST * share
    return np.asarray(np.rint(255 * rgba), dtype=np.uint8)


def as_rgb(picture: NDArray[np.uint8]) -> Image.Image:
    """A picture (H, W, 1 or 3) uint8 as Pillow takes it."""
    return Image.fromarray(picture[:, :, 0]).convert("RGB") if picture.shape[2] == 1 else Image.fromarray(picture)


def overlaid(picture: NDArray[np.uint8], heat: Map, shades: Shades) -> Image.Image:
    """A picture (H, W, C) uint8 with its heat-map (h, w) over it, at the picture's own size."""
    below = as_rgb(picture).convert("RGBA")
    above = Image.fromarray(colored(heat, shades)).resize(below.size, Image.Resampling.BILINEAR)
    return Image.alpha_composite(below, above).convert("RGB")


def captioned(picture: Image.Image, lines: Sequence[str], shades: Shades, threshold: float | None = None) -> Image.Image:
    """A picture with its heat-map, and under it on white: lines of text, and the scale of the heat-map's colors with the `threshold` on it.

    It keeps its own size, but for a white margin on the right where it is narrower than the text needs.
    """
    wide = max(picture.width, LEAST_WIDE)
    pixels = max(12, wide // 45)
    font = ImageFont.truetype(font_manager.findfont("DejaVu Sans"), pixels)
    told = [part for line in lines for part in _in_width(line, font, wide - pixels)]
    line_high, bar_high = round(1.35 * pixels), pixels
    page = Image.new("RGB", (wide, picture.height + line_high * (len(told) + 2) + 2 * bar_high), "white")
    page.paste(picture, (0, 0))
    draw, x, y = ImageDraw.Draw(page), pixels // 2, picture.height + pixels // 2
    for text in told:
        draw.text((x, y), text, fill=INK, font=font)
        y += line_high
    y += pixels // 3
    long = wide - pixels
    values = np.linspace(*shades, long, dtype=np.float32)[None].repeat(bar_high, axis=0)
    page.paste(Image.alpha_composite(Image.new("RGBA", (long, bar_high), "#808080"), Image.fromarray(colored(values, shades))), (x, y))
    marks = {f"usual {shades[0]:.3g}": 0.0, f"{shades[1]:.3g} and more": 1.0}
    if threshold is not None and shades[0] < threshold < shades[1]:
        share = (threshold - shades[0]) / (shades[1] - shades[0])
        draw.line([(x + share * long, y - 2), (x + share * long, y + bar_high + 2)], fill=INK, width=max(1, pixels // 8))
        marks[f"threshold {threshold:.3g}"] = min(share, 0.55)  # written left of the upper end, which it would run into
    for text, share in marks.items():
        half = font.getlength(text) / 2
        draw.text((x + min(max(share * long - half, 0), long - 2 * half), y + bar_high + 3), text, fill=INK, font=font)
    return page


def _in_width(text: str, font: ImageFont.FreeTypeFont, wide: float) -> list[str]:
    """A text in lines that are no wider than so many pixels."""
    lines = [""]
    for letter in one_line(text):
        if lines[-1] and font.getlength(lines[-1] + letter) > wide:
            lines.append("")
        lines[-1] += letter
    return lines


def card(
    picture: NDArray[np.uint8],
    lines: Sequence[str],
    heat: Map | None = None,
    shades: Shades = (0.0, 1.0),
    mask: NDArray[np.bool_] | None = None,
    tone: Tone = "",
) -> Card:
    """A picture (H, W, C) uint8 for a page. `mask` (H, W) bool: its outline is drawn."""
    shown = as_rgb(picture)
    shown.thumbnail((SIDE, SIDE))
    heat_uri = "" if heat is None else _uri(Image.fromarray(colored(heat, shades)), "PNG")
    outline = "" if mask is None else _outline(mask, shown.size)
    return Card(tuple(lines), _uri(shown, "JPEG"), shown.width, shown.height, heat_uri, outline, tone)


def _uri(image: Image.Image, form: str) -> str:
    buffer = io.BytesIO()
    image.save(buffer, form, **({"quality": 82} if form == "JPEG" else {}))
    return f"data:image/{form.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _outline(mask: NDArray[np.bool_], size: tuple[int, int]) -> str:
    """The edge of a mask as an SVG path over a picture of `size` (wide, high)."""
    wide, high = (max(1, round(side * min(1, _OUTLINE_SIDE / max(mask.shape)))) for side in mask.shape[::-1])
    small = np.asarray(Image.fromarray(mask.astype(np.uint8) * 255).resize((wide, high), Image.Resampling.BOX), dtype=np.float64)
    padded = np.pad(small, 1)
    lines = contourpy.contour_generator(z=padded).lines(60.0)
    scale = np.array([size[0] / wide, size[1] / high])
    paths = []
    for line in lines:
        points = (np.asarray(line) - 0.5) * scale  # padded by one, and a pixel's value stands in its middle
        paths.append("M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points))
    return "".join(paths)


def galleries(
    evaluation: Evaluation,
    read: Callable[[str], NDArray[np.uint8]],
    threshold: float | None,
    normals: float,
    pictures: Sequence[Picture] = (),
) -> list[Gallery]:
    """The faults that rank lowest, the good parts that rank highest and the faults that rank highest, each with its heat-map.

    `read` gives the picture of a record. `normals` says by how many unrelated normals the detector judges. `pictures` know the masks.
    """
    records = evaluation.records
    faulty = records["label"] != "good"
    good = records[~faulty]
    usual = float((good if len(good) else records)["score"].median())
    shades = shades_of(usual, threshold, float(records["score"].max()))
    masks = {picture.id: picture.mask for picture in pictures if picture.mask is not None}
    groups = {
        "Faults that look most like good parts": (records[faulty].nsmallest(SHOWN, "score"), "Those that are not flagged are missed."),
        "Good parts that look most unusual": (good.nlargest(SHOWN, "score"), "Those that are flagged cost a look at a good part."),
        "Faults that stand out most": (records[faulty].nlargest(SHOWN, "score"), ""),
    }
    found = []
    for title, (chosen, words) in groups.items():
        cards = tuple(_card(row, evaluation, read, shades, masks.get(str(row.id)), normals) for row in chosen.itertuples())
        outlined = " A line is the edge of the labelled fault, in red where that is missed." if any(one.outline for one in cards) else ""
        found.append(Gallery(title, cards, (words + outlined).strip()))
    return [gallery for gallery in found if gallery.cards]


def _card(
    row: Any, evaluation: Evaluation, read: Callable[[str], NDArray[np.uint8]], shades: Shades, mask: Path | None, normals: float
) -> Card:
    picture = read(str(row.id))
    edge = None
    if mask is not None:
        try:
            edge = read_mask(mask)
        except RecordError:
            edge = None  # said in the notes
    faulty = row.label != "good"
    state = ("flagged" if row.flagged else "missed") if faulty else ("flagged" if row.flagged else "not flagged")
    lines = (str(row.id), f"{row.label}: {state}", f"score {row.score:.3g}, {one_in(float(row.p_value), least_p(normals))}")
    return card(picture, lines, evaluation.maps.get(str(row.id)), shades, edge, "bad" if faulty != bool(row.flagged) else "")
