"""Reading pictures: every odd file has its message, every pixel format comes out in one form."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter, TiffImagePlugin

from anomaly.data.pictures.reading import PictureFormat, read_image, read_mask, read_picture, read_smaller
from anomaly.errors import RecordError


@pytest.fixture
def jpeg(tmp_path: Path, picture: np.ndarray) -> Path:
    path = tmp_path / "part.jpg"
    Image.fromarray(picture).save(path, quality=90)
    return path


def test_truncated_jpeg_is_named_and_says_what_to_do(jpeg: Path) -> None:
    jpeg.write_bytes(jpeg.read_bytes()[:2000])
    with pytest.raises(RecordError, match=r"part\.jpg: the picture is damaged or cut short \(.*truncated.*\); send it again"):
        read_image(jpeg, "rgb")


def test_zero_byte_file(tmp_path: Path) -> None:
    path = tmp_path / "empty.png"
    path.touch()
    with pytest.raises(RecordError, match=r"empty\.png: the file is empty \(0 bytes\)"):
        read_image(path, "gray")


def test_text_with_a_picture_name(tmp_path: Path) -> None:
    path = tmp_path / "note.png"
    path.write_text("not a picture")
    with pytest.raises(RecordError, match=r"note\.png: not a picture that can be decoded"):
        read_image(path, "gray")


def test_gone(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="the file is not there"):
        read_image(tmp_path / "x.png", "gray")


def test_16_bit_png_keeps_its_depth_or_is_scaled(tmp_path: Path) -> None:
    wide = np.array([[0, 257, 65535], [128 * 257, 1000, 2]], dtype=np.uint16)
    Image.fromarray(wide).save(tmp_path / "deep.png")
    deep = read_image(tmp_path / "deep.png", "gray", deep=True)
    assert deep.dtype == np.uint16
    np.testing.assert_array_equal(deep[:, :, 0], wide)
    narrow = read_image(tmp_path / "deep.png", "gray")
    assert narrow.dtype == np.uint8
    np.testing.assert_array_equal(narrow[:, :, 0], [[0, 1, 255], [128, 4, 0]])
    assert read_image(tmp_path / "deep.png", "rgb").shape == (2, 3, 3)


def test_8_bit_picture_for_a_16_bit_line(jpeg: Path) -> None:
    narrow, deep = read_image(jpeg, "rgb"), read_image(jpeg, "rgb", deep=True)
    np.testing.assert_array_equal(deep, narrow.astype(np.uint16) * 257)


def test_cmyk_jpeg_reads_as_rgb(tmp_path: Path) -> None:
    red = Image.new("RGB", (8, 8), (255, 0, 0)).convert("CMYK")
    red.save(tmp_path / "print.jpg", quality=95)
    pixel = read_image(tmp_path / "print.jpg", "rgb")[4, 4].astype(int)
    assert pixel[0] > 200
    assert pixel[1:].max() < 60


def test_float_picture_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "f.tif")
    with pytest.raises(RecordError, match="floating-point pixels have no known range"):
        read_image(tmp_path / "f.tif", "gray")


@pytest.mark.parametrize("mode", ["P", "RGBA", "LA", "1", "L"])
def test_other_modes_come_out_in_one_form(tmp_path: Path, picture: np.ndarray, mode: str) -> None:
    Image.fromarray(picture).convert(mode).save(tmp_path / "m.png")
    assert read_image(tmp_path / "m.png", "rgb").shape == (160, 160, 3)
    assert read_image(tmp_path / "m.png", "gray").shape == (160, 160, 1)


# --- what viewers turn, and files of several pictures ---


def oriented(path: Path, upright: np.ndarray, orientation: int, **options: object) -> Path:
    """A file that a viewer shows as `upright`, stored as a camera that is held so stores it."""
    stored = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1], 5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1), 7: upright[::-1, ::-1].transpose(1, 0, 2), 8: np.rot90(upright, -1),
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(path, exif=exif, **options)
    return path


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_as_viewers_turn_it(tmp_path: Path, suffix: str, orientation: int) -> None:
    upright = np.zeros((48, 32, 3), np.uint8)
    upright[:16, :8] = 255
    upright[:16, 8:] = 120
    options: dict[str, object] = {"jpg": {"quality": 100}, "webp": {"lossless": True}}.get(suffix, {})
    found = read_image(oriented(tmp_path / f"a.{suffix}", upright, orientation, **options), "rgb")
    assert found.shape == upright.shape
    assert np.abs(found.astype(int) - upright).max() < 12


@pytest.mark.parametrize(
    ("suffix", "mode", "deep"), [("jpg", "RGB", False), ("jpg", "L", True), ("png", "RGB", False), ("png", "I;16", True)]
)
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_picture_made_smaller_is_the_mean_of_what_it_stands_for(
    tmp_path: Path, suffix: str, mode: str, deep: bool, orientation: int
) -> None:
    """No side is shorter than is enough, the proportions stay, and its own size is known, also of a JPEG decoded smaller."""
    rows, columns = np.mgrid[:1200, :1600]
    plain = 128 + 60 * np.sin(rows / 90) + 50 * np.cos(columns / 70)
    values = (plain * 257).astype(np.uint16) if mode == "I;16" else plain.astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(values) if mode != "RGB" else Image.fromarray(values).convert("RGB")
    stored.save(tmp_path / f"a.{suffix}", exif=exif, **({"quality": 95} if suffix == "jpg" else {}))
    form = PictureFormat("rgb" if mode == "RGB" else "gray", deep)
    whole = read_picture(tmp_path / f"a.{suffix}", form).pixels
    size = (1600, 1200) if orientation == 6 else (1200, 1600)
    assert whole.shape[:2] == size
    small = read_smaller(tmp_path / f"a.{suffix}", form, (100, 160))
    factor = min(size[0] / 100, size[1] / 160)
    assert small.pixels.shape == (round(size[0] / factor), round(size[1] / factor), whole.shape[2])
    assert (small.size, small.whole, small.pixels.dtype) == (size, False, whole.dtype)
    plane = Image.fromarray(whole[:, :, 0].astype(np.float32)).resize(small.pixels.shape[1::-1], Image.Resampling.BOX)
    assert abs(np.asarray(plane) - small.pixels[:, :, 0]).max() <= (2 * 257 if deep else 2)
    for enough in ((1000, 1000), (5000, 20)):  # hardly smaller, and already so
        near = read_smaller(tmp_path / f"a.{suffix}", form, enough)
        assert near.whole
        assert np.array_equal(near.pixels, whole)


def test_exif_that_cannot_be_read_turns_nothing(tmp_path: Path, picture: np.ndarray) -> None:
    Image.fromarray(picture).save(tmp_path / "a.jpg", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff garbage")
    assert read_image(tmp_path / "a.jpg", "rgb").shape == picture.shape


def pages(path: Path, count: int, **options: object) -> Path:
    first, *others = (Image.fromarray(np.full((16, 16), 40 * i, np.uint8)) for i in range(count))
    first.save(path, save_all=True, append_images=others, **options)
    return path


@pytest.mark.parametrize(("name", "count"), [("a.tif", 2), ("a.tif", 5), ("a.png", 3), ("a.webp", 2)])
def test_a_file_of_several_pictures_is_refused_in_words(tmp_path: Path, name: str, count: int) -> None:
    with pytest.raises(RecordError, match=rf"{name}: holds {count} pictures .*; save each as a file of its own"):
        read_image(pages(tmp_path / name, count), "gray")


def test_a_smaller_copy_beside_the_picture_is_no_second_picture(tmp_path: Path) -> None:
    with TiffImagePlugin.AppendingTiffWriter(tmp_path / "a.tif") as writer:
        for side, kind in ((16, 0), (4, 1)):
            Image.fromarray(np.full((side, side), side, np.uint8)).save(writer, format="TIFF", tiffinfo={254: kind})
            writer.newFrame()
    assert read_image(tmp_path / "a.tif", "gray").shape == (16, 16, 1)
    pages(tmp_path / "phone.mpo", 2).rename(tmp_path / "phone.jpg")
    assert read_image(tmp_path / "phone.jpg", "gray").shape == (16, 16, 1)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (Image.fromarray(np.zeros((4, 4), np.float32)), "floating-point pixels have no known range; save it with 8 or 16 bits"),
        (Image.fromarray(np.full((4, 4), 70_000, np.int32)), "gray values outside 0 to 65535"),
        (Image.fromarray(np.full((4, 4), -1, np.int32)), "gray values outside 0 to 65535"),
        (Image.new("LAB", (4, 4)), "its colors are stored as LAB"),
    ],
)
def test_what_has_no_sure_meaning_is_refused_in_words(tmp_path: Path, image: Image.Image, message: str) -> None:
    image.save(tmp_path / "a.tif")
    with pytest.raises(RecordError, match=message) as caught:
        read_image(tmp_path / "a.tif", "gray")
    assert "damaged" not in str(caught.value)


def test_a_jpeg_whose_end_is_reserved_space_is_cut_short(jpeg: Path) -> None:
    whole = jpeg.read_bytes()
    jpeg.write_bytes(whole + bytes(9000))  # whole, in a block of the disk
    assert read_image(jpeg, "gray").shape == (160, 160, 1)
    jpeg.write_bytes(whole[: len(whole) // 2] + bytes(9000))
    with pytest.raises(RecordError, match="cut short: its end is missing"):
        read_image(jpeg, "gray")


# --- bits in use ---


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("deep", [False, True])
def test_the_bits_in_use_are_spread_over_the_whole_range(tmp_path: Path, bits: int, deep: bool) -> None:
    top = (1 << bits) - 1
    values = np.linspace(0, top, 400).round().astype(np.uint16).reshape(20, 20)
    for suffix in ("png", "tif"):
        Image.fromarray(values).save(tmp_path / f"a.{suffix}")
        found, note = read_picture(tmp_path / f"a.{suffix}", PictureFormat("gray", deep, bits))
        full = 65535 if deep else 255
        np.testing.assert_allclose(found[:, :, 0], values / top * full, atol=0.51)
        assert note == ""


def test_a_hot_pixel_is_cut_off_without_a_word(tmp_path: Path) -> None:
    values = np.full((200, 200), 4000, np.uint16)
    values[3, 3] = 65535
    Image.fromarray(values).save(tmp_path / "a.png")
    found, note = read_picture(tmp_path / "a.png", PictureFormat("gray", True, 12))
    assert (found[3, 3, 0], note) == (65535, "")


# --- masks ---


def as_palette(mask: np.ndarray, colors: list[int]) -> Image.Image:
    image = Image.fromarray(mask.astype(np.uint8), "P")
    image.putpalette(colors)
    return image


def as_rgba(mask: np.ndarray, color: tuple[int, int, int], outside: tuple[int, int, int, int]) -> Image.Image:
    return Image.fromarray(np.where(mask[:, :, None], (*color, 255), outside).astype(np.uint8), "RGBA")


MASK = np.zeros((40, 30), bool)
MASK[5:9, 7:21] = MASK[30, 3] = True
MASKS = {
    "255": Image.fromarray(MASK.astype(np.uint8) * 255),
    "1": Image.fromarray(MASK.astype(np.uint8)),
    "class 3": Image.fromarray(MASK.astype(np.uint8) * 3),
    "classes 1 to 3": Image.fromarray(np.where(MASK, 1 + np.arange(30) % 3, 0).astype(np.uint8)),
    "1 bit": Image.fromarray(MASK),
    "16 bits": Image.fromarray(MASK.astype(np.uint16)),
    "32 bits": Image.fromarray(MASK.astype(np.int32) * 7),
    "palette, black first": as_palette(MASK, [0, 0, 0, 255, 0, 0]),
    "palette, dark color": as_palette(MASK, [0, 0, 0, 1, 1, 1]),
    "palette, white background": as_palette(MASK, [255, 255, 255, 0, 0, 0]),
    "red": Image.fromarray((MASK[:, :, None] * np.array([255, 0, 0])).astype(np.uint8)),
    "blue": Image.fromarray((MASK[:, :, None] * np.array([0, 0, 200])).astype(np.uint8)),
    "RGBA, black background": as_rgba(MASK, (255, 0, 0), (0, 0, 0, 255)),
    "RGBA, nothing around": as_rgba(MASK, (0, 255, 0), (0, 0, 0, 0)),
    "RGBA, white but transparent around": as_rgba(MASK, (255, 0, 0), (255, 255, 255, 0)),
    "RGBA, black paint": as_rgba(MASK, (0, 0, 0), (0, 0, 0, 0)),
    "gray and alpha": as_rgba(MASK, (255, 255, 255), (0, 0, 0, 0)).convert("LA"),
}


@pytest.mark.parametrize(("name", "suffix"), [(n, s) for n in MASKS for s in ("png", "tif") if (n, s) != ("32 bits", "png")])
def test_a_mask_is_what_is_not_0(tmp_path: Path, name: str, suffix: str) -> None:
    MASKS[name].save(tmp_path / f"m.{suffix}")
    np.testing.assert_array_equal(read_mask(tmp_path / f"m.{suffix}"), MASK)


def disc(side: int = 64) -> np.ndarray:
    return np.hypot(*(np.mgrid[:side, :side] - side / 2 + 0.5)) < side / 4


@pytest.mark.parametrize("how", ["JPEG", "JPEG, then PNG", "soft edge", "soft red edge"])
def test_a_mask_in_shades_is_what_is_bright(tmp_path: Path, how: str) -> None:
    image = Image.fromarray(disc().astype(np.uint8) * 255)
    if how.startswith("JPEG"):
        image.save(tmp_path / "m.jpg", quality=60)
        image = Image.open(tmp_path / "m.jpg")
    if how.startswith("soft"):
        image = Image.fromarray(disc(512).astype(np.uint8) * 255).filter(ImageFilter.GaussianBlur(8)).resize((64, 64))
    if "red" in how:
        image = Image.merge("RGB", (image, Image.new("L", image.size), Image.new("L", image.size)))
    path = tmp_path / ("m.jpg" if how == "JPEG" else "m.png")
    image.save(path) if how != "JPEG" else None
    assert (read_mask(path) != disc()).mean() < 0.01


@pytest.mark.parametrize("classes", [3, 12, 40])
def test_class_numbers_are_no_shades(tmp_path: Path, classes: int) -> None:
    values = np.where(disc(), 1 + np.arange(64) % classes, 0).astype(np.uint8)
    Image.fromarray(values).save(tmp_path / "m.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png"), disc())
