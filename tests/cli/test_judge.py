"""`anomaly evaluate` and `score`, as a user types them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from anomaly.cli.main import app
from anomaly.errors import DataError
from tests.conftest import Fitted, run
from tests.data.litter import litter


def test_evaluate_camera_writes_the_figures(camera: Fitted, tmp_path: Path) -> None:
    said = run("evaluate", camera.bundle, "--data", camera.data, "--json", tmp_path / "f.json", "--report", tmp_path / "r.html")
    assert "Single marks (spots, scratches, dents, misplaced pieces)" in (tmp_path / "r.html").read_text()
    figures = json.loads((tmp_path / "f.json").read_text())
    wanted = {
        "image_auroc",
        "image_ap",
        "image_f1",
        "pixel_auroc",
        "pixel_aupro",
        "f1",
        "precision",
        "recall",
        "false_alarm_rate",
        "missed_alarm_rate",
    }
    assert wanted | {"n", "threshold", "ci95", "per_defect"} <= set(figures)
    assert figures["n"] == 16
    assert figures["image_auroc"] > 0.8
    low, high = figures["ci95"]["image_auroc"]
    assert low <= figures["image_auroc"] <= high
    page = (tmp_path / "r.html").read_text()
    assert "Faults that look most like good parts" in page
    promise = figures["budget"]["promise"]
    assert promise.startswith("Expect 5 in 100 good parts flagged; seen here: ")
    assert promise[-34:] in page  # words of the glossary in it are links
    assert promise[:60] in said
    assert "http://" not in page  # self-contained
    assert "https://" not in page


def test_evaluate_sensor_writes_the_figures(sensor: Fitted, tmp_path: Path) -> None:
    run("evaluate", sensor.bundle, "--data", sensor.data, "--layout", "table", "--json", tmp_path / "f.json")
    figures = json.loads((tmp_path / "f.json").read_text())
    wanted = {"f1", "precision", "recall", "false_alarm_rate", "missed_alarm_rate", "roc_auc", "pr_auc", "vus_pr", "detection_delay_s"}
    assert wanted | {"n", "threshold", "false_alarms_per_day", "ci95"} <= set(figures)
    assert figures["n"] == 4000


def test_a_layout_of_another_kind_is_refused(sensor: Fitted) -> None:
    with pytest.raises(DataError, match="--layout mvtec does not fit a sensor bundle"):
        run("evaluate", sensor.bundle, "--data", sensor.data, "--layout", "mvtec")


def test_flat_folder_counts_false_alarms(camera: Fitted, tmp_path: Path) -> None:
    parts = litter(shutil.copytree(camera.data / "test" / "good", tmp_path / "parts"))
    run("evaluate", camera.bundle, "--data", parts, "--layout", "folder", "--json", tmp_path / "f.json")
    figures = json.loads((tmp_path / "f.json").read_text())
    assert figures["n"] == 6
    assert figures["n_defect"] == 0
    assert figures["image_auroc"] is None
    assert 0 <= figures["false_alarm_rate"] <= 1


def test_what_cannot_be_read_is_told_with_q_too_and_ends_with_1(sensor: Fitted, tmp_path: Path) -> None:
    (tmp_path / "calm.csv").write_text("".join((sensor.data / "train.csv").read_text().splitlines(keepends=True)[:60]))
    result = CliRunner().invoke(app, ["-q", "score", str(sensor.bundle), str(tmp_path / "calm.csv"), str(tmp_path / "gone.csv")])
    assert result.exit_code == 1
    assert "set aside: " in result.stderr
    assert "gone.csv" in result.stderr
    result = CliRunner().invoke(app, ["score", str(sensor.bundle), str(sensor.data / "test.csv"), str(tmp_path / "gone.csv")])
    assert result.exit_code == 3  # something is flagged: that is what a script looks for
    result = CliRunner().invoke(
        app, ["score", "--exit-zero", str(sensor.bundle), str(sensor.data / "test.csv"), str(tmp_path / "gone.csv")]
    )
    assert result.exit_code == 1
    assert CliRunner().invoke(app, ["score", str(sensor.bundle), str(tmp_path / "calm.csv")]).exit_code == 0


def test_score_files(camera: Fitted, sensor: Fitted, tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"")
    parts = litter(shutil.copytree(camera.data / "test" / "good", tmp_path / "parts"))
    said = CliRunner().invoke(app, ["score", *map(str, (camera.bundle, parts, tmp_path / "bad.jpg", "--json", tmp_path / "s.json"))]).output
    assert "bad.jpg: the file is empty" in said
    records = json.loads((tmp_path / "s.json").read_text())
    assert len(records) == 6
    assert set(records[0]) == {"record", "score", "p_value", "flagged"}
    run("score", sensor.bundle, sensor.data / "test.csv", "--csv", tmp_path / "s.csv")
    frame = pd.read_csv(tmp_path / "s.csv")
    assert frame["record"].iloc[0] == "test.csv:31"
    assert {"time", "score", "p_value", "top_sensor", "flagged"} <= set(frame)
