"""A spec proposed by a look at the data: what is assumed, what is asked for, and the file that a person edits."""

from __future__ import annotations

import shutil
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from anomaly.errors import DataError, SpecError, UnclearError
from anomaly.names import slug
from anomaly.pipeline.propose import Answers, look, made_for, propose, read_budget, to_toml
from anomaly.pipeline.propose.proposal import LEVEL_ROWS
from anomaly.scorers.sensors import choice
from anomaly.spec import CameraSpec, SensorSpec, read_spec


def pictures(folder: Path, count: int, size: tuple[int, int] = (300, 200)) -> Path:
    folder.mkdir(parents=True)
    for number in range(count):
        Image.new("L", (size[1], size[0]), 100 + number).save(folder / f"{number}.png")
    return folder


DAY_FIRST = Answers(reading={"time_format": ("%d.%m.%Y %H:%M:%S",)})


def table(path: Path, rows: int = 100) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = "".join(f"05.01.2026 00:{i // 60:02d}:{i % 60:02d};{i % 7},5;{i};{int(i > 90)}\n" for i in range(rows))
    path.write_text('Zeit;Fluß;Druck "x";anomaly\n'.replace('"', "'") + lines, encoding="cp1252")
    return path


def test_pictures_get_a_camera_spec_named_by_their_folder(tmp_path: Path) -> None:
    proposal = propose(pictures(tmp_path / "Flansch Linie 3" / "train" / "good", 20))
    assert isinstance(proposal.spec, CameraSpec)
    assert proposal.spec.name == "Flansch Linie 3"
    assert proposal.spec.budget.false_alarm_rate == 0.01
    told = "\n".join(proposal.words)
    assert "20 of good parts to learn from" in told
    assert "300 x 200 pixels" in told
    assert "1 good part in 100" in told


def test_the_folder_of_good_parts_beside_bad_ones_is_learnt_from(tmp_path: Path) -> None:
    good = pictures(tmp_path / "part" / "good", 20)
    pictures(tmp_path / "part" / "bad", 5)
    proposal = propose(tmp_path / "part")
    assert proposal.data == good
    assert proposal.spec.name == "part"


def test_tables_beside_pictures_are_passed_over_and_that_is_said(tmp_path: Path) -> None:
    table(pictures(tmp_path / "a", 3) / "list.csv")
    assert any("tables in the same folder are not read (1)" in line for line in propose(tmp_path / "a").words)


def test_a_list_of_pictures_is_for_a_camera(tmp_path: Path) -> None:
    pictures(tmp_path / "a", 3)
    listed = "".join(f"a/{number}.png,train,good\n" for number in range(3))
    (tmp_path / "list.csv").write_text("image,split,label\n" + listed)
    assert "3 of good parts to learn from" in propose(tmp_path / "list.csv").words[0]


def test_readings_get_a_sensor_spec_with_what_was_found(tmp_path: Path) -> None:
    proposal = propose(table(tmp_path / "pump 7" / "export.csv"), DAY_FIRST)
    assert isinstance(proposal.spec, SensorSpec)
    assert proposal.spec.name == "pump 7"
    told = "\n".join(proposal.words)
    assert "100 rows, one every 1 s by the column Zeit" in told
    assert "2 sensors: Fluß, Druck 'x'" in told
    assert "the column anomaly marks faults: 9 rows, which are not learnt from" in told
    assert "30 rows are 30 s here" in told


@pytest.mark.parametrize("kind", ["camera", "sensor"])
def test_the_file_reads_as_the_spec_and_each_line_can_be_set_as_it_stands(tmp_path: Path, kind: str) -> None:
    data = pictures(tmp_path / "a", 3) if kind == "camera" else table(tmp_path / "a.csv")
    proposal, path = propose(data, DAY_FIRST), tmp_path / "a.toml"
    path.write_text(to_toml(proposal), encoding="utf-8")
    assert read_spec(path) == proposal.spec
    assert made_for(path) == str(data)
    lines = to_toml(proposal).splitlines()
    offered = [at for at, line in enumerate(lines) if line.startswith("# ") and " = " in line and "{" not in line]
    assert len(offered) >= 5
    for at in offered:
        several = lines[at].partition("   #")[0].endswith("[")
        until = next(end for end in range(at, len(lines)) if lines[end] == "# ]") + 1 if several else at + 1
        if "smallest_mark" in lines[at]:
            continue
        opened = [*lines[:at], *(line.removeprefix("# ") for line in lines[at:until]), *lines[until:]]
        path.write_text("\n".join(opened), encoding="utf-8")
        read_spec(path)
        assert tomllib.loads(path.read_text(encoding="utf-8")) != tomllib.loads(to_toml(proposal))


