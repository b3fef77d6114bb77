"""What a user gets wrong on the command line is told in one message, before any work: no traceback, nothing written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from anomaly.cli.main import app
from anomaly.errors import AnomalyError
from tests.conftest import Fitted


def mistake(*arguments: object) -> str:
    """The message that a command ends with; it must be one of ours, or the command line's own."""
    result = CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "1000"})
    if isinstance(result.exception, AnomalyError):
        return str(result.exception)
    assert result.exit_code == 2, (result.exception, result.output)
    return result.output


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what is easily given by mistake."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.toml").write_text('kind = "sensor"\n[pretrain]\nmethod = "none"\n')
    (tmp_path / "t.csv").write_text("time,flow\n" + "".join(f"{i},{i % 7}\n" for i in range(100)))
    (tmp_path / "empty.csv").touch()
    (tmp_path / "afile").write_text("x")
    (tmp_path / "folder").mkdir()
    return tmp_path


FIT = ("fit", "s.toml", "--data", "t.csv")
TABLE = ("table", "t.csv", "--out", "o.csv")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fit", "s.toml", "--data", "empty.csv", "--out", "b"], "empty.csv: the file is empty (0 bytes)"),
        ([*FIT, "--out", "folder"], "'--out': folder is a folder; name a file in it"),
        ([*FIT, "--out", "afile/b"], "afile is a file, so it cannot be a folder"),
        ([*FIT, "--out", "/proc/b"], "nothing can be written in /proc"),
        ([*FIT, "--out", "/dev/null"], "/dev/null is not a plain file"),
        ([*FIT, "--out", "b", "--work", "afile"], "'--work'"),
        ([*FIT, "--out", "b", "--extractor", "nowhere"], "nowhere: no such file"),
        (["pretrain", "s.toml", "--data", "t.csv", "--out", "folder"], "folder is a folder"),
        (["transfer", "empty.csv", "s.toml", "--data", "t.csv", "--out", "b"], "empty.csv: the file is empty"),
        (["sources", "s.toml", "--data", "t.csv", "--source", "nowhere"], "nowhere: no such file or folder; --source"),
        (["sources", "s.toml", "--data", "t.csv", "--source", "t.csv", "--json", "folder"], "folder is a folder"),
        (["curve", "t.csv", "s.toml", "--data", "t.csv", "--out", "c.html", "--seeds", "0"], "'--seeds'"),
        (["evaluate", "b", "--data", "empty.csv"], "empty.csv: the file is empty"),
        (["evaluate", "folder", "--data", "t.csv"], "folder: this is a folder; a bundle is the .anomaly file"),
        (["evaluate", "b", "--data", "t.csv", "--report", "folder"], "folder is a folder"),
        (["score", "b", "t.csv", "--csv", "folder"], "folder is a folder"),
        (["score", "b", "t.csv", "--json", "afile/x"], "afile is a file"),
        (["bench", "b", "--streams", "0"], "'--streams': '0': write whole numbers from 1 on"),
        (["bench", "b", "--batch", "1,,8"], "'--batch'"),
        (["bench", "b", "--batch", "-3"], "'--batch'"),
        (["bench", "b", "--seconds", "nan"], "nan is not a number above 0"),
        (["bench", "b", "--json", "folder"], "folder is a folder"),
        (["monitor", "b", "--source", "t.csv", "--silent-after-s", "-1"], "'--silent-after-s': -1 is not a number above 0"),
        (["monitor", "b", "--source", "t.csv", "--gpu-memory", "0"], "'--gpu-memory'"),
        (["table", "empty.csv", "--out", "o.csv"], "empty.csv: the file is empty"),
        (["table", "nowhere.csv", "--out", "o.csv"], "nowhere.csv: no such file"),
        (["table", "folder", "--out", "o.csv"], "folder: no such file"),
        (["table", "t.csv", "--out", "o.xls"], "must end in .csv or .parquet"),
        ([*TABLE, "--period-s", "-1"], "'--period-s': -1 is not a number above 0"),
        ([*TABLE, "--period-s", "0"], "'--period-s'"),
        ([*TABLE, "--rate", "-5"], "'--rate'"),
        ([*TABLE, "--frame-s", "0"], "'--frame-s'"),
        ([*TABLE, "--long", "sensor"], "name two columns with a comma"),
        ([*TABLE, "--zone", "Nowhere/Land"], "'Nowhere/Land' is no time zone that is known here"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes(here: Path, arguments: list[str], message: str) -> None:
    before = {path.name for path in here.iterdir()}
    assert message in mistake(*arguments)
    assert {path.name for path in here.iterdir()} == before


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("banana://x", "no scheme 'banana' is known; known are folder, rtsp,"),
        ("csv:", "nothing is named after the colon"),
        ("nowhere.csv", "nowhere.csv: cannot be read"),
        ("camera:x", "--source camera:x: this bundle takes sensor rows"),
    ],
)
def test_sources_that_are_none(here: Path, sensor: Fitted, source: str, message: str) -> None:
    result = CliRunner().invoke(app, ["monitor", str(sensor.bundle), "--source", source, "--once"], env={"COLUMNS": "1000"})
    assert result.exit_code == 1  # and the reason is in the monitor's log, which may be all that is kept
    assert message in result.output


