"""From an alarm budget, the setting a plant gives, to the p-value at which a record is flagged."""

from __future__ import annotations

import torch

from anomaly.calibration.conformal import Calibrator
from anomaly.errors import SpecError
from anomaly.spec import Budget

DAY_S = 86_400.0


def p_threshold(budget: Budget, decisions_per_day: float | None) -> float:
    """The p-value at or below which a record is flagged.

    A rate is its own threshold, by the promise of conformal p-values. A number a day is divided by the alarms a day there would be
    if every record were flagged. Raises SpecError when a number a day is asked for and that is not known.
    """
    if budget.false_alarms_per_day is None:
        return budget.false_alarm_rate
    per_day = budget.records_per_day or decisions_per_day
    if per_day is None:
        raise SpecError("budget.false_alarms_per_day needs budget.records_per_day (pictures a day) to become a rate; add it")
    return float(min(0.5, budget.false_alarms_per_day / per_day))


def score_threshold(calibrator: Calibrator, p: float) -> float:
    """The smallest score whose p-value is at or below `p`: what p means in score units, for people. By bisection."""
    low, high = float(calibrator.scores[0]) - 1.0, float(calibrator.scores[-1]) + 1.0
    with torch.inference_mode():
        while float(calibrator(torch.tensor([high]))) > p and high < 1e12:
            high *= 2.0
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (low, middle) if float(calibrator(torch.tensor([middle]))) <= p else (middle, high)
    return high
