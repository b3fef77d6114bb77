"""What is decided once, on all training pictures: color, bits in use, which show the same part, which show nothing."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageFilter

from anomaly.data.pictures.layouts import find_pictures
from anomaly.data.pictures.reading import Picture
from anomaly.data.pictures.survey import Survey, check_enough, survey_pictures
from anomaly.data.samples.synthetic import part_picture
from anomaly.errors import DataError
from anomaly.pipeline.propose.look import look

Array = np.ndarray
RNG = np.random.default_rng(0)
PARTS = [part_picture(np.random.default_rng(i))[0][:, :, 0] for i in range(24)]


def survey(folder: Path, pictures: list[Array], suffix: str = "png", **options: object) -> Survey:
    for number, one in enumerate(pictures):
        Image.fromarray(one).save(folder / f"{number:02}.{suffix}")
    return survey_pictures([Picture(p.name, p) for p in sorted(folder.iterdir())], **options)  # type: ignore[arg-type]


# --- color ---


def gray() -> Array:
    """A gray picture of 256 x 256 in three channels."""
    return np.asarray(Image.fromarray(PARTS[0]).resize((256, 256)).convert("RGB")).copy()


def labelled(color: tuple[int, int, int], share: float) -> Array:
    """With a square label of one color on this share of the picture."""
    found, side = gray(), round((share * 256 * 256) ** 0.5)
    found[20 : 20 + side, 30 : 30 + side] = color
    return found


def noisy(spread: float) -> Array:
    return np.clip(gray() + np.random.default_rng(1).normal(0, spread, (256, 256, 3)), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif", "webp"])
@pytest.mark.parametrize(
    ("picture", "color"),
    [
        (gray(), "gray"),
        (PARTS[0], "gray"),
        (noisy(4), "gray"),
        (labelled((40, 40, 160), 0.016), "rgb"),  # a blue label
        (labelled((150, 60, 60), 0.003), "rgb"),  # a small red mark
        (labelled((120, 140, 100), 0.01), "rgb"),  # pale green
        ((gray() * [1.0, 0.7, 0.4]).astype(np.uint8), "rgb"),  # brown all over
    ],
    ids=["gray in three channels", "gray", "color noise", "blue label", "red mark", "pale green", "brown"],
)
def test_color_is_that_of_any_colored_place(tmp_path: Path, picture: Array, color: str, suffix: str) -> None:
    found = survey(tmp_path, [gray(), gray(), picture], suffix)
    assert found.format.color == color
    assert (f"read as {color} (") in found.notes[0]


def test_the_spec_has_the_last_word(tmp_path: Path) -> None:
    found = survey(tmp_path, [labelled((40, 40, 160), 0.05)], color="gray")
    assert found.format == ("gray", False, 16)
    assert "gray (as the spec says)" in found.notes[0]


# --- bits ---


@pytest.mark.parametrize("top", [200, 1000, 4095, 4096, 16_000, 65_535])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_bits_are_those_of_the_brightest_picture(tmp_path: Path, top: int, suffix: str) -> None:
    levels = [np.linspace(0, top * share, 4096).reshape(64, 64).astype(np.uint16) for share in (0.5, 1.0)]
    levels[1][-1, -9:] = top
    levels[0][3, 3] = 65_535  # a hot pixel is none of the range
    bits = next(bits for bits in (8, 10, 12, 14, 16) if top < 1 << bits)
    found = survey(tmp_path, levels, suffix)
    assert found.format == ("gray", True, bits)
    assert (f"{bits} of 16 bits in use (their values go up to {top:,})" if bits < 16 else "16 bits") in found.notes[0]
    assert survey_pictures(found.readable, bits=16).format.bits == 16


def test_pictures_of_8_and_16_bits_together_are_told(tmp_path: Path) -> None:
    found = survey(tmp_path, [np.full((8, 8), 300, np.uint16) + np.arange(8, dtype=np.uint16), PARTS[0], PARTS[1]])
    assert found.format == ("gray", False, 10)
    assert "1 of the pictures have 16 bits and the others 8" in found.notes[1]


def test_different_parts_in_8_and_16_bits_are_not_taken_for_one(tmp_path: Path) -> None:
    pictures = [surface(i).astype(np.uint16) * 257 if i % 2 else surface(i) for i in range(20)]
    assert survey(tmp_path, pictures).parts == 20


def png_16_bit_color(path: Path, values: Array) -> None:
    """A PNG of (H, W, 3) uint16, which Pillow reads but does not write."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    whole = b"".join(struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d)) for t, d in chunks)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + whole)


def test_color_of_16_bits_is_told_and_refused_where_only_lower_bits_are_used(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 65_536, (40, 40, 3)).astype(np.uint16)
    png_16_bit_color(tmp_path / "0.png", values)
    png_16_bit_color(tmp_path / "1.png", values >> 4)
    found = survey_pictures([Picture(p.name, p) for p in sorted(tmp_path.iterdir())])
    assert [p.id for p in found.readable] == ["0.png"]
    assert "1 pictures are in color with 16 bits a channel: read as 8 bits" in found.notes[1]
    assert "of which only the lower are used" in found.rejected["1.png"]


# --- pictures of one part ---


def shot(part: Array, spread: int = 1, seed: int = 0) -> Array:
    """One more picture of a part, with noise of its own."""
    return np.clip(part.astype(int) + np.random.default_rng(seed).integers(-spread, spread + 1, part.shape), 0, 255).astype(np.uint8)


