"""A folder of pictures: each once, whole, oldest first, whatever is being written there."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anomaly.edge.sources.picture_folder import PictureFolder
from anomaly.schema import InputSchema
from tests.edge.sources.conftest import IMAGE

NOW = 1_800_000_000.0


class Clock:
    """A clock that moves when it is told to; files are written at its time."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


def put(path: Path, content: bytes, when: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (when, when))


def encoded(picture: np.ndarray, kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, kind)
    return buffer.getvalue()


def names(poll: object) -> list[str]:
    return [r.id.split("@")[0] for r in poll.records]  # type: ignore[attr-defined]


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_folder_gives_each_picture_once_oldest_first(tmp_path: Path, picture: np.ndarray, clock: Clock) -> None:
    png = encoded(picture, "PNG")
    source = PictureFolder(tmp_path, IMAGE, lambda _: False, clock)
    put(tmp_path / "b.png", png, NOW - 30)
    put(tmp_path / "shift2" / "a.png", png, NOW - 20)
    put(tmp_path / "notes.txt", b"x", NOW - 20)
    put(tmp_path / "bad.png", b"junk", 1)
    poll = source.poll(10)
    assert names(poll) == ["b.png", "shift2/a.png"]
    assert "bad.png: not a picture" in poll.rejected[0].reason
    assert source.poll(10).records == []
    put(tmp_path / "b.png", png, NOW - 5)  # written again: a new record, once it has stayed the same for a second
    assert source.poll(10).waiting
    clock.now += 1
    assert names(source.poll(10)) == ["b.png"]
    assert not source.poll(10).waiting


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF", "WEBP"])
@pytest.mark.parametrize("reserved", [False, True], ids=["grows", "space reserved"])
def test_a_copy_that_pauses_is_read_when_it_is_whole(tmp_path: Path, picture: np.ndarray, clock: Clock, kind: str, reserved: bool) -> None:
    whole = encoded(np.maximum(picture, 1), kind)
    source = PictureFolder(tmp_path, IMAGE, lambda _: False, clock)
    assert source.poll(10).records == []
    path = tmp_path / f"slow.{kind.lower()}"
    for share in (0.2, 0.4, 0.6, 0.8):
        some = whole[: int(share * len(whole))]
        put(path, some + bytes(len(whole) - len(some)) if reserved else some, clock.now)
        for pause in (0.0, 0.15, 0.6):
            clock.now += pause
            poll = source.poll(10)
            assert (poll.records, poll.rejected, poll.waiting) == ([], [], True)
    put(path, whole, clock.now)
    assert source.poll(10).waiting
    clock.now += 1
    poll = source.poll(10)
    assert names(poll) == [path.name]
    assert poll.rejected == []
    clock.now += 60
    assert source.poll(10).records == []


def test_times_of_a_server_whose_clock_is_behind_do_not_make_a_file_whole(tmp_path: Path, picture: np.ndarray, clock: Clock) -> None:
    whole = encoded(picture, "PNG")
    source = PictureFolder(tmp_path, IMAGE, lambda _: False, clock)
    assert source.poll(10).records == []
    put(tmp_path / "a.png", whole[:3000], NOW - 3600)
    assert source.poll(10).waiting
    put(tmp_path / "a.png", whole, NOW - 3599)
    clock.now += 0.6
    assert source.poll(10).waiting
    clock.now += 1
    assert names(source.poll(10)) == ["a.png"]


