"""An evaluation on training data says that it is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import Fitted, run


def _learnt(*arguments: object, folder: Path) -> tuple[dict | None, str]:
    said = run("evaluate", *arguments, "--json", folder / "f.json", "--report", folder / "r.html")
    return json.loads((folder / "f.json").read_text()).get("learnt_from"), said


def test_pictures_that_were_learnt_from_are_known_by_their_content(camera: Fitted, tmp_path: Path) -> None:
    parts = tmp_path / "parts"
    parts.mkdir()
    for number, path in enumerate(sorted((camera.data / "train" / "good").iterdir())[:6]):
        shutil.copy(path, parts / f"renamed-{number}{path.suffix}")
    found, said = _learnt(camera.bundle, "--data", parts, "--layout", "folder", folder=tmp_path)
    assert found is not None
    assert (found["records"], found["of"]) == (6, 6)
    assert "This is training data: the detector has learnt from 6 of these 6 pictures" in said
    assert "This is training data" in (tmp_path / "r.html").read_text()
    for path in sorted((camera.data / "test" / "good").iterdir()):
        shutil.copy(path, parts)
    more, said = _learnt(camera.bundle, "--data", parts, "--layout", "folder", folder=tmp_path)
    assert more is not None
    assert (more["records"], more["of"]) == (6, 12)


def test_other_pictures_are_not(camera: Fitted, tmp_path: Path) -> None:
    found, said = _learnt(camera.bundle, "--data", camera.data, folder=tmp_path)
    assert found is None
    assert "training data" not in said


@pytest.mark.parametrize(("rows", "known"), [(slice(None), True), (slice(300, 1200), True), (None, False)])
def test_a_table_that_was_learnt_from_is_known_by_its_rows(sensor: Fitted, tmp_path: Path, rows: slice | None, known: bool) -> None:
    frame = pd.read_csv(sensor.data / ("test.csv" if rows is None else "train.csv"))
    frame = (frame if rows is None else frame.iloc[rows]).drop(columns=["fault_kind"], errors="ignore")
    if "anomaly" not in frame:
        frame["anomaly"] = 0
    frame.to_csv(tmp_path / "judged.csv", index=False)
    found, said = _learnt(sensor.bundle, "--data", tmp_path / "judged.csv", folder=tmp_path)
    assert (found is not None) == known
    assert ("This is training data" in said) == known
