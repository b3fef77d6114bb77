"""How unusual a record is, in words and no more than the normals can tell; which sensor has what share in it, and which shades a heat-map.

The one place for it, beside the line and in reports.

A p-value below what the normals were counted to rests on a curve fitted to the highest of them. Ten times as far out as they reach it is
still worth a figure; beyond, it says nothing. From 24 unrelated normals, "1 in 10,000,000" is not known.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Shades = tuple[float, float]  # the values of a map that are not shown at all, and shown brightest
FURTHER = 10  # times as rare as the rarest of the normals
AT_LEAST = 100.0  # normal records in one of which something may always be said to look as odd
BRIGHTEST = 1.5  # times as far above a usual score as the threshold is, is where a heat-map is brightest
USUAL = 0.4  # of normals, so many look as odd or odder, and more: nothing worth a number


def least_p(normals: float) -> float:
    """The smallest p-value that so many unrelated normals can tell.

    >>> least_p(200), least_p(4)
    (0.0005, 0.01)
    """
    return 1 / max(FURTHER * normals, AT_LEAST)


def p_words(p_value: float, least: float = 0.0) -> str:
    """A p-value in two digits, or what it is below.

    >>> p_words(0.00412, 0.0005), p_words(8e-8, 0.0025)
    ('p 0.0041', 'p below 0.0025')
    """
    return f"p below {least:.2g}" if p_value < least else f"p {p_value:.2g}"


def rarity(p_value: float, least: float = 0.0) -> tuple[bool, str]:
    """(whether that is a bound, so many): one normal record in so many looks as odd. Two digits.

    >>> rarity(0.0041, 0.0005), rarity(1.7e-5, 0.0025), rarity(0.9)
    ((False, '240'), (True, '400'), (False, '1.1'))
    """
    many = float(f"{1 / max(p_value, least, 1e-12):.2g}")
    return p_value < least, f"{many:,.0f}" if many >= 10 else f"{many:g}"


def rare_words(p_value: float, least: float = 0.0) -> str:
    """How unusual, as a noun.

    >>> rare_words(0.00123), rare_words(8e-8, 0.0025)
    ('1 normal record in 810', 'less than 1 normal record in 400')
    """
    bound, many = rarity(p_value, least)
    return f"{'less than ' if bound else ''}1 normal record in {many}"


def one_in(p_value: float, least: float = 0.0) -> str:
    """A p-value with its words.

    >>> one_in(0.0041, 0.0005), one_in(0.7, 0.0005), one_in(1.7e-5, 0.0025)
    ('p 0.0041 (about 1 normal in 240)', 'p 0.7 (as most normals)', 'p below 0.0025 (rarer than 1 normal in 400)')
    """
    bound, many = rarity(p_value, least)
    words = f"rarer than 1 normal in {many}" if bound else f"about 1 normal in {many}" if p_value < USUAL else "as most normals"
    return f"{p_words(p_value, least)} ({words})"


def shades_of(usual: float, threshold: float | None, highest: float) -> Shades:
    """From where on a heat-map shows anything, and where it is brightest: `usual` is a usual normal score, `highest` the highest of all.

    The same for all pictures of a detector that has a threshold, so that a normal picture looks calm. A score may be of either sign, and so
    may the threshold.

    >>> shades_of(2.0, 6.0, 9.0), shades_of(2.0, None, 9.0)
    ((2.0, 8.0), (2.0, 9.0))
    """
    if threshold is not None and threshold > usual:
        return usual, usual + BRIGHTEST * (threshold - usual)
    return usual, max(highest, usual + 1e-6)


def shares_of(contribution: NDArray[Any]) -> NDArray[np.float64]:
    """What each sensor adds to the score (..., C) as its share of what all add: 0 to 1, together 1.

    >>> shares_of(np.array([1, 3], np.float32))
    array([0.25, 0.75])
    """
    plain = np.asarray(contribution, dtype=np.float64)
    found: NDArray[np.float64] = plain / np.maximum(plain.sum(axis=-1, keepdims=True), 1e-12)
    return found
