"""A monitor and people at the same alarms: the monitor's next turn knows what was done in another process."""

from __future__ import annotations

import math
import threading
from pathlib import Path

import pytest

from anomaly.alarms.book import Hold
from anomaly.alarms.store import Store
from anomaly.bundle.archive import read_bundle, write_bundle
from anomaly.edge.monitor import Monitor
from anomaly.edge.runtime.session import open_session
from anomaly.edge.sources.uri import open_source
from anomaly.schema import AlarmSettings
from tests.edge.tiny import WINDOW, tiny_bundle

HOUR = 3600.0


class Plant:
    """A line with a mode column, a clock that the test moves, and rows that it writes one by one: a pair of 9s is far out, 0s are calm."""

    def __init__(self, folder: Path, **alarm: object) -> None:
        bundle = tiny_bundle(folder / "tiny.anomaly", WINDOW.model_copy(update={"mode_column": "mode", "modes": ("run",)}))
        manifest = bundle.manifest.model_copy(update={"alarm": AlarmSettings(**alarm), "members": {}})  # type: ignore[arg-type]
        write_bundle(folder / "set.anomaly", manifest, bundle.members)
        self.bundle, self.folder, self.now, self.rows = read_bundle(folder / "set.anomaly"), folder, 1_000_000.0, 0
        self.feed = folder / "feed.csv"
        self.feed.write_text("time,a,b,mode\n2026-01-01T00:00:00Z,0,0,run\n")
        self.start()

    def start(self) -> None:
        store = Store(self.folder / "s.db", clock=lambda: self.now)
        source = open_source(str(self.feed), self.bundle.manifest.input, lambda _: False, store.resume("press")[0])
        session = open_session(self.bundle, "cpu")
        self.monitor = Monitor(self.bundle, session, source, store, "press", ["w"], silent_after_s=HOUR, clock=lambda: self.now)
        self.people = Store(self.folder / "s.db", clock=lambda: self.now)

    def turn(self, *values: int, mode: str = "run", seconds: float = 1.0) -> None:
        with self.feed.open("a") as stream:
            for value in values:
                self.rows += 1
                stream.write(f"2026-01-01T00:{self.rows // 60:02d}:{self.rows % 60:02d}Z,{value},{value},{mode}\n")
        self.now += seconds
        self.monitor.turn(threading.Event())

    @property
    def sent(self) -> list[tuple[str, str]]:
        """(kind, state) of what the sink is sent."""
        query = "SELECT e.body FROM outbox o JOIN events e USING (seq) ORDER BY o.seq"
        import json

        bodies = [json.loads(body) for (body,) in self.people._read(query)]
        return [(body["type"].rpartition(".")[2], body["data"]["state"]) for body in bodies]

    def acknowledge(self) -> None:
        (alarm,) = self.people.alarms("press")
        act = self.people.act
        act("press", "ack", "ada", "", lambda book: book.acknowledge(book.alarms[alarm.id], "ada", "", self.now), alarm.id)


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    return Plant(tmp_path)


def test_an_alarm_acknowledged_in_another_process_is_neither_repeated_nor_raised(plant: Plant) -> None:
    plant.turn(9, 9)
    plant.acknowledge()
    plant.turn(seconds=100 * HOUR)
    plant.turn(9)
    assert [kind for kind, _ in plant.sent if kind in ("reminded", "escalated")] == []
    plant.turn(0, 0, 0)
    assert ("closed", "normal") in plant.sent


def test_an_alarm_that_nobody_acknowledges_is_told_again_also_after_a_restart(plant: Plant) -> None:
    plant.turn(9, 9)
    plant.turn(9, seconds=HOUR)
    plant.start()
    plant.turn(9, seconds=7 * HOUR)
    plant.turn(9, seconds=1)
    assert [kind for kind, _ in plant.sent] == ["opened", "escalated", "reminded"]