def test_answers_are_taken(tmp_path: Path) -> None:
    answers = Answers(name="Presse 7", budget="1 in 500", smallest_mark="3 mm", px_per_mm=4)
    spec = propose(pictures(tmp_path / "a", 3), answers).spec
    assert isinstance(spec, CameraSpec)
    assert (spec.name, spec.budget.false_alarm_rate, spec.input.mark_px) == ("Presse 7", 0.002, 12.0)
    found = propose(table(tmp_path / "t.csv"), replace(DAY_FIRST, budget="2 a day", train_rows=60)).spec
    assert isinstance(found, SensorSpec)
    assert (found.budget.false_alarms_per_day, found.input.train_rows) == (2.0, 60)
    with pytest.raises(SpecError, match="pictures a day"):
        propose(tmp_path / "a", Answers(budget="2 a day"))
    with pytest.raises(SpecError, match="px_per_mm"):
        propose(tmp_path / "a", Answers(smallest_mark="3 mm"))
    with pytest.raises(SpecError, match="a name is one line"):
        propose(tmp_path / "a", Answers(name="a\nb"))


def test_dates_that_fit_two_orders_are_asked_for_and_the_answer_is_written_down(tmp_path: Path) -> None:
    data = table(tmp_path / "a.csv")
    with pytest.raises(UnclearError, match="may be day first or month first") as caught:
        propose(data)
    words, told = next(iter(caught.value.choices.items()))
    assert words == "day first in 05.01.2026"
    proposal = propose(data, Answers(reading=told))
    assert isinstance(proposal.spec, SensorSpec)
    assert proposal.spec.input.time_format == "%d.%m.%Y %H:%M:%S"
    assert 'time_format = "%d.%m.%Y %H:%M:%S"' in to_toml(proposal)
    assert "could not be read yet" not in to_toml(proposal)


def test_what_no_detector_can_be_fitted_to_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    (tmp_path / "a.wav").write_bytes(b"RIFF")
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "empty.csv").touch()
    one = shutil.copy(next(pictures(tmp_path / "p", 1).iterdir()), tmp_path / "one.png")
    for path, told in (
        (tmp_path / "none", "no picture and no table in it"),
        (tmp_path / "a.wav", "anomaly table .*a.wav --out readings.parquet"),
        (tmp_path / "a.txt", "neither a picture nor a table"),
        (tmp_path / "empty.csv", "0 bytes"),
        (Path(one), "this is one picture; give the folder"),
        (tmp_path / "nowhere", "no such file or folder"),
    ):
        with pytest.raises(DataError, match=told):
            look(path)


def test_pictures_on_their_side_are_measured_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    (tmp_path / "a").mkdir()
    Image.new("L", (400, 100)).save(tmp_path / "a" / "1.jpg", exif=exif)
    assert look(tmp_path / "a").sizes == ((400, 100),)


@pytest.mark.parametrize(
    ("said", "rate", "a_day"),
    [("1 in 100", 0.01, None), ("1/250", 0.004, None), ("2%", 0.02, None), ("0,5 %", 0.005, None), (0.03, 0.03, None), ("0,01", 0.01, None),
     ("1 of 50", 0.02, None), ("2 a day", None, 2), ("3 per day", None, 3), ("1 a week", None, 1 / 7), ("1 alarm a week", None, 1 / 7)],
)  # fmt: skip
def test_a_budget_is_read_as_people_say_it(said: str | float, rate: float | None, a_day: float | None) -> None:
    budget = read_budget(said)
    assert budget.false_alarms_per_day == (None if a_day is None else pytest.approx(a_day))
    if rate is not None:
        assert budget.false_alarm_rate == pytest.approx(rate)


@pytest.mark.parametrize("said", ["", "few", "1 in 0", "0", "0.7", "-1", "60 %", "0 a day", "nan", "inf", "1 in 1"])
def test_a_budget_that_is_none_says_how_to_write_one(said: str) -> None:
    with pytest.raises(SpecError, match='write it as "1 in 100"'):
        read_budget(said)


@given(st.text(min_size=1))
def test_a_slug_is_a_file_name_and_stays_as_it_is(name: str) -> None:
    made = slug(name)
    assert 0 < len(made) <= 63
    assert made.isascii()
    assert made[0].isalnum()
    assert set(made) <= set("abcdefghijklmnopqrstuvwxyz0123456789._-")
    assert slug(made) == made


def test_the_window_told_is_the_one_that_a_fit_takes() -> None:
    assert LEVEL_ROWS == choice.LEVEL_ROWS
    assert np.isfinite(LEVEL_ROWS)
