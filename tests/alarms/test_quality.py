"""Alarms on the data itself."""

from __future__ import annotations

import numpy as np

from anomaly.alarms.quality import Quality, Repeats, Seen, constant_rows, lost_provider, repeated_pictures


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


def test_each_sensor_without_a_reading_is_an_alarm_of_its_own_also_after_a_restart() -> None:
    missing = np.zeros((120, 3), bool)
    missing[10:60, [0, 2]] = True  # two fail together
    missing[70:99, 1] = True  # not for long enough
    missing[61, 0] = True  # one reading is not yet a recovery
    found, quality = [], Quality("l", {}, None, 0.0)
    for row in range(0, 120, 8):
        quality = Quality("l", quality.kept, None, 0.0)  # a new process
        times = [float(at) for at in range(row, row + 8)]
        found += quality.look_at_sensors(times, missing[row : row + 8], ["a", "b", "c"], 1.0, {})
    told = [(event.kind, event.data["sensor"], event.time) for event in found]
    assert sorted(told) == [("closed", "a", 64.0), ("closed", "c", 62.0), ("opened", "a", 39.0), ("opened", "c", 39.0)]


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
