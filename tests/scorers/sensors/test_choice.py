"""Which views a closed-form look at the normals finds something for, and how long their windows are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from anomaly.scorers.sensors.choice import LEVEL_ROWS, LONG_ROWS, ViewPlan, explained_share, plan_views

Rows = NDArray[np.float32]


def strokes(cycle: int, count: int = 80, noise: float = 0.05, seed: int = 0) -> Rows:
    """A cycle of two sensors over and over again, with noise."""
    turn = 2 * np.pi * np.arange(cycle * count) / cycle
    clean = np.stack([np.exp(3 * np.cos(turn)) / 20, np.sin(turn + 1)], axis=1)
    return (clean + noise * np.random.default_rng(seed).normal(size=clean.shape)).astype(np.float32)


def white(rows: int = 3000, sensors: int = 3, seed: int = 0) -> Rows:
    return np.random.default_rng(seed).normal(size=(rows, sensors)).astype(np.float32)


@pytest.mark.parametrize("cycle", [20, 40, 73, 120])
def test_a_cycle_is_found_and_three_quarters_of_it_are_looked_at(cycle: int) -> None:
    plan = plan_views([strokes(cycle)])
    assert plan.cycle is not None
    assert abs(plan.cycle - cycle) <= 1
    assert plan.shape == round(0.75 * plan.cycle)
    assert abs(plan.level - plan.cycle) <= 1  # levels are means of a whole cycle
    assert (plan.part, plan.rows) == (1, plan.level)
    assert any(f"a cycle of {plan.cycle} rows" in text for text in plan.why())


@given(seed=st.integers(0, 1000), sensors=st.integers(1, 6))
@settings(max_examples=15, deadline=None)
def test_noise_has_no_shape(seed: int, sensors: int) -> None:
    plan = plan_views([white(1500, sensors, seed)])
    assert (plan.shape, plan.cycle) == (0, None)
    assert "no shape" in plan.why()[1]


def test_short_memory_without_a_cycle_is_looked_at_for_longer() -> None:
    """A motif at random times over quiet noise, and a slowly wandering level."""
    rng = np.random.default_rng(0)
    motif = np.sin(np.arange(9) / 9 * 2 * np.pi) * np.hanning(9)
    bursts = 0.05 * rng.normal(size=4000)
    for start in np.cumsum(rng.integers(15, 60, size=100)):
        bursts[start : start + 9] += motif[: len(bursts[start : start + 9])]
    assert plan_views([bursts[:, None].astype(np.float32)]).shape == LONG_ROWS
    wandering = np.zeros(4000)
    for row in range(1, 4000):
        wandering[row] = 0.95 * wandering[row - 1] + rng.normal()
    assert plan_views([wandering[:, None].astype(np.float32)]).shape == LEVEL_ROWS


def test_a_window_that_is_asked_for_is_both_views() -> None:
    plan = plan_views([strokes(40)], window=60)
    assert (plan.level, plan.shape, plan.rows) == (60, 60, 60)
    assert "as asked for" in plan.why()[1]
    assert plan_views([white()], window=60) == replace(
        ViewPlan(60, 0, memory=1, asked=True), explained=plan_views([white()], window=60).explained, needed=0.65 / 3
    )


def test_a_short_record_gets_no_longer_window_than_it_can_fill_several_times() -> None:
    assert plan_views([strokes(120, count=2)]).shape <= 240 // 6
    few = plan_views([white(60)])
    assert (few.shape, few.explained) == (0, None)
    assert "too short" in few.why()[1]


@pytest.mark.parametrize(("cycle", "long"), [(17, 50), (120, 85), (17, 25)])
def test_stretches_too_short_for_a_long_shape_get_a_window_that_fits(cycle: int, long: int) -> None:
    rows = strokes(cycle)
    whole, pieces = plan_views([rows]), plan_views(np.array_split(rows, len(rows) // long))
    assert whole.shape > LEVEL_ROWS
    assert pieces.rows == LEVEL_ROWS


def test_what_is_said_of_a_shape_that_is_cut_short() -> None:
    assert "as much as the record allows of a cycle of 120 rows" in ViewPlan(30, 60, 0.9, cycle=120).why()[1]


def test_constant_and_missing_sensors_and_gaps_change_nothing() -> None:
    whole = strokes(40)
    more = np.column_stack([whole, np.full(len(whole), 7.0), np.full(len(whole), np.nan)]).astype(np.float32)
    holes = more.copy()
    holes[np.random.default_rng(0).random(holes.shape) < 0.01] = np.nan
    plain = plan_views([whole])
    assert plan_views([more]) == replace(plain, explained=plan_views([more]).explained)
    assert plan_views([holes]).shape == plain.shape
    assert plan_views([holes[:1500], holes[1500:1520], holes[1520:]]).shape == plain.shape
    assert plan_views([np.full((900, 2), 3.0, np.float32)]).shape == 0


@given(scale=st.floats(1e-3, 1e3), offset=st.floats(-1e3, 1e3))
@settings(max_examples=10, deadline=None)
def test_units_do_not_matter(scale: float, offset: float) -> None:
    rows = strokes(40, noise=0.2)
    moved = (rows.astype(np.float64) * [scale, 1.0] + [offset * scale, 0.0]).astype(np.float32)
    assert plan_views([moved]).shape == plan_views([rows]).shape


def test_what_the_nearest_window_explains_by_hand() -> None:
    """A perfect cycle is explained in full; of two independent halves of noise nothing is, and the nearest is farther off than none."""
    turn = np.sin(2 * np.pi * np.arange(1200) / 30)[:, None]
    assert explained_share([turn], 15) == pytest.approx(1.0, abs=1e-3)
    assert explained_share([np.random.default_rng(0).normal(size=(600, 4))], 15) < 0
    assert explained_share([turn[:10]], 15) == 0.0
