"""A challenger against the champion, on the same records: false alarms, made-up faults, labelled faults; a verdict with its reason.

All is paired: each record, and each made-up fault, is judged by both. Intervals are by the bootstrap over records, or over blocks of them
where they follow each other.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from anomaly.bundle.archive import Bundle, read_bundle
from anomaly.edge.release import check_same_input
from anomaly.evaluation.metrics import exact_share, interval
from anomaly.operations.judged import Flags, judge_data
from anomaly.operations.shadow import read_shadow

FEWEST = 20  # records, or faults, below which nothing is said of a difference
ROUNDS = 1000
NORMAL = "normal records"
State = Literal["better", "no worse", "worse", "cannot tell"]


@dataclass(frozen=True)
class Part:
    """Two detectors on the same `n` records: how many each flags, and challenger less champion as a share, with its 95 % interval."""

    what: str
    n: int
    champion: int
    challenger: int
    difference: float
    low: float
    high: float

    def row(self) -> dict[str, Any]:
        """For a table."""
        of = max(1, self.n)
        return {
            "what": self.what,
            "records": self.n,
            "champion": f"{self.champion} ({self.champion / of:.1%})",
            "challenger": f"{self.challenger} ({self.challenger / of:.1%})",
            "difference, 95 % interval": f"{self.difference:+.1%} ({self.low:+.1%} to {self.high:+.1%})",
        }


@dataclass(frozen=True)
class Compared:
    """What a comparison found. `says` is the verdict in a sentence; `notes` what has to be known of it."""

    state: State
    says: str
    champion: str
    challenger: str
    parts: list[Part] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def compare(
    champion: Path, challenger: Path, data: Path | None = None, store: Path | None = None, line: str | None = None, seed: int = 0
) -> Compared:
    """Compare two bundles: on recent data (normal and labelled records), on what the line's monitor had both of them say, or on both.

    `store`: of the monitor, whose challenger scored beside the champion; read only. Raises BundleError where they take different inputs,
    DataError and StoreError where there is nothing to compare on.
    """
    old, new = read_bundle(champion), read_bundle(challenger)
    check_same_input(old.manifest.input, new)
    flags, notes = Flags(), []
    if data is not None:
        flags = judge_data((old, new), data, store, line, seed)
        notes += flags.notes
    beside = read_shadow(store, line, old, new) if store is not None else None
    if beside is not None and len(beside) >= FEWEST:
        flags.normal = beside  # records that neither of them learnt from
        notes.append(f"False alarms are counted on {len(beside)} records that both scored beside each other on the line.")
        flags.learnt = False
    elif flags.learnt:
        notes.append("The challenger learnt from this data, so that it flags fewer of these normal records does not count for it.")
    rng = np.random.default_rng([seed, 20])
    parts = [_part(what, pairs, rng) for what, pairs in flags.named().items() if len(pairs)]
    state, says = _verdict(parts, old, new, fair=not flags.learnt)
    return Compared(state, says, old.hash, new.hash, parts, notes)


def _part(what: str, pairs: NDArray[np.bool_], rng: np.random.Generator) -> Part:
    """`pairs` (n, 2): flagged by the champion, by the challenger."""
    gain = pairs[:, 1].astype(float) - pairs[:, 0]
    blocks = np.array_split(np.arange(len(pairs)), min(len(pairs), 200))
    found = interval(lambda rows: float(gain[rows].mean()), blocks, rng, ROUNDS) or (-1.0, 1.0)
    return Part(what, len(pairs), int(pairs[:, 0].sum()), int(pairs[:, 1].sum()), float(gain.mean()), *found)


def _verdict(parts: list[Part], old: Bundle, new: Bundle, *, fair: bool) -> tuple[State, str]:
    """`fair`: whether fewer flagged normals count for the challenger."""
    enough = {part.what: part for part in parts if part.n >= FEWEST}
    normal, faults = enough.get(NORMAL), [part for what, part in enough.items() if what != NORMAL]
    if normal is None or not faults:
        missing = "normal records" if normal is None else "faults, made-up or labelled,"
        return "cannot tell", f"Cannot tell: fewer than {FEWEST} {missing} to compare on."
    worse = [f"it finds fewer {part.what} ({_both(part)})" for part in faults if part.high < 0]
    if _breaks(normal.challenger, normal.n, new) and normal.low > 0:
        worse.append(f"it flags more normal records than its budget allows ({_both(normal)}, {new.manifest.threshold.p_value:.2%} allowed)")
    if worse:
        return "worse", f"The challenger is worse: {'; '.join(worse)}."
    better = [f"it finds more {part.what} ({_both(part)})" for part in faults if part.low > 0]
    if fair and _breaks(normal.champion, normal.n, old) and normal.high < 0:
        better.append(f"it flags fewer normal records ({_both(normal)}), where the champion breaks its budget")
    if better:
        return "better", f"The challenger is better: {'; '.join(better)}."
    return (
        "no worse",
        f"The challenger is no worse: no difference is larger than chance ({'; '.join(f'{p.what} {_both(p)}' for p in enough.values())}).",
    )


def _breaks(flagged: int, of: int, bundle: Bundle) -> bool:
    """Whether more normals are flagged than the budget's rate allows, beyond what chance explains."""
    return exact_share(flagged, of)[0] > bundle.manifest.threshold.p_value


def _both(part: Part) -> str:
    return f"{part.challenger / part.n:.1%} against {part.champion / part.n:.1%}"
