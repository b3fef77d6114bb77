"""Channels and the one limit rule, against a plain loop."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from anomaly.schema import AlarmSettings, Channel, Dialect, InputSchema, check_time_format, within_limits

numbers = st.floats(-1e3, 1e3)
readings = st.one_of(numbers, st.sampled_from([math.nan, math.inf, -math.inf, 0.0]))
limits = st.one_of(st.none(), numbers)


def one_by_one(value: float, channel: Channel) -> float:
    """The limit rule in words: finite, not below low, not above high."""
    if math.isnan(value) or math.isinf(value):
        return math.nan
    if channel.low is not None and value < channel.low:
        return math.nan
    if channel.high is not None and value > channel.high:
        return math.nan
    return value


@settings(deadline=None)
@given(st.lists(st.tuples(limits, limits, st.lists(readings, min_size=4, max_size=4)), min_size=1, max_size=5))
def test_the_limit_rule_equals_a_plain_loop(columns: list[tuple[float | None, float | None, list[float]]]) -> None:
    channels = [
        Channel(name="a", low=low, high=high) if low is None or high is None or low < high else Channel(name="a", low=high)
        for low, high, _ in columns
    ]
    values = np.array([column for _, _, column in columns]).T
    before = values.copy()
    expected = [[one_by_one(value, channel) for value, channel in zip(row, channels, strict=True)] for row in values.tolist()]
    found = within_limits(values, channels)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.array(expected, dtype=np.float32))
    np.testing.assert_array_equal(within_limits(values[0], channels), found[0])  # one row is judged as a table is
    np.testing.assert_array_equal(values, before)


def test_a_reading_at_a_limit_counts() -> None:
    assert within_limits(np.array([0.0, 8.0]), [Channel(name="p", low=0.0), Channel(name="q", high=8.0)]).tolist() == [0.0, 8.0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Channel(name="p", low=2, high=2), "sensor 'p': low 2.0 is not below high 2.0"),
        (lambda: InputSchema(name="Image", dtype="uint8", channels=1), "name"),
        (lambda: InputSchema(name="image", dtype="uint8", channels=0), "channels"),
        (lambda: AlarmSettings(deadband=0.5), "deadband"),
        (lambda: AlarmSettings(on_delay_s=-1), "on_delay_s"),
    ],
)
def test_what_makes_no_sense_is_refused(make, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        make()


def test_a_further_kind_of_input_has_a_name_of_its_own() -> None:
    assert InputSchema(name="spectrum", dtype="float32", channels=1).name == "spectrum"


def test_a_schema_from_before_dialects_reads_as_one_that_tells_nothing() -> None:
    old = '{"name": "window", "dtype": "float32", "channels": 1, "window": 3, "period_s": 1.0, "time": "ts", "sensors": [{"name": "a"}]}'
    schema = InputSchema.model_validate_json(old)
    assert schema.dialect is None
    assert (schema.sensors[0].offset, schema.sensors[0].hold_s) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ({"encoding": "cp12525"}, "no encoding 'cp12525' is known"),
        ({"zone": "Europe/Berlni"}, "no time zone 'Europe/Berlni' is known"),
        ({"decimal": ",", "thousands": ","}, "decimal and thousands are both ','"),
        ({"delimiter": "::"}, "at most 1 character"),
    ],
)
def test_a_dialect_that_cannot_be_is_refused(told: dict, why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        Dialect(**told)


def test_a_time_format_that_no_reader_knows_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'%d\.%m\.%Q' is no time format: known are %Y"):
        check_time_format("%d.%m.%Q")
