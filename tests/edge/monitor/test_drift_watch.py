"""Drift of a line that runs: a real bundle, a table, the store, and what is told."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from anomaly.alarms.drift import LIMIT
from anomaly.alarms.events import Event, iso, make_event
from anomaly.alarms.store import Store
from anomaly.bundle.archive import read_bundle
from anomaly.data.samples.synthetic import PERIOD_S, plant
from anomaly.edge.drift_watch import DriftWatch, outside_alarms
from anomaly.edge.monitor import Monitor
from anomaly.edge.runtime.session import open_session
from anomaly.edge.sources.uri import open_source
from tests.conftest import Fitted

DRIFT_AT = 12_000


@pytest.fixture(scope="module")
def drifting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two days of the plant; the vibration sensor reads too much from a time on."""
    path = tmp_path_factory.mktemp("drift") / "plant.csv"
    frame = plant(2 * DRIFT_AT, np.random.default_rng(11)).drop(columns=["anomaly", "fault_kind"])
    frame.loc[DRIFT_AT:, "vibration"] += 1.2
    frame.to_csv(path, index=False)
    return path


def line(fitted: Fitted, store: Path, source: Path) -> Monitor:
    bundle, opened = read_bundle(fitted.bundle), Store(store)
    bundle.manifest.calibration["block"] = 114  # the record learnt from is short: longer blocks would need days of it
    # A sensor that is off by so much is an alarm within minutes, and records of alarms are none of drift's. Here nobody wants an alarm.
    calm = bundle.manifest.threshold.model_copy(update={"p_value": 1e-9, "score": None})
    bundle = type(bundle)(**{**vars(bundle), "manifest": bundle.manifest.model_copy(update={"threshold": calm})})
    records = open_source(str(source), bundle.manifest.input, lambda r: opened.known("l", r), opened.resume("l")[0])
    return Monitor(bundle, open_session(bundle, "cpu"), records, opened, "l", ["w"])


def drifted(store: Store) -> list[dict[str, object]]:
    return [event for event in store.events() if event["type"] == "anomaly.line.drifted"]


def test_a_bundle_says_how_long_a_block_is_and_what_each_sensor_reads(sensor: Fitted, camera: Fitted) -> None:
    bundle = read_bundle(sensor.bundle)
    assert bundle.manifest.calibration["block"] >= bundle.manifest.input.window
    assert read_bundle(camera.bundle).manifest.calibration["block"] == 1
    watch = DriftWatch("l")
    watch.use(bundle)
    assert watch.level == 0.0


def test_drift_is_one_event_that_names_the_sensor_also_over_a_restart(sensor: Fitted, drifting: Path, tmp_path: Path) -> None:
    head = tmp_path / "plant.csv"
    rows = drifting.read_text().splitlines(keepends=True)
    head.write_text("".join(rows[:DRIFT_AT]))
    assert line(sensor, tmp_path / "s.db", head).run(threading.Event(), once=True).scored > DRIFT_AT - 100
    assert drifted(Store(tmp_path / "s.db")) == []
    head.write_text("".join(rows))
    monitor = line(sensor, tmp_path / "s.db", head)
    monitor.run(threading.Event(), once=True)
    (event,) = drifted(monitor.store)
    # the bearing warms up beyond the two hours that were learnt, as it does every day: and its pump with it: they may be named before it
    assert "vibration" in [each["sensor"] for each in event["data"]["sensors"]]
    began = pd.Timestamp(event["data"]["since"]).timestamp()
    assert abs(began - (pd.Timestamp("2026-01-05T06:00Z").timestamp() + DRIFT_AT * PERIOD_S)) < 6 * 3600
    assert event["data"]["measure"]["evidence"] >= LIMIT
    assert monitor.health.drift == 1.0


def test_a_bundle_without_a_usable_reference_runs_and_says_so(sensor: Fitted, caplog: pytest.LogCaptureFixture) -> None:
    bundle = read_bundle(sensor.bundle)
    watch = DriftWatch("press")
    watch.use(type(bundle)(**{**vars(bundle), "members": {k: v for k, v in bundle.members.items() if k != "reference.parquet"}}))
    assert watch.level is None
    watch = DriftWatch("press")
    watch.use(type(bundle)(**{**vars(bundle), "members": {**bundle.members, "reference.parquet": b"no parquet"}}))
    assert watch.level is None
    assert "press: drift is not watched, the bundle's reference.parquet cannot be used" in caplog.text


def test_records_outside_alarms() -> None:
    def event(kind: str, time: float) -> Event:
        return make_event(kind, "l", "a", time, {"class": "process", "began": iso(time)})  # type: ignore[arg-type]

    times, p = list(range(6)), np.array([0.5, 0.001, 0.5, 0.5, 0.5, 0.5], np.float32)
    assert outside_alarms(times, p, 0.01, False, []).tolist() == [True, False, True, True, True, True]
    assert outside_alarms(times, p, 0.01, True, []).tolist() == [False] * 6
    assert outside_alarms(times, p, 0.01, True, [event("closed", 3)]).tolist() == [False] * 4 + [True] * 2
    assert outside_alarms(times, p, 0.01, False, [event("opened", 2), event("closed", 4)]).tolist() == [True] + [False] * 4 + [True]
    assert outside_alarms(times, p, 0.01, False, [event("opened", 4)]).tolist() == [True, False, True, True, False, False]
