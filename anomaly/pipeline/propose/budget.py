"""A budget as people say it: "1 in 100", "0.5 %", "2 a day"."""

from __future__ import annotations

import re

from anomaly.data.clock import rate_words
from anomaly.errors import SpecError
from anomaly.spec import Budget

_NUMBER = r"(\d+(?:[.,]\d+)?)"
_SHARE = re.compile(rf"{_NUMBER}\s*(?:in|of|/|:|out of)\s*{_NUMBER}", re.IGNORECASE)
_PERCENT = re.compile(rf"{_NUMBER}\s*(?:%|percent|per cent)", re.IGNORECASE)
_A_DAY = re.compile(rf"{_NUMBER}\s*(?:(?:false )?alarms?\s*)?(?:a|per|/)\s*(day|week)", re.IGNORECASE)
HOW = 'write it as "1 in 100", "1 %" or 0.01, or for readings as "2 a day" or "1 a week"'
MOST = 0.5  # a share of normal records that may be flagged lies below


def read_budget(text: str | float) -> Budget:
    """The budget that a text or a share of normal records says. Raises SpecError for one that cannot be read or is out of range.

    >>> read_budget("1 in 200").false_alarm_rate, read_budget("0,5 %").false_alarm_rate, read_budget(0.02).false_alarm_rate
    (0.005, 0.005, 0.02)
    >>> read_budget("2 a day").false_alarms_per_day, read_budget("7 a week").false_alarms_per_day
    (2.0, 1.0)
    """
    said = str(text).strip()
    if found := _A_DAY.fullmatch(said):
        number = _number(found[1]) / (7 if found[2].lower() == "week" else 1)
        if number <= 0:
            raise SpecError(f"budget {said!r}: a number above 0 is needed; {HOW}")
        return Budget(false_alarms_per_day=number)
    share = _share(said)
    if share is None:
        raise SpecError(f"budget {said!r} cannot be read; {HOW}")
    if not 0 < share < MOST:
        raise SpecError(f"budget {said!r} is a share of {share:g} of all normal records; it must lie above 0 and below {MOST:g}; {HOW}")
    return Budget(false_alarm_rate=share)


def _share(said: str) -> float | None:
    if found := _SHARE.fullmatch(said):
        return _number(found[1]) / _number(found[2]) if _number(found[2]) else None
    if found := _PERCENT.fullmatch(said):
        return _number(found[1]) / 100
    try:
        return float(said.replace(",", "."))
    except ValueError:
        return None


def _number(text: str) -> float:
    return float(text.replace(",", "."))


def budget_words(budget: Budget, kind: str) -> str:
    """A budget as a person says it.

    >>> budget_words(Budget(false_alarm_rate=0.01), "camera"), budget_words(Budget(false_alarms_per_day=2), "sensor")
    ('1 good part in 100 may be flagged', '2 false alarms a day')
    """
    if budget.false_alarms_per_day is not None:
        return rate_words(budget.false_alarms_per_day)
    one = "1 good part" if kind == "camera" else "1 normal row"
    return f"{one} in {1 / budget.false_alarm_rate:,.4g} may be flagged"
