"""Serial dependence of scores: how many independent ones a series is worth, and how its exceedances cluster."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

HIGH = 0.05  # the share of the scores that count as exceedances


def effective_size(*parts: NDArray[np.float64]) -> float:
    """Effective sample size by Geyer's initial positive sequence (Geyer 1992, doi:10.1214/ss/1177011137).

    n / (1 + 2 sum of autocorrelations), the sum cut at the first pair of lags whose sum is not positive. `parts` are one or several series
    (n_i,) float64, each in time order; they share one mean, so that series at different levels are worth little more than their number.
    Returns between 1 and n, the number of all scores; n itself for fewer than four scores or a constant series.

    >>> import numpy as np
    >>> noise = np.random.default_rng(0).normal(size=1000)
    >>> round(effective_size(noise))
    1000
    >>> round(effective_size(np.repeat(noise[:100], 10)))  # a hundred scores, each ten times over
    75
    """
    every = np.concatenate(parts)
    n, mean = len(every), every.mean()
    if n < 4 or float(every.var()) < 1e-30:
        return float(n)
    correlation = np.zeros(max(map(len, parts)))
    for part in parts:
        size = 1 << (2 * len(part) - 1).bit_length()
        spectrum = np.fft.rfft(part - mean, size)
        correlation[: len(part)] += np.fft.irfft(spectrum * np.conj(spectrum), size)[: len(part)]
    correlation /= correlation[0]
    total = 0.0
    for lag in range(1, len(correlation) - 1, 2):
        pair = correlation[lag] + correlation[lag + 1]
        if pair <= 0:
            break
        total += float(pair)
    return float(np.clip(n / (1 + 2 * total), 1.0, n))


def independent_scores(parts: Sequence[NDArray[np.float64]]) -> float:
    """Effective sample size for a high quantile: of the exceedances of the scores' 95 % quantile, not of the scores themselves.

    How far a sample quantile is off depends on the dependence of the exceedances (Sen 1972, doi:10.1016/0047-259X(72)90011-5). Scores of a
    machine that drifts for hours may still exceed it in many short bursts. `parts` are one or several series (n_i,) float64, each in time
    order. Returns between 1 and the number of all scores.
    """
    high = np.quantile(np.concatenate(parts), 1 - HIGH)
    return effective_size(*((part >= high).astype(np.float64) for part in parts))


def independent_block(scores: NDArray[np.float64], places: NDArray[np.int64], least: int) -> int:
    """How many records in a row make a block whose mean is nearly independent of the next one's: four times what a score is worth.

    `scores` (n,) float64 are those of the records at `places` (n,), ascending, which may be thinned. Ranks are taken, so that few high
    scores do not decide. Returns at least `least`.

    >>> noise = np.random.default_rng(0).normal(size=300)
    >>> independent_block(noise, np.arange(300), least=1) <= 6
    True
    >>> independent_block(np.repeat(noise, 20), np.arange(6000), least=1) >= 20
    True
    """
    step = max(1, int(np.median(np.diff(places)))) if len(places) > 1 else 1
    ranks = np.argsort(np.argsort(scores)).astype(np.float64)
    return max(least, int(np.ceil(4 * step * len(scores) / effective_size(ranks))))


def extremal_index(scores: NDArray[np.float64], apart: int) -> float:
    """Extremal index, clusters per exceedance, by the runs estimator (Smith and Weissman 1994, doi:10.1111/j.2517-6161.1994.tb01997.x).

    1 when each exceedance stands alone, 0.1 when they come ten at a time. `scores` (n,) float64 are in time order. Exceedances are those
    above the 95 % quantile; two are of one cluster unless `apart` or more lower scores lie between them. A cluster is one alarm, so
    the index turns flagged records into alarms. Returns 1 when no score is above the quantile.

    >>> import numpy as np
    >>> scores = np.zeros(200)
    >>> scores[[10, 11, 12, 100, 150]] = 1.0  # a burst of three, and two alone
    >>> round(extremal_index(scores, apart=5), 2)
    0.6
    """
    high = np.flatnonzero(scores > np.quantile(scores, 1 - HIGH))
    if len(high) == 0:
        return 1.0
    return float(1 + (np.diff(high) > apart).sum()) / len(high)
