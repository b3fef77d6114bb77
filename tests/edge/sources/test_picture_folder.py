"""A folder of pictures."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
from PIL import Image

from anomaly.edge.sources.picture_folder import PictureFolder
from tests.edge.conftest import save
from tests.edge.sources.conftest import IMAGE


def test_folder_gives_each_picture_once_oldest_first(tmp_path: Path, picture: np.ndarray) -> None:
    source = PictureFolder(tmp_path, IMAGE, lambda _: False)
    save(tmp_path / "b.png", picture, age=20)
    save(tmp_path / "shift2" / "a.png", picture, age=10)
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "bad.png").write_bytes(b"junk")
    os.utime(tmp_path / "bad.png", (1, 1))
    poll = source.poll(10)
    assert [r.id.split("@")[0] for r in poll.records] == ["b.png", "shift2/a.png"]
    assert "bad.png: not a picture" in poll.rejected[0].reason
    assert source.poll(10).records == []
    save(tmp_path / "b.png", picture, age=5)  # written again: a new record
    assert [r.id.split("@")[0] for r in source.poll(10).records] == ["b.png"]


def test_a_file_still_being_written_waits(tmp_path: Path, picture: np.ndarray) -> None:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    source = PictureFolder(tmp_path, IMAGE, lambda _: False)
    path = tmp_path / "slow.png"
    path.write_bytes(buffer.getvalue()[:5000])
    assert source.poll(10).waiting
    path.write_bytes(buffer.getvalue())
    assert source.poll(10).records == []  # it grew since
    poll = source.poll(10)
    assert len(poll.records) == 1
    assert poll.rejected == []
