"""Events in words."""

from __future__ import annotations

import json

import numpy as np

from anomaly.alarms.events import Event, EventKind, make_event
from anomaly.alarms.wording import describe_event, describe_message, explain_contribution, explain_map


def alarm(kind: EventKind, **data: object) -> Event:
    return make_event(kind, "l", "a", 0.0, {"class": "process", "record": "r:7", "p_value": 0.001, **data})


def test_an_event_on_one_line() -> None:
    top = explain_contribution(np.array([1, 5, 0, 4], np.float32), ["a", "b", "c", "d"])
    assert describe_event(alarm("opened", **top)) == "1970-01-01T00:00:00Z  ALARM       r:7  p 0.001  b 50%, d 40%, a 10%"
    where = explain_map(np.array([[0, 0, 0, 1]], np.float32))
    assert describe_event(alarm("opened", **where)).endswith("r:7  p 0.001  at 88% across, 50% down")
    assert describe_event(alarm("opened", cause="at 3.2 kHz")).endswith("p 0.001  at 3.2 kHz")
    assert describe_event(alarm("closed")).endswith("alarm over  r:7  p 0.001")
    silent = make_event("opened", "l", "a", 0.0, {"class": "data quality", "reason": "no record for 60 s"})
    assert describe_event(silent).endswith("ALARM       data quality: no record for 60 s")
    refused = make_event("refused", "l", "f" * 64, 0.0, {"bundle_hash": "f" * 64, "reason": "damaged\nmore"})
    assert describe_event(refused).endswith("bundle refused  ffffffffffff  damaged")


def test_a_message_for_people() -> None:
    body = json.loads(alarm("opened", **explain_map(np.array([[0, 1]], np.float32))).to_json())
    title, text = describe_message(body)
    assert title == "l: alarm"
    assert "1 normal record in 1,000 (p = 0.001)" in text
    assert "Where: 75% from the left, 50% from the top." in text
    assert describe_message(json.loads(alarm("closed").to_json()))[0] == "l: alarm over"