def surface(seed: int) -> Array:
    return np.clip(np.random.default_rng(seed).normal(128, 6, (128, 128)), 0, 255).astype(np.uint8)


def disc(seed: int) -> Array:
    """A part without any texture, that lies a little elsewhere each time: the hardest to tell from a repeat."""
    rng = np.random.default_rng(seed)
    x, y = rng.normal(64, 3, 2)
    far = np.hypot(np.arange(128)[None] - x, np.arange(128)[:, None] - y)
    return np.clip(80 + 100 / (1 + np.exp((far - 30) / 1.5)) + rng.normal(0, 2, (128, 128)), 0, 255).astype(np.uint8)


def light(seed: int) -> Array:
    rng = np.random.default_rng(seed)
    return np.clip(128 + rng.normal() * 20 * np.linspace(-1, 1, 128)[None] + rng.normal(0, 3, (128, 128)), 0, 255).astype(np.uint8)


def jpeg_like(part: Array) -> Array:
    return np.asarray(Image.fromarray(part).filter(ImageFilter.GaussianBlur(0.6)))


REPEATED: dict[str, tuple[Callable[[], list[Array]], int]] = {
    "18 parts twice": (lambda: [shot(p, 1, i) for p in PARTS[:18] for i in range(2)], 18),
    "18 parts twice, stronger noise": (lambda: [shot(p, 8, i) for p in PARTS[:18] for i in range(2)], 18),
    "12 bursts of 3": (lambda: [shot(p, 1, i) for p in PARTS[:12] for i in range(3)], 12),
    "copies": (lambda: [p for p in PARTS[:12] for _ in range(2)], 12),
    "darker the second time": (lambda: [q for p in PARTS[:12] for q in (p, (p * 0.8).astype(np.uint8))], 12),
    "not as sharp the second time": (lambda: [q for p in PARTS[:12] for q in (p, jpeg_like(p))], 12),
    "one of 24 twice": (lambda: [*PARTS, shot(PARTS[5])], 24),
    "rough surfaces twice": (lambda: [shot(surface(i), 1, j) for i in range(12) for j in range(2)], 12),
    "24 identical": (lambda: [PARTS[0]] * 24, 1),
    "2 parts, 12 times each": (lambda: [shot(p, 1, i) for p in PARTS[:2] for i in range(12)], 2),
}
DIFFERENT: dict[str, Callable[[], list[Array]]] = {
    "parts": lambda: PARTS,
    "rough surfaces": lambda: [surface(i) for i in range(40)],
    "discs": lambda: [disc(i) for i in range(60)],
    "one part under other light": lambda: [light(i) for i in range(40)],
}


@pytest.mark.parametrize("name", REPEATED)
def test_pictures_of_one_part_are_one_group(tmp_path: Path, name: str) -> None:
    make, parts = REPEATED[name]
    pictures = make()
    found = survey(tmp_path, pictures)
    assert found.parts == parts
    assert f"{len(pictures)} pictures show {parts} different parts" in found.notes[1]


@pytest.mark.parametrize("name", DIFFERENT)
def test_different_parts_are_not_taken_for_one(tmp_path: Path, name: str) -> None:
    pictures = DIFFERENT[name]()
    found = survey(tmp_path, pictures)
    assert found.groups.tolist() == list(range(len(pictures)))
    assert not any("different parts" in note for note in found.notes)


def black(noise: int) -> list[Array]:
    return [np.random.default_rng(i).integers(0, noise + 1, (64, 64)).astype(np.uint8) for i in range(24)]


@pytest.mark.parametrize(
    ("pictures", "message"),
    [
        ([PARTS[0]] * 24, r"24 pictures show only 1 different part \(identical or nearly so\); .* at least 8 different good parts"),
        ([shot(p, 1, i) for p in PARTS[:3] for i in range(8)], "24 pictures show only 3 different parts"),
        ([np.zeros((64, 64), np.uint8)] * 24, r"0 readable pictures of good parts; at least 16 are needed\n  .*black all over"),
        (black(2), "0 readable pictures of good parts.*\n.*black all over"),
        ([np.zeros((64, 64), np.uint16)] * 24, "0 readable pictures of good parts.*\n.*black all over"),
        ([np.zeros((64, 64, 3), np.uint8)] * 24, "0 readable pictures of good parts.*\n.*black all over"),
        ([np.full((64, 64), 200, np.uint8)] * 24, "24 pictures show only 1 different part "),
        (PARTS[:10], "10 readable pictures of good parts"),
    ],
    ids=["identical", "3 parts", "black", "black with noise", "black, 16 bits", "black, color", "white", "too few"],
)
def test_normals_that_show_too_little_are_refused_in_words(tmp_path: Path, pictures: list[Array], message: str) -> None:
    with pytest.raises(DataError, match=message):
        check_enough(survey(tmp_path, pictures), tmp_path)


def test_sizes_are_told_upright_and_which_are_turned(tmp_path: Path) -> None:
    lying = Image.Exif()
    lying[ExifTags.Base.Orientation] = 6
    for number in range(5):
        Image.fromarray(PARTS[number][:120]).save(tmp_path / f"{number}.jpg", **({"exif": lying} if number == 4 else {}))
    told = "sizes of the pictures (high x wide, pixels): 120 x 160 (4), 160 x 120 (1, turned by EXIF)"
    assert told in survey_pictures(find_pictures(tmp_path).train).notes
    assert told in look(tmp_path).words
