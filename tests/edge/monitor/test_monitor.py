"""The loop of one line: what it stores, says and survives."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from anomaly.alarms.store import Store
from anomaly.bundle.archive import Bundle, read_bundle
from anomaly.edge.monitor import Monitor
from anomaly.edge.runtime.session import Session, open_session
from anomaly.edge.sources.uri import open_source
from anomaly.errors import StoreError
from tests.conftest import Fitted
from tests.edge.conftest import save


def monitor(fitted: Fitted, tmp_path: Path, source: str, bundle: Bundle | None = None) -> Monitor:
    bundle = bundle or read_bundle(fitted.bundle)
    store = Store(tmp_path / "s.db")
    position, _, _ = store.resume("l")
    opened = open_source(source, bundle.manifest.input, lambda r: store.known("l", r), position)
    return Monitor(bundle, open_session(bundle, "cpu"), opened, store, "l", ["w"], aside=tmp_path / "aside")


def test_camera_loop_scores_alarms_and_keeps_bad_files(camera: Fitted, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    for path in sorted((camera.data / "test").glob("*/*.jpg")):
        picture = np.asarray(Image.open(path))
        save(folder / f"{path.parent.name}-{path.stem}.png", picture, age=100)
    whole = (folder / "good-000.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[:3000])
    os.utime(folder / "cut.png", (1, 1))
    loop = monitor(camera, tmp_path, str(folder))
    totals = loop.run(threading.Event(), once=True)
    assert (totals.scored, totals.rejected) == (16, 1)
    assert totals.opened >= 1
    opened = next(e for e in loop.store.events() if e["type"] == "anomaly.alarm.opened")
    assert 0 <= opened["data"]["where"]["x"] <= 1
    assert [p.name.split("@")[0] for p in (tmp_path / "aside").iterdir()] == ["cut.png"]
    again = monitor(camera, tmp_path, str(folder)).run(threading.Event(), once=True)
    assert (again.scored, again.rejected) == (0, 0)


def test_sensor_loop_equals_batch_scoring(sensor: Fitted, tmp_path: Path) -> None:
    from anomaly.edge.runtime.files import score_paths

    bundle = read_bundle(sensor.bundle)
    path = sensor.data / "test.csv"
    loop = monitor(sensor, tmp_path, str(path))
    at_once: list[int] = []
    run_stream = loop.session.run_stream
    loop.session.run_stream = lambda rows: at_once.append(len(rows)) or run_stream(rows)  # type: ignore[method-assign, func-returns-value]
    totals = loop.run(threading.Event(), once=True)
    assert max(at_once) > 500  # a long file is scored in long stretches
    frame, _ = score_paths(bundle, Session(bundle.detector, "cpu"), [path])
    stored = loop.store.scores("l")
    assert totals.scored == len(frame) == len(stored)
    np.testing.assert_allclose([s.score for s in stored], frame["score"], rtol=1e-5)
    np.testing.assert_allclose([s.time for s in stored], frame["time"])
    opened = [e for e in loop.store.events() if e["type"] == "anomaly.alarm.opened"]
    assert opened
    assert len(opened[0]["data"]["top"]) == 3


def test_a_full_disk_is_waited_out(sensor: Fitted, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    loop = monitor(sensor, tmp_path, str(sensor.data / "test.csv"))
    stop = threading.Event()
    real, failures = loop.store.commit, [StoreError("disk full")] * 4  # each time with what is kept of the alarm, and without

    def commit(*arguments) -> None:
        if failures:
            raise failures.pop()
        real(*arguments)

    loop.store.commit = commit  # type: ignore[method-assign]
    stop.wait = lambda _=None: False  # type: ignore[method-assign]
    poll = loop.turn(stop)
    assert caplog.messages[:2] == ["disk full; trying again in 5 s"] * 2
    assert len(loop.store.scores("l")) == len(poll.records)


def test_store_state_survives(sensor: Fitted, tmp_path: Path) -> None:
    loop = monitor(sensor, tmp_path, str(sensor.data / "test.csv"))
    loop.run(threading.Event(), once=True)
    assert loop.store.resume("l")[1] == loop._process.state
    assert loop.store.kept("l", "process") == loop._process.kept


def open_on_cpu(bundle: Bundle) -> Session:
    return Session(bundle.detector, "cpu")


def test_a_silent_and_a_frozen_source_are_alarms_that_survive_a_restart(sensor: Fitted, tmp_path: Path) -> None:
    bundle = read_bundle(sensor.bundle)
    feed, now = tmp_path / "feed.csv", [1000.0]
    frame = pd.read_csv(sensor.data / "train.csv").head(300)
    frame.head(250).to_csv(feed, index=False)

    def start() -> Monitor:
        store = Store(tmp_path / "s.db")
        source = open_source(str(feed), bundle.manifest.input, lambda _: False, store.resume("l")[0])
        return Monitor(bundle, open_on_cpu(bundle), source, store, "l", silent_after_s=30.0, clock=lambda: now[0])

    def data_alarms(loop: Monitor) -> list[tuple[str, str]]:
        return [
            (e["type"].rpartition(".")[2], e["data"]["condition"]) for e in loop.store.events() if e["data"].get("class") == "data quality"
        ]

    loop, stop = start(), threading.Event()
    loop.turn(stop)
    now[0] += 31
    loop.turn(stop)
    assert data_alarms(loop) == [("opened", "silent")]
    loop = start()  # killed and started again
    loop.turn(stop)
    assert data_alarms(loop) == [("opened", "silent")]
    still = frame.iloc[[250] * 40].copy()
    time_column = frame.columns[0]
    still[time_column] = frame[time_column].iloc[250:290].to_numpy()
    still.to_csv(feed, index=False, header=False, mode="a")
    loop.turn(stop)
    assert data_alarms(loop)[1:] == [("closed", "silent"), ("opened", "frozen")]
    opened, closed = (e for e in loop.store.events() if e["data"].get("condition") == "silent")
    assert opened["subject"] == closed["subject"]


BLOCKED = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in ('torch', 'torchvision', 'sklearn', 'prefect', 'timm', 'scipy', 'onnx', 'matplotlib'):
            raise ImportError('blocked: ' + name)
sys.meta_path.insert(0, Block())
from anomaly.cli.main import main
sys.argv = ['anomaly', *sys.argv[1:]]
main()
"""


