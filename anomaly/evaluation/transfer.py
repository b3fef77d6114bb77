"""The guard against negative transfer: each transfer method against the target alone, on the same normals with the same synthetic faults.

A method here is a candidate's name ("coral", "finetune", …); `ALONE` names doing without any.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from anomaly.evaluation.injected import Ranking, gain_interval
from anomaly.evaluation.metrics import auroc

Floats = NDArray[np.float64]

ALONE = "target only"
LEAST_GAIN = 0.02  # ROC-AUC; the whole interval must lie above it: synthetic faults have no slow drift, and favour what calls more normal

Verdict = Literal["helps", "no clear difference", "negative transfer"]


@dataclass(frozen=True)
class Comparison:
    """One method: its ROC-AUC on synthetic faults, and its gain over the target alone with the paired 95 % interval.

    `proves`: whether a gain on synthetic faults is evidence of a gain on real ones. A loss always counts.
    """

    auroc: float
    gain: float
    low: float
    high: float
    proves: bool = True

    @property
    def helps(self) -> bool:
        """Whether it is taken: what is not clearly better costs accuracy as often as it gains some, and time always."""
        return self.verdict == "helps"

    @property
    def verdict(self) -> Verdict:
        if self.proves and self.low > LEAST_GAIN:
            return "helps"
        return "negative transfer" if self.high < 0 else "no clear difference"

    def kept(self, faults: str, beside: str) -> dict[str, Any]:
        """Whether what was tried is kept, and why, as an extractor's file states it."""
        why = f"AUROC on made-up {faults} {self.gain:+.4f} (95 % interval {self.low:+.4f} to {self.high:+.4f}) {beside}"
        return {"kept": self.helps, "gain": self.gain, "gain_ci95": [self.low, self.high], "why": why}

    def sentence(self, method: str) -> str:
        """The verdict as a sentence."""
        gain = f"{self.gain:+.4f} ({self.low:+.4f} to {self.high:+.4f}) over {ALONE}"
        return f"{method}: {self.verdict}, AUROC on made-up faults {self.auroc:.4f}, {gain}"


def label_gain(
    labels: NDArray[np.int64],
    ours: Floats,
    theirs: Floats,
    rng: np.random.Generator,
    rounds: int = 500,
    groups: NDArray[np.int64] | None = None,
) -> tuple[float, float, float]:
    """ROC-AUC of scores `ours` (n,) minus `theirs` on labelled records, with its 95 % interval by the paired bootstrap: (gain, low, high).

    The bootstrap is stratified: normals (label 0) and faults (label 1) are drawn apart, so that no resample is without a fault. Records
    of the same group (n,), such as windows of one stretch of time, are drawn together; each is a group of its own when None.
    """
    together = np.arange(len(labels)) if groups is None else groups
    kinds = [[np.flatnonzero((together == g) & (labels == label)) for g in np.unique(together[labels == label])] for label in (0, 1)]
    gains = []
    for _ in range(rounds):
        rows = np.concatenate([kind[i] for kind in kinds for i in rng.integers(len(kind), size=len(kind))])
        gains.append((auroc(labels[rows] == 1, ours[rows]) or 0.0) - (auroc(labels[rows] == 1, theirs[rows]) or 0.0))
    low, high = np.percentile(gains, [2.5, 97.5])
    return (auroc(labels == 1, ours) or 0.0) - (auroc(labels == 1, theirs) or 0.0), float(low), float(high)


def compare(ours: Ranking, alone: Ranking, seed: int, *, proves: bool = True) -> Comparison:
    """One method against the target alone, on the same records with the same synthetic faults."""
    return Comparison(ours.auroc(), *gain_interval(ours, alone, np.random.default_rng(seed)), proves=proves)


def judge(rankings: Mapping[str, Ranking], seed: int, unproven: Collection[str] = ()) -> dict[str, Comparison]:
    """Every method but `ALONE` against it; a gain of the methods `unproven` on synthetic faults is no evidence."""
    alone = rankings[ALONE]
    return {way: compare(ranking, alone, seed, proves=way not in unproven) for way, ranking in rankings.items() if way != ALONE}


def choose(compared: Mapping[str, Comparison], asked: str) -> tuple[str, str]:
    """(method taken, why). "auto" takes the best method that helps, else `ALONE`; a method that is named is taken whatever its verdict."""
    if asked != "auto":
        verdict = compared[asked].verdict
        if verdict == "negative transfer":
            return asked, f"asked for, though it is negative transfer: {compared[asked].sentence(asked)}"
        return asked, f"asked for; {compared[asked].sentence(asked)}"
    helping = [method for method, one in compared.items() if one.helps]
    best = max(helping or compared, key=lambda method: compared[method].auroc)
    if helping:
        return best, compared[best].sentence(best)
    return ALONE, f"no way is clearly better; the best, {compared[best].sentence(best)}"


def summary(asked: str, taken: str, why: str, alone: Ranking, compared: Mapping[str, Comparison]) -> dict[str, Any]:
    """The guard's findings as the manifest keeps them."""
    return {
        "method": taken,
        "asked": asked,
        "why": why,
        "target_only_auroc": alone.auroc(),
        "ways": {
            way: {"auroc": j.auroc, "gain": j.gain, "gain_ci95": [j.low, j.high], "verdict": j.verdict} for way, j in compared.items()
        },
        "negative_transfer": sorted(m for m, c in compared.items() if c.verdict == "negative transfer"),
    }
