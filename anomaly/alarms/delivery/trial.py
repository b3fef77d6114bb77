"""The events of `anomaly alerts test`: an alarm and its end, so that nothing stays open where they arrive."""

from __future__ import annotations

from anomaly.alarms.events import Event, alarm_id, iso, make_event

TRIAL = "This is a test by `anomaly alerts test`. Nothing is wrong."


def trial_events(line: str, now: float) -> list[Event]:
    """Both carry `"test": true` and say in words that they are a test; a receiver that automates something looks at the first."""
    data = {
        "test": True,
        "class": "delivery",
        "condition": "test",
        "reason": TRIAL,
        "began": iso(now),
        "priority": "low",
    }
    alarm = alarm_id(line, "test", now, "test")
    opened = make_event("opened", line, alarm, now, data | {"state": "unacknowledged"})
    return [opened, make_event("closed", line, alarm, now + 1.0, data | {"state": "normal", "lasted_s": 1.0})]
