"""When scores become one alarm, whose it is, and when it is over."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from anomaly.alarms.life import Settings, State, step
from anomaly.alarms.process import Change, ProcessAlarm, Rules

P, WINDOW = 0.01, 10  # a row a second
RULES = Rules(Settings(threshold=P, on_delay_s=10, off_delay_s=30), glitch_s=WINDOW)
Levels = NDArray[np.float64]


def readings(rows: int, **parts: tuple[int, int, float]) -> Levels:
    """What sensors a, b and c add to the score (rows, 3): 1 each, and more for each part (first row, row after the last, level)."""
    levels = np.ones((rows, 3))
    for name, (first, last, level) in parts.items():
        levels[first:last, "abc".index(name[0])] = level
    return levels


def run(
    levels: Levels, rules: Rules = RULES, alarm: ProcessAlarm | None = None, start: int = 0
) -> list[tuple[str, int, tuple[int, ...], str]]:
    """(kind, row, sensors, why) of each change. A row is flagged when a sensor adds 5 or more."""
    alarm = alarm or ProcessAlarm(rules)
    top = levels.max(axis=1)
    p = np.where(top >= 5, P * 5 / top, 0.5).astype(np.float32)
    found = alarm.take_all([float(start + row) for row in range(len(levels))], p, top.astype(np.float32), levels.astype(np.float32))
    return [(change.kind, start + row, change.sensors, change.why) for row, change in found]


def test_one_fault_is_one_alarm_with_its_sensors() -> None:
    levels = readings(300, a=(50, 150, 20), b=(50, 150, 15))
    assert run(levels) == [("opened", 60, (0, 1), ""), ("closed", 180, (0, 1), "calm")]


def test_a_sensor_that_is_reached_later_joins() -> None:
    levels = readings(300, a=(50, 150, 20), c=(90, 170, 18))
    assert run(levels) == [("opened", 60, (0,), ""), ("joined", 100, (2,), ""), ("closed", 200, (0, 2), "calm")]


@pytest.mark.parametrize("row", range(20, 260, 7))
@pytest.mark.parametrize("sensor", ["b", "c"])
def test_another_sensors_glitch_moves_nothing(row: int, sensor: str) -> None:
    """A wild row is flagged for as long as it lies in the window, hides all others, and neither closes nor keeps nor opens an alarm."""
    fault = readings(400, a=(100, 200, 20))
    levels = fault.copy()
    levels[row : row + WINDOW] = [0.0, 0.0, 0.0]
    levels[row : row + WINDOW, "abc".index(sensor)] = 1e9
    found, without = run(levels), run(fault)
    assert [entry[0] for entry in found] == ["opened", "closed"]
    assert all(0 in sensors for _, _, sensors, _ in found)
    if not row < 110 <= row + 2 * WINDOW:  # else both stood out while it opened
        assert [entry[2] for entry in found] == [(0,), (0,)]
    overlap = max(row, 100) < min(row + WINDOW, 110)
    assert found[0][1] <= without[0][1] + (WINDOW if overlap or row < 100 else 0)
    assert without[1][1] <= found[1][1] <= without[1][1] + WINDOW


@pytest.mark.parametrize("row", range(20, 90, 3))
def test_a_single_wild_reading_opens_nothing(row: int) -> None:
    assert run(readings(200, a=(row, row + WINDOW, 1e9))) == []


def test_coming_back_by_half_is_the_end_though_records_stay_flagged() -> None:
    """And what stays is no new alarm; rising again is, and so is what stays flagged for much longer than the alarm lasted."""
    levels = readings(1000, a=(50, 150, 40))
    levels[150:250, 0] = 15
    assert run(levels) == [("opened", 60, (0,), ""), ("closed", 180, (0,), "came back by half")]
    levels[250:350, 0] = 35
    assert run(levels)[2:] == [("opened", 260, (0,), ""), ("closed", 380, (0,), "calm")]
    levels[150:, 0] = 15
    again = run(levels)
    assert [entry[0] for entry in again] == ["opened", "closed", "opened"]
    assert again[2][1] == 180 + 300 + 1 + 10


def test_another_sensor_opens_an_alarm_while_the_first_still_comes_back() -> None:
    levels = readings(400, a=(50, 150, 40), b=(200, 300, 30))
    levels[150:300, 0] = 15
    assert run(levels)[2:] == [("opened", 210, (1, 0), ""), ("closed", 330, (1, 0), "calm")]


def test_a_glitch_of_its_own_sensor_makes_no_peak() -> None:
    """Else the fault would seem to have come back by half as soon as the glitch is over."""
    levels = readings(500, a=(50, 400, 20))
    levels[200 : 200 + WINDOW, 0] = 1e9
    assert run(levels) == [("opened", 60, (0,), ""), ("closed", 430, (0,), "calm")]


def test_pictures_close_after_so_many_good_ones() -> None:
    """Good and bad in turn: one alarm, not one for each bad picture."""
    rules = Rules(Settings(threshold=P, off_delay_s=30, off_records=10))
    alarm = ProcessAlarm(rules)
    p = np.array([0.5, 0.001] * 100 + [0.5] * 20, np.float32)
    found = alarm.take_all(np.arange(220) * 10.0, p, -p, None)
    assert [(change.kind, number) for number, change in found] == [("opened", 1), ("closed", 209)]
    assert found[1][1].flagged == 100
    quick = ProcessAlarm(rules).take_all(np.arange(220) * 1.0, p, -p, None)
    assert [number for number, _ in quick] == [1]  # twenty good ones in 20 s are no 30 s


def test_the_closing_tells_the_worst_p_and_score() -> None:
    levels = readings(300, a=(50, 150, 20))
    levels[100, 0] = 90
    alarm = ProcessAlarm(RULES)
    top = levels.max(axis=1)
    p = np.where(top >= 5, P * 5 / top, 0.5).astype(np.float32)
    closed = alarm.take_all(list(map(float, range(300))), p, top.astype(np.float32), levels.astype(np.float32))[-1][1]
    assert (closed.score, round(closed.worst, 6), closed.flagged) == (90.0, round(P * 5 / 90, 6), 100)


def test_a_store_of_an_older_version_goes_on() -> None:
    """It knows that an alarm is open, not of which sensors."""
    alarm = ProcessAlarm(RULES, "", State(True, None, 3.0, 1e-4))
    assert run(readings(100, b=(0, 20, 20)), alarm=alarm, start=50) == [("closed", 100, (1,), "calm")]


def test_another_detectors_peak_is_not_compared_with() -> None:
    alarm = ProcessAlarm(RULES)
    run(readings(100, a=(10, 100, 1000)), alarm=alarm)
    alarm.use(Rules(RULES.settings, WINDOW, "another"))
    assert run(readings(60, a=(0, 60, 20)), alarm=alarm, start=100) == []
    restarted = ProcessAlarm(Rules(RULES.settings, WINDOW, "a third"), alarm.kept)
    assert json.loads(restarted.kept).get("peaks") is None


def test_a_clock_set_back_opens_and_closes_nothing_by_itself() -> None:
    alarm = ProcessAlarm(RULES)
    assert run(readings(8, a=(0, 8, 20)), alarm=alarm, start=1000) == []
    assert run(readings(8, a=(0, 8, 20)), alarm=alarm, start=0) == []
    assert [entry[:2] for entry in run(readings(8, a=(0, 8, 20)), alarm=alarm, start=8)] == [("opened", 10)]


records = st.lists(st.tuples(st.floats(0.1, 20), st.sampled_from([0.5, 0.02, 0.005]), st.lists(st.floats(0, 50), min_size=3, max_size=3)))


def changes(alarm: ProcessAlarm, times: Sequence[float], rows: list) -> list[Change]:
    p, shares = np.array([r[1] for r in rows], np.float32), [np.array(r[2], np.float32) for r in rows]
    return [change for _, change in alarm.take_all(times, p, -p, shares)]


@settings(deadline=None, max_examples=150)
@given(records, st.integers(0, 60), st.floats(0, 20), st.floats(0, 20), st.integers(1, 3))
def test_openings_and_closings_alternate_and_a_restart_changes_nothing(rows: list, cut: int, on: float, off: float, count: int) -> None:
    rules = Rules(Settings(threshold=P, on_delay_s=on, off_delay_s=off, off_records=count, deadband=3), 5.0)
    times = np.cumsum([r[0] for r in rows]).tolist()
    whole = changes(ProcessAlarm(rules), times, rows)
    first = ProcessAlarm(rules)
    parts = changes(first, times[:cut], rows[:cut])
    second = ProcessAlarm(rules, first.kept)
    assert parts + changes(second, times[cut:], rows[cut:]) == whole
    kinds = [change.kind for change in whole if change.kind != "joined"]
    assert kinds == (["opened", "closed"] * len(kinds))[: len(kinds)]
    assert all(change.time >= change.began for change in whole)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(st.floats(0.1, 20), st.sampled_from([0.5, 0.02, 0.005]))), st.floats(0, 20), st.floats(0, 20))
def test_without_sensors_it_is_the_plain_life_of_a_condition(rows: list, on: float, off: float) -> None:
    plain = Settings(threshold=P, on_delay_s=on, off_delay_s=off, deadband=3)
    times, state, expected = np.cumsum([r[0] for r in rows]).tolist(), State(), []
    for time, (_, p) in zip(times, rows, strict=True):
        state, transition = step(state, time, float(np.float32(p)), plain)
        if transition is not None:
            expected.append((transition.kind, transition.time, transition.began, transition.worst))
    p_values = np.array([p for _, p in rows], np.float32)
    alarm = ProcessAlarm(Rules(plain))
    found = [(c.kind, c.time, c.began, c.worst) for _, c in alarm.take_all(times, p_values, -p_values, None)]
    assert found == expected
    assert (alarm.state.active, alarm.state.since, alarm.state.opened) == (state.active, state.since, state.opened)
