"""Alarm settings on history: the bundle's own and proposed ones side by side, and the report's promise with the rules on."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from anomaly.bundle.archive import read_bundle
from anomaly.cli.main import app
from anomaly.edge.runtime.session import open_session
from anomaly.edge.runtime.simulate_pictures import picture_history
from anomaly.errors import DataError
from anomaly.evaluation.figures import Evaluation
from anomaly.pipeline.assess import evaluate_bundle
from anomaly.pipeline.camera.bundle import with_budget
from tests.conftest import Fitted


def test_the_sample_plant_keeps_its_promise_with_the_rules_on(sensor: Fitted, tmp_path: Path) -> None:
    bundle = read_bundle(sensor.bundle)
    figures = evaluate_bundle(bundle, open_session(bundle, "cpu"), sensor.data).figures["with_alarm_rules"]
    assert figures["false_alarms"] <= 2  # 1 in 50 normal records may be flagged
    assert figures["faults_alarmed"] >= 4
    assert figures["promise"].startswith("With the alarm rules on, ")
    arguments = ["alarms", "simulate", str(sensor.bundle), "--data", str(sensor.data / "test.csv"), "--on-delay", "0", "--json"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["proposed"]["settings"]["on_delay_s"] == 0
    assert found["proposed"]["alarms"] >= found["bundle"]["alarms"] == figures["alarms"]
    assert found["proposed"]["median_delay_s"] <= found["bundle"]["median_delay_s"]


def simulate(bundle: Path, *arguments: object) -> dict[str, Any]:
    done = CliRunner().invoke(app, ["alarms", "simulate", str(bundle), *map(str, arguments), "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)  # type: ignore[no-any-return]


@pytest.fixture
def parts(camera: Fitted, tmp_path: Path) -> Path:
    """Twelve good parts, 1.png to 12.png, recorded 30 s apart in the opposite order of their names, in two folders."""
    good = sorted((camera.data / "test" / "good").iterdir()) * 2
    for number, path in enumerate(good, 1):
        copy = tmp_path / "parts" / ("early" if number > 6 else "late") / f"{number}.png"
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
        os.utime(copy, (1_700_000_000 - 30 * number,) * 2)
    return tmp_path / "parts"


def test_labelled_pictures_at_a_period(camera: Fitted) -> None:
    found = simulate(camera.bundle, "--data", camera.data, "--period-s", 20, "--on-delay", 15)
    bundle = read_bundle(camera.bundle)
    records = evaluate_bundle(bundle, open_session(bundle, "cpu"), camera.data).records
    bad = records["label"] != "good"
    kinds = records["label"][bad].nunique()
    for one in (found["bundle"], found["proposed"]):  # what is flagged is no matter of alarm settings
        assert (one["good_parts"], one["bad_parts"], one["faults"]) == (6, bad.sum(), kinds)
        assert (one["good_parts_flagged"], one["bad_parts_flagged"]) == (records["flagged"][~bad].sum(), records["flagged"][bad].sum())
        assert one["normal_days"] == pytest.approx(5 * 20 / 86_400)
        assert one["promise"].startswith("Expect 5 in 100 good parts flagged; seen here: ")
    assert found["bundle"]["bad_parts_alarmed_alone"] == records["flagged"][bad].sum() > found["proposed"]["bad_parts_alarmed_alone"] == 0
    assert found["clock"].startswith(f"a picture every 20 s (--period-s), in order of name; 6 good parts, {bad.sum()} bad ones")


def test_files_times_are_the_clock_where_they_look_recorded(camera: Fitted, parts: Path) -> None:
    found = simulate(camera.bundle, "--data", parts, "--faults", camera.data)
    assert found["clock"].startswith(
        "the files' times, a picture every 30 s (median), 2023-11-14 22:07 to 2023-11-14 22:12 UTC; 12 good parts, "
    )
    assert found["bundle"]["normal_days"] == pytest.approx(11 * 30 / 86_400)
    assert found["bundle"]["bad_parts"] == len([*camera.data.glob("test/*/*.*")]) - 6
    history = picture_history(read_bundle(camera.bundle), open_session(read_bundle(camera.bundle), "cpu"), [parts], [], None)
    at_pace = picture_history(read_bundle(camera.bundle), open_session(read_bundle(camera.bundle), "cpu"), [parts], [], 30.0)
    assert history.runs[0].times[0] == 1_700_000_000 - 360
    early_first = [*range(7, 13), *range(1, 7)]  # the folder `early` before `late`, in each by number
    by_number = dict(zip(early_first, at_pace.runs[0].scores, strict=True))
    assert history.runs[0].scores == pytest.approx([by_number[number] for number in range(12, 0, -1)], rel=1e-4)


@pytest.mark.parametrize(
    ("step", "why"), [(0.0, "11 of 12 have the time of another"), (0.02, "0.02 s apart"), (None, "6 pictures are too few to tell")]
)
def test_files_times_that_are_those_of_a_copy_are_no_clock(camera: Fitted, parts: Path, step: float | None, why: str) -> None:
    for number, path in enumerate(parts.rglob("*.png")):
        if step is not None:
            os.utime(path, (1_700_000_000 + step * number,) * 2)
    with pytest.raises(DataError, match=f"{why}.*--period-s"):
        simulate(camera.bundle, "--data", parts if step is not None else parts / "early")


def test_a_picture_that_cannot_be_read_stops_no_other(camera: Fitted, parts: Path) -> None:
    (parts / "late" / "3.png").write_bytes(b"no picture")
    found = simulate(camera.bundle, "--data", parts, "--period-s", 1)
    assert found["bundle"]["good_parts"] == 11
    assert found["bundle"]["normal_days"] == pytest.approx(11 / 86_400)  # its place in time stays
    assert ["3.png" in reason for reason in found["set_aside"]] == [True]
    for path in parts.rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(DataError, match="none of the pictures of good parts could be read"):
        simulate(camera.bundle, "--data", parts, "--period-s", 1)


def test_what_is_no_history_of_pictures_is_named(camera: Fitted, sensor: Fitted, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere: no such file or folder"):
        simulate(camera.bundle, "--data", tmp_path / "nowhere")
    with pytest.raises(DataError, match="no pictures of good parts"):
        simulate(camera.bundle, "--data", tmp_path)
    with pytest.raises(DataError, match="no pictures of faults"):
        simulate(camera.bundle, "--data", camera.data, "--faults", tmp_path)
    with pytest.raises(DataError, match="--period-s is for pictures"):
        simulate(sensor.bundle, "--data", sensor.data / "test.csv", "--period-s", 1)


def test_the_table_of_pictures_says_shares_and_one_sentence(camera: Fitted) -> None:
    asked = ["alarms", "simulate", str(camera.bundle), "--data", str(camera.data), "--period-s", "1"]
    alone = CliRunner().invoke(app, asked)
    assert "bundle: Expect 5 in 100 good parts flagged" in alone.stdout
    done = CliRunner().invoke(app, [*asked, "--on-delay", "5"])
    assert done.exit_code == 0, done.output
    assert "Clock: a picture every 1 s" in done.stdout
    assert "False alarms a day" in done.stdout
    assert "both: Expect 5 in 100 good parts flagged" in done.stdout


def test_a_camera_whose_budget_is_a_number_a_day_is_judged_with_the_alarm_rules_on(camera: Fitted) -> None:
    bundle = read_bundle(camera.bundle)
    records = pd.DataFrame(
        {"id": [f"{n}.png" for n in [10, 1, *range(2, 10), *range(12, 31), 11]], "label": "good", "score": 1.0, "p_value": 0.5}
    )
    records.loc[records["id"].isin(["10.png", "11.png"]), "p_value"] = 0.001
    threshold = bundle.manifest.threshold.model_copy(update={"budget": {"false_alarms_per_day": 1.0, "records_per_day": 10.0}})
    judged = replace(bundle, manifest=bundle.manifest.model_copy(update={"threshold": threshold}))
    evaluation = Evaluation({}, records)
    with_budget(evaluation, judged)
    found = evaluation.figures["budget"]
    assert (found["good_parts"], found["good_parts_flagged"]) == (30, 2)
    assert found["alarms"] == 1  # the two come one after another in order of name, and not as they are listed
    assert found["normal_days"] == pytest.approx(2.9)
    assert found["promise"].startswith("With the alarm rules on, ")
    assert found["promise"].endswith("(Good parts in order of name, 10 a day.)")


@pytest.mark.parametrize("option", ["--on-delay", "--off-delay", "--deadband", "--period-s"])
def test_a_setting_that_no_bundle_may_have_is_a_mistake_told_at_once(tmp_path: Path, option: str) -> None:
    done = CliRunner().invoke(app, ["alarms", "simulate", str(tmp_path / "b.anomaly"), "--data", str(tmp_path), option, "1e300"])
    assert done.exit_code == 2
    assert option in done.output
