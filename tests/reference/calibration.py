"""Serial dependence and conformal p-values, by counting."""

from __future__ import annotations

import numpy as np
from scipy.stats import genpareto, lomax


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


def conformal_p_value(calibration: np.ndarray, effective: float, score: float) -> float:
    """By counting; beyond the largest calibration score times the survival of a generalised Pareto tail, as scipy fits and evaluates it."""
    above = sum(one >= score for one in calibration)
    p = (1 + effective * above / len(calibration)) / (effective + 1)
    start = np.quantile(calibration, 0.9)
    peaks = np.array([one - start for one in calibration if one > start])
    if len(peaks) < 30:
        shape, scale = 0.1, peaks.mean()
    else:
        shape, _, scale = genpareto.fit(peaks, floc=0)
        if not 0.05 <= shape <= 0.5:
            shape = min(max(shape, 0.05), 0.5)
            scale = peaks.mean() * (1 - shape)
    law, largest = genpareto(shape, scale=scale), max(calibration)
    return p * law.sf(score - start) / law.sf(largest - start) if score > largest else p


def p_value_in_time(calibration: np.ndarray, effective: float, score: float) -> float:
    """By counting up to the score above which three independent ones lie; beyond it by scipy's Lomax law, the predictive exponential."""
    n, ordered = len(calibration), sorted(calibration)
    start = ordered[-min(int(np.ceil(3 * n / effective)), n // 5)]
    peaks = [one - start for one in ordered if one > start]
    independent = max(1.0, effective * len(peaks) / n - 1)
    law = lomax(independent, scale=independent * (np.mean(peaks) if peaks else np.std(ordered)))
    above = sum(one >= score for one in calibration) if score <= start else len(peaks)
    return (1 + effective * above / n) / (effective + 1) * law.sf(max(0.0, score - start))
