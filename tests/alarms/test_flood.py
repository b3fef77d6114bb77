"""Floods of alarms, alarms that are a nuisance, records set aside by the hundred."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly.alarms.events import Event, make_event
from anomaly.alarms.flood import FLOOD_ABOVE, STALE_AFTER_S, FloodControl, Rejections, nuisance


def alarm(kind: str, number: int, time: float, condition: str = "sensor", **more: object) -> Event:
    data = {"class": "data quality", "condition": condition, "sensor": f"s{number}", "reason": f"s{number} fails", "priority": "low"}
    return make_event(kind, "press", f"alarm {number}", time, data | more)


def opened(count: int, start: float = 0.0, every: float = 10.0) -> list[Event]:
    return [alarm("opened", i, start + i * every) for i in range(count)]


def test_ten_alarms_in_ten_minutes_are_no_flood() -> None:
    sifted = FloodControl("press").sift(opened(FLOOD_ABOVE), 100.0)
    assert len(sifted.sent) == FLOOD_ABOVE
    assert not sifted.quiet


def test_a_flood_is_one_summary_and_the_rest_is_recorded() -> None:
    sifted = FloodControl("press").sift(opened(200), 2000.0)
    assert [event.kind for event in sifted.sent] == ["opened"] * FLOOD_ABOVE + ["flood"]
    assert [event.alarm for event in sifted.events if event.id in sifted.quiet] == [f"alarm {i}" for i in range(FLOOD_ABOVE, 200)]
    summary = sifted.sent[-1].data
    assert summary["flood"] == "began"
    assert [one["alarm"] for one in summary["alarms"]] == [f"alarm {i}" for i in range(FLOOD_ABOVE + 1)]


def test_when_it_is_over_what_is_still_open_is_sent() -> None:
    flood = FloodControl("press")
    flood.sift(opened(30), 300.0)
    flood.sift([alarm("closed", i, 310.0) for i in range(28)], 310.0)
    assert flood.on
    over = flood.sift([], 2000.0)
    assert [event.kind for event in over.sent] == ["flood", "reminded", "reminded"]
    assert over.sent[0].data["flood"] == "over"
    assert over.sent[0].data["count"] == 20
    assert "2 of them still open" in over.sent[0].data["reason"]
    assert [event.alarm for event in over.sent[1:]] == ["alarm 28", "alarm 29"]
    assert not flood.on
    assert [e.kind for e in flood.sift([alarm("closed", 29, 2100.0)], 2100.0).sent] == ["closed"]


def test_a_closing_is_sent_where_its_opening_was() -> None:
    flood = FloodControl("press")
    flood.sift(opened(30), 300.0)
    sifted = flood.sift([alarm("closed", 0, 301.0), alarm("closed", 20, 302.0)], 302.0)
    assert [event.alarm for event in sifted.sent] == ["alarm 0"]
    assert [event.alarm for event in sifted.events if event.id in sifted.quiet] == ["alarm 20"]


def test_critical_alarms_pass_and_one_that_becomes_critical_too() -> None:
    flood = FloodControl("press")
    flood.sift(opened(30), 300.0)
    sifted = flood.sift([alarm("opened", 99, 301.0, priority="critical"), alarm("escalated", 20, 302.0, priority="critical")], 302.0)
    assert [event.alarm for event in sifted.sent] == ["alarm 99", "alarm 20"]
    assert [e.kind for e in flood.sift([alarm("closed", 20, 303.0)], 303.0).sent] == ["closed"]


def test_a_flood_that_goes_on_is_told_again_each_hour() -> None:
    flood, told = FloodControl("press"), []
    for i in range(12 * 60 * 3):
        time = i * 20.0
        sifted = flood.sift([alarm("opened", i, time), alarm("closed", i, time + 1)], time + 1)
        told += [event.data["flood"] for event in sifted.sent if event.kind == "flood"]
    assert told == ["began"] + ["goes on"] * 11


def test_a_restart_goes_on_in_the_flood() -> None:
    flood = FloodControl("press")
    flood.sift(opened(30), 300.0)
    again = FloodControl("press", flood.kept)
    assert again.on
    assert json.loads(again.kept) == json.loads(flood.kept)
    assert again.sift([], 2000.0).events == flood.sift([], 2000.0).events


def test_a_clock_set_back_does_not_keep_a_flood_on() -> None:
    flood = FloodControl("press")
    flood.sift(opened(30, start=7200.0), 7500.0)
    sifted = flood.sift([], 3900.0)
    assert sifted.sent[0].data["flood"] == "over"


def test_what_is_held_back_otherwise_does_not_count_and_is_not_sent_when_the_flood_is_over() -> None:
    flood, many = FloodControl("press"), opened(200)
    sifted = flood.sift(many, 2000.0, {event.id for event in many})
    assert not flood.on
    assert sifted.sent == []
    assert len(sifted.events) == 200
    flood = FloodControl("press")
    flood.sift(opened(30), 300.0)
    flood.sift([alarm("shelved", i, 310.0) for i in range(10, 29)], 310.0)
    assert [event.alarm for event in flood.sift([], 2000.0).sent if event.kind == "reminded"] == ["alarm 29"]


def test_chattering_is_told_once_and_marked_in_the_event() -> None:
    flood, notes, marks = FloodControl("press"), [], []
    for i in range(6):
        sifted = flood.sift([alarm("opened", 0, i * 10.0), alarm("closed", 0, i * 10.0 + 5)], i * 10.0 + 5)
        notes += sifted.notes
        marks += [event.data.get("chattering") for event in sifted.sent if event.kind == "opened"]
    assert marks == [None, None, 3, 4, 5, 6]
    assert len(notes) == 1
    assert "data quality: sensor s0: chatters" in notes[0]


def test_a_stale_alarm_is_told_once() -> None:
    flood = FloodControl("press")
    flood.sift(opened(1), 0.0)
    assert flood.sift([], STALE_AFTER_S).notes == []
    (note,) = flood.sift([], STALE_AFTER_S + 1).notes
    assert "stale, its alarm is open since 1970-01-01T00:00:00Z" in note
    assert FloodControl("press", flood.kept).sift([], 2 * STALE_AFTER_S).notes == []
    assert nuisance([0.0], True, 2 * STALE_AFTER_S) == "stale"
    assert nuisance([0.0], False, 2 * STALE_AFTER_S) == ""


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 15), st.floats(0, 120), st.sampled_from(["low", "critical"]), st.booleans()), max_size=80))
def test_nothing_is_lost_and_every_open_alarm_is_sent_in_the_end(steps: list[tuple[int, float, str, bool]]) -> None:
    flood, time, is_open, sent, given_, seen = FloodControl("press"), 0.0, set(), {}, [], []
    occurrence = [0] * 16

    def sift(events: list[Event]) -> None:
        nonlocal flood
        found = flood.sift(events, time)
        seen.extend(event.id for event in found.events)
        for event in found.sent:
            sent[event.alarm] = event.kind != "closed"
        flood = FloodControl("press", flood.kept)

    for number, pause, priority, _ in steps:
        time += pause
        name = number * 1000 + occurrence[number]
        kind = "closed" if name in is_open else "opened"
        event = alarm(kind, name, time, priority=priority)
        is_open ^= {name}
        occurrence[number] += kind == "closed"
        given_.append(event.id)
        sift([event])
    time += 3000.0
    sift([])
    assert set(given_) <= set(seen)
    assert {name for name, is_on in sent.items() if is_on and name.startswith("alarm ")} == {f"alarm {name}" for name in is_open}


# --- records set aside ---


def late(count: int, start: float) -> list[tuple[str, float, str]]:
    """Rows after a clock was set back: each is before the last."""
    return [(f"a.csv:{i}", start + i * 5, f"a.csv:{i}: its time is not after the row before; the row: {i},3.5") for i in range(count)]


def test_a_clock_set_back_one_hour_is_three_events_and_not_720() -> None:
    rejections, events, rows = Rejections("press"), [], late(720, 0.0)
    for i in range(2 * 720):
        events += rejections.take(rows[i : i + 1], i * 5.0)
    assert [event.data.get("count") for event in events] == [None, 120, 599]
    assert events[0].data["record"] == "a.csv:0"
    assert (events[1].data["first"], events[1].data["last"]) == ("a.csv:1", "a.csv:120")
    assert "120 more records were set aside for the same reason" in events[1].data["reason"]
    assert len({event.id for event in events}) == 3


def test_another_cause_is_told_at_once_and_one_that_was_away_is_new() -> None:
    rejections = Rejections("press")
    assert len(rejections.take(late(2, 0.0), 0.0)) == 1
    (other,) = rejections.take([("a.csv:9", 9.0, "a.csv:9: value 'x' cannot be read")], 1.0)
    assert other.data == {"record": "a.csv:9", "reason": "a.csv:9: value 'x' cannot be read"}
    assert [event.data["count"] for event in rejections.take([], 700.0)] == [1]
    assert rejections.take([], 10_000.0) == []
    assert rejections.kept == "{}"
    assert rejections.take(late(1, 0.0), 10_001.0)[0].data["record"] == "a.csv:0"


def test_what_is_counted_is_told_at_the_end_and_after_a_restart() -> None:
    rejections = Rejections("press")
    rejections.take(late(5, 0.0), 0.0)
    again = Rejections("press", rejections.kept)
    (told,) = again.take([], 1.0, last=True)
    assert told.data["count"] == 4
    assert again.take([], 2.0, last=True) == []


@given(st.lists(st.tuples(st.text("ab\n'0", max_size=6), st.text(max_size=30)), max_size=120), st.floats(0, 1000))
def test_every_rejection_is_counted_once(rejected: list[tuple[str, str]], pause: float) -> None:
    rejections, told = Rejections("press"), 0
    for i, (record, reason) in enumerate(rejected):
        for event in rejections.take([(record, float(i), reason)], i * pause, last=i == len(rejected) - 1):
            told += event.data.get("count", 1)
    assert told == len(rejected)
    assert len(json.loads(rejections.kept)) <= 51
