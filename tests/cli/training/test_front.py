"""The front door: `anomaly fit PATH` and `anomaly init PATH`, as a user types them, with nothing but data."""

from __future__ import annotations

import io
import json
import pty
import select
import sqlite3
import subprocess
import sys
import time
from os import close, environ, read, write
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from anomaly.bundle.archive import read_bundle
from anomaly.cli.main import app
from anomaly.cli.training.asking import ask_all
from anomaly.data.samples.synthetic import plant
from anomaly.errors import AnomalyError, DataError, SpecError
from anomaly.pipeline.propose import Answers, Look, made_for, read_budget
from anomaly.spec import read_spec
from tests.conftest import run

GERMAN = "".join(f"05.01.2026 {i // 3600:02d}:{i // 60 % 60:02d}:{i % 60:02d};{i % 7},5;{i % 11},25\n" for i in range(400))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, short_export: None) -> Path:
    """An empty folder that commands run in, beside data of a plant and of a line with a German export."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Presse 7").mkdir()
    columns = ["time", "flow", "pressure"]
    plant(900, np.random.default_rng(0))[columns].to_csv(tmp_path / "Presse 7" / "train.csv", index=False)
    (tmp_path / "linie.csv").write_text("Zeit;Fluss;Druck\n" + GERMAN)
    return tmp_path


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.name != ".anomaly"}


def test_data_alone_becomes_a_bundle_and_the_spec_that_it_was_fitted_by(here: Path) -> None:
    before = names(here)
    said = run("fit", "Presse 7", "--budget", "1 in 50")
    assert "assumed, and written to presse-7.toml" in said
    assert "2 sensors: flow, pressure" in said
    assert "budget: 1 normal row in 50 may be flagged" in said
    assert "next: anomaly monitor presse-7.anomaly --source" in said
    assert names(here) - before == {"presse-7.anomaly", "presse-7.toml", "presse-7.html"}
    manifest = read_bundle(here / "presse-7.anomaly").manifest
    assert (manifest.name, manifest.threshold.p_value) == ("Presse 7", 0.02)
    first = read_bundle(here / "presse-7.anomaly").hash

    left = (here / "presse-7.toml").read_text()
    (here / "presse-7.toml").write_text(left.replace("false_alarm_rate = 0.02", "false_alarm_rate = 0.05") + "# mine\n")
    said = run("fit", "Presse 7", "--no-report")  # a person's changes are what counts from then on
    assert "presse-7.toml: made for this data before; taken as it is" in said
    assert read_bundle(here / "presse-7.anomaly").manifest.threshold.p_value == 0.05
    assert (here / "presse-7.toml").read_text().endswith("# mine\n")

    (here / "presse-7.toml").write_text(left)
    run("fit", "presse-7.toml", "--data", "Presse 7", "--out", "again.anomaly", "--no-report")
    assert read_bundle(here / "again.anomaly").hash == first


def test_what_was_made_of_other_data_is_never_written_over(here: Path) -> None:
    before = names(here)
    (here / "other").mkdir()
    (here / "other" / "Presse 7").mkdir()
    run("init", "Presse 7")
    (here / "other" / "Presse 7" / "t.csv").write_text((here / "Presse 7" / "train.csv").read_text())
    for arguments in (["fit", "other/Presse 7"], ["init", "other/Presse 7"], ["init", "Presse 7"]):
        with pytest.raises(SpecError, match=r"presse-7\.toml is there already"):
            run(*arguments)
    with pytest.raises(SpecError, match="holds the budget"):
        run("fit", "Presse 7", "--budget", "1 in 5")
    for mine in ("linie.html", "linie.anomaly"):
        (here / mine).write_text("mine")
        with pytest.raises(SpecError, match=rf"{mine} is there already, and no linie\.toml tells of which data"):
            run("fit", "linie.csv")
    run("init", "other/Presse 7", "--force")
    assert made_for(here / "presse-7.toml") == str(here / "other" / "Presse 7")
    assert (here / "linie.anomaly").read_text() == "mine"
    assert names(here) - before == {"presse-7.toml", "other", "linie.anomaly", "linie.html"}


def test_dates_that_fit_two_orders_leave_a_spec_to_say_it_in(here: Path) -> None:
    with pytest.raises(DataError, match=r"(?s)day first or month first.*anomaly init linie\.csv"):
        run("fit", "linie.csv")
    assert not (here / "linie.toml").exists()
    with pytest.raises(AssertionError, match="take the # off the line"):
        run("init", "linie.csv")
    offered = (here / "linie.toml").read_text()
    line = next(line for line in offered.splitlines() if line.startswith("# time_format"))
    assert "day first in 05.01.2026" in line
    assert "without a flagged row (of a row a second; the times could not be read yet)" in offered
    (here / "linie.toml").write_text(offered.replace(line, line.removeprefix("# ")))
    assert getattr(read_spec(here / "linie.toml").input, "time_format") == "%d.%m.%Y %H:%M:%S"  # noqa: B009 - of one of two kinds
    assert "linie.toml: made for this data before" in run("fit", "linie.csv", "--no-report")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["init", "mqtt://me:secret@broker/plant/#"], r"mqtt://me:\*\*\*@broker.*First get some hours of normal running"),
        (["fit", "opc.tcp://plant:4840"], "no past to learn from"),
        (["fit", "rtsp://camera/1"], "save pictures of good parts"),
        (["init", "env:NOWHERE"], "NOWHERE is not set"),
        (["init", "sqlite:///gone.db"], "no such database file"),
        (["init", "banana://x"], "not an address known here"),
        (["fit", "csv:linie.csv"], r"give the plain path, linie\.csv"),
        (["fit", "nowhere"], "nowhere: no such file or folder"),
        (["fit", "linie.csv", "--budget", "few"], "budget 'few' cannot be read"),
        (["init", "linie.csv", "--name", " "], "a name has at least one letter"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_has_to_be_done_first_is_told_and_nothing_is_written(here: Path, arguments: list[str], told: str) -> None:
    before = names(here)
    with pytest.raises(AnomalyError, match=f"(?s){told}"):
        run(*arguments)
    assert names(here) == before


def test_a_database_is_told_with_the_commands_that_make_tables_of_it(here: Path) -> None:
    with sqlite3.connect(here / "plant.db") as db:
        db.execute("CREATE TABLE history (stamp TEXT, tag TEXT, value REAL)")
    with pytest.raises(DataError) as told:
        run("init", "plant.db")
    assert "history: stamp, tag, value" in str(told.value)
    assert "--query 'SELECT * FROM history' --time stamp --long tag,value --out readings.parquet" in str(told.value)


def test_on_a_terminal_what_the_data_does_not_tell_is_asked(here: Path) -> None:
    said = typed(here, ["init", "linie.csv"], ["1", "Linie 3", "sometimes", "2 a day", "300"])
    assert "1  day first in 05.01.2026" in said
    assert "write it as" in said
    spec = read_spec(here / "linie-3.toml")
    assert (spec.name, spec.budget.false_alarms_per_day) == ("Linie 3", 2.0)
    assert spec.model_dump()["input"]["train_rows"] == 300
    assert spec.model_dump()["input"]["time_format"] == "%d.%m.%Y %H:%M:%S"


def test_a_mark_in_millimetres_asks_for_the_pixels_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("1 in 0\n1 in 200\nsmall\n3 mm\n-1\n12\n"))
    found = ask_all(Look("camera", Path()), Answers(name="known"), "usual")
    assert found == Answers(name="known", budget=read_budget("1 in 200"), smallest_mark="3 mm", px_per_mm=12)


def typed(folder: Path, arguments: list[str], answers: list[str]) -> str:
    """What a command says on a terminal, where these answers are typed one after the other, each when it has asked."""
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "anomaly.cli", *arguments]
    process = subprocess.Popen(
        command, cwd=folder, stdin=slave, stdout=slave, stderr=slave, env=environ | {"COLUMNS": "200", "TERM": "dumb"}
    )
    close(slave)
    said, left, deadline = "", list(answers), time.monotonic() + 120
    try:
        while time.monotonic() < deadline:
            if select.select([master], [], [], 0.2)[0]:
                try:
                    said += read(master, 65_536).decode(errors="replace")
                except OSError:  # the other end is closed: the command has ended
                    break
                if left and said.endswith(": "):
                    write(master, (left.pop(0) + "\n").encode())
            elif process.poll() is not None:
                break
    finally:
        process.kill() if process.poll() is None else None
        close(master)
    assert process.wait() == 0, said
    return said


BROKEN = """kind = "camera"
name = " x"
seeed = 3
[input]
max_ms = -1
[budget]
false_alarm_rate = 0.9
[extractor]
weights = "gone.pth"
"""


def test_check_tells_every_mistake_at_once(here: Path) -> None:
    (here / "bad.toml").write_text(BROKEN)
    result = CliRunner().invoke(app, ["check", "bad.toml", "--data", "nowhere"], env={"COLUMNS": "1000"})
    assert result.exit_code == 1
    for told in (
        "bad.toml: key `name`: a name has at least one letter",
        "unknown key `seeed`; did you mean `seed`?",
        "key `input.max_ms`: must be above 0 (given: -1)",
        "key `budget.false_alarm_rate`: must be above 0 and below 0.5 (given: 0.9)",
        "nowhere: no such file or folder",
    ):
        assert told in result.stderr
    assert result.stdout == ""
    (here / "gone.toml").write_text('kind = "camera"\n[extractor]\nweights = "gone.pth"\n')
    found = json.loads(CliRunner().invoke(app, ["check", "gone.toml", "--data", "Presse 7", "--json"]).stdout)
    assert found["sound"] is False
    assert "key `extractor.weights`: gone.pth: no such file or folder" in found["mistakes"][0]
    assert "this looks like a table of readings" in found["mistakes"][1]


def test_check_reads_the_data_by_the_spec(here: Path) -> None:
    run("init", "Presse 7")
    said = run("check", "presse-7.toml", "--data", "Presse 7")
    assert "presse-7.toml: sound; Presse 7, a sensor detector; 1 normal row in 100 may be flagged" in said
    assert "2 sensors: flow, pressure" in said
    text = (here / "presse-7.toml").read_text()
    (here / "presse-7.toml").write_text(text.replace('# time = "time"', 'time = "Zeit"'))
    result = CliRunner().invoke(app, ["check", "presse-7.toml", "--data", "Presse 7"], env={"COLUMNS": "1000"})
    assert result.exit_code == 1
    assert "Zeit" in result.stderr
    assert "presse-7.toml: no mistake in the spec itself" in result.stdout
    assert "sound" not in result.stdout


def test_hints_can_be_copied_and_an_open_question_is_said_to_be_one(here: Path) -> None:
    (here / "linie.csv").rename(here / "Pumpe März.csv")
    with pytest.raises(DataError, match=r"`anomaly init 'Pumpe März\.csv'` writes a spec"):
        run("fit", "Pumpe März.csv")
    CliRunner().invoke(app, ["init", "Pumpe März.csv"])
    first = (here / "pumpe-maerz.toml").read_text().splitlines()[0]
    assert "IT DOES NOT FIT YET" in first
    assert "fits as it is" not in first


def test_a_spec_is_not_left_where_nothing_could_be_learnt(here: Path) -> None:
    (here / "parts").mkdir()
    for number in range(3):
        (here / "parts" / f"{number}.jpg").touch()
    result = CliRunner().invoke(app, ["fit", "parts"], env={"COLUMNS": "1000"})
    assert isinstance(result.exception, DataError)
    assert "parts.toml is not kept; anomaly init parts writes it again" in result.output
    assert not (here / "parts.toml").exists()


def test_a_folder_of_too_few_pictures_is_told_so_by_init(here: Path) -> None:
    (here / "parts").mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(here / "parts" / "one.png")
    result = CliRunner().invoke(app, ["init", "parts"], env={"COLUMNS": "1000"})
    assert result.exit_code == 1
    assert (
        "too few pictures of good parts to learn from: 1, at least 16 are needed; then: anomaly fit parts.toml --data parts"
        in result.output
    )


def test_a_bundle_does_not_take_the_place_of_a_report(here: Path) -> None:
    before = names(here)
    result = CliRunner().invoke(app, ["fit", "Presse 7", "--out", "presse.html"], env={"COLUMNS": "1000"})
    assert result.exit_code == 2
    assert "a bundle ends in .anomaly" in result.output
    assert names(here) == before


def test_readings_that_never_move_are_said_to_be_none(here: Path) -> None:
    rows = "".join(f"2026-01-05T{i // 3600:02d}:{i // 60 % 60:02d}:{i % 60:02d}Z,1,2\n" for i in range(400))
    (here / "still.csv").write_text("time,a,b\n" + rows)
    assert "no sensor moves in the normal rows, so any movement will be flagged" in run("fit", "still.csv", "--no-report")