def test_shelved_by_people_then_told_when_its_time_is_over(plant: Plant) -> None:
    plant.turn(0)
    plant.people.act("press", "shelve", "ada", "", lambda book: book.hold(Hold("shelved", "process", plant.now, plant.now + 60, "ada")))
    plant.turn(9, 9)
    assert [alarm.state for alarm in plant.people.alarms("press")] == ["shelved"]
    plant.turn(9, seconds=58)
    assert [kind for kind, _ in plant.sent] == ["shelved"]
    plant.turn(9, seconds=2)
    assert plant.sent == [("shelved", "normal"), ("unshelved", "normal"), ("opened", "unacknowledged")]
    assert plant.people.holds() == []
    kinds = [event["type"].rpartition(".")[2] for event in plant.people.events_of(plant.people.alarms("press")[0].id)]
    assert kinds == ["opened", "opened"]  # the first is in the store alone


def test_a_stopped_machine_suppresses_its_alarm_and_is_not_silent(plant: Plant) -> None:
    plant.turn(9, 9)
    for _ in range(3):
        plant.turn(0, 0, mode="stop", seconds=0.9 * HOUR)
    plant.start()
    plant.turn(seconds=1)
    assert plant.sent == [("opened", "unacknowledged"), ("suppressed", "suppressed by design")]
    plant.turn(9, 9, mode="run")
    plant.turn(0, 0, 0)
    assert plant.sent[2:] == [("unsuppressed", "unacknowledged"), ("closed", "returned unacknowledged")]


def test_modes_that_suppress_can_be_named(tmp_path: Path) -> None:
    plant = Plant(tmp_path, suppress_in_modes=("clean",))
    plant.turn(9, 9)
    plant.turn(0, mode="stop")
    assert [kind for kind, _ in plant.sent] == ["opened"]
    plant.turn(0, mode="clean")
    assert [kind for kind, _ in plant.sent] == ["opened", "suppressed"]


def test_latched_waits_for_someone_though_the_monitor_is_gone(tmp_path: Path) -> None:
    plant = Plant(tmp_path, latched=True)
    plant.turn(9, 9)
    plant.turn(0, 0, 0)
    assert [alarm.state for alarm in plant.people.alarms("press")] == ["latched unacknowledged"]
    plant.acknowledge()
    assert plant.sent == [("opened", "unacknowledged"), ("acknowledged", "normal"), ("closed", "normal")]


@pytest.mark.parametrize("first", [8, 20])
def test_a_latched_alarm_that_comes_again_keeps_its_worst_record_and_all_evidence(tmp_path: Path, first: int) -> None:
    plant = Plant(tmp_path, latched=True)
    plant.turn(first, first)
    (alarm,) = plant.people.alarms("press")
    plant.turn(0, 0, 0)
    plant.turn(9, 10)
    plant.start()
    plant.turn(9, 0, 0, 0)
    plant.turn(6, 7, 0, 0)
    (after,) = plant.people.alarms("press", live=False)
    assert (after.id, after.state) == (alarm.id, "latched unacknowledged")
    assert after.data["p_value"] == after.data["worst"]["p_value"] == pytest.approx(math.exp(-max(first, 10)), rel=1e-4)
    assert after.data["earlier"]["trips"] == 2
    assert after.data["flagged"] == sum(
        event["data"]["flagged"] - event["data"].get("earlier", {}).get("flagged", 0)
        for event in plant.people.events_of(alarm.id)
        if event["type"].endswith("closed")
    )
    assert plant.people.evidence_size()[0] == len(plant.people.evidence(alarm.id))
    assert min(each.p_value for each in plant.people.evidence(alarm.id)) == after.data["p_value"]


def test_a_store_that_is_lost_gets_the_open_alarms_again(plant: Plant) -> None:
    plant.turn(9, 9)
    plant.people.close()
    (alarm,) = plant.monitor.store.alarms("press")
    for path in plant.folder.glob("s.db*"):
        if path.is_file():
            path.unlink()
    plant.turn(9)
    assert alarm.id in {one.id for one in plant.monitor.store.alarms("press")}
