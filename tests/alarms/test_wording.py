"""Events in words."""

from __future__ import annotations

import json
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anomaly.alarms.events import Event, EventKind, make_event
from anomaly.alarms.wording import about, describe_event, describe_message, explain_contribution, explain_map, shares, worst_record
from anomaly.data.records import Record
from anomaly.edge.announce import Judged
from anomaly.names import one_line
from anomaly.schema import Channel, InputSchema


def alarm(kind: EventKind, **data: object) -> Event:
    return make_event(kind, "l", "a", 0.0, {"class": "process", "record": "r:7", "p_value": 0.001, **data})


def test_a_second_sensor_beyond_its_normals_is_named_beside_one_that_is_further() -> None:
    sensors = (
        Channel(name="flow", normal_low=0.0, normal_high=1.0),
        Channel(name="heat", normal_low=0.0, normal_high=1.0),
        Channel(name="x"),
    )
    schema = InputSchema(name="window", dtype="float32", channels=3, window=2, period_s=1.0, sensors=sensors)
    rows = np.array([[0.5, 0.5, 0.5], [30.0, 6.0, 0.5]], np.float32)
    detail = 9.0 * np.array([[0.995, 0.004, 0.001]], np.float32)
    for heat, named in ((6.0, ["flow 100%", "heat under 1%"]), (0.5, ["flow 100%"])):  # the latter is within its range
        rows[1, 1] = heat
        judged = Judged([Record("r", 1.0, rows)], np.array([1e-5], np.float32), np.array([9.0], np.float32), detail, 1.5)
        said = judged.said(0, schema)
        assert shares(said["top"]) == named
        assert [each["sensor"] for each in said["top"]] == ["flow", "heat", "x"]
        assert said["values"]["heat"] == heat


def test_an_event_on_one_line() -> None:
    top = explain_contribution(np.array([1, 5, 0, 4], np.float32), ["a", "b", "c", "d"])
    assert describe_event(alarm("opened", **top)) == "1970-01-01T00:00:00Z  ALARM       r:7  p 0.001  b 50%, d 40%, a 10%"
    where = explain_map(np.array([[0, 0, 0, 1]], np.float32))
    assert describe_event(alarm("opened", **where)).endswith("r:7  p 0.001  at 88% across, 50% down")
    assert describe_event(alarm("opened", cause="at 3.2 kHz")).endswith("p 0.001  at 3.2 kHz")
    assert describe_event(alarm("closed", lasted_s=200.0)).endswith("alarm over  r:7  worst p 0.001  lasted 3 min")
    silent = make_event("opened", "l", "a", 0.0, {"class": "data quality", "reason": "no record for 60 s"})
    assert describe_event(silent).endswith("ALARM       data quality  no record for 60 s")
    refused = make_event("refused", "l", "f" * 64, 0.0, {"bundle_hash": "f" * 64, "reason": "damaged\nmore"})
    assert describe_event(refused).endswith(r"bundle refused  ffffffffffff  damaged\x0amore")


def test_a_picture_is_told_by_its_file() -> None:
    event = alarm("opened", record="Kratzer größer 1.jpg@1795766687346", **explain_map(np.array([[0, 1]], np.float32)))
    assert "  Kratzer größer 1.jpg  p 0.001" in describe_event(event)
    assert "Record: Kratzer größer 1.jpg\n" in message(event)[1] + "\n"


def message(event: Event, link: str = "") -> tuple[str, str]:
    return describe_message(json.loads(event.to_json()), link)


def test_a_message_for_people() -> None:
    event = alarm("opened", **explain_map(np.array([[0, 1]], np.float32)), priority="high", bundle="part-3")
    title, text = message(event, "https://box:8080/")
    assert title == "l: high-priority alarm"
    assert text.splitlines() == [
        "Process alarm. Line l, since 1970-01-01 00:00:00Z.",
        "As unusual as 1 normal record in 1,000 (p 0.001).",
        "Where: 75% from the left, 50% from the top.",
        "Record: r:7",
        "Bundle: part-3",
        "https://box:8080/",
    ]
    assert message(alarm("closed"))[0] == "l: alarm over"


def test_a_data_quality_alarm_tells_its_reason_and_no_empty_record() -> None:
    """Version 0.8.0: "press-3: alarm / Record:"."""
    data = {"class": "data quality", "condition": "silent", "reason": "no record for 60 s", "began": "2026-01-01T00:00:00Z"}
    title, text = message(make_event("opened", "press-3", "a", 0.0, data))
    assert title == "press-3: alarm"
    assert text == "no record for 60 s\nData quality (silent). Line press-3, since 2026-01-01 00:00:00Z."


