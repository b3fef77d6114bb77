"""Whose labels make the vote beside a normal-only score: AdaBoost on a line's own, or TrAdaBoost with another line's too.

What the two kinds of input share; how labelled records become rows is told by `camera.few_labels` and `sensor.few_labels`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomaly.evaluation.metrics import auroc
from anomaly.evaluation.transfer import Comparison, label_gain
from anomaly.scorers.boosted import Rows, Vote, fit_adaboost, fit_tradaboost, held_out_shares


@dataclass(frozen=True)
class Labelled:
    """One row of features for each record with its label: `x` (n, D) float64, `y` (n,) int64 with 0 a normal and 1 a fault.

    `learnt` (n,) says which rows a vote may be fitted on, all when None. `groups` (n,) are numbers of records that belong together, such
    as windows of one stretch of time: they are drawn together where an interval is found. Each stands alone when None.
    """

    x: Rows
    y: NDArray[np.int64]
    learnt: NDArray[np.bool_] | None = None
    groups: NDArray[np.int64] | None = None

    @property
    def fitted_on(self) -> NDArray[np.bool_]:
        """Which rows (n,) a vote may be fitted on."""
        return np.ones(len(self.y), bool) if self.learnt is None else self.learnt

    def gain(self, ours: Rows, theirs: Rows, seed: int) -> Comparison:
        """Scores `ours` (n,) against `theirs` on these labels: ROC-AUC, its gain and the 95 % interval."""
        found = label_gain(self.y, ours, theirs, np.random.default_rng(seed), groups=self.groups)
        return Comparison(auroc(self.y == 1, ours) or 0.0, *found)


def choose_vote(own: Labelled, source: Labelled | None, folds: NDArray[np.int64], seed: int) -> tuple[Vote, Rows, dict[str, Any]]:
    """AdaBoost on a line's own labels, or TrAdaBoost with the source's where that is clearly better on the line's own, by folds.

    `folds` (n,) is the fold of each own row. Returns the vote fitted on all that may be learnt from, each own row's share (n,) by a vote
    fitted without its fold, and the figures.
    """
    fits: dict[str, Callable[[NDArray[np.int64]], Vote]] = {"adaboost": lambda kept: fit_adaboost(own.x[kept], own.y[kept])}
    if source is not None:
        fits["tradaboost"] = lambda kept: fit_tradaboost(source.x, source.y, own.x[kept], own.y[kept])
    shares = {name: held_out_shares(fit, own.x, folds, own.fitted_on) for name, fit in fits.items()}
    report: dict[str, Any] = {name: {"held_out_auroc": auroc(own.y == 1, share)} for name, share in shares.items()}
    taken = "adaboost"
    if "tradaboost" in fits:
        found = own.gain(shares["tradaboost"], shares["adaboost"], seed)
        report["tradaboost"] |= {"gain": found.gain, "gain_ci95": [found.low, found.high], "verdict": found.verdict}
        taken = "tradaboost" if found.verdict == "helps" else "adaboost"
    return fits[taken](np.flatnonzero(own.fitted_on)), shares[taken], report | {"vote": taken}
