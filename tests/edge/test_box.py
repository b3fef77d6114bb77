"""Many lines on one machine."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import pandas as pd
import pytest

from anomaly.alarms.store import Store
from anomaly.bundle.archive import read_bundle
from anomaly.edge.box import Box, read_box
from anomaly.edge.line import Line
from anomaly.edge.monitor import Monitor
from anomaly.edge.runtime.session import Session
from anomaly.edge.sources.uri import open_source
from anomaly.errors import SpecError
from tests.conftest import Fitted
from tests.edge.tiny import tiny_bundle


def test_a_box_serves_its_lines_evenly_with_one_store(sensor: Fitted, tmp_path: Path) -> None:
    bundle = read_bundle(sensor.bundle)
    session = Session(bundle.detector, "cpu")
    lines = []
    for i in range(12):
        feed = tmp_path / f"{i}.csv"
        feed.write_bytes((sensor.data / "test.csv").read_bytes())
        source = open_source(str(feed), bundle.manifest.input, lambda _: False, {})
        monitor = Monitor(bundle, session, source, Store(tmp_path / "s.db"), f"line{i}")
        lines.append(Line(f"line{i}", lambda monitor=monitor: monitor, tmp_path / "s.db", once=True))
    box = Box(lines, workers=3)
    box.run(threading.Event())
    counts = {line.totals.scored for line in lines}
    assert len(counts) == 1
    assert counts.pop() == len(pd.read_csv(sensor.data / "test.csv")) - 29
    assert {served.turns for served in box.lines} == {box.lines[0].turns}
    assert Store(tmp_path / "s.db").counts()["scores"] == 12 * lines[0].totals.scored


def test_a_box_file_is_checked_before_any_work(tmp_path: Path) -> None:
    path = tmp_path / "box.toml"
    path.write_text('[[line]]\nname = "a"\nbundle = "b"\nsource = "c"\n' * 2)
    with pytest.raises(SpecError, match=r"lines \['a'\] are there twice"):
        read_box(path)
    path.write_text('[[line]]\nname = "a"\nbundle = "b"\nsuorce = "c"\n')
    with pytest.raises(SpecError, match=r"key `line\.0\.(source|suorce)`"):
        read_box(path)


def test_the_box_command_serves_all_its_lines_into_one_store(tmp_path: Path) -> None:
    tiny_bundle(tmp_path / "tiny.anomaly")
    for name, readings in (("calm", [0.1] * 20), ("faulty", [0.1] * 10 + [9.0] + [0.1] * 9)):
        (tmp_path / f"{name}.csv").write_text("time,a,b\n" + "".join(f"{i},{value},{0.1 + i / 1000}\n" for i, value in enumerate(readings)))
    lines = "".join(f'[[line]]\nname = "{name}"\nbundle = "tiny.anomaly"\nsource = "{name}.csv"\n' for name in ("calm", "faulty"))
    (tmp_path / "box.toml").write_text('store = "s.db"\nalerts = "alerts.toml"\nworkers = 2\n' + lines)
    (tmp_path / "alerts.toml").write_text('[[sink]]\nname = "file"\nkind = "jsonl"\npath = "alerts.jsonl"\n')
    command = [sys.executable, "-m", "anomaly.cli", "box", "box.toml", "--once", "--provider", "cpu"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "2 lines on 2 workers" in done.stderr
    assert "38 scored, 2 flagged, 1 alarms opened, 1 closed, 0 set aside; alerts delivered 2, waiting 0, dead 0" in done.stderr.replace(
        "\n", " "
    )
    store = Store(tmp_path / "s.db")
    assert [len(store.scores(name)) for name in ("calm", "faulty")] == [19, 19]
    alerts = [json.loads(text) for text in (tmp_path / "alerts.jsonl").read_text().splitlines()]
    assert [alert["source"] for alert in alerts] == ["/anomaly/faulty"] * 2
    assert [top["sensor"] for top in alerts[0]["data"]["top"]] == ["a", "b"]
