"""The daily or weekly pattern of each sensor, learnt from its normal rows where the record is long enough and the pattern pays.

Rows are counted into cells: a period of the record by a piece of the clock, with the sum and the sum of squares of each. All that follows
is done on cells, so that a million rows cost one pass. The pattern is what the periods share once slow change is taken off: a running mean
over one period, as in the classical decomposition of a series (Hyndman and Athanasopoulos, Forecasting, 3rd ed., section 3.4). The mean
over periods is Huber's, for a holiday or a fault that nobody knew of must not bend it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anomaly.data.tables.pattern.take_off import between_knots, wall_clock
from anomaly.schema import DAY_S, WEEK_S, Channel, Pattern

FEWEST_PERIODS = 3  # whole ones in the normal record
WHOLE = 0.8  # of a period's cells that hold a reading, for it to count as whole
CLEAR = 0.1  # of a sensor's variance that the pattern must explain of periods that it was not learnt from, and something of each stretch
FOLDS = 10  # stretches of periods that are left out in turn, at most
KNOTS = {DAY_S: (48, 24, 12), WEEK_S: (168, 84, 56)}  # of a period; the first whose cells are no shorter than the time between two rows
MORE = 0.02  # of the variance that a weekly pattern must explain beyond a daily one
GAIN, FINER = 0.02, 4  # in likeness of the halves of a record by a shift, which tells a free cycle; parts of a knot that are tried
WIDTHS = (0, 1, 2, 4)  # knots to each side that are averaged over, tried on periods left out
FIRST_CLOCK_S = 315_532_800.0  # 1980: before that, times count from the start of a record and tell no time of day
_CHANGE_S = 3600.0  # by which a clock is changed in spring and in autumn
_ROUNDS, _HUBER, _HUBER_STEPS = 3, 1.5, 8


class Rows(NamedTuple):
    """Normal rows of one table: times (n,) seconds since 1970 UTC, readings (n, C), NaN = missing."""

    times: NDArray[np.float64]
    readings: NDArray[np.float32]


@dataclass(frozen=True)
class _Cells:
    """Of one sensor: how many readings (D, K) each cell holds, their sum and their sum of squares."""

    count: NDArray[np.float64]
    total: NDArray[np.float64]
    squares: NDArray[np.float64]

    @property
    def means(self) -> NDArray[np.float64]:
        """(D, K), NaN where there is no reading."""
        return np.asarray(np.where(self.count > 0, self.total / np.maximum(self.count, 1), np.nan))

    def about(self, pattern: NDArray[np.float64], rows: NDArray[np.int64]) -> tuple[float, float]:
        """(sum of squared deviations, sum) of the readings in periods `rows` less a pattern (K,)."""
        count, total = self.count[rows], self.total[rows]
        left = self.squares[rows] - 2 * pattern * total + count * pattern**2
        return float(left.sum()), float((total - count * pattern).sum())


class Found(NamedTuple):
    """The pattern of one sensor; what was learnt for each fold of periods on the others (F, K); the fold (n,) that each row is in."""

    pattern: Pattern
    others: NDArray[np.float64]
    folds: NDArray[np.int64]

    def by_others(self, times: NDArray[np.float64], rows: slice) -> NDArray[np.float64]:
        """What is learnt for `rows` of those learnt from, at `times` (n,), on other periods: (n,) in engineering units."""
        at, after, share = between_knots(wall_clock(times, self.pattern.zone), self.pattern.period_s, self.others.shape[1])
        fold = self.folds[rows]
        return np.asarray((1 - share) * self.others[fold, at] + share * self.others[fold, after])


def may_have_patterns(first: float, last: float) -> bool:
    """Whether normal rows from one time to another, in seconds since 1970, are long enough for a pattern, and tell the time of day."""
    return first >= FIRST_CLOCK_S and last - first >= FEWEST_PERIODS * DAY_S * (1 - 1e-6) - 2 * _CHANGE_S


def fit_patterns(channels: Sequence[Channel], rows: Rows, zone: str, row_s: float) -> list[Found | None]:
    """The pattern of each sensor, None for one without. `row_s`: seconds between two rows.

    A pattern is taken only if the record holds `FEWEST_PERIODS` whole periods, and if what is learnt on the others explains a clear share
    of every stretch that is left out. A weekly one is taken where it explains more of them than a daily one.
    """
    found: list[Found | None] = [None] * len(channels)
    clock = wall_clock(rows.times, zone)
    for period_s in (DAY_S, WEEK_S):
        knots = next((count for count in KNOTS[period_s] if period_s / count >= 0.99 * row_s), None)
        if knots is None or np.ptp(clock) + row_s < FEWEST_PERIODS * period_s * (1 - 1e-6):
            continue
        number = np.floor(clock * (knots / period_s) + 0.5).astype(np.int64)  # a cell lies about its knot
        ahead = float((clock * (knots / period_s) - number).mean())  # rows every hour may lie beside it, all at the same minute
        begin = int(number.min())  # a period begins with the record
        numbers, period = np.unique((number - begin) // knots, return_inverse=True)
        fold_of = np.arange(len(numbers)) * min(len(numbers), FOLDS) // len(numbers)
        for index, channel in enumerate(channels):
            if channel.pattern is None:
                cells = _cells(period * knots + (number - begin) % knots, rows.readings[:, index], len(numbers), knots)
                better, daily = _pattern(cells, fold_of), found[index]
                if better is not None and (daily is None or better.share > daily.pattern.share + MORE):
                    profile, *others = (_turned(each, begin % knots + ahead) for each in (better.profile, *better.others))
                    heights = tuple(float(f"{height:.7g}") for height in profile.tolist())
                    pattern = Pattern(period_s=period_s, zone=zone, knots=heights, share=round(better.share, 4))
                    found[index] = Found(pattern, np.array(others), fold_of[period])
    return found


def _cells(places: NDArray[np.int64], column: NDArray[np.float32], periods: int, knots: int) -> _Cells:
    known = np.isfinite(column)
    at, x = places[known], column[known].astype(np.float64)
    x -= x.mean() if len(x) else 0.0  # so that squares keep their digits
    sums = (np.bincount(at, weights, periods * knots).reshape(periods, knots) for weights in (None, x, x * x))
    return _Cells(*(part.astype(np.float64) for part in sums))


class _Shared(NamedTuple):
    """What periods share (K,), what is learnt for each fold on the others (F, K), and the share of their variance that this explains."""

    profile: NDArray[np.float64]
    others: NDArray[np.float64]
    share: float


def _pattern(cells: _Cells, fold_of: NDArray[np.int64]) -> _Shared | None:
    """The pattern of one sensor, None where it has none that pays. `fold_of` (D,): the fold of each period."""
    full = (cells.count > 0).mean(axis=1) >= WHOLE
    if len(np.unique(fold_of[full])) < FEWEST_PERIODS:
        return None
    means, flat = cells.means, np.zeros(cells.count.shape[1])
    rough = [_profile(means[fold_of != fold]) for fold in range(fold_of[-1] + 1)]
    left = [np.flatnonzero(fold_of == fold) for fold in range(fold_of[-1] + 1)]
    tried = [np.array([_smooth(one, width) for one in rough]) for width in WIDTHS]
    sums = [sum(cells.about(one, rows)[0] for one, rows in zip(others, left, strict=True)) for others in tried]
    best = int(np.argmin(sums))
    whole = [fold for fold, rows in enumerate(left) if (cells.count[rows] > 0).mean() >= WHOLE / 2]
    before, after = ([_variance(cells, one, rows) for one, rows in zip(of, left, strict=True)] for of in ([flat] * len(left), tried[best]))
    total = sum(cells.about(flat, rows)[0] for rows in left)
    share = 1 - sums[best] / total if total > 0 else 0.0
    if share < CLEAR or any(after[fold] >= before[fold] for fold in whole) or _runs_free(means[full]):
        return None
    return _Shared(_smooth(_profile(means), WIDTHS[best]), tried[best], share)


def _turned(pattern: NDArray[np.float64], by: float) -> NDArray[np.float64]:
    """A pattern (K,) whose first value lies at knot `by`, at knots 0 to K - 1; mean 0."""
    at = np.arange(len(pattern))
    turned = np.interp((at - by) % len(pattern), np.arange(len(pattern) + 1), np.append(pattern, pattern[0]))
    return np.asarray(turned - turned.mean())


def _runs_free(means: NDArray[np.float64]) -> bool:
    """Whether what looks like a pattern over periods (D, K) moves against the clock: it is the machine's own cycle.

    The halves of the record then differ by a shift, and by little beside it.
    """
    still = means - _slow(means - np.nan_to_num(_profile(means)))  # a line over one period alone would look like a pattern
    first, second = (np.fft.rfft(_smooth(_centre(half), 0)) for half in np.array_split(still, 2))
    norm = float(np.sqrt((np.abs(first) ** 2).sum() * (np.abs(second) ** 2).sum()))
    size = FINER * means.shape[1]
    alike = np.fft.irfft(first.conj() * second, size) * size / (2 * norm) if norm > 0 else np.ones(1)
    lag = int(np.argmax(alike))
    return bool(alike[lag] - alike[0] > max(GAIN, (1 - alike[0]) / 2))


def _variance(cells: _Cells, pattern: NDArray[np.float64], rows: NDArray[np.int64]) -> float:
    """Variance of the readings in some periods less a pattern, about their own mean."""
    (squares, total), count = cells.about(pattern, rows), max(cells.count[rows].sum(), 1.0)
    return float(squares / count - (total / count) ** 2)


def _profile(means: NDArray[np.float64]) -> NDArray[np.float64]:
    """What periods (D, K) share (K,), without their slow change; NaN where no period has a reading.

    Slow change and pattern are taken off each other in turn, so that gaps and the ends of the record bend neither.
    """
    shared = np.zeros(means.shape[1])
    for _ in range(_ROUNDS):
        shared = _centre(means - _slow(means - np.nan_to_num(shared)))
        shared -= np.nanmean(shared)
    return shared


def _slow(means: NDArray[np.float64]) -> NDArray[np.float64]:
    """A straight line, and about it the running mean over one period, of periods (D, K)."""
    periods, knots = means.shape
    flat, at = means.ravel(), np.arange(means.size, dtype=np.float64)
    known = np.isfinite(flat)
    line = np.polyval(np.polyfit(at[known], flat[known], 1), at)
    sums = np.concatenate([[0.0], np.cumsum(np.where(known, flat - line, 0.0))])
    counts = np.concatenate([[0], np.cumsum(known)])
    low, high = (np.clip(np.arange(flat.size) + shift, 0, flat.size) for shift in (-(knots // 2), knots - knots // 2))
    mean = (sums[high] - sums[low]) / np.maximum(counts[high] - counts[low], 1)
    return np.asarray((line + mean).reshape(periods, knots))


def _centre(deviations: NDArray[np.float64]) -> NDArray[np.float64]:
    """Huber's mean over periods (D, K) of each cell (K,), NaN where there is no reading."""
    known = np.isfinite(deviations)
    some = known.any(axis=0)
    part, known = deviations[:, some], known[:, some]
    middle = np.nanmedian(part, axis=0)
    scale = 1.4826 * float(np.nanmedian(np.abs(part - middle)))
    for _ in range(_HUBER_STEPS):
        away = np.abs(np.where(known, part - middle, 0.0))
        weight = np.where(known, np.minimum(1.0, _HUBER * scale / np.maximum(away, 1e-12 * scale + 1e-300)), 0.0)
        middle = (weight * np.where(known, part, 0.0)).sum(axis=0) / np.maximum(weight.sum(axis=0), 1e-300) if scale > 0 else middle
    found = np.full(deviations.shape[1], np.nan)
    found[some] = middle
    return found


def _smooth(pattern: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """A pattern (K,) averaged over `width` knots to each side, the nearer the more; knots without a reading by a straight line; mean 0."""
    known = np.isfinite(pattern)
    total, weights = np.zeros(len(pattern)), np.zeros(len(pattern))
    for shift in range(-width, width + 1):
        weight = 1 - abs(shift) / (width + 1)
        total += weight * np.roll(np.where(known, pattern, 0.0), shift)
        weights += weight * np.roll(known, shift)
    at = np.flatnonzero(weights > 0)
    around = np.concatenate([at - len(pattern), at, at + len(pattern)])
    whole = np.interp(np.arange(len(pattern)), around, np.tile(total[at] / weights[at], 3))
    return np.asarray(whole - whole.mean())
