"""What the alarm rules make of history, and whether a budget held."""

from __future__ import annotations

import numpy as np
import pytest

from anomaly.alarms.life import Settings
from anomaly.alarms.process import Rules
from anomaly.alarms.replay import Run, promise, replay


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
