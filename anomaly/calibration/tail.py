"""The law of high normal scores beyond those that can be counted: peaks over threshold (Pickands 1975), fitted to few of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

INDEPENDENT = 3.0  # scores in time are counted up to where this many independent ones lie above
SHARE, FEWEST, MOST = 0.25, 8, 60  # of exchangeable scores the tail takes a quarter, but as few and as many independent ones
SHAPE_SPREAD = 0.25  # standard deviation of the shapes that are expected, about 0
LEAST_SHAPE = 0.05  # a smaller one, or one below 0, would call scores impossible that are only rare
MATCHED = 0.2  # the law is that of the predictive where this share, and its square, of the excesses lie above
SHAPES = np.linspace(-0.6, 0.6, 20)  # none is 0
SCALES = np.exp(np.linspace(-1.2, 1.4, 27))  # in means of the excesses


@dataclass(frozen=True)
class Tail:
    """Law of scores s above `start`: P(S > s | S > start) = (1 + shape * ((s - start) / scale) ** power) ** (-1 / shape).

    With the power 1 a generalised Pareto law; a greater one falls off faster, without an end. `beyond` is the share of the calibration
    scores that lie above `start`.
    """

    start: float
    scale: float
    shape: float
    beyond: float
    power: float = 1.0


def fit_tail(ordered: NDArray[np.float64], effective: float) -> Tail:
    """The tail of exchangeable scores, of which `effective` are independent: from where a quarter of them (at most 60) lie above.

    A count of the two scores that lie above a threshold of 1 % of 245 is off by 70 % for chance, and one odd normal among them moves the
    threshold up to its own score. So the largest excesses speak together, by a generalised Pareto law:

    - Scale and shape are not taken for certain: the law is their posterior's predictive one, so that what was asked for comes on average
      over draws. Shapes are normal about 0, exponential excesses, with standard deviation 0.25 (a penalty on the shape as in Coles and
      Dixon 1999, doi:10.1023/A:1009905222644). Scales are taken alike on a log scale. Excesses that depend on each other count less.
    - The largest score is censored: it is known to be above the second largest, and how far above does not matter. So one odd normal
      moves the threshold little, and a law that holds is not biased by it.
    - The predictive law, a mixture, is kept as one law that equals it where 20 % and 4 % of the excesses lie above (`Tail`).

    `ordered` (n,) float64 are the scores, ascending.

    >>> normals = np.sort(np.random.default_rng(0).exponential(size=245))
    >>> odd = np.append(normals[1:], 100.0)  # one of them is a defect
    >>> [round(fit_tail(scores, 245).scale, 2) for scores in (normals, odd)]
    [0.96, 0.97]
    """
    count = len(ordered)
    each = count / effective  # scores that are worth one independent score
    wanted = min(max(SHARE * effective, FEWEST), MOST) * each
    above = max(1, min(int(np.ceil(wanted - 1e-6)), count // 2))
    start = float(ordered[-above - 1])
    peaks = ordered[ordered > start] - start
    if len(peaks) < 2:
        return Tail(start, max(1e-6, float(ordered.std())), 0.1, len(peaks) / count)
    censored = min(max(1, round(each)), len(peaks) // 2)
    weights, shapes, scales = _posterior(np.minimum(peaks, peaks[-censored - 1]), censored, 1 / each)
    first, second = (_predictive_quantile(weights, shapes, scales, share) for share in (MATCHED, MATCHED**2))
    shape = float(np.log(max(second / first - 1, 1e-3)) / -np.log(MATCHED))  # a Pareto law's quantiles at q and q ** 2 tell its shape
    if shape >= LEAST_SHAPE:
        return Tail(start, first / _pareto(MATCHED, shape), shape, len(peaks) / count)
    low, high = (_pareto(share, LEAST_SHAPE) for share in (MATCHED, MATCHED**2))
    power = float(np.log(high / low) / np.log(second / first))
    return Tail(start, first / low ** (1 / power), LEAST_SHAPE, len(peaks) / count, power)


def fit_tail_in_time(ordered: NDArray[np.float64], effective: float) -> Tail:
    """The tail of scores that follow each other in time, from where three independent ones lie above.

    The largest scores of a record are often one burst, and say little of how high the next one goes. So counts end where INDEPENDENT
    scores, or a fifth of all, lie above. Their excesses are taken for exponential, and their mean is not taken for certain: after k
    independent ones a further one is over y with probability (1 + y / (k * mean)) ** -k, a generalised Pareto law of shape 1 / k (the
    predictive law of an exponential variable, Geisser 1993, "Predictive inference"). On average over records it is exceeded as often as
    it says, which a law with the mean put in is not. One of the independent excesses is not counted in k: where the tail starts is taken
    from the same scores, and the excesses of bursts vary more than exponential ones.

    `ordered` (n,) float64 are the scores, ascending; `effective` says how many of them are independent.

    >>> tail = fit_tail_in_time(np.arange(1000.0), effective=100)
    >>> tail.start, tail.scale, tail.beyond
    (970.0, 15.0, 0.029)
    """
    count = len(ordered)
    start = float(ordered[-min(int(np.ceil(INDEPENDENT * count / effective)), count // 5)])
    peaks = ordered[ordered > start] - start
    scale = float(peaks.mean()) if len(peaks) else max(1e-6, float(ordered.std()))
    return Tail(start, scale, 1 / max(1.0, effective * len(peaks) / count - 1), len(peaks) / count)


def _pareto(survival: float, shape: float) -> float:
    """The excess, in scales, over which a share `survival` of a generalised Pareto law lies."""
    return float((survival**-shape - 1) / shape)


def _posterior(peaks: NDArray[np.float64], censored: int, worth: float) -> tuple[NDArray[np.float64], ...]:
    """Weights (K,) of generalised Pareto laws with shapes (K,) and scales (K,), given ascending excesses (k,).

    The last `censored` ones are lower bounds. An excess is `worth` a part of an independent one.
    """
    mean = max(float(peaks.mean()), 1e-300)
    shape, scale = (grid.ravel() for grid in np.meshgrid(SHAPES, SCALES * mean))
    inside = 1 + shape[:, None] * peaks / scale[:, None]  # (K, k)
    logs = np.log(np.maximum(inside, 1e-300)) / shape[:, None]
    seen = len(peaks) - censored
    likelihood = -logs.sum(axis=1) - logs[:, :seen] @ np.ones(seen) * shape - seen * np.log(scale)
    chance = np.where(inside[:, -1] > 0, worth * likelihood - 0.5 * np.square(shape / SHAPE_SPREAD), -np.inf)
    weights = np.exp(chance - chance.max())
    return weights / weights.sum(), shape, scale


def _predictive_quantile(weights: NDArray[np.float64], shapes: NDArray[np.float64], scales: NDArray[np.float64], share: float) -> float:
    """The excess over which `share` of the mixture of generalised Pareto laws lies, by bisection."""
    each = (share**-shapes - 1) / shapes * scales
    low, high = float(each.min()), float(each.max())
    for _ in range(45):
        middle = (low + high) / 2
        inside = np.maximum(1 + shapes * middle / scales, 0.0)
        survival = np.where(inside > 0, np.exp(-np.log(np.maximum(inside, 1e-300)) / shapes), 0.0)
        low, high = (middle, high) if float(weights @ survival) > share else (low, middle)
    return (low + high) / 2
