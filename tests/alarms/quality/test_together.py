"""Sensors that fail together are one alarm: known answers, and any faults read in any number of rows at a time by new processes."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anomaly.alarms.events import Event
from anomaly.alarms.life import State
from anomaly.alarms.quality import Quality
from anomaly.alarms.sensors import find_in_sensors
from anomaly.schema import Channel, InputSchema

NAMES = [f"s{number}" for number in range(12)]
ROWS = 200


def alarms(faults: list[tuple[str, int, int]], cuts: list[int], names: list[str] = NAMES) -> tuple[list[Event], Quality]:
    """Events of sensors that give no reading in rows from `begin` to before `end`; `cuts` are rows at which a new process goes on."""
    missing = np.zeros((ROWS, len(names)), bool)
    for name, begin, end in faults:
        missing[begin:end, names.index(name)] = True
    rows = np.where(missing, np.nan, 1.0).astype(np.float32)
    channels = tuple(Channel(name=name) for name in names)
    schema = InputSchema(name="window", dtype="float32", channels=len(names), window=2, period_s=1.0, sensors=channels)
    found, quality = [], Quality("press", {}, None, 0.0)
    for begin, end in pairwise([0, *cuts, ROWS]):
        quality = Quality("press", quality.kept, None, 0.0)
        part = rows[begin:end]
        found += quality.look_at_sensors([float(at) for at in range(begin, end)], find_in_sensors(part, part, schema, {}))
    return found, quality


def told(events: list[Event]) -> list[tuple[str, float, list[str]]]:
    return [(event.kind, event.time, event.data.get("joined", event.data["sensors"])) for event in events]


@pytest.mark.parametrize("cuts", [[], [60], list(range(1, ROWS))])
def test_an_input_card_that_dies_is_one_alarm_with_its_twelve_sensors(cuts: list[int]) -> None:
    events, quality = alarms([(name, 50, 150) for name in NAMES], cuts)
    assert told(events) == [("opened", 79.0, NAMES), ("closed", 152.0, NAMES)]
    assert events[0].data["reason"] == (
        "12 sensors at once (s0, s1, s2, s3, s4 and 7 more), the first: sensor 's0' gives no reading since 1970-01-01T00:00:50Z"
    )
    assert events[1].data["lasted_s"] == 102.0
    assert not any(state.active or alarm for state, alarm in quality.kept.values())


@pytest.mark.parametrize("cuts", [[], [85], list(range(1, ROWS))])
def test_who_begins_a_few_rows_later_joins_and_who_begins_clearly_later_is_an_alarm_of_its_own(cuts: list[int]) -> None:
    events, _ = alarms([("s1", 50, 120), ("s0", 54, 190), ("s2", 54, 100), ("s3", 80, 130)], cuts)
    assert told(events) == [
        ("opened", 79.0, ["s1"]),
        ("reminded", 83.0, ["s0", "s2"]),
        ("opened", 109.0, ["s3"]),
        ("closed", 132.0, ["s3"]),
        ("closed", 192.0, ["s0", "s1", "s2"]),  # the first of them was right again long before
    ]
    assert events[1].data["reason"] == "s0, s2 too: sensor 's0' gives no reading since 1970-01-01T00:00:54Z"
    assert {event.alarm for event in events if event.data["sensor"] == "s1"} == {events[0].alarm}
    assert events[-1].data["lasted_s"] == 142.0


def test_a_sensor_of_an_open_alarm_that_fails_again_is_no_news() -> None:
    events, _ = alarms([("s0", 10, 195), ("s1", 10, 50), ("s1", 100, 150)], [45, 70, 120])
    assert told(events) == [("opened", 39.0, ["s0", "s1"]), ("closed", 197.0, ["s0", "s1"])]


def test_an_alarm_that_an_older_version_opened_closes_by_its_id() -> None:
    quality = Quality("press", {"sensor:s0": (State(active=True, opened=3.0), "old")}, None, 0.0)
    channels = (Channel(name="s0"), Channel(name="s1"))
    schema = InputSchema(name="window", dtype="float32", channels=2, window=2, period_s=1.0, sensors=channels)
    rows = np.ones((5, 2), np.float32)
    (event,) = quality.look_at_sensors([50.0, 51.0, 52.0, 53.0, 54.0], find_in_sensors(rows, rows, schema, {}))
    assert (event.kind, event.alarm, event.time, event.data["lasted_s"]) == ("closed", "old", 52.0, 49.0)


FAULT = st.tuples(st.sampled_from(NAMES[:4]), st.integers(0, ROWS - 1), st.integers(1, 90)).map(lambda f: (f[0], f[1], f[1] + f[2]))


@given(st.lists(FAULT, max_size=7), st.lists(st.integers(1, ROWS - 1), max_size=12, unique=True).map(sorted))
def test_any_faults_are_told_alike_however_the_rows_come_and_each_alarm_once(faults: list[tuple[str, int, int]], cuts: list[int]) -> None:
    whole, _ = alarms(faults, [])
    parts, quality = alarms(faults, cuts)
    assert [(event.id, event.data) for event in parts] == [(event.id, event.data) for event in whole]
    assert len({event.id for event in whole}) == len(whole)
    sensors: dict[str, set[str]] = {}
    for event in whole:
        if event.kind == "opened":
            assert event.alarm not in sensors
            sensors[event.alarm] = set(event.data["sensors"])
        elif event.kind == "reminded":
            assert not sensors[event.alarm] & set(event.data["joined"])
            sensors[event.alarm] |= set(event.data["joined"])
        else:
            assert sensors.pop(event.alarm) == set(event.data["sensors"])
    told_on = [name for names in sensors.values() for name in names]
    assert len(told_on) == len(set(told_on))  # a sensor is in one alarm at most
    on = {name.partition(":")[2] for name, (state, _) in quality.kept.items() if state.active and name.startswith("sensor:")}
    assert on <= set(told_on)
    assert all(names & on for names in sensors.values())
