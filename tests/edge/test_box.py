"""Many lines on one machine."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd
import pytest

from anomaly.alarms.health.line import LineHealth
from anomaly.alarms.store import Store
from anomaly.bundle.archive import read_bundle
from anomaly.edge.box import Box, BoxSpec, open_lines, read_box
from anomaly.edge.line import Line
from anomaly.edge.monitor import Monitor
from anomaly.edge.release import Loaded, Release
from anomaly.edge.runtime.session import Session
from anomaly.edge.sources.uri import open_source
from anomaly.errors import SourceError, SpecError
from tests.conftest import Fitted
from tests.edge.conftest import until
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
    said = "38 scored, 2 flagged, process alarms: 1 opened, 1 closed; 0 set aside; alerts delivered 2, waiting 0, dead 0"
    assert said in done.stderr.replace("\n", " ")
    store = Store(tmp_path / "s.db")
    assert [len(store.scores(name)) for name in ("calm", "faulty")] == [19, 19]
    alerts = [json.loads(text) for text in (tmp_path / "alerts.jsonl").read_text().splitlines()]
    assert [alert["source"] for alert in alerts] == ["/anomaly/faulty"] * 2
    assert [top["sensor"] for top in alerts[0]["data"]["top"]] == ["a", "b"]


# --- a line's trouble is its own ---


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def rows(start: int, count: int, value: float = 0.1) -> str:
    return "".join(f"{i},{value},{0.1 + i / 1000}\n" for i in range(start, start + count))


@dataclass
class Plant:
    """Lines of a box on one tiny bundle, and what their clock says."""

    folder: Path
    clock: Clock = field(default_factory=Clock)

    def spec(self, **sources: str) -> BoxSpec:
        path = self.folder / "box.toml"
        bundle = self.folder / "tiny.anomaly"
        lines = "".join(f'[[line]]\nname = "{n}"\nbundle = "{bundle}"\nsource = "{self.folder / s}"\n' for n, s in sources.items())
        path.write_text(f'store = "{self.folder / "s.db"}"\n' + lines)
        return read_box(path)

    def lines(self, spec: BoxSpec, once: bool = False) -> dict[str, Line]:
        health = {line.name: LineHealth(line.name) for line in spec.line}

        def open_(where: str, keep: Path) -> tuple[Loaded, Release | None]:
            bundle = read_bundle(Path(where))
            return Loaded(bundle, Session(bundle.detector, "cpu")), None

        found = open_lines(spec, open_, ["file"], lambda: None, health, once)
        for line in found:
            line.clock = line.steady = self.clock
            line.jitter = lambda: 1.0
            line._not_before = 0.0
            if line.monitor is not None:
                line.monitor.clock = line.monitor.source._clock = self.clock
                line.monitor.source._jitter = lambda: 1.0
                line.monitor.source._not_before = 0.0
                line.monitor = replace(line.monitor)
        return {line.name: line for line in found}

    def turns(self, lines: dict[str, Line], seconds: int) -> None:
        for _ in range(seconds):
            self.clock.now += 1
            for line in lines.values():
                line.turn(threading.Event())

    def told(self, name: str) -> list[tuple[str, str, str]]:
        """(kind, condition, reason) of a line's alarms of its source."""
        events = [event for event in Store(self.folder / "s.db").events() if event["source"] == f"/anomaly/{name}"]
        found = [(event["type"].rpartition(".")[2], event["data"]) for event in events if event["data"].get("class") == "data quality"]
        return [(kind, data["condition"], data["reason"]) for kind, data in found if data["condition"] == "source"]


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    tiny_bundle(tmp_path / "tiny.anomaly")
    (tmp_path / "good.csv").write_text("time,a,b\n" + rows(0, 20))
    return Plant(tmp_path)


def test_a_line_without_its_bundle_is_told_and_tried_again_while_the_others_run(plant: Plant) -> None:
    spec = plant.spec(good="good.csv", away="good.csv")
    spec = spec.model_copy(update={"line": [spec.line[0], spec.line[1].model_copy(update={"bundle": str(plant.folder / "late.anomaly")})]})
    lines = plant.lines(spec)
    plant.turns(lines, 30)
    assert lines["good"].totals.scored == 19
    (opened,) = plant.told("away")
    assert opened[:2] == ("opened", "source")
    assert "late.anomaly: no such bundle" in opened[2]
    assert plant.told("good") == []
    tiny_bundle(plant.folder / "late.anomaly")
    plant.turns(lines, 70)
    assert lines["away"].totals.scored == 19
    assert [kind for kind, *_ in plant.told("away")] == ["opened", "closed"]
    for line in lines.values():
        line.close()


