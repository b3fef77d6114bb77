"""What sinks read of an event."""

from __future__ import annotations

from urllib.parse import unquote

from hypothesis import given
from hypothesis import strategies as st

from anomaly.alarms.sinks.bus.mqtt import topic_of
from anomaly.alarms.sinks.parsed import OpenAlarms, as_level, parse_event
from tests.alarms.sinks.conftest import event

NAMES = st.text(st.characters(exclude_categories=["C", "Z"]) | st.sampled_from(" +#/%\t"), min_size=1)


@given(NAMES)
def test_a_level_is_one_level_and_no_two_names_share_one(name: str) -> None:
    level = as_level(name)
    assert level
    assert not set(level) & set("+#/ \n\x00")
    if "\\" not in level and "\t" not in name:
        assert unquote(level) == name


def test_topics_of_alarms_and_of_what_is_none() -> None:
    opened = parse_event(event("opened", **{"class": "data quality"})[0])
    assert topic_of("plant/{line}/{class}/{condition}/{alarm}/{kind}", opened) == "plant/press-3/data%20quality/process/a1/alarm.opened"


def test_open_alarms_are_counted_by_state_and_kind() -> None:
    alarms = OpenAlarms()
    alarms.recall([event("opened", "a0")[0], event("opened", "x", line="other")[0], event("closed", "y", line="other")[0]])
    counts = [
        alarms.apply(parse_event(event(kind, alarm, state=state)[0]))  # type: ignore[arg-type]
        for kind, alarm, state in (
            ("opened", "a1", "unacknowledged"), ("opened", "a1", "unacknowledged"), ("acknowledged", "a1", "acknowledged"),
            ("opened", "a2", "unacknowledged"), ("closed", "a0", "normal"), ("shelved", "a2", "shelved"), ("rejected", "r", ""),
            ("acknowledged", "a1", "normal"), ("closed", "a1", "normal"),
        )
    ]  # fmt: skip
    assert counts == [2, 2, 2, 3, 2, 1, 1, 0, 0]
    assert alarms.lines() == {"press-3": 0, "other": 1}
