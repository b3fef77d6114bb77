"""Alarms on the data itself."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from anomaly.alarms.quality import Quality, Repeats, Seen, constant_rows, lost_provider, repeated_pictures
from anomaly.alarms.sensors import find_in_sensors
from anomaly.schema import Channel, InputSchema


def schema_of(*sensors: str | Channel) -> InputSchema:
    channels = tuple(Channel(name=sensor) if isinstance(sensor, str) else sensor for sensor in sensors)
    return InputSchema(name="window", dtype="float32", channels=len(channels), window=2, period_s=1.0, sensors=channels)


def test_quality_alarms_open_and_close() -> None:
    quality = Quality("l", {}, 60.0, 0.0)
    look = lambda now, **seen: [(e.kind, e.data["condition"]) for e in quality.look(Seen(**seen), now)]  # noqa: E731
    assert look(0, records=1, frozen="") == []
    assert look(30, trouble="gone") == []
    assert look(41, trouble="gone") == [("opened", "source")]
    assert look(61) == [("closed", "source"), ("opened", "silent")]
    assert look(62, records=1, frozen="the same") == [("closed", "silent"), ("opened", "frozen")]
    assert look(63) == []  # no record tells nothing of frozen
    assert look(64, records=1, frozen="") == [("closed", "frozen")]
    assert look(65, rejected=10) == []
    assert look(66, records=5, rejected=5, frozen="") == [("opened", "rubbish")]
    assert look(67, records=20, frozen="") == [("closed", "rubbish")]
    assert look(68, provider="moved to the CPU") == [("opened", "provider")]
    assert look(10) == [("closed", "provider")]  # the clock was set back: no silence is made of it
    assert look(60) == []
    assert look(71) == [("opened", "silent")]


def test_bad_rows_among_many_good_ones_of_the_same_turn_are_no_alarm() -> None:
    quality = Quality("l", {}, None, 0.0)
    assert quality.look(Seen(records=900, rejected=100), 1.0) == []
    assert [event.kind for event in quality.look(Seen(records=400, rejected=600), 2.0)] == ["opened"]
    again = Quality("l", quality.kept, None, 3.0)
    assert again.look(Seen(rejected=1), 3.0) == []  # one record after a restart does not tell that it is over
    assert [event.kind for event in again.look(Seen(records=30), 4.0)] == ["closed"]


@pytest.mark.parametrize(("records", "rejected", "kinds"), [(0, 2, ["opened"]), (3, 2, []), (0, 0, [])])
def test_a_run_that_ends_is_judged_by_all_of_its_records_however_few(records: int, rejected: int, kinds: list[str]) -> None:
    quality = Quality("l", {}, None, 0.0)
    found = quality.look_at_records(Seen(records=records, rejected=rejected), 1.0) + quality.look_at_all(records, rejected, 2.0)
    assert [event.kind for event in found] == kinds
    assert all(event.data["reason"] == "2 of 2 records could not be read" for event in found)


def test_a_picture_that_comes_five_times_is_frozen_also_over_several_polls() -> None:
    still, other = np.zeros((4, 4, 3), np.uint8), np.ones((4, 4, 3), np.uint8)
    repeats, why = repeated_pictures(Repeats(), [other, still, still])
    assert (repeats.in_a_row, why) == (2, "")
    repeats, why = repeated_pictures(repeats, [still] * 3)
    assert why == "the same picture came 5 times"
    assert repeated_pictures(repeats, [still[:2]])[1] == ""  # another size is another picture
    assert repeated_pictures(repeats, [still, other])[1] == ""


def test_rows_are_constant_only_when_all_sensors_stand_still_long_enough() -> None:
    window = np.tile(np.array([1.5, 2.5], np.float32), (40, 1))
    assert constant_rows(window, 1) == "every sensor has given the same reading for 30 rows"
    assert constant_rows(window, 35) == "every sensor has given the same reading for 35 rows"
    assert constant_rows(window[:29], 1) == ""
    assert constant_rows(window[:, :1], 1) == ""  # a single sensor may well be constant
    for odd in (np.nan, 2.6):
        changed = window.copy()
        changed[-30, 1] = odd
        assert constant_rows(changed, 1) == ""
    changed = window.copy()
    changed[-31, 1] = 0.0
    assert constant_rows(changed, 1) != ""


def test_a_gpu_is_lost_only_when_it_was_in_use_and_not_given_up_by_choice() -> None:
    order = ("tensorrt", "cuda", "cpu")
    assert lost_provider("cuda", "cpu", "cuda: no driver", order) == "runs on cpu, no longer on cuda: cuda: no driver"
    assert lost_provider("tensorrt", "cuda", "tensorrt: not found", order) != ""
    assert lost_provider("cpu", "cpu", "cuda: no driver", order) == ""
    assert lost_provider("cuda", "cpu", "", order) == ""  # the CPU was asked for
    assert lost_provider("", "cpu", "cuda: no driver", order) == ""  # the first start


def test_sensors_without_readings_since_the_same_row_are_one_alarm_also_after_a_restart() -> None:
    missing = np.zeros((120, 3), bool)
    missing[10:60, [0, 2]] = True  # two fail together
    missing[70:99, 1] = True  # not for long enough
    missing[61, 0] = True  # one reading is not yet a recovery
    found, quality = [], Quality("l", {}, None, 0.0)
    for row in range(0, 120, 8):
        quality = Quality("l", quality.kept, None, 0.0)  # a new process
        times = [float(at) for at in range(row, row + 8)]
        rows = np.where(missing[row : row + 8], np.nan, 1.0).astype(np.float32)
        found += quality.look_at_sensors(times, find_in_sensors(rows, rows, schema_of("a", "b", "c"), {}))
    told = [(event.kind, event.data["sensors"], event.time) for event in found]
    assert told == [("opened", ["a", "c"], 39.0), ("closed", ["a", "c"], 64.0)]  # not at 62.0, when c is right again
    assert found[1].data["reason"] == "all 2 sensors are right again: a, c"
    assert len({event.alarm for event in found}) == 1


def test_pictures_beyond_the_range_are_one_alarm_until_one_is_within_it() -> None:
    quality = Quality("line", {}, None, 0.0)
    assert quality.look(Seen(records=1, beyond=""), 1.0) == []
    opened = quality.look(Seen(records=1, beyond="a.png: beyond the 12 bits"), 2.0)
    assert [(event.kind, event.data["condition"], event.data["reason"]) for event in opened] == [
        ("opened", "range", "a.png: beyond the 12 bits")
    ]
    assert quality.look(Seen(records=1, beyond="b.png: beyond the 12 bits"), 3.0) == []
    assert quality.look(Seen(), 4.0) == []  # no record shows nothing
    assert [event.kind for event in quality.look(Seen(records=1, beyond=""), 5.0)] == ["closed"]


WELL = np.random.default_rng(0).normal(20.0, 1.0, 400)
KNOWN = Channel(name="b", still_rows=12, normal_low=17.0, normal_high=23.0)


def told(readings: np.ndarray, step: int, channel: Channel = KNOWN, times: np.ndarray | None = None) -> list[tuple[str, str, float, str]]:
    """What sensor b is told to have, after `a` which is well; `step` rows at a time, each time by a new process."""
    rows = np.stack([np.arange(len(readings)) % 7, readings], axis=1).astype(np.float32)
    before = np.concatenate([np.full((1, 2), np.nan, np.float32), rows[:-1]])
    times, found, quality = np.arange(len(rows), dtype=float) if times is None else times, [], Quality("l", {}, None, 0.0)
    for row in range(0, len(rows), step):
        if step > 1:
            quality = Quality("l", quality.kept, None, 0.0)
        part = slice(row, row + step)
        findings = find_in_sensors(rows[part], before[part], schema_of("a", channel), {})
        found += quality.look_at_sensors(times[part].tolist(), findings, 5.0)
    assert all(event.data["sensor"] == "b" for event in found)
    return [(event.kind, event.data["condition"], event.time, event.data["reason"]) for event in found]


@pytest.mark.parametrize("step", [1, 17, 400])
def test_a_sensor_that_stands_still_longer_than_the_normals_is_told_until_it_moves(step: int) -> None:
    readings = WELL.copy()
    readings[100:250] = readings[100]
    opened, closed = told(readings, step)
    assert opened[:3] == ("opened", "sensor_frozen", 135.0)  # the 36th equal reading: three times the 12 of the normals
    assert f"stands still at {readings[100]:.6g} since 1970-01-01T00:01:40Z, for 36 rows and more; 12 at most" in opened[3]
    assert closed[:3] == ("closed", "sensor_frozen", 250.0)
    short = WELL.copy()
    short[100:135] = short[100]
    assert told(short, step) == []
    assert told(readings, step, Channel(name="b")) == []  # an older bundle knows nothing of its normals


@pytest.mark.parametrize("step", [1, 17, 400])
@pytest.mark.parametrize("change", [lambda r: r * 1.8 + 32, lambda r: r / 10, lambda r: np.full_like(r, 65535.0), lambda r: r - 147])
def test_a_sensor_that_answers_far_beyond_the_normals_is_told_until_it_is_back(step: int, change: Callable[..., np.ndarray]) -> None:
    readings = WELL.copy()
    readings[100:250] = change(readings[100:250])
    opened, closed = [entry for entry in told(readings, step) if entry[1] == "sensor_range"]
    assert (opened[0], opened[2], closed[0], closed[2]) == ("opened", 129.0, "closed", 252.0)
    assert "'b' jumped far out of its normal range, 17 to 23, and stays there since 1970-01-01T00:01:40Z, now" in opened[3]
    one = WELL.copy()
    one[100::40] = 65535.0  # single wild readings are no lasting condition
    assert told(one, step) == []


@pytest.mark.parametrize("step", [1, 15, 17, 400])  # with 15, the gap is between two processes
def test_a_gap_is_no_time_in_which_a_sensor_stood_still(step: int) -> None:
    readings, times = WELL.copy(), np.arange(400.0)
    times[105:] += 3600.0
    readings[100:110] = readings[100]
    assert told(readings, step, times=times) == []


@pytest.mark.parametrize("step", [1, 17, 400])
def test_a_slow_drift_is_no_failing_sensor_but_one_that_comes_back_far_off_is(step: int) -> None:
    drifting = WELL + np.linspace(0.0, 60.0, 400)
    assert told(drifting, step) == []
    back = WELL.copy()
    back[100:120] = np.nan
    back[120:] += 147.0
    assert [entry[:3] for entry in told(back, step)] == [("opened", "sensor_range", 149.0)]


def test_missing_readings_neither_end_a_standstill_nor_count_as_one() -> None:
    readings = WELL.copy()
    readings[100:250] = readings[100]
    readings[140:250:9] = np.nan
    assert [entry[:3] for entry in told(readings, 400)] == [("opened", "sensor_frozen", 135.0), ("closed", "sensor_frozen", 250.0)]
    apart = WELL.copy()
    apart[99:101] = apart[201:203] = 20.0
    apart[101:201] = np.nan
    assert [entry[1] for entry in told(apart, 400)] == ["sensor", "sensor"]
