"""The guard: every way of transfer against doing without it, on the same normals, and the verdict in words."""

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
CLEARLY = (
    0.02  # AUROC that the interval of a gain must lie above: made-up faults have no part that wanders, and favour what calls more normal
)

Verdict = Literal["helps", "no clear difference", "negative transfer"]


@dataclass(frozen=True)
class Comparison:
    """One way: its AUROC on made-up faults, and its gain over the target alone with the paired 95 % interval.

    `proves`: whether a gain on made-up faults says that real ones gain. A loss always counts.
    """

    auroc: float
    gain: float
    low: float
    high: float
    proves: bool = True

    @property
    def helps(self) -> bool:
        """Is it worth its place? What is not clearly better costs accuracy as often as it gains some, and time always."""
        return self.verdict == "helps"

    @property
    def verdict(self) -> Verdict:
        if self.proves and self.low > CLEARLY:
            return "helps"
        return "negative transfer" if self.high < 0 else "no clear difference"

    def kept(self, faults: str, beside: str) -> dict[str, Any]:
        """Whether what was tried is kept, and why, as an extractor's file tells it."""
        why = f"AUROC on made-up {faults} {self.gain:+.4f} (95 % interval {self.low:+.4f} to {self.high:+.4f}) {beside}"
        return {"kept": self.helps, "gain": self.gain, "gain_ci95": [self.low, self.high], "why": why}

    def words(self, way: str) -> str:
        """The verdict as a sentence."""
        gain = f"{self.gain:+.4f} ({self.low:+.4f} to {self.high:+.4f}) over {ALONE}"
        return f"{way}: {self.verdict}, AUROC on made-up faults {self.auroc:.4f}, {gain}"


def label_gain(
    labels: NDArray[np.int64], ours: Floats, theirs: Floats, rng: np.random.Generator, rounds: int = 500
) -> tuple[float, float, float]:
    """AUROC of scores `ours` (n,) minus `theirs` on labelled records, with its paired 95 % bootstrap interval (gain, low, high).

    Normals and faults are drawn apart, so that a handful of faults is never none.
    """
    kinds = [np.flatnonzero(labels == label) for label in (0, 1)]
    gains = []
    for _ in range(rounds):
        rows = np.concatenate([rng.choice(kind, size=len(kind)) for kind in kinds])
        gains.append((auroc(labels[rows] == 1, ours[rows]) or 0.0) - (auroc(labels[rows] == 1, theirs[rows]) or 0.0))
    low, high = np.percentile(gains, [2.5, 97.5])
    return (auroc(labels == 1, ours) or 0.0) - (auroc(labels == 1, theirs) or 0.0), float(low), float(high)


def compare(ours: Ranking, alone: Ranking, seed: int, *, proves: bool = True) -> Comparison:
    """One way against doing without it, on the same records with the same made-up faults."""
    return Comparison(ours.auroc(), *gain_interval(ours, alone, np.random.default_rng(seed)), proves=proves)


def judge(rankings: Mapping[str, Ranking], seed: int, unproven: Collection[str] = ()) -> dict[str, Comparison]:
    """Every way but `ALONE` against it; of the ways `unproven` a gain on made-up faults says nothing."""
    alone = rankings[ALONE]
    return {way: compare(ranking, alone, seed, proves=way not in unproven) for way, ranking in rankings.items() if way != ALONE}


def choose(judged: Mapping[str, Comparison], asked: str) -> tuple[str, str]:
    """(way taken, why). "auto" takes the best way whose gain is beyond doubt, else `ALONE`; a way that is named is taken all the same."""
    if asked != "auto":
        verdict = judged[asked].verdict
        if verdict == "negative transfer":
            return asked, f"asked for, though it is negative transfer: {judged[asked].words(asked)}"
        return asked, f"asked for; {judged[asked].words(asked)}"
    helping = [way for way, one in judged.items() if one.helps]
    best = max(helping or judged, key=lambda way: judged[way].auroc)
    if helping:
        return best, judged[best].words(best)
    return ALONE, f"no way is clearly better; the best, {judged[best].words(best)}"


def summary(asked: str, taken: str, why: str, alone: Ranking, judged: Mapping[str, Comparison]) -> dict[str, Any]:
    """The guard's findings as the manifest keeps them."""
    return {
        "method": taken,
        "asked": asked,
        "why": why,
        "target_only_auroc": alone.auroc(),
        "ways": {way: {"auroc": j.auroc, "gain": j.gain, "gain_ci95": [j.low, j.high], "verdict": j.verdict} for way, j in judged.items()},
        "negative_transfer": sorted(way for way, j in judged.items() if j.verdict == "negative transfer"),
    }
