"""What the alarm rules make of history: alarms, false ones, faults alarmed, delay, and whether a budget held. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomaly.alarms.process import ProcessAlarm, Rules

WEEK_S = 604_800.0


@dataclass(frozen=True)
class Run:
    """Scored records of one stretch of history, in order: times (n,) in s, p-values and scores (n,), what each sensor adds (n, C) or None.

    `faulty` (n,): which records are labelled faulty, None where that is not known (then all count as normal).
    """

    times: NDArray[np.float64]
    p_values: NDArray[np.float32]
    scores: NDArray[np.float32]
    contributions: NDArray[np.float32] | None = None
    faulty: NDArray[np.bool_] | None = None


def replay(rules: Rules, runs: Sequence[Run]) -> dict[str, Any]:
    """Figures of the alarms that the rules raise in runs, each from a calm start.

    An alarm is right when it opens within a labelled fault, and false elsewhere. A fault is alarmed when an alarm opens within it; its
    delay counts from the fault's first record. `false_alarms_per_week` is by the time that is not labelled faulty, None without any.
    """
    alarms, right, faults, seconds, delays = 0, 0, 0, 0.0, []
    for run in runs:
        changes = ProcessAlarm(rules).take_all(run.times.tolist(), run.p_values, run.scores, run.contributions)
        opened = np.array([change.time for _, change in changes if change.kind == "opened"], np.float64)
        faulty = np.zeros(len(run.times), bool) if run.faulty is None else run.faulty
        spans = fault_spans(run.times, faulty)
        within = [opened[(opened >= first) & (opened <= last)] for first, last in spans]
        alarms, right, faults = alarms + len(opened), right + sum(map(len, within)), faults + len(spans)
        delays += [float(hits[0] - first) for hits, (first, _) in zip(within, spans, strict=True) if len(hits)]
        gaps = np.diff(run.times)
        usual = float(np.median(gaps)) if len(gaps) else 0.0
        seconds += float(np.where(gaps <= 10 * usual, gaps, usual)[~faulty[1:]].sum())  # a gap is no time that was watched
    false = alarms - right
    return {
        "alarms": alarms,
        "false_alarms": false,
        "faults": faults,
        "faults_alarmed": len(delays),
        "median_delay_s": float(np.median(delays)) if delays else None,
        "normal_days": seconds / 86_400,
        "false_alarms_per_week": false * WEEK_S / seconds if seconds > 0 else None,
    }


def fault_spans(times: NDArray[np.float64], faulty: NDArray[np.bool_]) -> list[tuple[float, float]]:
    """(first, last) time of each labelled fault.

    >>> fault_spans(np.arange(6.0), np.array([0, 1, 1, 0, 0, 1], bool))
    [(1.0, 2.0), (5.0, 5.0)]
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[False], faulty, [False]]).astype(np.int8)))
    return [(float(times[first]), float(times[stop - 1])) for first, stop in zip(edges[::2], edges[1::2], strict=True)]


def promise(figures: dict[str, Any], per_week: float | None) -> str:
    """Whether a budget of so many false alarms a week held in what `replay` found, in a sentence. None: no such budget was set.

    A budget holds when no more false alarms came than a plant within the budget would see in that time in 19 cases of 20 (Poisson).

    >>> promise({"false_alarms": 0, "normal_days": 0.14}, 7.0)
    'With the alarm rules on, 0 false alarms in 0.14 normal days: the budget of 7 a week held, as far as so short a time shows.'
    """
    false, days = int(figures["false_alarms"]), float(figures["normal_days"])
    alarms = "1 false alarm" if false == 1 else f"{false} false alarms"
    said = f"With the alarm rules on, {alarms} in {days:.3g} normal days"
    if per_week is None:
        return f"{said}."
    expected = per_week * days / 7
    if false > _most(expected):
        return f"{said}: the budget of {per_week:g} a week did not hold."
    return f"{said}: the budget of {per_week:g} a week held{', as far as so short a time shows' if expected < 3 else ''}."


def _most(expected: float) -> int:
    """The smallest count that a Poisson variable of this mean exceeds in at most 5 % of cases."""
    count, term = 0, float(np.exp(-min(expected, 700.0)))
    total = term
    while total < 0.95 and count < 100_000:
        count += 1
        term *= expected / count
        total += term
    return count