def test_the_edge_runs_with_the_training_side_unimportable(sensor: Fitted, tmp_path: Path) -> None:
    arguments = [
        "monitor",
        str(sensor.bundle),
        "--source",
        str(sensor.data / "test.csv"),
        "--once",
        "--exit-zero",
        "--store",
        str(tmp_path / "s.db"),
    ]
    done = subprocess.run([sys.executable, "-c", BLOCKED, *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert len(Store(tmp_path / "s.db").scores("pump")) == len(pd.read_csv(sensor.data / "test.csv")) - 29
    checked = subprocess.run(
        [sys.executable, "-c", BLOCKED, "bundle", "verify", str(sensor.bundle)], capture_output=True, text=True, timeout=60
    )
    assert "whole" in checked.stdout


def test_the_monitor_ends_cleanly_on_sigterm(sensor: Fitted, tmp_path: Path) -> None:
    feed = tmp_path / "feed.csv"
    feed.write_bytes((sensor.data / "test.csv").read_bytes())
    command = [
        sys.executable,
        "-m",
        "anomaly.cli.main",
        "monitor",
        str(sensor.bundle),
        "--source",
        str(feed),
        "--store",
        str(tmp_path / "s.db"),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 60
    while not (tmp_path / "s.db").exists() or not Store(tmp_path / "s.db").counts()["scores"]:
        assert time.monotonic() < end
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGTERM)
    _, told = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "scored" in told
