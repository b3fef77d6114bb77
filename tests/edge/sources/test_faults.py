"""Every source of files goes through the same faults: trouble or a record set aside, never an exception, never a hang."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anomaly.edge.sources.base import Poll, Source
from anomaly.edge.sources.csv_file import LONGEST, CsvSource
from anomaly.edge.sources.picture_folder import PictureFolder
from anomaly.edge.sources.table_folder import TableFolder
from anomaly.errors import DataError, SourceError
from tests.edge.conftest import save
from tests.edge.sources.conftest import IMAGE, SCHEMA


def rows(first: float, count: int) -> str:
    return "".join(f"{first + i},1,2\n" for i in range(count))


def write_table(path: Path, first: float = 0) -> None:
    path.write_text("time,a,b\n" + rows(first, 5))
    os.utime(path, (1000 + first, 1000 + first))


def write_picture(path: Path, shade: float = 0) -> None:
    save(path, np.full((8, 8, 3), int(shade) % 256, np.uint8), age=100)


@dataclass(frozen=True)
class Kind:
    """A source, what it watches, and how a good file is written there."""

    name: str
    open: Callable[[Path], Source]
    write: Callable[[Path, float], None]
    folder: bool

    def file(self, place: Path) -> Path:
        return place / f"1{'.png' if self.name == 'pictures' else '.csv'}" if self.folder else place


KINDS = [
    Kind("csv", lambda place: CsvSource(place, SCHEMA, {}), write_table, False),
    Kind("tables", lambda place: TableFolder(place, SCHEMA, {}), write_table, True),
    Kind("pictures", lambda place: PictureFolder(place, IMAGE, lambda _: False, clock=Clock()), write_picture, True),
]


class Clock:
    """Moves on by 20 seconds a look, so that no test waits for a file to settle."""

    def __init__(self) -> None:
        self.now = 1e9

    def __call__(self) -> float:
        self.now += 20
        return self.now


def polled(source: Source, times: int = 12) -> Poll:
    """What several polls gave together. One that hangs fails the test instead of holding it up."""
    found: list[Poll] = []
    thread = threading.Thread(target=lambda: found.extend(source.poll(100) for _ in range(times)), daemon=True)
    thread.start()
    thread.join(60)
    assert len(found) == times, "a poll raised or hung"
    together = Poll(trouble=found[-1].trouble)
    for poll in found:
        together.records += poll.records
        together.rejected += poll.rejected
    return together


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> Kind:
    return request.param


@pytest.fixture
def place(kind: Kind, tmp_path: Path) -> Path:
    """A place with one good file."""
    found = tmp_path / ("watched" if kind.folder else "feed.csv")
    if kind.folder:
        found.mkdir()
    kind.write(kind.file(found), 0)
    return found


def remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


PLACE_FAULTS = {
    "gone": lambda place: None,
    "a dangling link": lambda place: place.symlink_to(place.parent / "nowhere"),
    "a link to itself": lambda place: place.symlink_to(place),
    "a pipe": os.mkfifo,
}


@pytest.mark.parametrize("fault", PLACE_FAULTS)
def test_a_place_that_is_lost_is_trouble_until_it_is_back(kind: Kind, place: Path, fault: str) -> None:
    source = kind.open(place)
    first = polled(source)
    assert first.records
    assert first.trouble == ""
    remove(place)
    PLACE_FAULTS[fault](place)
    lost = polled(source)
    assert lost.records == []
    assert str(place) in lost.trouble
    if os.path.lexists(place):
        remove(place)
    if kind.folder:
        place.mkdir()
    kind.write(kind.file(place), 100)
    back = polled(source)
    assert back.records
    assert back.trouble == ""
    source.close()


@pytest.mark.parametrize("fault", PLACE_FAULTS)
def test_a_place_that_is_not_there_yet_is_said_to_be_so(kind: Kind, tmp_path: Path, fault: str) -> None:
    place = tmp_path / "place"
    PLACE_FAULTS[fault](place)
    with pytest.raises(SourceError, match=r"(create it or correct --source|place)"):
        kind.open(place)


def test_a_file_in_place_of_a_folder_and_a_folder_in_place_of_a_file(kind: Kind, place: Path) -> None:
    source = kind.open(place)
    assert polled(source).records
    remove(place)
    place.write_text("x") if kind.folder else place.mkdir()
    lost = polled(source)
    assert str(place) in lost.trouble
    assert lost.records == []


FILE_FAULTS = {
    "a dangling link": lambda path: path.symlink_to(path.parent / "nowhere"),
    "a link to itself": lambda path: path.symlink_to(path),
    "a pipe": os.mkfifo,
    "rubbish": lambda path: path.write_bytes(np.random.default_rng(0).bytes(5000)),
    "empty": lambda path: path.touch(),
}


@pytest.mark.parametrize("fault", FILE_FAULTS)
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.folder], ids=lambda kind: kind.name)
def test_one_bad_file_of_a_folder_is_set_aside_and_the_others_are_read(kind: Kind, tmp_path: Path, fault: str) -> None:
    source = kind.open(tmp_path)
    bad = kind.file(tmp_path)
    FILE_FAULTS[fault](bad)
    if bad.is_file():
        os.utime(bad, (10, 10))
    else:
        os.utime(bad, (10, 10), follow_symlinks=False)
    kind.write(bad.with_stem("2"), 100)
    found = polled(source)
    assert found.records
    assert [record.id.partition("@")[0] for record in found.rejected] == [bad.name]
    assert polled(source).rejected == []  # told once
    source.close()


def test_a_folder_named_as_a_table_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / "part.parquet").mkdir()
    os.utime(tmp_path / "part.parquet", (10, 10))
    write_table(tmp_path / "1.csv")
    found = polled(TableFolder(tmp_path, SCHEMA, {}))
    assert found.records
    assert [record.reason for record in found.rejected] == ["OSError: [Errno 0] a folder, not a file"]


@pytest.mark.parametrize("time", [-(2.0**40), 4e9, 2.0**33])
def test_pictures_of_any_time_are_records_with_one_that_can_be_told(tmp_path: Path, time: float) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "1.png")
    try:
        os.utime(tmp_path / "1.png", (time, time))
    except (OSError, OverflowError):
        pytest.skip("this file system holds no such time")
    found = polled(PictureFolder(tmp_path, IMAGE, lambda _: False, clock=Clock()), 20)
    assert len(found.records) == 1
    assert -62_135_596_800 <= found.records[0].time <= 253_402_300_799


@pytest.mark.parametrize("cell", ["nan", "inf", "-inf", "1e300", "-1e300", "9" * 400, "", "1e18"])
def test_a_time_that_is_none_sets_its_row_aside_and_nothing_else(tmp_path: Path, cell: str) -> None:
    feed = tmp_path / "feed.csv"
    feed.write_text("time,a,b\n" + rows(100, 5))
    source = CsvSource(feed, SCHEMA, {})
    before = polled(source)
    with feed.open("a") as stream:
        stream.write(f"{cell},1,2\n" + rows(105, 5))
    after = polled(source)
    assert len(after.records) == 5
    assert len(before.records) == 3
    assert [record.id for record in after.rejected] == ["feed.csv:7"]


@pytest.mark.parametrize("cell", ["1e400", "-1e308", "9" * 5000, "1" * 400])
def test_a_reading_without_measure_is_missing(tmp_path: Path, cell: str) -> None:
    feed = tmp_path / "feed.csv"
    feed.write_text("time,a,b\n" + rows(100, 5) + f"105,{cell},2\n")
    found = polled(CsvSource(feed, SCHEMA, {}))
    assert np.isnan(found.records[-1].payload[-1, 0]) or cell == "-1e308"
    assert np.isfinite(found.records[-1].payload[-1, 1])


def test_a_line_that_never_ends_is_skipped_and_takes_no_memory_without_bound(tmp_path: Path) -> None:
    feed = tmp_path / "feed.csv"
    feed.write_text("time,a,b\n" + rows(100, 5))
    source = CsvSource(feed, SCHEMA, {})
    assert len(polled(source).records) == 3
    with feed.open("a") as stream:
        stream.write("x" * (2 * LONGEST + 5) + "\n" + rows(200, 5))
    found = polled(source)
    assert len(found.records) == 3  # a gap, then a window's rows again
    assert "no line ends in" in found.rejected[0].reason
    assert all(len(record.reason) < 1000 for record in found.rejected)


def test_a_file_whose_header_is_written_in_two_goes_is_never_read_by_half_a_header(tmp_path: Path) -> None:
    feed = tmp_path / "feed.csv"
    feed.write_text("time,a,b\n" + rows(100, 5))
    source = CsvSource(feed, SCHEMA, {})
    polled(source)
    (tmp_path / "new").write_text("time,b")
    (tmp_path / "new").rename(feed)
    waiting = polled(source)
    assert "no complete header line yet" in waiting.trouble
    assert waiting.rejected == []
    with feed.open("a") as stream:
        stream.write(",a\n" + "".join(f"{i},7,1\n" for i in range(5)))
    found = polled(source)
    assert found.trouble == ""
    assert found.records[-1].payload[-1].tolist() == [1.0, 7.0]


def test_a_wrong_header_is_set_aside_once_and_the_right_one_goes_on(tmp_path: Path) -> None:
    feed = tmp_path / "feed.csv"
    write_table(feed)
    source = CsvSource(feed, SCHEMA, {})
    polled(source)
    (tmp_path / "new").write_text("time,a,c\n1,2,3\n")
    (tmp_path / "new").rename(feed)
    found = polled(source)
    with feed.open("a") as stream:
        stream.write("4,5,6\n")
    again = polled(source)
    assert [len(found.rejected), len(again.rejected)] == [1, 0]
    assert "columns ['b'] are missing" in again.trouble
    write_table(tmp_path / "right")
    (tmp_path / "right").rename(feed)
    assert len(polled(source).records) == 3


@pytest.mark.parametrize("step", [3600.0, 60.0])
def test_a_clock_that_is_set_back_costs_a_few_rows_and_not_an_hour(tmp_path: Path, step: float) -> None:
    feed = tmp_path / "feed.csv"
    feed.write_text("time,a,b\n" + rows(10_000, 20))
    source = CsvSource(feed, SCHEMA, {})
    polled(source)
    records = rejected = 0
    for i in range(60):
        with feed.open("a") as stream:
            stream.write(f"{10_020 - step + i},1,2\n")
        found = source.poll(100)
        records, rejected = records + len(found.records), rejected + len(found.rejected)
    assert rejected == 10
    assert records == 60 - 10 - 2  # a window has three rows
    again = CsvSource(feed, SCHEMA, found.position)  # nothing is held up after a restart either
    with feed.open("a") as stream:
        stream.write(f"{10_020 - step + 60},1,2\n")
    assert len(again.poll(100).records) == 1


def test_tables_written_while_the_clock_is_set_back_are_read(tmp_path: Path) -> None:
    write_table(tmp_path / "1.csv", 0)
    os.utime(tmp_path / "1.csv", (9000, 9000))
    source = TableFolder(tmp_path, SCHEMA, {}, clock=lambda: 10_000.0)
    polled(source)
    write_table(tmp_path / "2.csv", 10)
    os.utime(tmp_path / "2.csv", (5400, 5400))  # an hour before the last one
    found = source.poll(100)
    assert len(found.records) == 5
    position = found.position
    again = TableFolder(tmp_path, SCHEMA, position, clock=lambda: 10_000.0)
    assert polled(again).rejected == []  # nothing is read twice
    write_table(tmp_path / "3.csv", 15)
    os.utime(tmp_path / "3.csv", (99_000, 99_000))  # far ahead
    moments = iter([10_000.0, 10_003.0, 10_006.0, *[10_009.0] * 20])
    ahead = TableFolder(tmp_path, SCHEMA, position, clock=lambda: next(moments))
    assert len(polled(ahead, 4).records) == 5


def test_resuming_where_a_table_is_gone_or_no_longer_readable_goes_on(tmp_path: Path) -> None:
    for number in range(3):
        write_table(tmp_path / f"{number}.csv", 5 * number)
        os.utime(tmp_path / f"{number}.csv", (1000 + number, 1000 + number))
    source = TableFolder(tmp_path, SCHEMA, {})
    position = polled(source).position
    for _ in range(5):
        position = source.poll(100).position or position
    (tmp_path / "1.csv").unlink()
    (tmp_path / "2.csv").write_bytes(b"\x00" * 50)
    os.utime(tmp_path / "2.csv", (1002, 1002))
    write_table(tmp_path / "3.csv", 100)
    os.utime(tmp_path / "3.csv", (2000, 2000))
    assert polled(TableFolder(tmp_path, SCHEMA, position)).records


def test_a_wrong_header_at_the_start_is_an_error_of_the_data(tmp_path: Path) -> None:
    feed = tmp_path / "feed.csv"
    feed.write_text("time,a,c\n1,2,3\n")
    with pytest.raises(DataError, match=r"columns \['b'\] are missing"):
        CsvSource(feed, SCHEMA, {})
