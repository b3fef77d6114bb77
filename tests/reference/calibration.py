"""Serial dependence and conformal p-values, by counting."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy.optimize import brentq
from scipy.stats import genpareto, lomax, norm


def effective_size(parts: list[np.ndarray]) -> float:
    """Geyer's initial positive sequence, every autocovariance by its own sum."""
    every = np.concatenate(parts)
    n, mean = len(every), every.mean()
    if n < 4 or every.var() < 1e-30:
        return float(n)

    def covariance(lag: int) -> float:
        return sum(float((part[i] - mean) * (part[i + lag] - mean)) for part in parts for i in range(len(part) - lag))

    total, lag = 0.0, 1
    while lag + 1 < max(map(len, parts)):
        pair = (covariance(lag) + covariance(lag + 1)) / covariance(0)
        if pair <= 0:
            break
        total, lag = total + pair, lag + 2
    return float(min(max(n / (1 + 2 * total), 1.0), n))


def extremal_index(scores: np.ndarray, apart: int) -> float:
    """Clusters per exceedance: row by row, a cluster ends with the `apart`-th lower score in a row."""
    cut = np.quantile(scores, 0.95)
    clusters, exceedances, since = 0, 0, None
    for score in scores:
        if score > cut:
            exceedances += 1
            clusters += since is None or since >= apart
            since = 0
        elif since is not None:
            since += 1
    return clusters / exceedances if exceedances else 1.0


def conformal_p_values(calibration: np.ndarray, effective: float, scores: list[float]) -> list[float]:
    """By counting; where a quarter of the scores lie above, times the survival of the law that `predictive_law` finds with scipy."""
    n = len(calibration)
    k = min(math.ceil(min(max(0.25 * effective, 8), 60) * n / effective - 1e-6), n // 2)
    start = sorted(calibration)[-k - 1]
    peaks = np.array(sorted(one - start for one in calibration if one > start))
    law = predictive_law(peaks, max(1, round(n / effective)), effective / n)
    counts = [sum(one >= score for one in calibration) if score <= start else len(peaks) for score in scores]
    return [(1 + effective * k / n) / (effective + 1) * law(max(0.0, score - start)) for k, score in zip(counts, scores, strict=True)]


def predictive_law(peaks: np.ndarray, censored: int, worth: float) -> Callable[[float], float]:
    """Survival of an excess: the mixture of generalised Pareto laws over a grid, kept as the law equal to it at 20 and at 4 %."""
    censored = min(censored, len(peaks) // 2)
    seen, bound = peaks[:-censored], peaks[-censored - 1]
    mean = (sum(seen) + censored * bound) / len(peaks)
    shapes, scales = (grid.ravel() for grid in np.meshgrid(np.linspace(-0.6, 0.6, 20), mean * np.exp(np.linspace(-1.2, 1.4, 27))))
    chance = sum(genpareto.logpdf(one, shapes, scale=scales) for one in seen) + censored * genpareto.logsf(bound, shapes, scale=scales)
    weight = np.exp(worth * (chance - chance.max()) + norm.logpdf(shapes, scale=0.25))
    weight /= weight.sum()

    def quantile(share: float) -> float:
        return float(brentq(lambda y: weight @ genpareto.sf(y, shapes, scale=scales) - share, 0, 1e6 * mean, xtol=1e-12 * mean))

    first, second = quantile(0.2), quantile(0.04)
    shape = math.log(max(second / first - 1, 1e-3)) / math.log(5)
    if shape >= 0.05:
        return genpareto(shape, scale=first / genpareto(shape).isf(0.2)).sf  # type: ignore[no-any-return]
    low, high = genpareto(0.05).isf([0.2, 0.04])
    power = math.log(high / low) / math.log(second / first)
    return lambda y: genpareto(0.05).sf(low * (y / first) ** power)  # type: ignore[no-any-return]


def p_value_in_time(calibration: np.ndarray, effective: float, score: float) -> float:
    """By counting up to the score above which three independent ones lie; beyond it by scipy's Lomax law, the predictive exponential."""
    n, ordered = len(calibration), sorted(calibration)
    start = ordered[-min(int(np.ceil(3 * n / effective)), n // 5)]
    peaks = [one - start for one in ordered if one > start]
    independent = max(1.0, effective * len(peaks) / n - 1)
    law = lomax(independent, scale=independent * (np.mean(peaks) if peaks else np.std(ordered)))
    above = sum(one >= score for one in calibration) if score <= start else len(peaks)
    return (1 + effective * above / n) / (effective + 1) * law.sf(max(0.0, score - start))
