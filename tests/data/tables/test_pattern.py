"""Daily and weekly patterns: recovered where they are, not seen where they are not, taken off by the clock of the plant."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from anomaly.data.tables.files import learn_patterns, read_normals
from anomaly.data.tables.normal_range import with_normal_range
from anomaly.data.tables.pattern.learn import Rows, fit_patterns
from anomaly.data.tables.pattern.take_off import pattern_at, wall_clock, with_pattern, without_pattern
from anomaly.data.tables.profile import describe_patterns
from anomaly.data.tables.reader import TableSchema
from anomaly.schema import DAY_S, WEEK_S, Channel, Dialect, Pattern

Floats = NDArray[np.float64]
MONDAY = 1_704_067_200.0  # 2024-01-01, midnight UTC
SENSOR = [Channel(name="load")]


def days(count: float, row_s: float = 600.0, start: float = MONDAY) -> Floats:
    return start + np.arange(round(count * DAY_S / row_s)) * row_s


def learnt(times: Floats, readings: Floats, zone: str = "") -> Pattern | None:
    found = fit_patterns(SENSOR, Rows(times, readings.astype(np.float32)[:, None]), zone, float(times[1] - times[0]))[0]
    return found and found.pattern


def sine(times: Floats) -> Floats:
    return np.asarray(5 * np.sin(2 * np.pi * times / DAY_S))


@pytest.mark.parametrize("hours", [0, 7.5])
def test_a_known_pattern_comes_back(hours: float) -> None:
    """Whatever the time of day at which the record begins, with a level and a slow rise beside it."""
    knots = np.sin(2 * np.pi * np.arange(24) / 24) + 0.5 * (np.arange(24) == 9)
    times = days(5, 3600.0, MONDAY + hours * 3600)
    within = (times % DAY_S) / 3600
    readings = 100 + 0.2 * (times - times[0]) / DAY_S + np.interp(within, np.arange(25), np.append(knots, knots[0]))
    found = learnt(times, readings)
    assert found is not None
    assert found.word == "daily"
    assert found.share > 0.8
    if hours == 0:
        np.testing.assert_allclose(found.knots, knots - knots.mean(), atol=0.01)
    left = readings - pattern_at(times, [SENSOR[0].model_copy(update={"pattern": found})])[:, 0]
    assert np.std(left - np.polyval(np.polyfit(times - times[0], left, 1), times - times[0])) < 0.1 * np.std(readings)


def test_a_weekly_pattern_is_told_from_a_daily_one() -> None:
    times = days(21, 1800.0)
    runs = (times % DAY_S > 6 * 3600) & (times % DAY_S < 22 * 3600)
    weekdays = runs & (wall_clock(times, "") % WEEK_S < 5 * DAY_S)
    noise = np.random.default_rng(0).normal(0, 0.1, len(times))
    weekly, daily = learnt(times, weekdays + noise), learnt(times, runs + noise)
    assert weekly is not None
    assert weekly.word == "weekly"
    assert daily is not None
    assert daily.word == "daily"
    assert learnt(times[: 14 * 48], (weekdays + noise)[: 14 * 48]) is None  # two weeks show none, and no day is like every other


def walk(times: Floats, rng: np.random.Generator) -> Floats:
    return np.cumsum(rng.standard_normal(len(times)))


def slow(times: Floats, rng: np.random.Generator) -> Floats:
    keep = np.exp(-600 / (6 * 3600))
    found = rng.standard_normal(len(times))
    for row in range(1, len(found)):
        found[row] = keep * found[row - 1] + np.sqrt(1 - keep**2) * found[row]
    return found


NOTHING: dict[str, Callable[[Floats, np.random.Generator], Floats]] = {
    "noise": lambda t, rng: rng.standard_normal(len(t)),
    "memory of six hours": slow,
    "random walk": walk,
    "ramp": lambda t, rng: (t - t[0]) / DAY_S + 0.1 * rng.standard_normal(len(t)),
    "a cycle of the machine's own": lambda t, rng: np.sin(2 * np.pi * t / (5.3 * 3600)) + 0.1 * rng.standard_normal(len(t)),
    "a cycle of almost a day": lambda t, rng: np.sin(2 * np.pi * t / (25 * 3600)) + 0.1 * rng.standard_normal(len(t)),
    "constant": lambda t, rng: np.full(len(t), 3.0),
    "no reading": lambda t, rng: np.full(len(t), np.nan),
}


@pytest.mark.parametrize("what", NOTHING)
@pytest.mark.parametrize("count", [3, 8])
def test_what_is_no_pattern_is_not_taken_for_one(what: str, count: int) -> None:
    found = [learnt(times, NOTHING[what](times, np.random.default_rng(seed))) for seed in range(4) for times in [days(count)]]
    assert found == [None] * 4


def test_fewer_than_three_days_and_times_without_a_date_have_none() -> None:
    noise = np.random.default_rng(1).normal(0, 0.3, 10_000)
    for times, has in ((days(2.9), False), (days(3), True), (days(9, 4 * 3600.0), False)):  # a row in four hours tells too little
        assert (learnt(times, sine(times) + noise[: len(times)]) is not None) == has


def table(tmp_path: Path, times: Floats, zone: str = "", **columns: Floats) -> Path:
    stamps = pd.to_datetime(times, unit="s", utc=True)
    local = stamps.tz_convert(zone).tz_localize(None) if zone else stamps
    path = tmp_path / "train.csv"
    pd.DataFrame({"time": local.strftime("%Y-%m-%d %H:%M:%S"), **columns}).to_csv(path, index=False)
    return path


def test_gaps_missing_cells_faults_and_a_holiday_do_not_bend_it(tmp_path: Path) -> None:
    times, rng = days(12), np.random.default_rng(2)
    readings = 50 + sine(times) + rng.normal(0, 0.2, len(times))
    readings[(times - MONDAY) // DAY_S == 4] = 45.0  # stands still for a day
    readings[rng.random(len(times)) < 0.1] = np.nan
    fault = np.zeros(len(times))
    fault[200:260], readings[200:260] = 1, 500.0
    kept = (times < MONDAY + 7.2 * DAY_S) | (times > MONDAY + 7.9 * DAY_S)
    (read,) = read_normals([table(tmp_path, times[kept], load=readings[kept], anomaly=fault[kept])], TableSchema(labels=("anomaly",)), None)
    pattern = read.channels[0].pattern
    if pattern is None:  # the idle day is not explained, so the record as a whole may have none; without it there is one
        usable = read.usable & ((read.times - MONDAY) // DAY_S != 4)
        (read,) = learn_patterns([replace(read, usable=usable)])
        pattern = read.channels[0].pattern
    assert pattern is not None
    moments = days(1)
    np.testing.assert_allclose(pattern_at(moments, read.channels)[:, 0], sine(moments), atol=0.4)


def test_the_clock_is_the_plants_over_a_change_of_summer_time(tmp_path: Path) -> None:
    """Learnt in winter, taken off in summer at the same hour of the wall clock; the hour left out, or there twice, is no error."""
    zone = "Europe/Berlin"
    start = pd.Timestamp("2026-03-20", tz=zone).timestamp()
    times = days(14, 900.0, start)
    clock = wall_clock(times, zone)
    readings = 20 + 5 * np.sin(2 * np.pi * clock / DAY_S)
    (read,) = read_normals([table(tmp_path, times[:768], zone, load=readings[:768])], TableSchema(dialect=Dialect(zone=zone)), None)
    assert read.channels[0].pattern is not None
    assert read.channels[0].pattern.zone == zone
    left = without_pattern(times, readings.astype(np.float32)[:, None], read.channels)
    assert np.ptp(left) < 0.5  # 2.6 if it went by UTC
    autumn = np.arange(pd.Timestamp("2026-10-25", tz=zone).timestamp(), pd.Timestamp("2026-10-26", tz=zone).timestamp(), 3600.0)
    hours = (wall_clock(autumn, zone) % DAY_S / 3600).tolist()
    assert len(hours) == 25
    assert hours[:5] == [0, 1, 2, 2, 3]


PATTERNS = st.builds(
    Pattern,
    period_s=st.sampled_from([DAY_S, WEEK_S]),
    zone=st.sampled_from(["", "Europe/Berlin", "America/New_York"]),
    knots=st.lists(st.floats(-100, 100), min_size=2, max_size=30).map(tuple),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.none() | PATTERNS, min_size=1, max_size=4), st.lists(st.floats(-6e9, 6e9), min_size=1, max_size=20), st.integers(0, 9))
def test_taken_off_and_added_back_a_reading_is_as_it_was(patterns: list[Pattern | None], times: list[float], seed: int) -> None:
    channels = [Channel(name=f"s{i}", pattern=pattern) for i, pattern in enumerate(patterns)]
    readings = (100 * np.random.default_rng(seed).standard_normal((len(times), len(channels)))).astype(np.float32)
    readings[0, 0] = np.nan
    moments = np.array(times)
    values = without_pattern(moments, readings, channels)
    np.testing.assert_allclose(with_pattern(moments, values, channels), readings, atol=1e-4)
    one_by_one = [without_pattern(moments[[row]], readings[[row]], channels)[0] for row in range(len(times))]
    np.testing.assert_array_equal(np.stack(one_by_one), values)  # a live row gives the bits of the whole file
    if not any(patterns):
        assert values is readings


def test_a_record_without_a_pattern_is_read_as_before(tmp_path: Path) -> None:
    times = days(4)
    path = table(tmp_path, times, load=np.random.default_rng(3).standard_normal(len(times)))
    (read,) = read_normals([path], TableSchema(), None)
    assert read.values is read.readings
    assert read.channels[0].pattern is None
    assert describe_patterns([read]) == []


def test_people_and_rules_for_sensors_see_the_reading_the_detector_sees_it_less_the_pattern(tmp_path: Path) -> None:
    times = days(5)
    readings = np.round(50 + sine(times) + np.random.default_rng(4).normal(0, 0.1, len(times)), 1)
    (read,) = read_normals([table(tmp_path, times, load=readings)], TableSchema(), None)
    np.testing.assert_array_equal(read.readings[:, 0], readings.astype(np.float32))
    assert np.std(read.values) < 0.1 * np.std(readings)
    (channel,) = with_normal_range(read.channels, [read])
    assert channel.normal_high is not None
    assert channel.normal_high > 54
    assert channel.still_rows is not None
    assert describe_patterns([read]) == [
        f"a daily pattern explains {read.channels[0].pattern.share:.0%} of load; it is taken off before scoring; "
        "the record holds no Saturday or Sunday: learn from a whole week where that is run otherwise"
    ]
    (plain,) = read_normals([tmp_path / "train.csv"], TableSchema(), None, pattern=False)
    assert plain.values is plain.readings


def test_rows_learnt_from_are_as_strange_as_rows_to_come(tmp_path: Path) -> None:
    """Each day goes its own way a little. What is left of a day that was learnt from must not look smaller than of one that was not."""
    times, rng = days(4), np.random.default_rng(5)
    own = np.repeat(rng.normal(0, 1, 4 * 6), 24)  # four hours each
    (read,) = read_normals([table(tmp_path, times, load=sine(times) + own)], TableSchema(), None)
    assert read.channels[0].pattern is not None
    fitted = without_pattern(times, read.readings, read.channels)
    assert read.values.std() > 1.15 * fitted.std()
