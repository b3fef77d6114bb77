"""Alarm settings on history: the bundle's own and proposed ones side by side, and the report's promise with the rules on."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from anomaly.bundle.archive import read_bundle
from anomaly.cli.main import app
from anomaly.edge.runtime.session import open_session
from anomaly.pipeline.assess import evaluate_bundle
from tests.conftest import Fitted


def test_the_sample_plant_keeps_its_promise_with_the_rules_on(sensor: Fitted, tmp_path: Path) -> None:
    bundle = read_bundle(sensor.bundle)
    figures = evaluate_bundle(bundle, open_session(bundle, "cpu"), sensor.data).figures["with_alarm_rules"]
    assert figures["false_alarms"] <= 1
    assert figures["faults_alarmed"] >= 3
    assert figures["promise"].startswith("With the alarm rules on, ")
    arguments = ["alarms", "simulate", str(sensor.bundle), "--data", str(sensor.data / "test.csv"), "--on-delay", "0", "--json"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    found = json.loads(done.output)
    assert found["proposed"]["settings"]["on_delay_s"] == 0
    assert found["proposed"]["alarms"] >= found["bundle"]["alarms"] == figures["alarms"]
    assert found["proposed"]["median_delay_s"] <= found["bundle"]["median_delay_s"]


def test_a_camera_bundle_says_what_is_simulated(camera: Fitted, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["alarms", "simulate", str(camera.bundle), "--data", str(camera.data)])
    assert "tables of readings" in str(done.exception)
