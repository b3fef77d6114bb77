"""The store is lost while a monitor runs; two monitors ask for one line."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from anomaly.alarms.store import Store
from anomaly.bundle.archive import read_bundle
from anomaly.edge.monitor import Monitor
from anomaly.edge.runtime.session import open_session
from anomaly.edge.sources.uri import open_source
from tests.conftest import Fitted


def test_a_store_deleted_while_a_line_runs_is_an_alarm_and_the_line_goes_on(
    sensor: Fitted, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, feed = tmp_path / "s.db", tmp_path / "feed.csv"
    lines = (sensor.data / "train.csv").read_text().splitlines(keepends=True)
    feed.write_text("".join(lines[:301]))
    bundle = read_bundle(sensor.bundle)
    store = Store(path)
    source = open_source(str(feed), bundle.manifest.input, lambda _: False, {})
    loop = Monitor(bundle, open_session(bundle, "cpu"), source, store, "l", ["w"])
    stop = threading.Event()
    while loop.turn(stop).waiting:
        pass
    position = store.resume("l")[0]
    scored = len(store.scores("l"))
    assert scored > 0
    path.unlink()
    loop.turn(stop)
    assert "the file was deleted" in caplog.text
    fresh = Store(path)
    (event,) = (e for e in fresh.events() if e["type"] == "anomaly.alarm.opened" and e["data"].get("condition") == "store")
    assert event["data"]["class"] == "data quality"
    assert "deleted" in event["data"]["reason"]
    assert [item.id for item in fresh.waiting("w", 1e12)][-1] == event["id"]
    assert fresh.resume("l")[0] == position  # a restart goes on where this one is
    with feed.open("a") as stream:
        stream.writelines(lines[301:401])
    while loop.turn(stop).waiting:
        pass
    records = [s.record for s in fresh.scores("l")]
    assert records[0] == "feed.csv:302"
    assert len(records) == 100


def test_a_second_monitor_of_a_line_is_told_who_holds_it(sensor: Fitted, tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    holder = subprocess.Popen(
        [sys.executable, "-c", "import sys, pathlib; from anomaly.alarms.store import Store; s = Store(pathlib.Path(sys.argv[1])); "
         "s.claim('pump'); print('held', flush=True); sys.stdin.read()", str(path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    before = Store(path).counts()
    asked = [sys.executable, "-m", "anomaly.cli", "monitor", str(sensor.bundle), "--source", str(sensor.data / "test.csv")]
    asked += ["--line", "pump"]
    done = subprocess.run([*asked, "--store", str(path)], capture_output=True, text=True, timeout=100)
    assert done.returncode == 1
    said = " ".join((done.stdout + done.stderr).split())
    assert f"line 'pump' is monitored by process {holder.pid}" in said
    assert Store(path).counts() == before
    holder.communicate("")
    again = subprocess.run([*asked, "--once", "--exit-zero", "--store", str(path)], capture_output=True, text=True, timeout=100)
    assert again.returncode == 0, again.stderr