def test_a_line_whose_source_is_not_there_yet_waits_for_it(plant: Plant) -> None:
    lines = plant.lines(plant.spec(good="good.csv", away="later.csv"))
    plant.turns(lines, 30)
    assert lines["good"].totals.scored == 19
    (opened,) = plant.told("away")
    assert "later.csv: cannot be read (No such file or directory)" in opened[2]
    (plant.folder / "later.csv").write_text("time,a,b\n" + rows(0, 20))
    plant.turns(lines, 70)
    assert lines["away"].totals.scored == 19
    assert [kind for kind, *_ in plant.told("away")] == ["opened", "closed"]


def test_a_line_whose_every_turn_fails_is_told_with_back_off_and_goes_on_by_itself(
    plant: Plant, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    lines = plant.lines(plant.spec(good="good.csv", bad="good.csv"))
    real = Monitor._live_through
    faults = {"on": True}

    def fails(self: Monitor, *arguments: object) -> object:
        if self.line == "bad" and faults["on"]:
            raise ZeroDivisionError("a programming error\nand more")
        return real(self, *arguments)

    monkeypatch.setattr(Monitor, "_live_through", fails)
    plant.turns(lines, 60)
    assert lines["good"].totals.scored == 19
    assert 3 <= lines["bad"].failures <= 15  # back-off
    assert any(record.exc_info and record.line == "bad" for record in caplog.records)
    assert [(kind, condition) for kind, condition, _ in plant.told("bad")] == [("opened", "source")]
    assert "ZeroDivisionError: a programming error" in plant.told("bad")[0][2]
    faults["on"] = False
    plant.turns(lines, 200)
    assert lines["bad"].totals.scored + lines["bad"].totals.rejected == 19  # each once, although some turns failed
    assert [kind for kind, *_ in plant.told("bad")] == ["opened", "closed"]


def test_one_record_that_no_graph_can_take_is_set_aside_and_the_rest_is_scored(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = plant.lines(plant.spec(bad="good.csv"))
    real = Monitor._score

    def fails(self: Monitor, records: list) -> object:
        if any(record.id == "good.csv:12" for record in records):
            raise RuntimeError("the graph")
        return real(self, records)

    monkeypatch.setattr(Monitor, "_score", fails)
    plant.turns(lines, 600)
    assert (lines["bad"].totals.scored, lines["bad"].totals.rejected) == (18, 1)
    assert [scored.record for scored in Store(plant.folder / "s.db").scores("bad")] == [f"good.csv:{i}" for i in range(3, 22) if i != 12]


def test_a_source_that_can_never_do_is_an_error_at_the_start_that_names_the_line(plant: Plant) -> None:
    spec = plant.spec(good="good.csv")
    for source, words in (("banana://x", "no scheme 'banana'"), ("rtsp://10.0.0.1/x", "this bundle takes sensor rows")):
        line = spec.line[0].model_copy(update={"source": source, "name": "press 3"})
        with pytest.raises(SpecError, match=f"line press 3: .*{words}"):
            plant.lines(spec.model_copy(update={"line": [spec.line[0], line]}))


def test_with_once_the_lines_that_can_are_run_and_the_error_comes_at_the_end(plant: Plant) -> None:
    lines = plant.lines(plant.spec(a="none.csv", good="good.csv", b="gone.csv"), once=True)
    with pytest.raises(SourceError, match=r"none\.csv: cannot be read"):
        Box(list(lines.values()), workers=1).run(threading.Event())
    assert lines["good"].totals.scored == 19


def test_the_box_command_goes_on_without_the_line_whose_file_is_missing(plant: Plant) -> None:
    plant.spec(away="none.csv", good="good.csv")
    command = [sys.executable, "-m", "anomaly.cli", "box", "box.toml", "--provider", "cpu"]
    process = subprocess.Popen(command, cwd=plant.folder, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def found(query: str) -> int:  # by a reader that holds up nobody
        try:
            with closing(sqlite3.connect(f"file:{plant.folder / 's.db'}?mode=ro", uri=True)) as db:
                return int(db.execute(query).fetchone()[0])
        except sqlite3.Error:
            return 0

    try:
        until(lambda: found("SELECT count(*) FROM scores") == 19, 120)
        until(lambda: found("SELECT count(*) FROM events WHERE line = 'away' AND kind = 'opened'"), 120)
    finally:
        process.terminate()
        _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert "away: waiting for its source: " in said


def test_a_line_by_any_name_is_a_line_of_its_own(plant: Plant) -> None:
    names = {"Press": "good.csv", "press": "good.csv", "pr%ss": "good.csv", "press_3/../x": "good.csv"}
    lines = plant.lines(plant.spec(**names))
    plant.turns(lines, 3)
    assert {line.totals.scored for line in lines.values()} == {19}
