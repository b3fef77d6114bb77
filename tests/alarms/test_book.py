"""Alarm life by ISA-18.2: known answers, and any order of everything that can happen."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from anomaly.alarms.book import WHOLE_LINE, AlarmBook, Hold, HoldKind, condition_of
from anomaly.alarms.events import Event, make_event
from anomaly.alarms.store.alarm_rows import put_changes, read_alarms, read_holds
from anomaly.alarms.store.schema import create_tables
from anomaly.schema import AlarmSettings

HOUR = 3600.0
NEVER = AlarmSettings(remind_after_s=0, escalate_after_s=0)


def opened(time: float, alarm: str = "a1", condition: str = "process", **data: object) -> Event:
    alarm_class = "process" if condition == "process" else "data quality"
    return make_event("opened", "press", alarm, time, {"class": alarm_class, "condition": condition, **data})


def closed(time: float, alarm: str = "a1", condition: str = "process", **data: object) -> Event:
    alarm_class = "process" if condition == "process" else "data quality"
    return make_event("closed", "press", alarm, time, {"class": alarm_class, "condition": condition, "lasted_s": 1.0, **data})


def joins(time: float, alarm: str, condition: str, *names: str) -> Event:
    alarm_class = "process" if condition == "process" else "data quality"
    data = {"class": alarm_class, "condition": condition, "joined": list(names), "reason": f"{', '.join(names)} too"}
    return make_event("reminded", "press", alarm, time, data)


def told(book: AlarmBook, events: list[Event]) -> list[tuple[str, str, str]]:
    """(alarm, kind, state) of what the sinks get."""
    return [(event.alarm, event.kind, event.data["state"]) for event in events if event.id not in book.changes.quiet]


def new(settings: AlarmSettings = NEVER) -> AlarmBook:
    return AlarmBook("press", [], [], settings)


def test_acknowledged_then_over_is_normal() -> None:
    book = new()
    assert told(book, book.apply([opened(0)], 0)) == [("a1", "opened", "unacknowledged")]
    assert told(book, book.acknowledge(book.alarms["a1"], "ada", "seen", 5)) == [("a1", "acknowledged", "acknowledged")]
    assert told(book, book.apply([closed(9)], 9)) == [("a1", "closed", "normal")]
    assert book.alarms == {}


def test_over_then_acknowledged_is_normal() -> None:
    book = new()
    book.apply([opened(0)], 0)
    assert told(book, book.apply([closed(9)], 9)) == [("a1", "closed", "returned unacknowledged")]
    assert told(book, book.acknowledge(book.alarms["a1"], "ada", "", 20)) == [("a1", "acknowledged", "normal")]


def test_an_alarm_that_rose_and_ended_in_one_turn_rose_at_its_worst_record() -> None:
    book = new()
    data = {"class": "process", "condition": "process", "threshold_p": 0.01}
    over = {"p_value": 1e-6, "worst": {"time": "1970-01-01T00:00:03.500000Z", "p_value": 1e-6}}
    events = book.apply(
        [make_event("opened", "l", "a", 1.0, data | {"p_value": 0.009}), make_event("closed", "l", "a", 9.0, data | over)], 9
    )
    assert [(event.kind, event.time) for event in events] == [("opened", 1.0), ("escalated", 3.5), ("closed", 9.0)]


def test_a_newer_alarm_stands_for_one_that_returned_unacknowledged() -> None:
    book = new()
    book.apply([opened(0), closed(5), opened(9, "a2")], 9)
    assert [alarm.id for alarm in book.alarms.values()] == ["a2"]
    assert book.changes.alarms["a1"].state == "normal"
    assert book.changes.alarms["a1"].acknowledged is None


def test_latched_stays_until_acknowledged_and_is_one_alarm_when_it_comes_again() -> None:
    book = new(NEVER.model_copy(update={"latched": True}))
    book.apply([opened(0)], 0)
    events = book.apply([closed(5)], 5)
    assert told(book, events) == []
    assert book.alarms["a1"].state == "latched unacknowledged"
    assert told(book, book.apply([opened(6, "a2"), closed(7, "a2")], 7)) == []
    events = book.acknowledge(book.alarms["a1"], "ada", "", 20)
    assert told(book, events) == [("a1", "acknowledged", "normal"), ("a1", "closed", "normal")]


def test_shelved_is_announced_when_its_time_is_over_and_it_still_is_on() -> None:
    book = new()
    book.hold(Hold("shelved", "process", 0, 100, "ada"))
    assert told(book, book.apply([opened(10)], 10)) == []
    assert book.alarms["a1"].state == "shelved"
    assert not book.due(99)
    assert book.due(100)
    assert told(book, book.apply([], 100)) == [("process", "unshelved", "normal"), ("a1", "opened", "unacknowledged")]


def test_what_opened_and_closed_while_shelved_is_never_told() -> None:
    book = new()
    book.hold(Hold("shelved", "process", 0, 100, "ada"))
    events = book.apply([opened(10), closed(20)], 20)
    assert told(book, events) == []
    assert [event.kind for event in events] == ["opened", "closed"]  # for the store
    assert told(book, book.apply([], 100)) == [("process", "unshelved", "normal")]


def test_what_closed_while_shelved_is_told_as_closed_afterwards() -> None:
    book = new()
    book.apply([opened(0)], 0)
    assert told(book, book.hold(Hold("shelved", "process", 5, 100, "ada"))) == [("a1", "shelved", "shelved")]
    assert told(book, book.apply([closed(20), opened(30, "a2")], 30)) == []
    assert told(book, book.apply([], 100)) == [
        ("a1", "unshelved", "normal"),
        ("a1", "closed", "normal"),
        ("a2", "opened", "unacknowledged"),
    ]


@pytest.mark.parametrize("kind", ["shelved", "out of service", "suppressed"])
def test_a_sensor_that_joins_an_alarm_is_told_unless_the_alarm_is_held_back(kind: HoldKind) -> None:
    book = new()
    book.apply([opened(0, sensors=["flow"])], 0)
    assert told(book, book.apply([joins(5, "a1", "process", "heat")], 5)) == [("a1", "reminded", "unacknowledged")]
    book.hold(Hold(kind, "process", 10, None, "ada"))
    events = book.apply([joins(20, "a1", "process", "level")], 20)
    assert told(book, events) == []
    assert [(event.kind, event.data["joined"], event.data["held_back"]) for event in events] == [("reminded", ["level"], True)]
    assert book.alarms["a1"].data["sensors"] == ["flow", "heat", "level"]
    book.release(book.holds[kind, "process"], "ada", "", 30)
    (event,) = book.apply([joins(40, "a1", "process", "speed")], 40)
    assert (event.kind, event.data["state"], event.id in book.changes.quiet) == ("reminded", "unacknowledged", False)


def test_an_alarm_of_several_sensors_is_held_back_when_all_of_them_are() -> None:
    book = new()
    book.hold(Hold("shelved", "sensor:flow", 0, 100, "ada"))
    several = {"sensor": "flow", "sensors": ["flow", "heat"]}
    assert told(book, book.apply([opened(1, "q1", "sensor", **several)], 1)) == [("q1", "opened", "unacknowledged")]
    assert told(book, book.hold(Hold("out of service", "sensor:heat", 2, None, "ada"))) == [("q1", "out_of_service", "out of service")]
    assert told(book, book.apply([], 100)) == [("q1", "unshelved", "unacknowledged")]  # flow is to be told of


def test_a_shelved_sensor_does_not_hide_one_that_joins_it() -> None:
    book = new()
    book.hold(Hold("shelved", "sensor:flow", 0, 100, "ada"))
    assert told(book, book.apply([opened(1, "q1", "sensor", sensor="flow", sensors=["flow"])], 1)) == []
    events = book.apply([replace(joins(5, "q1", "sensor", "heat"), data=joins(5, "q1", "sensor", "heat").data | {"sensor": "flow"})], 5)
    assert told(book, events) == [("q1", "opened", "unacknowledged")]
    assert events[0].data["sensors"] == ["flow", "heat"]
    assert told(book, book.apply([closed(9, "q1", "sensor", sensor="flow", sensors=["flow", "heat"])], 9)) == [
        ("q1", "closed", "returned unacknowledged")
    ]


def test_out_of_service_goes_before_shelved_and_holds_the_whole_line() -> None:
    book = new()
    book.apply([opened(0), opened(0, "q1", "source")], 0)
    book.hold(Hold("shelved", "process", 1, 50, "ada"))
    book.hold(Hold("out of service", WHOLE_LINE, 2, None, "ada", "gearbox is changed"))
    assert {alarm.state for alarm in book.alarms.values()} == {"out of service"}
    assert told(book, book.apply([], 60)) == [("process", "unshelved", "normal")]  # of the alarm, which stays held, there is no news
    assert book.alarms["a1"].state == "out of service"
    book.release(book.holds["out of service", WHOLE_LINE], "ada", "", 70)
    assert {alarm.state for alarm in book.alarms.values()} == {"unacknowledged"}


def test_a_stopped_machine_suppresses_what_it_brings_by_itself() -> None:
    book = new()
    book.apply([opened(0), opened(0, "q1", "source")], 0)
    assert told(book, book.apply([], 5, suppressed="mode stop")) == [("a1", "suppressed", "suppressed by design")]
    assert book.alarms["q1"].state == "unacknowledged"  # that the source is away is told all the same
    assert book.apply([], 6, suppressed="mode stop") == book.apply([], 7) == []
    assert told(book, book.apply([opened(8, "q2", "silent")], 8)) == []
    assert told(book, book.apply([], 9, suppressed="")) == [("a1", "unsuppressed", "unacknowledged"), ("q2", "opened", "unacknowledged")]


def test_an_alarm_of_28_hours_is_told_again_every_8() -> None:
    book, kinds = new(AlarmSettings(escalate_after_s=0)), []
    kinds += [(0, event.kind) for event in book.apply([opened(0)], 0)]
    for minute in range(1, 28 * 60):
        kinds += [(minute // 60, event.kind) for event in book.apply([], minute * 60.0)]
    assert kinds == [(0, "opened"), (8, "reminded"), (16, "reminded"), (24, "reminded")]
    book.acknowledge(book.alarms["a1"], "ada", "", 28 * HOUR)
    assert not any(book.due(hour * HOUR) for hour in range(28, 200))


def test_history_read_late_reminds_of_nothing() -> None:
    book = new(AlarmSettings())
    events = book.apply([opened(0), closed(28 * HOUR)], 1e9)
    assert [event.kind for event in events] == ["opened", "closed"]


def test_a_clock_set_back_neither_reminds_nor_falls_silent() -> None:
    book = new(AlarmSettings(escalate_after_s=0))
    book.apply([opened(1e6)], 1e6)
    assert book.apply([], 1e6 - 20 * HOUR) == []
    assert [event.kind for event in book.apply([], 1e6 - 11 * HOUR)] == ["reminded"]


@pytest.mark.parametrize(
    ("condition", "data", "priority"),
    [
        ("process", {"p_value": 0.01, "threshold_p": 0.01}, "low"),
        ("process", {"p_value": 0.001, "threshold_p": 0.01}, "medium"),
        ("process", {"p_value": 1e-9, "threshold_p": 0.01}, "high"),
        ("silent", {}, "medium"),
        ("sensor:flow", {}, "low"),
    ],
)
def test_priority_at_the_opening(condition: str, data: dict[str, float], priority: str) -> None:
    book = new()
    assert book.apply([opened(0, condition=condition, **data)], 0)[0].data["priority"] == priority


def test_priority_rises_with_time_and_with_p_and_then_stays() -> None:
    book = new(AlarmSettings(remind_after_s=0))
    book.apply([opened(0, p_value=0.01, threshold_p=0.01)], 0)
    found = []
    for hour in range(1, 100):
        worst = {"process": 1e-5} if hour >= 4 else {"process": 0.01}
        found += [(hour, event.data["was"], event.data["priority"]) for event in book.apply([], hour * HOUR, worst)]
    assert found == [(1, "low", "medium"), (4, "medium", "critical")]


def test_an_alarm_that_rises_by_a_record_rises_at_its_time_and_by_its_age_now() -> None:
    book = new(AlarmSettings(remind_after_s=0))
    book.apply([opened(0, p_value=0.01, threshold_p=0.01)], 1e6)  # history, read long after
    (by_record,) = book.apply([], 1e6 + 1, {"process": 1e-3}, reached={"process": 60.0})
    (by_age,) = book.apply([], 1e6 + 2 * HOUR, {"process": 1e-3}, reached={"process": 90.0})
    assert [(event.data["priority"], event.time) for event in (by_record, by_age)] == [("medium", 60.0), ("high", 1e6 + 2 * HOUR)]


def test_an_alarm_that_rose_and_ended_in_one_turn_of_a_backlog_is_told_by_its_lowest_p_value() -> None:
    book = new()
    events = book.apply([opened(0, p_value=0.009, threshold_p=0.01), closed(9, p_value=1e-12, threshold_p=0.01)], 1000)
    assert [(event.kind, event.data["priority"], event.time) for event in events] == [
        ("opened", "low", 0), ("escalated", "high", 9), ("closed", "high", 9),
    ]  # fmt: skip


def joined(time: float, sensor: str) -> Event:
    return make_event("reminded", "press", "a1", time, {"class": "process", "condition": "process", "joined": [sensor]})


def test_a_sensor_that_joins_is_told_with_the_state_of_its_alarm() -> None:
    book = new()
    book.apply([opened(0, sensors=["flow"], p_value=1e-9, threshold_p=0.01)], 0)
    (event,) = book.apply([joined(5, "speed")], 5)
    assert (event.kind, event.data["priority"], event.data["state"]) == ("reminded", "high", "unacknowledged")
    assert book.alarms["a1"].data["sensors"] == ["flow", "speed"]


def test_a_sensor_that_joins_a_shelved_alarm_is_told_to_no_sink() -> None:
    book = new()
    book.apply([opened(0, sensors=["flow"])], 0)
    book.hold(Hold("shelved", "process", 1, 100, "ada"))
    assert told(book, book.apply([joined(5, "speed")], 5)) == []
    assert told(book, book.apply([], 101))[-1] == ("a1", "unshelved", "unacknowledged")


def test_an_acknowledged_alarm_does_not_rise_by_time() -> None:
    book = new(AlarmSettings(remind_after_s=0))
    book.apply([opened(0, p_value=0.01, threshold_p=0.01)], 0)
    book.acknowledge(book.alarms["a1"], "ada", "", 1)
    assert book.apply([], 100 * HOUR) == []
    assert [event.kind for event in book.apply([], 101 * HOUR, {"process": 1e-5})] == ["escalated"]


def test_a_closing_from_before_the_book_was_kept_goes_through() -> None:
    book = new()
    assert [(event.kind, event.alarm) for event in book.apply([closed(5, "old")], 5)] == [("closed", "old")]


# --- every state from every state ---

NORMAL, UNACKED, ACKED, RETURNED, LATCHED = (
    "normal", "unacknowledged", "acknowledged", "returned unacknowledged", "latched unacknowledged",
)  # fmt: skip
HELD = ("shelved", "suppressed by design", "out of service")


def actions(book: AlarmBook, on: bool, now: float) -> Iterator[Callable[[AlarmBook], object]]:
    """All that can happen to one condition now: detection, people, the machine."""
    yield lambda book: book.apply([closed(now, f"a{now}") if on else opened(now, f"a{now}")], now)
    for alarm in book.alarms.values():
        if alarm.acknowledged is None:
            yield lambda book, id_=alarm.id: book.acknowledge(book.alarms[id_], "ada", "", now)
    for kind in ("shelved", "out of service"):
        held = book.holds.get((kind, "process"))
        yield (
            (lambda book, held=held: book.release(held, "ada", "", now))
            if held
            else (lambda book, kind=kind: book.hold(Hold(kind, "process", now, None, "ada")))
        )
    for suppressed in ("mode stop", ""):
        yield lambda book, suppressed=suppressed: book.apply([], now, suppressed=suppressed)


def every_transition(latched: bool) -> set[tuple[str, str]]:
    """(state before, state after) of every alarm, from everything that can be reached from an empty book."""
    settings, found, seen = NEVER.model_copy(update={"latched": latched}), set(), set()
    todo = [(new(settings), False)]
    while todo:
        book, on = todo.pop()
        now = 1.0 + len(seen)
        for number, act in enumerate(list(actions(book, on, now))):
            after = book.copy()
            act(after)
            for id_, alarm in after.changes.alarms.items():
                found.add((book.alarms[id_].state if id_ in book.alarms else NORMAL, alarm.state))
            now_on = on != (number == 0)
            assert now_on == any(alarm.closed is None for alarm in after.alarms.values())
            key = (
                now_on,
                tuple(sorted(after.holds)),
                tuple(sorted((a.state, a.told, a.closed is None, a.acknowledged is None) for a in after.alarms.values())),
            )
            if key not in seen:
                seen.add(key)
                todo.append((after, now_on))
    return {(before, after) for before, after in found if before != after}


def test_every_transition_of_the_standard_is_there_and_no_other() -> None:
    to_and_from_holds = {(state, held) for state in (NORMAL, UNACKED, ACKED) for held in HELD} | {
        (held, state) for state in (NORMAL, UNACKED, ACKED, RETURNED) for held in HELD
    }
    between_holds = {(one, other) for one in HELD for other in HELD if one != other}
    plain = {(NORMAL, UNACKED), (UNACKED, ACKED), (UNACKED, RETURNED), (ACKED, NORMAL), (RETURNED, NORMAL)}
    assert every_transition(latched=False) == plain | to_and_from_holds | between_holds
    with_latch = (
        {(UNACKED, LATCHED), (LATCHED, UNACKED), (LATCHED, NORMAL)}
        | {(LATCHED, held) for held in HELD}
        | {(held, LATCHED) for held in HELD}
    )
    gone = {(UNACKED, RETURNED), (RETURNED, NORMAL)} | {(held, RETURNED) for held in HELD}
    assert every_transition(latched=True) == (plain | to_and_from_holds | between_holds | with_latch) - gone


# --- any order of everything ---

CONDITIONS = ("process", "silent", "sensor:flow")
ALL_HELD = (*CONDITIONS, "sensor:heat", WHOLE_LINE)


class Life(RuleBasedStateMachine):
    """A line with three conditions, a book, sinks that note what they get, and people. Times rise."""

    def __init__(self) -> None:
        super().__init__()
        self.book = AlarmBook("press", [], [], AlarmSettings(remind_after_s=50, escalate_after_s=30))
        self.now = 0.0
        self.on: dict[str, str] = {}  # what detection has open: condition -> its id
        self.sinks: dict[str, list[Event]] = defaultdict(list)
        self.db = sqlite3.connect(":memory:")
        create_tables(self.db)
        self.db.execute("INSERT INTO lines (id, name) VALUES (1, 'press')")
        self.ids: set[str] = set()
        self.recorded = 0

    def take(self, events: list[Event]) -> None:
        for event in events:
            assert event.id not in self.ids  # the store would drop the second one
            self.ids.add(event.id)
            if event.id not in self.book.changes.quiet:
                self.sinks[event.alarm].append(event)
        put_changes(self.db, 1, self.book.changes)
        self.book = self.book.copy()

    def turn(self, event: Event | None, suppressed: str | None = None) -> None:
        due = self.book.due(self.now, suppressed=suppressed)
        events = self.book.apply([] if event is None else [event], self.now, suppressed=suppressed)
        assert due or event is not None or not events
        self.take(events)

    @rule(seconds=st.sampled_from([0.5, 7.0, 60.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.turn(None)

    @rule(condition=st.sampled_from(CONDITIONS))
    def detection(self, condition: str) -> None:
        self.now += 0.25
        if condition in self.on:
            self.turn(closed(self.now, self.on.pop(condition), condition))
        else:
            self.recorded += 1
            self.on[condition] = f"{condition}-{self.recorded}"
            self.turn(opened(self.now, self.on[condition], condition, p_value=0.01, threshold_p=0.01))

    @precondition(lambda self: self.on)
    @rule(data=st.data())
    def another_sensor_joins(self, data: st.DataObject) -> None:
        self.now += 0.25
        condition = data.draw(st.sampled_from(sorted(self.on)))
        self.turn(joins(self.now, self.on[condition], condition, "heat"))

    @rule(latched=st.booleans())
    def settings_change(self, latched: bool) -> None:
        self.book.settings = self.book.settings.model_copy(update={"latched": latched})

    @rule(suppressed=st.sampled_from(["mode stop", ""]))
    def machine(self, suppressed: str) -> None:
        self.now += 0.25
        self.turn(None, suppressed)

    @precondition(lambda self: any(alarm.acknowledged is None for alarm in self.book.alarms.values()))
    @rule(data=st.data())
    def somebody_acknowledges(self, data: st.DataObject) -> None:
        self.now += 0.25
        waiting = sorted(alarm.id for alarm in self.book.alarms.values() if alarm.acknowledged is None)
        self.take(self.book.acknowledge(self.book.alarms[data.draw(st.sampled_from(waiting))], "ada", "", self.now))

    @rule(
        kind=st.sampled_from(["shelved", "out of service", "suppressed"]),
        condition=st.sampled_from(ALL_HELD),
        seconds=st.sampled_from([None, 5.0, 40.0]),
    )
    def somebody_holds_back(self, kind: str, condition: str, seconds: float | None) -> None:
        self.now += 0.25
        self.take(self.book.hold(Hold(kind, condition, self.now, None if seconds is None else self.now + seconds, "ada")))  # type: ignore[arg-type]

    @precondition(lambda self: self.book.holds)
    @rule(data=st.data())
    def somebody_releases(self, data: st.DataObject) -> None:
        self.now += 0.25
        key = data.draw(st.sampled_from(sorted(self.book.holds)))
        self.take(self.book.release(self.book.holds[key], "ada", "", self.now))

    @rule()
    def killed_and_started_again(self) -> None:
        again = AlarmBook("press", read_alarms(self.db), [hold for _, hold in read_holds(self.db)], self.book.settings)
        assert again.alarms == self.book.alarms
        assert again.holds == self.book.holds
        self.book = again

    @invariant()
    def sinks_get_an_opening_then_one_closing(self) -> None:
        for events in self.sinks.values():
            ends = [event.kind for event in events if event.kind in ("opened", "closed")]
            assert ends == ["opened", "closed"] * (len(ends) // 2) + ["opened"] * (len(ends) % 2)
            assert len(ends) <= 2
            for event in events:
                if event.kind in ("reminded", "escalated", "closed"):
                    assert events[0].kind == "opened" or events[0].kind == "acknowledged"
            assert sum(event.kind == "escalated" for event in events) <= 3

    @invariant()
    def sinks_know_what_is_on_unless_it_is_held(self) -> None:
        for condition in CONDITIONS:
            alarm = self.book.current(condition)
            held = self.book.held(*(alarm.conditions if alarm is not None else [condition]))
            if condition in self.on:
                assert alarm is not None
                assert alarm.closed is None
                assert held or alarm.told == "opened"
            elif not held and alarm is not None:
                assert alarm.told == "closed" or alarm.state == "latched unacknowledged"

    @invariant()
    def states_say_what_is(self) -> None:
        held_states = {"shelved", "suppressed by design", "out of service"}
        for alarm in self.book.alarms.values():
            on = condition_of(opened(0, condition=alarm.condition)) in self.on and alarm.closed is None
            assert (alarm.state in held_states) == bool(self.book.held(*alarm.conditions)) or alarm.state == "returned unacknowledged"
            if alarm.state in ("unacknowledged", "acknowledged"):
                assert on
                assert (alarm.acknowledged is None) == (alarm.state == "unacknowledged")
            if alarm.state in ("returned unacknowledged", "latched unacknowledged"):
                assert alarm.closed is not None
                assert alarm.acknowledged is None
        conditions = [alarm.condition for alarm in self.book.alarms.values() if alarm.closed is None]
        assert len(set(conditions)) == len(conditions)


TestLife = Life.TestCase
TestLife.settings = hypothesis_settings(max_examples=100, stateful_step_count=40, deadline=None)
