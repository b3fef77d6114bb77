"""Reading pictures: every odd file has its message, every pixel format comes out in one form."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anomaly.data.pictures.reading import decide_color, read_image
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
    with pytest.raises(RecordError, match="the file is gone"):
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


def test_color_is_decided_from_the_files(tmp_path: Path, picture: np.ndarray) -> None:
    gray = np.repeat(picture[:, :, :1], 3, axis=2)
    Image.fromarray(gray).save(tmp_path / "a.jpg")
    assert decide_color([tmp_path / "a.jpg"]) == ("gray", False)
    Image.fromarray((picture * [1.0, 0.7, 0.4]).astype(np.uint8)).save(tmp_path / "b.jpg")
    assert decide_color([tmp_path / "a.jpg", tmp_path / "b.jpg"]) == ("rgb", False)
