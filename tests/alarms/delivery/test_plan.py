"""What is sent of what waits: filters, newest states, summaries, quiet hours, rate limit. Pure functions, so no store, clock or sink."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from anomaly.alarms.delivery.plan import MINUTE_S, Plan, make_plan
from anomaly.alarms.events import EventKind, make_event
from anomaly.alarms.routing import Routing
from anomaly.alarms.store import Waiting
from anomaly.alarms.wording import describe_message

HOUR = 3600.0


def row(seq: int, kind: EventKind = "opened", alarm: str = "", line: str = "press-3", next_at: float = 0.0, **data: object) -> Waiting:
    event = make_event(kind, line, alarm or f"alarm-{seq}", float(seq), {"class": "process", "condition": "process", **data})
    return Waiting(seq, "w", event.alarm, 0, event.to_json(), event.id, next_at)


def kinds(plan: Plan) -> list[str]:
    return [json.loads(message.body)["type"].removeprefix("anomaly.") for message in plan.send]


def test_a_sink_gets_everything_in_order_when_nothing_is_set() -> None:
    rows = [row(1), row(2, "rejected"), row(3, "closed", "alarm-1"), row(4, "swapped"), row(5, "acknowledged")]
    assert [message.id for message in make_plan(rows, Routing(name="w"), 0.0).send] == [each.id for each in rows]


def test_filters_by_line_class_kind_and_priority() -> None:
    def wanted(waiting: Waiting, **keys: object) -> bool:
        plan = make_plan([waiting], Routing(name="w", **keys), 0.0)
        assert plan.leave_out == ({} if plan.send else {"filtered": [waiting]})
        return bool(plan.send)

    assert wanted(row(1), lines=["press-*"])
    assert not wanted(row(1), lines=["oven"])
    assert wanted(row(1, **{"class": "delivery"}, line="delivery"), lines=["oven"])  # belongs to no line, concerns all
    assert wanted(row(1), classes=["process"])
    assert not wanted(row(1), classes=["data quality"])
    assert not wanted(row(1, "swapped", **{"class": ""}), classes=["process"])
    assert wanted(row(1), kinds=["alarm.*"])
    assert not wanted(row(1), kinds=["alarm.closed", "bundle.*"])
    assert wanted(row(1, priority="high"), min_priority="medium")
    assert not wanted(row(1, priority="low"), min_priority="medium")
    assert wanted(row(1), min_priority="high")  # an alarm of an older version tells none: it is not lost
    assert not wanted(row(1, "rejected"), min_priority="medium")
    assert wanted(row(1, "rolled_back"), min_priority="high")
    assert not wanted(row(1, "heartbeat"))
    assert wanted(row(1, "heartbeat"), heartbeat_s=60.0, min_priority="critical", kinds=["alarm.*"])


def test_people_are_sent_what_asks_for_them() -> None:
    class Phone(Routing):
        for_people = True

    rows = [row(1), row(2, "rejected"), row(3, "acknowledged"), row(4, "swapped"), row(5, "refused"), row(6, "shelved")]
    assert sorted(kinds(make_plan(rows, Phone(name="w"), 0.0))) == ["alarm.opened", "bundle.refused"]
    assert len(make_plan(rows, Phone(name="w", kinds=["*.*"], latest_only=False), 0.0).send) == 6


def test_after_an_outage_the_newest_state_first_and_what_is_over_in_one_sentence() -> None:
    rows = [row(seq, kind, f"past-{i}") for i in range(41) for seq, kind in ((2 * i + 1, "opened"), (2 * i + 2, "closed"))]
    rows += [row(100, "opened", "a"), row(101, "reminded", "a"), row(102, "escalated", "a"), row(103, "closed", "told before"), row(104)]
    plan = make_plan(rows, Routing(name="w", latest_only=True), 0.0)
    assert kinds(plan) == ["alarm.opened", "alarm.closed", "alarm.escalated", "delivery.summary"]
    assert [each.seq for each in plan.leave_out["superseded"]] == [100, 101]
    summary = json.loads(plan.send[-1].body)
    assert summary["data"]["reason"] == "41 alarms opened and closed while you were away"
    assert summary["source"] == "/anomaly/press-3"
    title, text = describe_message(summary)
    assert title == "press-3: summary of alarms"
    assert text.startswith("41 alarms opened and closed while you were away\n")
    assert text.count("- press-3, process: process") == 20
    assert len(plan.send[-1].rows) == 82


def test_one_alarm_that_came_and_went_is_told_as_it_is() -> None:
    rows = [row(1, "opened", "a"), row(2, "closed", "a")]
    assert kinds(make_plan(rows, Routing(name="w", latest_only=True), 0.0)) == ["alarm.closed"]


def test_many_records_set_aside_are_one_message_to_people() -> None:
    rows = [row(seq, "rejected", **{"class": ""}) for seq in range(1, 721)]
    plan = make_plan(rows, Routing(name="w", latest_only=True), 0.0)
    assert [json.loads(message.body)["data"]["reason"] for message in plan.send] == ["720 events while you were away"]


def test_quiet_hours_let_through_what_is_critical_and_sum_up_the_rest_after() -> None:
    routing = Routing(name="w", quiet="22:00-06:00", zone="UTC")
    held: set[int] = set()
    rows = [row(1, priority="high"), row(2, priority="critical"), row(3, "closed", "alarm-1", priority="high")]
    night = make_plan(rows, routing, 23 * HOUR, held=held)
    assert [message.rows[0].seq for message in night.send] == [2]
    assert night.again_at == 30 * HOUR
    rows = [rows[0], rows[2], row(4, priority="low")]
    assert make_plan(rows, routing, 29 * HOUR, held=held).send == []
    day = make_plan([*rows, row(5)], routing, 30 * HOUR, held=held)
    assert kinds(day) == ["delivery.summary", "alarm.opened"]
    assert json.loads(day.send[0].body)["data"]["reason"] == "2 alarms in the quiet hours, 1 still open"
    held = set()
    make_plan([rows[0]], routing, 23 * HOUR, held=held)
    assert kinds(make_plan([rows[0]], routing, 30 * HOUR, held=held)) == ["alarm.opened"]  # a single one needs no summary


def test_quiet_hours_are_those_of_the_zone_also_when_the_clocks_change() -> None:
    routing = Routing(name="w", quiet="22:00-06:00", zone="Europe/Berlin")
    winter, summer = 1_767_222_000.0, 1_782_856_800.0  # 2025-12-31 23:00 and 2026-06-30 22:00 UTC: midnight in Berlin
    for midnight in (winter, summer):
        assert not routing.is_quiet(midnight - 2 * HOUR - 60)
        assert routing.is_quiet(midnight - 2 * HOUR)
        assert routing.is_quiet(midnight + 6 * HOUR - 60)
        assert not routing.is_quiet(midnight + 6 * HOUR)
        assert routing.quiet_ends(midnight) == midnight + 6 * HOUR
    lunch = Routing(name="w", quiet="12:00-13:00", zone="UTC")
    assert [lunch.is_quiet(hour * HOUR) for hour in (11, 12, 13)] == [False, True, False]


def test_the_rate_limit_sends_the_most_urgent_and_sums_up_the_rest() -> None:
    routing = Routing(name="w", max_per_minute=5)
    rows = [row(seq, priority="critical" if seq == 30 else "low") for seq in range(1, 31)]
    plan = make_plan(rows, routing, 1000.0, sent=[990.0])
    assert [message.rows[0].seq for message in plan.send[:3]] == [30, 1, 2]
    assert kinds(plan)[3:] == ["delivery.summary"]
    assert json.loads(plan.send[3].body)["data"]["reason"] == "27 more alarms within a minute, 27 still open"
    full = make_plan(rows, routing, 1000.0, sent=[990.0, 991.0, 992.0, 993.0, 994.0])
    assert (full.send, full.again_at) == ([], 990.0 + MINUTE_S)
    assert len(make_plan(rows[:5], routing, 1000.0, sent=[900.0] * 5).send) == 5


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"kinds": ["alarm.opend"]}, "is no kind of event"),
        ({"classes": ["sensor"]}, "classes"),
        ({"quiet": "22-6"}, "22:00-06:00"),
        ({"quiet": "22:00-22:00"}, "differ"),
        ({"zone": "Europe/Nowhere"}, "no time zone"),
        ({"max_per_minute": 0}, "max_per_minute"),
        ({"min_priority": "urgent"}, "min_priority"),
        ({"link": "javascript:alert(1)"}, "link"),
        ({"nonsense": 1}, "nonsense"),
    ],
)
def test_wrong_keys_are_refused(keys: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Routing(name="w", **keys)


LIVES = st.lists(
    st.tuples(
        st.sampled_from(["opened", "closed", "reminded", "escalated", "rejected", "swapped", "heartbeat", "flood"]),
        st.integers(0, 4), st.sampled_from(["low", "medium", "high", "critical"]), st.sampled_from(["oven", "press-3"]),
        st.sampled_from([0.0, 0.0, 0.0, 1e9]),
    ),
    max_size=30,
)  # fmt: skip
ROUTINGS = st.builds(
    Routing,
    name=st.just("w"),
    lines=st.sampled_from([[], ["oven"]]),
    min_priority=st.sampled_from(["low", "high"]),
    latest_only=st.booleans(),
    max_per_minute=st.sampled_from([None, 1, 3]),
    quiet=st.sampled_from([None, "00:00-12:00"]),
    zone=st.just("UTC"),
    heartbeat_s=st.sampled_from([None, 60.0]),
)


@given(LIVES, ROUTINGS, st.sampled_from([HOUR, 13 * HOUR]), st.booleans())
def test_every_row_is_sent_or_left_out_once_or_waits_for_a_reason(lives: list, routing: Routing, now: float, slept: bool) -> None:
    rows = [row(i + 1, kind, f"{kind[0]}{a}", line, next_at, priority=p) for i, (kind, a, p, line, next_at) in enumerate(lives)]
    held = {each.seq for each in rows[::2]} if slept else set()
    plan = make_plan(rows, routing, now, [], held)
    sent = [each.seq for message in plan.send for each in message.rows]
    out = [each.seq for left in plan.leave_out.values() for each in left]
    assert len(set(sent + out)) == len(sent) + len(out)
    if set(range(1, len(rows) + 1)) - set(sent + out):
        assert plan.again_at < float("inf")  # what waits is looked at again
    assert all(message.due_at <= now for message in plan.send)
    assert routing.max_per_minute is None or sum(m.facts[0].kind != "line.heartbeat" for m in plan.send) <= routing.max_per_minute
    if not routing.newest_only and not routing.quiet:
        for alarm in {each.alarm for each in rows}:
            order = [each.seq for message in plan.send for each in message.rows if each.alarm == alarm]
            assert order == sorted(order)
    again = make_plan(rows, routing, now, [], set(held))
    assert [message.id for message in again.send] == [message.id for message in plan.send]
