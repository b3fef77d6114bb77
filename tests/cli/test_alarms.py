"""`anomaly alarms`, as an operator types it, on a store whose monitor is not running."""

from __future__ import annotations

import json
import re
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from anomaly.alarms.events import alarm_id, make_event
from anomaly.alarms.store import Store
from anomaly.cli.main import app
from anomaly.errors import AnomalyError
from tests.conftest import run

LINE = "press\x1b[2J 3"  # a name from outside may hold anything


class Plant:
    """A store with two alarms of a line and one of another, and one sink."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "s.db"
        self.store = Store(self.path)
        self.ids = {}
        for line in (LINE, "oven"):
            self.store.register(line, ["w"])
        self.open(LINE, "process", {"p_value": 0.00004, "threshold_p": 0.01, "top": [{"sensor": "flow", "share": 0.7}]})
        self.open(LINE, "silent", {"reason": "no record for 60 s"})
        self.open("oven", "process", {"p_value": 0.01, "threshold_p": 0.01})

    def open(self, line: str, condition: str, data: dict[str, Any], kind: str = "opened") -> None:
        now = time.time()
        alarm = self.ids.setdefault((line, condition), alarm_id(line, "b", now, condition))
        what = {"class": "process" if condition == "process" else "data quality", "condition": condition}
        self.store.add_events([make_event(kind, line, alarm, now, what | data)])  # type: ignore[arg-type]

    def do(self, *arguments: object) -> str:
        return run("alarms", *arguments, "--store", self.path)

    def wrong(self, *arguments: object) -> str:
        with pytest.raises(AnomalyError) as error:
            run("alarms", *arguments, "--store", self.path)
        return str(error.value)

    def states(self) -> dict[tuple[str, str], str]:
        found = json.loads(self.do("list", "--all", "--json"))["alarms"]
        return {(alarm["line"], alarm["condition"]): alarm["state"] for alarm in found}

    def sent(self) -> list[tuple[str, str]]:
        rows = self.store._read("SELECT e.body FROM outbox o JOIN events e USING (seq) ORDER BY o.seq")
        bodies = [json.loads(body) for (body,) in rows]
        return [(body["type"].removeprefix("anomaly.alarm."), body["data"]["state"]) for body in bodies]


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    return Plant(tmp_path)


def test_list_shows_the_most_urgent_first_and_obeys_no_name(plant: Plant) -> None:
    said = plant.do("list")
    rows = said.splitlines()
    assert [row.split()[1] for row in rows[1:]] == ["high", "medium", "low"]
    assert "1 normal record in 25,000" in rows[1]
    assert "flow 70%" in rows[1]
    assert "no record for 60 s" in rows[2]
    assert "\x1b" not in said
    assert r"press\x1b[2J 3" in said
    assert plant.do("list", "--line", "oven").count("process") == 1


def test_acknowledge_by_the_begin_of_an_id_says_who_and_why_to_sinks_and_log(plant: Plant) -> None:
    alarm = plant.ids[LINE, "process"]
    plant.do("ack", alarm[:10], "--who", "ada", "--why", "valve is changed")
    assert plant.states()[LINE, "process"] == "acknowledged"
    assert plant.sent()[-1] == ("acknowledged", "acknowledged")
    event = plant.store.events_of(alarm)[-1]["data"]
    assert (event["who"], event["why"], event["condition"]) == ("ada", "valve is changed", "process")
    assert "acknowledged by ada at" in plant.wrong("ack", alarm, "--who", "bob")
    assert "valve is changed" in plant.do("show", alarm[:10])
    assert [row["who"] for row in json.loads(plant.do("history", "--audit", "--json"))] == ["ada"]


def test_acknowledge_all_of_a_line(plant: Plant) -> None:
    plant.do("ack", "--all", "--line", LINE)
    assert plant.states() == {(LINE, "process"): "acknowledged", (LINE, "silent"): "acknowledged", ("oven", "process"): "unacknowledged"}
    assert plant.do("ack", "--all", "--line", LINE) == "no alarm waits for it\n"


def test_shelved_alarms_are_recorded_and_not_sent_until_they_are_unshelved(plant: Plant) -> None:
    said = plant.do("shelve", plant.ids["oven", "process"], "--for", "30m", "--why", "known", "--who", "ada")
    assert "shelved until" in said
    plant.open("oven", "process", {"lasted_s": 5.0}, "closed")
    assert plant.states()["oven", "process"] == "shelved"
    assert "shelved: oven, process, until" in plant.do("list")
    (action,) = json.loads(plant.do("history", "--audit", "--json"))
    assert re.fullmatch(r"shelved until .+: process", action["action"])  # what was held back, and how long, is proven too
    assert plant.sent()[-1] == ("shelved", "shelved")
    plant.do("unshelve", "--line", "oven", "--condition", "process")
    assert plant.sent()[-2:] == [("unshelved", "returned unacknowledged"), ("closed", "returned unacknowledged")]
    assert "is not shelved" in plant.wrong("unshelve", "--line", "oven", "--condition", "process")


def test_what_people_said_of_an_alarm_is_shown_with_it(plant: Plant) -> None:
    id_ = plant.ids["oven", "process"]
    plant.store.label(id_, "real", "ada", reason="a crack")
    lines = plant.do("show", id_).splitlines()
    assert any("ada" in line and "labelled real" in line and "a crack" in line for line in lines[-2:])


def test_a_hold_that_no_monitor_has_ended_is_said_to_be_over(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    plant.do("shelve", plant.ids["oven", "process"], "--for", "30m", "--who", "ada")
    assert "that is over" not in plant.do("list")
    later = time.time() + 2000
    monkeypatch.setattr("anomaly.cli.alarms.time.time", lambda: later)
    assert "(that is over: the line's monitor does not run, and ends it when it does)" in plant.do("list")


def test_an_alarm_of_several_sensors_is_shelved_by_its_id_with_one_message(plant: Plant) -> None:
    plant.open("oven", "sensor", {"sensor": "flow", "sensors": ["flow", "heat"], "reason": "2 sensors at once"})
    alarm = plant.ids["oven", "sensor"]
    sent = len(plant.sent())
    plant.do("shelve", "--line", "oven", "--condition", "sensor:heat")
    assert plant.states()["oven", "sensor:flow"] == "unacknowledged"  # flow is not shelved
    assert "oven, sensor:flow, sensor:heat; open alarms held back by it: 1" in plant.do("shelve", alarm)
    assert plant.states()["oven", "sensor:flow"] == "shelved"
    assert "flow, heat" in plant.do("show", alarm)
    plant.do("unshelve", alarm)
    assert plant.sent()[sent:] == [("shelved", "normal"), ("shelved", "shelved"), ("unshelved", "unacknowledged")]
    assert plant.store.holds() == []


def test_a_line_out_of_service_tells_nothing_until_it_is_in_service_again(plant: Plant) -> None:
    plant.do("out-of-service", "--line", "oven", "--why", "new lining")
    plant.open("oven", "source", {"reason": "away"})
    assert ("opened", "out of service") not in plant.sent()
    assert plant.states()["oven", "source"] == "out of service"
    plant.do("in-service", "--line", "oven")
    assert plant.sent()[-1] == ("opened", "unacknowledged")


def test_a_stopped_machine_by_a_script_of_the_controller(plant: Plant) -> None:
    plant.do("suppress", "--line", LINE, "--why", "shift is over")
    assert plant.states()[LINE, "process"] == "suppressed by design"
    plant.do("unsuppress", "--line", LINE)
    assert plant.states()[LINE, "process"] == "unacknowledged"


def test_the_audit_log_names_the_first_row_that_was_changed(plant: Plant) -> None:
    for number in range(4):
        plant.do("shelve", "--line", "oven", "--why", f"reason {number}", "--who", "ada")
    assert "the audit log is whole: 4 actions, the last with hash" in plant.do("history", "--verify")
    for statement, words in [
        ("UPDATE audit SET why = 'another' WHERE seq = 3", "by ada) was changed"),
        ("DELETE FROM audit WHERE seq = 2", "row 2 is missing"),
        ("DELETE FROM audit WHERE seq = 4", "row 4 is missing"),
        ("INSERT INTO audit SELECT 5, time, who, action, line, alarm, why, previous, hash FROM audit WHERE seq = 4", "row 5"),
    ]:
        with sqlite3.connect(plant.path) as db:
            kept = db.execute("SELECT * FROM audit").fetchall()
            db.execute(statement)
        assert words in plant.wrong("history", "--verify")
        with sqlite3.connect(plant.path) as db:
            db.execute("DELETE FROM audit")
            db.executemany("INSERT INTO audit VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", kept)
    assert "whole" in plant.do("history", "--verify")


def test_history_tells_what_happened_in_order(plant: Plant) -> None:
    plant.do("ack", "--all", "--line", "oven", "--who", "ada")
    plant.open("oven", "process", {"lasted_s": 5.0}, "closed")
    rows = plant.do("history", "--line", "oven").splitlines()[1:]
    assert [next(word for word in ("opened", "acknowledged", "closed") if f" {word} " in row) for row in rows] == [
        "opened", "acknowledged", "closed",
    ]  # fmt: skip
    assert [body["subject"] for body in json.loads(plant.do("history", plant.ids["oven", "process"], "--json"))] == [
        plant.ids["oven", "process"]
    ] * 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ack", "zzz"], "no alarm has an id that begins with 'zzz'"),
        (["ack", ""], "3 alarms have an id that begins with ''"),
        (["list", "--line", "lathe"], r"no line 'lathe'; its lines are oven, press\x1b[2J 3"),
        (["shelve", "--line", "oven", "--condition", "proces"], "line 'oven' has no condition 'proces'; it has"),
        (["unshelve", "--line", "oven"], "the whole line of line 'oven' is not shelved"),
    ],
)
def test_mistakes_are_named_and_change_nothing(plant: Plant, arguments: list[str], message: str) -> None:
    before = plant.states()
    assert message in plant.wrong(*arguments)
    assert plant.states() == before
    assert plant.store.actions() == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ack"], "name alarms by their ids"),
        (["shelve"], "name an alarm by its id, or give --line"),
        (["shelve", "--line", "oven", "--for", "3 weeks"], "write minutes, hours or days, up to 7 days"),
        (["shelve", "--line", "oven", "--for", "8d"], "up to 7 days"),
    ],
)
def test_what_is_left_out_is_said(plant: Plant, arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(app, ["alarms", *arguments, "--store", str(plant.path)])
    assert result.exit_code == 2
    assert message in " ".join(result.output.replace("│", " ").split())


def test_a_store_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(AnomalyError, match="no such store; give --store"):
        run("alarms", "list", "--store", tmp_path / "other.db")
    assert not (tmp_path / "other.db").exists()
