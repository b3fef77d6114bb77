"""What the alarm rules make of history: alarms, false ones, faults alarmed, delay, and whether a budget held. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomaly.alarms.process import ProcessAlarm, Rules
from anomaly.data.clock import span_words
from anomaly.schema import DAY_S

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


@dataclass(frozen=True)
class History:
    """Runs, in words what their times come from, "" where they are the records' own, and what could not be read."""

    runs: tuple[Run, ...]
    clock: str = ""
    set_aside: tuple[str, ...] = ()


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


def alarm_spans(rules: Rules, run: Run) -> list[tuple[float, float]]:
    """(opened, closed) time of each alarm that the rules raise in a run; one that is still on ends with the run."""
    changes = ProcessAlarm(rules).take_all(run.times.tolist(), run.p_values, run.scores, run.contributions)
    ends: dict[str, list[float]] = {"opened": [], "closed": []}
    for _, change in changes:
        if change.kind != "joined":
            ends[change.kind].append(change.time)
    return list(zip(ends["opened"], [*ends["closed"], float(run.times[-1])], strict=False)) if len(run.times) else []


def parts(rules: Rules, runs: Sequence[Run]) -> dict[str, Any]:
    """Figures of runs whose records are parts, each on its own: how many good and bad ones there are and are flagged.

    `bad_parts_alarmed_alone` counts the bad parts that raise an alarm when one comes among good ones: with an on-delay, none does.
    """
    p = np.concatenate([run.p_values for run in runs])
    bad = np.concatenate([np.zeros(len(run.times), bool) if run.faulty is None else run.faulty for run in runs])
    flagged = p <= rules.settings.threshold
    alone = sum(bool(ProcessAlarm(rules).take(0.0, float(one))) for one in p[bad & flagged])
    return {
        "good_parts": int((~bad).sum()),
        "good_parts_flagged": int((flagged & ~bad).sum()),
        "bad_parts": int(bad.sum()),
        "bad_parts_flagged": int((flagged & bad).sum()),
        "bad_parts_alarmed_alone": alone,
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
    'With the alarm rules on, 0 false alarms in 3.36 h of normal running: the budget of 7 a week held, as far as so short a time shows.'
    """
    false, days = int(figures["false_alarms"]), float(figures["normal_days"])
    alarms = "1 false alarm" if false == 1 else f"{false} false alarms"
    said = f"With the alarm rules on, {alarms} in {span_words(days * DAY_S)} of normal running"
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


def promise_of_parts(budget: Mapping[str, Any], p_threshold: float, figures: dict[str, Any]) -> str:
    """Whether the budget of a bundle for parts held, in a sentence: by alarms over time where it is set so, else by good parts flagged.

    `budget`: that of the bundle's threshold. `figures`: of `replay` and `parts`.
    """
    per_day = budget.get("false_alarms_per_day")
    if per_day is not None:
        return promise(figures, 7 * per_day)
    return share_promise(int(figures["good_parts_flagged"]), int(figures["good_parts"]), budget.get("false_alarm_rate") or p_threshold)


def share_promise(flagged: int, good: int, rate: float) -> str:
    """Whether a budget of so large a share of good parts held, in a sentence. It did not where the whole 95 % interval lies above it.

    >>> share_promise(9, 1000, 0.01)
    'Expect 1 in 100 good parts flagged; seen here: 0.9 in 100 (9 of 1000), 95 % interval 0.41 to 1.7: the budget held.'
    >>> share_promise(0, 30, 0.01).partition("; ")[2]
    'seen here: 0 in 100 (0 of 30), 95 % interval 0 to 12: the budget held, as far as so few parts show.'
    """
    per = 100
    while rate * per < 0.999 and per < 1_000_000:
        per *= 10
    expect = f"Expect {_short(rate * per)} in {per} good parts flagged"
    if not good:
        return f"{expect}; there were no good parts to judge that by."
    low, high = exact_interval(flagged, good)
    held = "did not hold" if low > rate else "held, as far as so few parts show" if rate * good < 3 else "held"
    seen = f"{_short(per * flagged / good)} in {per} ({flagged} of {good}), 95 % interval {_short(per * low)} to {_short(per * high)}"
    return f"{expect}; seen here: {seen}: the budget {held}."


def _short(value: float) -> str:
    return f"{value:.2g}" if value < 99.5 else f"{value:.0f}"


def exact_interval(hits: int, of: int, level: float = 0.95) -> tuple[float, float]:
    """The exact interval of a share seen as `hits` of `of` (Clopper and Pearson 1934), also for none and all; (0, 1) for 0 of 0.

    By bisection over the binomial distribution: the plant side has no SciPy.

    >>> [round(end, 4) for end in exact_interval(0, 100)]
    [0.0, 0.0362]
    """
    tail = (1 - level) / 2
    low = 0.0 if hits == 0 else _last(lambda share: 1 - _at_most(hits - 1, of, share) < tail)
    high = 1.0 if hits == of else _last(lambda share: _at_most(hits, of, share) > tail)
    return low, high


def _last(holds: Callable[[float], bool]) -> float:
    """The largest share for which something holds that holds for all smaller ones."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def _at_most(hits: int, of: int, share: float) -> float:
    """The chance of at most so many hits of a binomial variable."""
    i = np.arange(1, hits + 1)
    ways = np.concatenate([[0.0], np.cumsum(np.log((of - i + 1) / i))])  # logarithm of the binomial coefficients
    return float(np.exp(ways + np.arange(hits + 1) * np.log(share) + (of - np.arange(hits + 1)) * np.log1p(-share)).sum())