def test_a_long_pause_before_the_tail_of_a_bitmap(tmp_path: Path, picture: np.ndarray, clock: Clock) -> None:
    whole = encoded(np.maximum(picture, 1), "BMP")
    source = PictureFolder(tmp_path, IMAGE, lambda _: False, clock)
    source.poll(10)
    put(tmp_path / "a.bmp", whole[: len(whole) // 2] + bytes(len(whole) - len(whole) // 2), clock.now)
    for _ in range(9):
        assert source.poll(10).records == []
        clock.now += 1
    put(tmp_path / "a.bmp", whole, clock.now)
    source.poll(10)
    clock.now += 1
    assert names(source.poll(10)) == ["a.bmp"]


def test_pictures_that_are_black_at_the_end_wait_once(tmp_path: Path, picture: np.ndarray, clock: Clock) -> None:
    dark = np.maximum(picture, 1)
    dark[:60] = 0  # a bitmap holds its rows from the last to the first
    source = PictureFolder(tmp_path, IMAGE, lambda _: False, clock)
    source.poll(10)
    waits = []
    for number in range(3):
        put(tmp_path / f"{number}.bmp", encoded(dark, "BMP"), clock.now)
        started = clock.now
        while not source.poll(10).records:
            clock.now += 0.5
        waits.append(clock.now - started)
    assert waits == [10.0, 1.0, 1.0]


def test_what_cannot_be_decoded_is_tried_again_before_it_is_set_aside(tmp_path: Path, picture: np.ndarray, clock: Clock) -> None:
    whole = encoded(picture, "JPEG")
    source = PictureFolder(tmp_path, IMAGE, lambda _: False, clock)
    source.poll(10)
    put(tmp_path / "late.jpg", whole[: len(whole) // 2], clock.now)
    put(tmp_path / "never.jpg", whole[: len(whole) // 2], clock.now)
    seen: list[float] = []
    for _ in range(20):
        poll = source.poll(10)
        seen += [clock.now - NOW for _ in poll.rejected]
        if clock.now == NOW + 2:
            put(tmp_path / "late.jpg", whole, clock.now)
        if poll.records:
            assert names(poll) == ["late.jpg"]
        clock.now += 0.5
    assert seen == [4.0]  # one second to settle, and again after one and two


def test_a_picture_that_changes_while_it_is_decoded_is_read_again(tmp_path: Path, picture: np.ndarray, clock: Clock) -> None:
    put(tmp_path / "a.png", encoded(picture // 2, "PNG"), NOW - 100)
    put(tmp_path / "b.png", encoded(picture, "PNG"), NOW - 50)
    source = PictureFolder(tmp_path, IMAGE, lambda _: False, clock)
    assert names(source.poll(1)) == ["a.png"]  # b is decoded ahead
    put(tmp_path / "b.png", encoded(picture // 4, "PNG"), NOW - 40)
    assert source.poll(1).records == []
    source.poll(1)
    clock.now += 1
    poll = source.poll(1)
    assert names(poll) == ["b.png"]
    np.testing.assert_array_equal(poll.records[0].payload, picture // 4)


NAMES = [b"pr\xfcf.png", b"\xff.png", b"a\nb.png", b"tab\there.png", "größe µ.png".encode(), b"shift \xe9/1.png", b"\\xfc.png", b"\xfc.png"]


def test_names_that_are_not_utf_8_are_escaped_and_told_apart(tmp_path: Path, picture: np.ndarray, clock: Clock) -> None:
    for name in NAMES:
        put(Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)), encoded(picture, "PNG"), NOW - 60)
    source = PictureFolder(tmp_path, IMAGE, lambda _: False, clock)
    found = names(source.poll(50))
    assert len(set(found)) == len(NAMES)
    assert {r"pr\xfcf.png", r"\xff.png", r"a\x0ab.png", r"tab\x09here.png", "größe µ.png", r"shift \xe9/1.png"} < set(found)
    assert all(name.encode() for name in found)


def test_values_beyond_the_range_are_told_and_scored(tmp_path: Path, clock: Clock) -> None:
    schema = InputSchema(name="image", dtype="uint16", channels=1, significant_bits=12)
    for number, top in enumerate((4095, 60_000)):
        Image.fromarray(np.linspace(0, top, 2500).reshape(50, 50).astype(np.uint16)).save(tmp_path / f"{number}.png")
        os.utime(tmp_path / f"{number}.png", (NOW - 60 + number,) * 2)
    source = PictureFolder(tmp_path, schema, lambda _: False, clock)
    first, second = source.poll(1), source.poll(1)
    assert (len(first.records), first.beyond) == (1, "")
    assert first.records[0].payload.max() == second.records[0].payload.max() == 65535
    assert "1.png: " in second.beyond
    assert "above 4,095 (up to 60,000), beyond the 12 bits" in second.beyond
