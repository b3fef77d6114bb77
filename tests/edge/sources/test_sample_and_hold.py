"""Readings one by one into rows."""

from __future__ import annotations

import numpy as np

from anomaly.edge.sources.sample_and_hold import SampleAndHold
from tests.edge.sources.conftest import SCHEMA


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
