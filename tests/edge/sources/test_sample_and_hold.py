"""Readings one by one into rows, by hand and against a plain loop."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from anomaly.edge.sources.sample_and_hold import SampleAndHold
from anomaly.schema import Channel, InputSchema
from tests.edge.sources.conftest import SCHEMA
from tests.reference.sample_and_hold import sample_and_hold


def test_readings_that_come_one_by_one_are_held_and_cut_into_rows() -> None:
    held = SampleAndHold(SCHEMA)
    assert held.take(100.2, {"a": 1.0}) == []
    rows = held.take(102.5, {"b": 60.0})  # beyond its limit: missing
    assert [(when, row.tolist()[0]) for when, row in rows] == [(101.0, 1.0), (102.0, 1.0)]
    assert np.isnan(rows[0][1][1])
    (last,) = held.take(103.1, {"b": 2.0, "unknown": 5.0})
    assert np.isnan(last[1][1])
    (fresh,) = held.take(104.0, {})
    assert fresh[1].tolist() == [1.0, 2.0]
    assert held.take(200.0, {"a": 3.0}) == []  # a long silence makes up no rows


VALUES = st.one_of(st.integers(-20, 80).map(float), st.sampled_from([math.nan, math.inf, -math.inf, 50.0, -5.0]))
STEPS = st.one_of(st.integers(-8, 16), st.integers(60, 120)).map(lambda eighths: eighths / 8)  # also back in time, also long silences
MESSAGES = st.lists(st.tuples(STEPS, st.dictionaries(st.sampled_from(["a", "b", "c", "other"]), VALUES, max_size=3)), max_size=40)


@given(MESSAGES, st.sampled_from([0.25, 1.0, 2.0]), st.sampled_from([2.0, 10.0]))
def test_rows_are_those_of_a_plain_loop(steps: list[tuple[float, dict[str, float]]], period_s: float, max_age_s: float) -> None:
    limits = {"a": (-math.inf, math.inf), "b": (-5.0, 50.0), "c": (0.0, math.inf)}
    sensors = (Channel(name="a"), Channel(name="b", low=-5, high=50), Channel(name="c", low=0))
    schema = InputSchema(name="window", dtype="float32", channels=3, window=1, period_s=period_s, max_gap_s=max_age_s, sensors=sensors)
    times = np.cumsum([1000.0, *(step for step, _ in steps)])[1:].tolist()
    messages = [(time, readings) for time, (_, readings) in zip(times, steps, strict=True)]
    held = SampleAndHold(schema)
    found = [row for time, readings in messages for row in held.take(time, readings)]
    expected = sample_and_hold(messages, limits, period_s, max_age_s)
    assert [time for time, _ in found] == [time for time, _ in expected]
    np.testing.assert_array_equal(
        np.array([row for _, row in found]).reshape(-1, 3), np.array([row for _, row in expected], np.float32).reshape(-1, 3)
    )
