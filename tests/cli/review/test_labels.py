"""From an alarm to the next fit: a real monitor, labels as people type them, files that `anomaly fit --faults` reads."""

from __future__ import annotations

import csv
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from anomaly.alarms.events import make_event
from anomaly.alarms.labels.export import folder_of
from anomaly.alarms.store import Store
from anomaly.cli.main import app
from anomaly.data.pictures.boxes import read_boxes
from anomaly.data.pictures.layouts import find_faults
from anomaly.errors import AnomalyError
from anomaly.schema import AlarmSettings
from tests.conftest import Fitted, run
from tests.edge.conftest import other_version


def alarms(store: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(run("alarms", "list", "--all", "--json", "--store", store))["alarms"]
    return [each for each in found if each["condition"] == "process"]


def test_pictures_from_alarm_to_faults_of_the_next_fit(camera: Fitted, tmp_path: Path) -> None:
    feed = tmp_path / "feed"
    feed.mkdir()
    faults = [path for kind in sorted((camera.data / "test").iterdir()) if kind.name != "good" for path in sorted(kind.iterdir())]
    good = sorted((camera.data / "train" / "good").iterdir())
    for number, pair in enumerate(zip(faults, good, strict=False)):
        for place, path in enumerate(pair):
            shutil.copy(path, feed / f"{2 * number + place}.png")
    for number, path in enumerate(sorted(feed.iterdir(), key=lambda path: int(path.stem))):
        moment = time.time() - 100 + number
        os.utime(path, (moment, moment))
    store = tmp_path / "s.db"
    other_version(camera.bundle, tmp_path / "single.anomaly", "2", alarm=AlarmSettings())  # an alarm a part
    run("monitor", tmp_path / "single.anomaly", "--source", feed, "--once", "--exit-zero", "--store", store)
    found = alarms(store)
    assert len(found) >= 3
    first, second, third = (each["id"] for each in found[:3])
    said = run("alarms", "label", first[:8], "--real", "--kind", "good", "--box", "2,3,10,12", "--who", "ada", "--store", store)
    assert "labelled real (good), boxes 2,3,10,12" in said
    run("alarms", "label", second, "--real", "--kind", "../../etc\x1b", "--store", store)
    run("alarms", "label", third, "--nuisance", "--reason", "a shadow", "--store", store)
    with pytest.raises(AnomalyError, match="beyond the picture"):
        run("alarms", "label", first, "--real", "--box", "4000,0,5,5", "--store", store)
    stretch = ("--from", "2026-01-01T00:00:00Z", "--to", "2026-01-01T01:00:00Z")
    with pytest.raises(AnomalyError, match="is of pictures: say where in the picture the fault is"):
        run("alarms", "label", first, "--real", *stretch, "--store", store)
    shown = run("alarms", "show", first, "--store", store)
    assert "labelled real" in shown
    assert "picture: opened" in shown
    out = tmp_path / "labels"
    assert "2 of 3 labelled alarms were real (67%)" in run("alarms", "labels", store, "--out", out)
    (line,) = [path for path in out.iterdir() if path.is_dir()]
    pictures = find_faults(line / "faults")
    assert {picture.defect for picture in pictures} == {folder_of("good"), folder_of("../../etc\x1b".replace("\x1b", r"\x1b"))}
    boxes = read_boxes(line / "faults")
    boxed = [boxes.of(picture, line / "faults") for picture in pictures if picture.defect == "kind-good" and "opened" in picture.path.name]
    assert boxed[0] is not None
    assert boxed[0].boxes.tolist() == [[2.0, 3.0, 10.0, 12.0]]
    assert list((line / "good").glob("*.jpg"))
    assert not [path for path in out.rglob("*") if not path.resolve().is_relative_to(out.resolve())]
    spec = tmp_path / "next.toml"
    spec.write_text(camera.spec.read_text())
    run("fit", spec, "--data", camera.data, "--faults", line / "faults", "--work", tmp_path / "work", "--out", tmp_path / "next.anomaly")
    assert (tmp_path / "next.anomaly").exists()
    with pytest.raises(AnomalyError, match="there already"):
        run("alarms", "labels", store, "--out", out)


def test_readings_from_alarm_to_stretches_that_a_fit_reads(sensor: Fitted, tmp_path: Path) -> None:
    store = tmp_path / "s.db"
    run("monitor", sensor.bundle, "--source", sensor.data / "test.csv", "--once", "--exit-zero", "--store", store)
    found = alarms(store)
    over = [each for each in found if each["closed"]]
    assert len(over) >= 3
    run("alarms", "label", over[0]["id"], "--real", "--kind", "=cmd|bearing", "--store", store)
    marked = ("--from", over[1]["opened"], "--to", over[1]["closed"])
    run("alarms", "label", over[1]["id"], "--real", *marked, "--store", store)
    run("alarms", "label", over[2]["id"], "--nuisance", "--store", store)
    with pytest.raises(AnomalyError, match="is of readings, which have no boxes: say from when to when"):
        run("alarms", "label", over[1]["id"], "--real", "--box", "2,3,10,12", "--store", store)
    out = tmp_path / "labels"
    run("alarms", "labels", "--store", store, "--out", out)
    (line,) = [path for path in out.iterdir() if path.is_dir()]
    rows = list(csv.DictReader((line / "faults" / "stretches.csv").open()))
    assert [(row["from"], row["to"]) for row in rows][1] == (over[1]["opened"], over[1]["closed"])
    assert rows[0]["kind"] == "'=cmd|bearing"
    assert len(list(csv.DictReader((line / "nuisances.csv").open()))) == 1
    assert len(list(csv.DictReader((out / "labels.csv").open()))) == 3
    run(
        "fit", sensor.spec, "--data", sensor.data, "--faults", line / "faults", "--work", tmp_path / "work", "--out", tmp_path / "n.anomaly"
    )
    manifest = json.loads(run("bundle", "inspect", tmp_path / "n.anomaly", "--json"))
    assert "few_labels" in json.dumps(manifest)


def test_an_alarm_that_is_still_on_or_whose_picture_is_gone_is_told_and_not_guessed(camera: Fitted, tmp_path: Path) -> None:
    store = Store(tmp_path / "s.db")
    for name, data in (("a1", {"where": {"x": 0.5, "y": 0.5}}), ("b1", {"top": [{"sensor": "flow", "share": 1.0}]}), ("c1", {})):
        condition = "silent" if name == "c1" else "process"
        store.add_events([make_event("opened", f"line {name}", name, 1.0, {"condition": condition} | data)])
        run("alarms", "label", name, "--real", "--store", store.path)
    result = CliRunner().invoke(app, ["alarms", "labels", str(store.path), "--out", str(tmp_path / "out")])
    words = " ".join(result.output.split())
    assert "its picture is not kept any more" in words
    assert "is still on, and no stretch of time is given" in words
    assert "is of silent, which no fit learns from" in words
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["labels.csv"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["a1"], ["a1", "--real", "--nuisance"], ["a1", "--real", "--from", "2026-01-01"], ["a1", "--real", "--box", "1,2,3"],
        ["a1", "a1", "--real", "--box", "1,2,3,4"], ["a1", "--real", "--from", "yesterday", "--to", "2026-01-01"],
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(tmp_path: Path, arguments: list[str]) -> None:
    store = Store(tmp_path / "s.db")
    store.add_events([make_event("opened", "l", "a1", 1.0, {"condition": "process"})])
    result = CliRunner().invoke(app, ["alarms", "label", *arguments, "--store", str(store.path)])
    assert result.exit_code == 2
    assert store.labels() == []


def test_erase_takes_the_pictures_and_leaves_the_label(camera: Fitted, tmp_path: Path) -> None:
    feed, store = tmp_path / "feed", tmp_path / "s.db"
    kind = sorted(path for path in (camera.data / "test").iterdir() if path.name != "good")[0]
    shutil.copytree(kind, feed)
    run("monitor", camera.bundle, "--source", feed, "--once", "--exit-zero", "--store", store)
    (alarm, *_) = alarms(store)
    run("alarms", "label", alarm["id"], "--real", "--store", store)
    assert "erased 0 " in run("alarms", "erase", "--before", "3000d", "--store", store)
    assert " 0 are left" in run("alarms", "erase", "--all", "--why", "over", "--store", store)
    assert Store(store).label_of(alarm["id"]) is not None
    assert "erased pictures" in run("alarms", "history", "--audit", "--store", store)
