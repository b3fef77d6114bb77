"""From an alarm budget, the setting a plant gives, to the p-value at which a record is flagged."""

from __future__ import annotations

import torch

from anomaly.calibration.conformal import Calibrator
from anomaly.errors import SpecError
from anomaly.spec import Budget

DAY_S = 86_400.0


def p_threshold(budget: Budget, decisions_per_day: float | None) -> float:
    """The p-value at or below which a record is flagged.

    A false alarm rate is its own threshold: conformal p-values are at or below `p` on a share of at most `p` of normal records. A number a
    day is divided by the alarms a day there would be if every record were flagged (`decisions_per_day`, or the budget's `records_per_day`),
    and is at most 0.5. Raises SpecError when a number a day is asked for and neither is known.

    >>> from anomaly.spec import Budget
    >>> p_threshold(Budget(false_alarms_per_day=2), decisions_per_day=1000.0)
    0.002
    """
    if budget.false_alarms_per_day is None:
        return budget.false_alarm_rate
    per_day = budget.records_per_day or decisions_per_day
    if per_day is None:
        raise SpecError("budget.false_alarms_per_day needs budget.records_per_day (pictures a day) to become a rate; add it")
    return float(min(0.5, budget.false_alarms_per_day / per_day))


def score_threshold(calibrator: Calibrator, p: float) -> float:
    """The smallest score whose p-value is at or below `p`, by bisection: what `p` means in score units, for people to read.

    >>> import numpy as np
    >>> from anomaly.calibration.conformal import fit_calibrator
    >>> round(score_threshold(fit_calibrator(np.arange(1.0, 100.0), effective=99), p=0.05), 2)  # just above 95 four of the 99 are higher
    95.0
    """
    low, high = float(calibrator.scores[0]) - 1.0, float(calibrator.scores[-1]) + 1.0
    with torch.inference_mode():
        while float(calibrator(torch.tensor([high]))) > p and high < 1e12:
            high *= 2.0
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (low, middle) if float(calibrator(torch.tensor([middle]))) <= p else (middle, high)
    return high