def test_a_closed_alarm_says_that_its_p_is_the_worst_and_how_long_it_lasted() -> None:
    """Version 0.8.0: the worst p stood beside the last record's score, as if they belonged together."""
    _, text = message(alarm("closed", score=0.2, lasted_s=100_800.0))
    assert "lasted 1 d 4 h." in text
    assert "At its worst as unusual as 1 normal record in 1,000" in text
    assert "Record that ended it: r:7" in text
    assert "0.2" not in text


@pytest.mark.parametrize("kind", get_args(get_args(EventKind)[0]) + get_args(get_args(EventKind)[1]))
def test_every_kind_of_event_has_words(kind: EventKind) -> None:
    data = {
        "class": "process",
        "reason": "why it is",
        "who": "kim",
        "why": "seen",
        "until": "2026-01-01T00:00:00Z",
        "bundle_hash": "f" * 64,
    }
    event = make_event(kind, "press-3", "a", 0.0, data)
    title, text = message(event)
    assert title.startswith("press-3: ")
    assert kind == "heartbeat" or kind not in title or " " in title
    for words in (text, describe_event(event)):
        assert "why it is" in words
        assert "by kim: seen" in words
        assert "until 2026-01-01 00:00:00Z" in words.replace("01T00", "01 00")  # a log writes it with a T
    bare = make_event(kind, "press-3", "a", 0.0, {})  # of an older or newer version: no key is needed
    assert message(bare)[0] == title
    assert describe_event(bare)


@given(st.text(), st.text(), st.text())
def test_text_from_outside_stays_on_its_line(line: str, reason: str, record: str) -> None:
    event = make_event("opened", line, "a", 0.0, {"class": "data quality", "reason": reason or "x", "record": record or "r"})
    title, text = message(event)
    assert one_line(title) == title
    assert len(text.split("\n")) == 3
    assert all(one_line(each) == each for each in [*text.split("\n"), describe_event(event)])


def test_a_forged_line_and_a_password_do_not_get_out() -> None:
    reason = "cut\n12:00 alarm over: everything is fine \x1b[32m rtsp://admin:S3cretPass@10.0.0.7/1"
    for words in ("\n".join(message(alarm("opened", reason=reason))), describe_event(alarm("opened", reason=reason))):
        assert "S3cretPass" not in words
        assert "\n12:00" not in words
        assert "\x1b" not in words


def test_people_read_the_clock_of_the_line_and_machines_utc() -> None:
    data = {"class": "process", "condition": "process", "began": "2026-06-30T22:00:00Z", "reason": "unlike since 2026-06-30T22:00:00Z"}
    event = make_event("opened", "l", "a", 1_782_856_805.5, data | {"zone": "Europe/Berlin"})
    assert describe_event(event).startswith("2026-07-01T00:00:05+02:00  ALARM")
    assert "unlike since 2026-07-01T00:00:00+02:00" in describe_event(event)
    body = json.loads(event.to_json())
    assert body["time"] == "2026-06-30T22:00:05.500000Z"
    assert "since 2026-07-01 00:00:00+02:00" in describe_message(body)[1]


def test_a_p_value_is_told_no_further_than_the_normals_can_tell() -> None:
    """Version 0.8.0: "p 8e-08" from a detector that had learnt from 24 pictures."""
    event = alarm("opened", p_value=8e-8, least_p=1 / 240)
    assert "p below 0.0042" in describe_event(event)
    assert "Rarer than 1 normal record in 240 (p below 0.0042)." in describe_message(json.loads(event.to_json()))[1]


def test_an_alarm_that_is_over_is_told_by_its_worst_record() -> None:
    """Version 0.8.0: "calm again", and the record that ended it."""
    worst = {"record": "b.png@1790000000000", "where": {"x": 0.25, "y": 0.5}, "p_value": 0.001}
    data = {"reason": "calm again", "record": "z.png@1790000000009", "worst": worst, "flagged": 6}
    assert about(data) == "b.png, 25% from the left, 50% from the top, 6 records flagged"
    assert worst_record(data) == "b.png"
    assert about({"reason": "flow: calm again", "worst": {"top": [{"sensor": "flow", "share": 0.9}]}}) == "flow 90%"
