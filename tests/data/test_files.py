"""What lies in folders that people and file servers share: it is never taken for data, by whatever walks there."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from PIL import Image

from anomaly.data.files import PICTURES, find_files
from anomaly.data.pictures.layouts import find_faults, find_pictures
from anomaly.data.tables.files import find_tables
from anomaly.edge.sources.picture_folder import PictureFolder
from anomaly.edge.sources.table_folder import TableFolder
from anomaly.pipeline.data_key import with_transfer
from anomaly.schema import Channel, InputSchema
from anomaly.spec import Transfer
from tests.data.litter import litter

TABLE = "time,a\n" + "".join(f"{second},{second}\n" for second in range(5))


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8), 7, np.uint8)).save(path)
    return path


def settled() -> float:
    return time.time() + 60


def test_tables_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "one.csv").write_text(TABLE)
    (tmp_path / "folder.csv").mkdir()
    assert find_tables(litter(tmp_path)) == ([tmp_path / "one.csv"], [])


def test_pictures_of_a_layout_and_of_a_plain_folder(tmp_path: Path) -> None:
    for name in ("train/good/1.png", "test/good/2.png", "test/crack/3.png"):
        picture(tmp_path / name)
    for folder in ("", "train", "train/good", "test", "test/good", "test/crack"):
        litter(tmp_path / folder)
    found = find_pictures(tmp_path)
    assert [p.id for p in found.train] == ["train/good/1.png"]
    assert [(p.id, p.defect) for p in found.test] == [("test/crack/3.png", "crack"), ("test/good/2.png", None)]
    assert [p.id for p in find_pictures(tmp_path / "train" / "good").train] == ["1.png"]
    assert [p.id for p in find_faults(tmp_path / "test")] == ["crack/3.png"]


def test_a_watched_folder_of_pictures(tmp_path: Path) -> None:
    picture(tmp_path / "1.png")
    picture(tmp_path / "shift" / "2.PNG")
    litter(litter(tmp_path) / "shift")
    source = PictureFolder(tmp_path, InputSchema(name="image", dtype="uint8", channels=1), lambda _: False, settled)
    found = source.poll(50)
    assert sorted(record.id.split("@")[0] for record in found.records) == ["1.png", "shift/2.PNG"]
    assert found.rejected == []


def test_a_watched_folder_of_tables(tmp_path: Path) -> None:
    (tmp_path / "1.csv").write_text(TABLE)
    schema = InputSchema(name="window", dtype="float32", channels=1, window=2, period_s=1, max_gap_s=10, sensors=(Channel(name="a"),))
    source = TableFolder(litter(tmp_path), schema, {}, settled)
    polls = [source.poll(50) for _ in range(10)]
    assert [record.id for poll in polls for record in poll.records] == ["1.csv:3", "1.csv:4", "1.csv:5", "1.csv:6"]  # lines of the file
    assert [poll.rejected for poll in polls if poll.rejected] == []


def test_the_fingerprint_of_another_line(tmp_path: Path) -> None:
    picture(tmp_path / "a" / "1.png")
    before = with_transfer("own", Transfer(normals=tmp_path))
    litter(litter(tmp_path) / "a")
    assert with_transfer("own", Transfer(normals=tmp_path)) == before
    picture(tmp_path / "a" / "2.png")
    assert with_transfer("own", Transfer(normals=tmp_path)) != before


def test_files_in_name_order_with_and_without_subfolders(tmp_path: Path) -> None:
    for name in ("b.png", "a.JPG", "c.txt", "z/d.png", "a/e.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    names = [p.relative_to(tmp_path).as_posix() for p in find_files(litter(tmp_path), PICTURES, deep=True)]
    assert names == ["a/e.png", "a.JPG", "b.png", "z/d.png"]
    assert [p.name for p in find_files(tmp_path, PICTURES)] == ["a.JPG", "b.png"]
    assert [p.name for p in find_files(tmp_path)] == ["a.JPG", "b.png", "c.txt"]
    assert find_files(tmp_path / "nowhere") == find_files(tmp_path / "nowhere", deep=True) == []
