"""What the alarm rules make of history, and whether a budget held."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from anomaly.alarms.life import Settings
from anomaly.alarms.process import Rules
from anomaly.alarms.replay import Run, exact_interval, parts, promise, promise_of_parts, replay, share_promise


def test_false_alarms_faults_and_delay_are_counted() -> None:
    times = np.arange(1000) * 60.0
    p, faulty = np.full(1000, 0.5, np.float32), np.zeros(1000, bool)
    faulty[300:400], faulty[600:650] = True, True
    p[310:390] = 0.001  # found
    p[800:820] = 0.001  # false
    p[100:103] = 0.001  # shorter than the on-delay
    found = replay(Rules(Settings(threshold=0.01, on_delay_s=600, off_delay_s=600)), [Run(times, p, -p, None, faulty)])
    assert (found["alarms"], found["false_alarms"], found["faults"], found["faults_alarmed"]) == (2, 1, 2, 1)
    assert found["median_delay_s"] == 1200
    assert found["normal_days"] == pytest.approx(849 * 60 / 86_400)


@pytest.mark.parametrize(("false", "days", "held"), [(0, 0.1, True), (7, 7, True), (11, 7, True), (13, 7, False), (2, 0.1, False)])
def test_a_budget_holds_or_not(false: int, days: float, held: bool) -> None:
    assert (" held" in promise({"false_alarms": false, "normal_days": days}, 7.0)) == held


def test_a_budget_may_be_a_number_a_week() -> None:
    from anomaly.spec import Budget

    assert Budget.model_validate({"false_alarms_per_week": 14}).false_alarms_per_day == 2
    with pytest.raises(ValueError, match="both set"):
        Budget.model_validate({"false_alarms_per_week": 14, "false_alarms_per_day": 2})


@given(st.integers(1, 3000), st.floats(0, 1), st.sampled_from([0.9, 0.95]))
def test_the_exact_interval_is_that_of_scipy(of: int, share: float, level: float) -> None:
    hits = round(share * of)
    peer = binomtest(hits, of).proportion_ci(level, "exact")
    assert exact_interval(hits, of, level) == pytest.approx((peer.low, peer.high), abs=1e-9)
    assert exact_interval(0, of, level)[0] == 0.0
    assert exact_interval(of, of, level)[1] == 1.0


@pytest.mark.parametrize(
    ("flagged", "good", "rate", "says"),
    [
        (9, 1000, 0.01, "0.9 in 100 (9 of 1000), 95 % interval 0.41 to 1.7: the budget held."),
        (0, 1000, 0.01, "0 in 100 (0 of 1000), 95 % interval 0 to 0.37: the budget held."),
        (30, 1000, 0.01, "the budget did not hold."),
        (1, 20, 0.01, "the budget held, as far as so few parts show."),
        (4, 10_000, 0.0005, "Expect 5 in 10000 good parts flagged; seen here: 4 in 10000"),
        (0, 0, 0.05, "Expect 5 in 100 good parts flagged; there were no good parts to judge that by."),
    ],
)
def test_a_budget_of_a_share_is_judged_in_a_sentence(flagged: int, good: int, rate: float, says: str) -> None:
    assert says in share_promise(flagged, good, rate)


def test_parts_are_counted_one_by_one() -> None:
    p = np.array([0.5, 0.001, 0.5, 0.5], np.float32)
    runs = [Run(np.arange(4.0), p, -p), Run(np.arange(4.0), p[::-1], -p, None, np.ones(4, bool))]
    found = parts(Rules(Settings(threshold=0.01)), runs)
    assert list(found.values()) == [4, 1, 4, 1, 1]
    assert parts(Rules(Settings(threshold=0.01, on_delay_s=1)), runs)["bad_parts_alarmed_alone"] == 0


def test_a_budget_over_time_of_parts_is_judged_with_the_alarm_rules_on() -> None:
    p = np.full(1000, 0.001, np.float32)  # all flagged, and one alarm
    runs, rules = [Run(np.arange(1000.0) * 60, p, -p)], Rules(Settings(threshold=0.01))
    figures = replay(rules, runs) | parts(rules, runs)
    assert promise_of_parts({"false_alarms_per_day": 2.0, "false_alarm_rate": 0.01}, 0.01, figures).startswith(
        "With the alarm rules on, 1 "
    )
    assert "the budget did not hold" in promise_of_parts({"false_alarm_rate": 0.01}, 0.01, figures)
