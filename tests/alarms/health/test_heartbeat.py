"""Heartbeats: they come while a line is watched, and only then."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from anomaly.alarms.delivery.plan import make_plan
from anomaly.alarms.events import make_event
from anomaly.alarms.health.board import Board
from anomaly.alarms.health.heartbeat import Heartbeats, beating
from anomaly.alarms.health.line import LineHealth
from anomaly.alarms.routing import Routing
from anomaly.alarms.store import Store
from anomaly.edge.monitor import Monitor
from anomaly.edge.runtime.session import open_session
from anomaly.edge.sources.uri import open_source
from tests.edge.conftest import until
from tests.edge.tiny import tiny_bundle


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Plant:
    """Two lines that are watched, and the sinks that ask for heartbeats."""

    def __init__(self, folder: Path) -> None:
        self.clock = Clock()
        self.store = Store(folder / "s.db")
        for name in ("press", "pump"):
            self.store.register(name, ["switch", "file"])
        self.board = Board(folder / "s.db", clock=self.clock)
        self.board.add(["press", "pump"])
        for line in self.board.lines.values():
            line.source, line.bundle_hash = "", "ab"
        self.heartbeats = Heartbeats(self.board, {"switch": 60.0, "page": 300.0}, self.clock)

    def after(self, seconds: float, *going_on: str) -> list[tuple[str, str]]:
        """What was heard, (line, sink), after time in which some lines went on."""
        self.clock.now += seconds
        for name in going_on:
            self.board.lines[name].alive()
        self.heartbeats.beat(self.store)
        return [
            (line, sink)
            for line, sink, time in self.rows("SELECT e.line, o.sink, e.time FROM outbox o JOIN events e USING (seq)")
            if time == self.clock.now
        ]

    def rows(self, query: str) -> list[tuple]:
        with sqlite3.connect(self.store.path) as db:
            return sorted(db.execute(query).fetchall())


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    return Plant(tmp_path)


def test_each_sink_hears_as_often_as_it_asks(plant: Plant) -> None:
    assert plant.after(0, "press") == [("press", "page"), ("press", "switch")]  # the pump's loop has not begun
    assert plant.after(59, "press", "pump") == [("pump", "page"), ("pump", "switch")]
    assert plant.after(1, "press", "pump") == [("press", "switch")]
    assert plant.after(240, "press", "pump") == [("press", "page"), ("press", "switch"), ("pump", "switch")]


def test_a_line_that_hangs_is_not_heard_of(plant: Plant) -> None:
    plant.after(0, "press", "pump")
    assert plant.after(plant.board.stuck_s + 1, "pump") == [("pump", "switch")]
    assert plant.after(1, "press", "pump") == [("press", "switch")]  # it goes on


def test_a_line_whose_store_takes_nothing_is_not_heard_of(plant: Plant) -> None:
    plant.board.lines["press"].store = "disk full"
    assert plant.after(0, "press", "pump") == [("pump", "page"), ("pump", "switch")]


def test_only_the_newest_heartbeat_waits(plant: Plant) -> None:
    for _ in range(20):
        plant.after(60, "press", "pump")
    waiting = plant.rows("SELECT e.line, o.sink FROM outbox o JOIN events e USING (seq)")
    assert waiting == [("press", "page"), ("press", "switch"), ("pump", "page"), ("pump", "switch")]
    assert len(plant.rows("SELECT seq FROM events")) == 4


def test_a_heartbeat_says_how_the_line_stands(plant: Plant) -> None:
    plant.board.lines["press"].source = "camera away"
    plant.after(0, "press", "pump")
    told = {
        body["source"]: body
        for (body,) in ((json.loads(b),) for (b,) in plant.rows("SELECT body FROM events WHERE alarm = 'heartbeat/switch'"))
    }
    assert told["/anomaly/press"]["type"] == "anomaly.line.heartbeat"
    assert told["/anomaly/press"]["data"]["status"] == "trouble"
    assert told["/anomaly/press"]["data"]["missing"] == ["source: camera away"]
    assert (told["/anomaly/pump"]["data"]["status"], told["/anomaly/pump"]["data"]["next_within_s"]) == ("ok", 60.0)


@pytest.mark.parametrize(
    "keys", [{"quiet": "00:00-23:59", "zone": "UTC"}, {"max_per_minute": 1}, {"min_priority": "critical"}, {"kinds": ["alarm.*"]}]
)
def test_no_filter_of_a_sink_makes_a_line_look_dead(plant: Plant, keys: dict) -> None:
    opened = [make_event("opened", "press", f"a{i}", 1000.0 + i, {"class": "process", "priority": "low"}) for i in range(5)]
    plant.store.add_events(opened, ["switch"])
    plant.after(0, "press", "pump")
    routing = Routing(name="switch", heartbeat_s=60.0, **keys)
    sent = make_plan(plant.store.waiting("switch", plant.clock.now, whole=True), routing, plant.clock.now, [plant.clock.now - 1]).send
    assert [message.facts[0].line for message in sent if message.facts[0].kind == "line.heartbeat"] == ["press", "pump"]


def test_a_monitor_beats_while_it_runs(tmp_path: Path) -> None:
    import threading

    bundle = tiny_bundle(tmp_path / "tiny.anomaly")
    (tmp_path / "feed.csv").write_text("time,a,b\n" + "".join(f"{i},0.1,{i / 1000}\n" for i in range(20)))
    board, store, woken = Board(tmp_path / "s.db"), Store(tmp_path / "s.db"), threading.Event()
    board.add(["l"])
    source = open_source(str(tmp_path / "feed.csv"), bundle.manifest.input, lambda _: False, {})
    loop = Monitor(bundle, open_session(bundle, "cpu"), source, store, "l", health=board.lines["l"])
    stop = threading.Event()
    thread = threading.Thread(target=loop.run, args=(stop,))
    with beating(board, tmp_path / "s.db", {"switch": 1.0}, woken.set):
        thread.start()
        until(woken.is_set)
        until(lambda: [e["data"]["records"] for e in Store(tmp_path / "s.db").events() if e["type"].endswith("heartbeat")] == [19])
        stop.set()
        thread.join()
    assert isinstance(loop.health, LineHealth)
    assert loop.health.missing() == []