def test_a_source_that_cannot_be_read_is_an_alarm_until_a_run_reads_it(here: Path, sensor: Fitted) -> None:
    monitor = ["monitor", str(sensor.bundle), "--source", "later.csv", "--store", "s.db", "--line", "pump", "--once", "--exit-zero"]
    result = CliRunner().invoke(app, monitor, env={"COLUMNS": "1000"})
    assert result.exit_code == 1
    assert "later.csv: cannot be read" in result.output
    assert "trying again" not in result.output
    listed = CliRunner().invoke(app, ["alarms", "list", "--store", "s.db"], env={"COLUMNS": "1000"}).output
    assert "later.csv: cannot be read" in listed
    Path("later.csv").write_bytes((sensor.data / "test.csv").read_bytes())
    result = CliRunner().invoke(app, monitor, env={"COLUMNS": "1000"})
    assert result.exit_code == 0, result.output
    found = CliRunner().invoke(app, ["alarms", "list", "--store", "s.db", "--json"]).output
    assert {alarm["state"] for alarm in json.loads(found)["alarms"] if alarm["condition"] == "source"} == {"returned unacknowledged"}


def test_a_run_in_which_next_to_nothing_could_be_read_is_an_alarm_and_not_well(here: Path, sensor: Fitted) -> None:
    header = (sensor.data / "test.csv").read_text().partition("\n")[0]
    Path("bad.csv").write_text(header + "\n" + "x,y\n" * 7)
    monitor = ["monitor", str(sensor.bundle), "--source", "bad.csv", "--store", "s.db", "--line", "pump", "--once", "--exit-zero"]
    result = CliRunner().invoke(app, monitor, env={"COLUMNS": "1000"})
    assert result.exit_code == 1
    assert "could not be read: what was judged is not the whole of it" in result.output
    found = json.loads(CliRunner().invoke(app, ["alarms", "list", "--store", "s.db", "--json"]).output)
    assert [alarm["condition"] for alarm in found["alarms"]] == ["rubbish"]


def test_a_line_that_has_read_nothing_is_not_called_well(here: Path, sensor: Fitted) -> None:
    Path("empty").mkdir()
    result = CliRunner().invoke(app, ["monitor", str(sensor.bundle), "--source", "empty", "--store", "s.db", "--line", "pump", "--once"])
    assert result.exit_code == 0, result.output
    listed = CliRunner().invoke(app, ["alarms", "list", "--store", "s.db"], env={"COLUMNS": "1000"}).output
    assert "line 'pump' has not read a record yet" in listed


def test_an_empty_table_is_told_when_it_is_scored(here: Path, sensor: Fitted) -> None:
    assert "empty.csv: the file is empty" in mistake("score", sensor.bundle, "empty.csv")


def test_arguments_the_wrong_way_round_are_told_with_the_command_that_was_meant(here: Path) -> None:
    (here / "my line.anomaly").write_bytes(b"x")
    assert "the bundle comes first, then the data: anomaly score 'my line.anomaly' folder" in mistake("score", "folder", "my line.anomaly")
    meant = "anomaly evaluate 'my line.anomaly' --data t.csv"
    assert meant in mistake("evaluate", "t.csv", "--data", "my line.anomaly")
    meant = "anomaly flagged 'my line.anomaly' folder --out DIR"
    assert meant in mistake("flagged", "folder", "my line.anomaly", "--out", "new")


def test_data_of_another_kind_is_told_as_what_it_is(here: Path, sensor: Fitted, camera: Fitted, picture: np.ndarray) -> None:
    Image.fromarray(picture).save(here / "folder" / "p.png")
    assert "t.csv: this is a table, and the detector is for pictures" in mistake("score", camera.bundle, "t.csv")
    assert "folder/p.png: this is a picture, and the detector is for tables" in mistake("score", sensor.bundle, "folder/p.png")
    assert "folder: holds pictures, and the detector is for tables" in mistake("score", sensor.bundle, "folder")
    assert "this is a bundle, not data" in mistake("score", camera.bundle, camera.bundle)


def test_folders_on_the_way_to_a_result_are_made(here: Path) -> None:
    result = CliRunner().invoke(app, [*TABLE[:-1], "new/folder/o.csv"])
    assert result.exit_code == 0, result.output
    assert (here / "new" / "folder" / "o.csv").is_file()


@pytest.mark.parametrize(
    "arguments",
    [
        ["fit", "w.csv", "--out", "w.csv"],
        ["fit", "w.csv", "--report", "./w.csv"],
        ["fit", "w.csv", "--out", "o.anomaly", "--report", "o.anomaly"],
        ["score", "b.anomaly", "w.csv", "--csv", "w.csv"],
        ["score", "b.anomaly", "w.csv", "--csv", "b.anomaly"],
        ["evaluate", "b.anomaly", "--data", "w.csv", "--report", "w.csv"],
        ["init", "w.csv", "--out", "w.csv", "--force"],
        ["table", "w.csv", "--out", "w.csv"],
    ],
)
def test_nothing_is_written_over_what_is_read(arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("w.csv", "b.anomaly"):
        (tmp_path / name).write_text("time,a\n1,2\n")
    done = CliRunner().invoke(app, arguments, env={"COLUMNS": "1000"})
    assert done.exit_code == 2
    assert "would be written over" in " ".join(done.output.split())
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == dict.fromkeys(("w.csv", "b.anomaly"), "time,a\n1,2\n")
