"""Alarm life: by hand, and as a property over random histories."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from anomaly.alarms.life import Settings, State, step


def play(readings: list[tuple[float, float]], settings: Settings):
    state, found = State(), []
    for time, p in readings:
        state, transition = step(state, time, p, settings)
        if transition:
            found.append((transition.kind, transition.time, transition.began))
    return state, found


def test_no_delays() -> None:
    _, found = play([(0, 0.5), (1, 0.01), (2, 0.01), (3, 0.5), (4, 0.5)], Settings(threshold=0.01))
    assert found == [("opened", 1, 1), ("closed", 3, 1)]


def test_on_delay_needs_an_unbroken_run() -> None:
    readings = [(0, 0.0), (5, 0.0), (6, 0.9), (7, 0.0), (12, 0.0), (16, 0.0), (17, 0.0)]
    _, found = play(readings, Settings(threshold=0.01, on_delay_s=10))
    assert found == [("opened", 17, 7)]


def test_off_delay_and_deadband() -> None:
    settings = Settings(threshold=0.01, off_delay_s=10, deadband=3)
    readings = [(0, 0.0), (1, 0.02), (5, 0.5), (9, 0.02), (12, 0.5), (21, 0.5), (22, 0.5)]
    state, found = play(readings, settings)
    assert found == [("opened", 0, 0), ("closed", 22, 0)]  # 0.02 is within the deadband: not calm
    assert state == State()


def test_worst_p_is_kept() -> None:
    state, _ = step(State(), 0, 0.005, Settings(threshold=0.01))
    state, _ = step(state, 1, 0.0001, Settings(threshold=0.01))
    _, closed = step(state, 2, 0.9, Settings(threshold=0.01))
    assert closed is not None
    assert closed.worst == 0.0001


def test_clock_set_back_neither_opens_nor_closes() -> None:
    settings = Settings(threshold=0.01, on_delay_s=10, off_delay_s=10)
    state, found = play([(100, 0.0), (20, 0.0), (29, 0.0)], settings)
    assert found == []
    state, found = play([(100, 0.0), (20, 0.0), (30, 0.0)], settings)
    assert [f[0] for f in found] == ["opened"]
    state, transition = step(state, 31, 0.9, settings)
    state, transition = step(state, 5, 0.9, settings)
    assert transition is None
    assert state.active


readings = st.lists(st.tuples(st.floats(0, 3), st.sampled_from([0.001, 0.01, 0.015, 0.5])), max_size=60)


@given(readings, st.sampled_from([0.0, 1.0, 4.0]), st.sampled_from([0.0, 2.0]), st.sampled_from([1.0, 2.0]))
def test_opened_and_closed_take_turns_and_delays_hold(steps, on: float, off: float, deadband: float) -> None:
    settings, state, time, log = Settings(threshold=0.01, on_delay_s=on, off_delay_s=off, deadband=deadband), State(), 0.0, []
    history: list[tuple[float, float]] = []
    for gap, p in steps:
        time += gap
        history.append((time, p))
        was_active = state.active
        state, transition = step(state, time, p, settings)
        if transition is None:
            assert state.active == was_active
            continue
        log.append(transition.kind)
        if transition.kind == "opened":
            run = [h for h in history if h[0] >= transition.began]
            assert time - transition.began >= on
            assert all(q <= 0.01 for t, q in run if t > transition.began)
        else:
            assert p > 0.01 * deadband
    assert log == ["opened", "closed"] * (len(log) // 2) + ["opened"] * (len(log) % 2)
    assert state.active == (len(log) % 2 == 1)
