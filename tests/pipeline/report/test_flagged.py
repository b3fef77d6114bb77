"""`anomaly flagged`: what a bundle flags, or what a store says was flagged, as pictures, plots and a list, worst first."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from anomaly.bundle.archive import read_bundle
from anomaly.cli.main import app
from anomaly.errors import BundleError, DataError
from tests.conftest import Fitted, run


@pytest.fixture(scope="module")
def drawn(camera: Fitted, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("flagged") / "out"
    run("flagged", camera.bundle, camera.data / "test", "--out", out, "--most", 3)
    return out


def test_flagged_pictures_are_drawn_worst_first(camera: Fitted, drawn: Path, tmp_path: Path) -> None:
    found = pd.read_csv(drawn / "flagged.csv")
    run("score", camera.bundle, camera.data / "test", "--json", tmp_path / "s.json", "--exit-zero")
    scores = pd.read_json(tmp_path / "s.json")
    wanted = scores[scores["flagged"]].sort_values("score", ascending=False)
    assert len(wanted) > 3
    assert found["record"].tolist() == wanted["record"].tolist()
    assert found["score"].is_monotonic_decreasing
    least = read_bundle(camera.bundle).manifest.least_p
    assert found["p_value"].min() >= least * 0.9999
    assert found["p_is_below"].tolist() == (wanted["p_value"] < least).tolist()
    assert found["p_is_below"].any()
    assert found["picture"].notna().sum() == 3  # the list holds all
    assert {path.name for path in drawn.glob("*.png")} == set(found["picture"].dropna())


def test_the_heat_map_lies_over_the_picture(drawn: Path) -> None:
    first = pd.read_csv(drawn / "flagged.csv").iloc[0]
    picture, before = (np.asarray(Image.open(path).convert("RGB")).astype(int) for path in (drawn / first["picture"], first["record"]))
    high, wide = before.shape[:2]
    assert (picture[high:] < 100).any()  # its name, score and scale stand under it
    picture = picture[:high, :wide]
    y, x = int(first["where_y"] * high), int(first["where_x"] * wide)
    changed = np.abs(picture - before).sum(axis=2)
    assert changed[y, x] > 60
    assert changed.min() <= 3


def test_another_run_leaves_no_picture_of_the_one_before(camera: Fitted, drawn: Path, tmp_path: Path) -> None:
    out = shutil.copytree(drawn, tmp_path / "out")
    (out / "mine.png").write_bytes(b"")
    run("flagged", camera.bundle, camera.data / "test" / "good", "--out", out)
    listed = set(pd.read_csv(out / "flagged.csv")["picture"].dropna())
    assert {path.name for path in out.glob("*.png")} == listed | {"mine.png"}


def test_flagged_stretches_are_plots_with_clock_times(sensor: Fitted, tmp_path: Path) -> None:
    said = run("flagged", sensor.bundle, sensor.data / "test.csv", "--out", tmp_path / "out", "--most", 2)
    found = pd.read_csv(tmp_path / "out" / "flagged.csv")
    assert found["p_value"].is_monotonic_increasing
    assert found["from"].str.fullmatch(r"2026-\d\d-\d\d \d\d:\d\d:\d\dZ").all()
    assert (found["to_line"] >= found["from_line"]).all()
    assert len(list((tmp_path / "out").glob("*.png"))) == 2
    assert found.loc[0, "sensors"] in said


def test_a_store_says_what_was_flagged(camera: Fitted, drawn: Path, tmp_path: Path) -> None:
    line = tmp_path / "line"
    shutil.copytree(camera.data / "test", line / "new")
    store = line / "line.db"
    run("monitor", camera.bundle, "--source", line / "new", "--once", "--store", store, "--exit-zero")
    with pytest.raises(BundleError, match="is not beside it; name it with --bundle FILE"):
        run("flagged", store, line / "new", "--out", tmp_path / "out")
    shutil.copy(camera.bundle, line / "b.anomaly")
    run("flagged", store, line / "new", "--out", tmp_path / "out")
    names = [Path(name).relative_to(line / "new") for name in pd.read_csv(tmp_path / "out" / "flagged.csv")["record"]]
    wanted = [Path(name).relative_to(camera.data / "test") for name in pd.read_csv(drawn / "flagged.csv")["record"]]
    assert names == wanted
    (line / "new" / names[0]).unlink()
    assert f"set aside: {names[0]}: flagged, and not in" in run("flagged", store, line / "new", "--out", tmp_path / "out")


def test_a_path_that_is_not_there_is_told(camera: Fitted, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        run("flagged", camera.bundle, tmp_path / "nothing", "--out", tmp_path / "out")


def test_other_things_beside_the_store_do_not_hide_its_bundle(camera: Fitted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(camera.data / "test", "new")
    run("monitor", camera.bundle, "--source", "new", "--once", "--store", "line.db")
    Path(".anomaly").mkdir()  # the work folder of a fit
    Path("a.anomaly").write_bytes(b"cut short")
    shutil.copy(camera.bundle, "b.anomaly")
    assert "records flagged, as the store says" in run("flagged", "line.db", "new", "--out", "out")
    again = run("monitor", camera.bundle, "--source", "new", "--once", "--store", "line.db")
    assert "nothing new to score: what was scored before stands in line.db" in again


def test_a_script_learns_from_the_exit_code_whether_there_was_any(camera: Fitted, tmp_path: Path) -> None:
    def code(path: Path, *more: str) -> int:
        return CliRunner().invoke(app, ["flagged", str(camera.bundle), str(path), "--out", str(tmp_path / "out"), *more]).exit_code

    assert code(camera.data / "test") == 3
    assert code(camera.data / "test", "--exit-zero") == 0


def test_the_worst_are_told_and_how_many_more_there_are(camera: Fitted, tmp_path: Path) -> None:
    said = run("flagged", camera.bundle, camera.data / "test", "--out", tmp_path / "out").splitlines()
    listed = len(pd.read_csv(tmp_path / "out" / "flagged.csv"))
    assert listed > 5
    assert f"  and {listed - 5} more, less unusual, in " in said[-1]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [("parts/bad.jpg", b"", "the file is empty"), ("parts/t.csv", b"time,flow\n1,2\n", "holds tables, and the detector is for pictures")],
)
def test_what_cannot_be_judged_is_an_error_and_leaves_what_was_drawn_before(
    camera: Fitted, drawn: Path, tmp_path: Path, name: str, content: bytes, told: str
) -> None:
    out = shutil.copytree(drawn, tmp_path / "out")
    (tmp_path / "parts").mkdir()
    (tmp_path / name).write_bytes(content)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(DataError, match=told):
        run("flagged", camera.bundle, tmp_path / "parts", "--out", out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
