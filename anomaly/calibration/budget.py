"""From an alarm budget, the setting a plant gives, to the p-value at which a record is flagged."""

from __future__ import annotations

import torch

from anomaly.calibration.conformal import Calibrator
from anomaly.errors import SpecError
from anomaly.spec import Budget


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


def too_short(p: float, independent: float, learnt: str) -> str | None:
    """A sentence where the normals hold fewer independent scores than one over the p-value `p` to flag from, None where they do not.

    `learnt` says what was learnt, in words.

    >>> too_short(0.001, 40, "6 hours")
    '6 hours learnt count as 40 independent records: few for one in 1,000, so the rate may be off by several times; 25 times as much data \
would settle it'
    >>> too_short(0.05, 40, "6 hours") is None
    True
    """
    if independent + 1 >= 1 / p:
        return None
    return (
        f"{learnt} learnt count as {independent:.0f} independent records: few for one in {float(f'{1 / p:.2g}'):,.0f}, so the rate may be "
        f"off by several times; {max(2, round(1 / p / independent))} times as much data would settle it"
    )


def too_coarse(calibrator: Calibrator, p: float) -> str | None:
    """A sentence where so many normal scores are the same that no threshold gives the rate `p` asked for, None where one does.

    >>> import numpy as np
    >>> from anomaly.calibration.conformal import fit_calibrator
    >>> too_coarse(fit_calibrator(np.repeat([1.0, 2.0, 3.0], [900, 70, 30]), effective=1000), p=0.01)
    'the scores of normals take few values: 3% of them are the largest, and a rate of 1% cannot be had'
    >>> too_coarse(fit_calibrator(np.arange(1000.0), effective=1000), p=0.01) is None
    True
    """
    scores = calibrator.scores.double()
    tied = float((scores == scores[-1]).double().mean())
    if tied < 1.5 * p or len(scores) * tied < 3:
        return None
    return f"the scores of normals take few values: {100 * tied:.3g}% of them are the largest, and a rate of {100 * p:.2g}% cannot be had"


def score_threshold(calibrator: Calibrator, p: float) -> float:
    """The smallest score whose p-value is at or below `p`, by bisection: what `p` means in score units, for people to read.

    >>> import numpy as np
    >>> from anomaly.calibration.conformal import fit_calibrator
    >>> round(score_threshold(fit_calibrator(np.arange(1.0, 100.0), effective=99), p=0.3), 2)  # above 71 are 28: 29 / 100
    71.0
    """
    low, largest, beyond = float(calibrator.scores[0]) - 1.0, float(calibrator.scores[-1]), 1.0
    with torch.inference_mode():
        while float(calibrator(torch.tensor([largest + beyond]))) > p and beyond < 1e12:
            beyond *= 2.0
        high = largest + beyond
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (low, middle) if float(calibrator(torch.tensor([middle]))) <= p else (middle, high)
    return high
