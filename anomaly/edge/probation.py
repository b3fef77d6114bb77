"""The first records of a new champion: the champion before scores them too, and takes over again where the new one fails."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from anomaly.data.records import Record
from anomaly.edge.release import Loaded, name_of
from anomaly.edge.runtime.batching import Answers, score

PROBATION_RECORDS = 100


class RollbackRule(NamedTuple):
    """A new champion is rolled back when, of at least `records`, it flags a share over `new_above` and the one before under `old_below`."""

    records: int
    new_above: float
    old_below: float


ROLLBACK_RULE = RollbackRule(records=20, new_above=0.5, old_below=0.1)


@dataclass
class Probation:
    """A new champion, and the one before it."""

    new: Loaded
    before: Loaded
    _flagged: list[tuple[bool, bool]] = field(default_factory=list)  # of each record: by the new one, by the one before

    @property
    def passed(self) -> bool:
        """Whether the new champion has proved itself on enough records."""
        return len(self._flagged) >= PROBATION_RECORDS

    def score(self, records: Sequence[Record[NDArray[Any]]]) -> tuple[Answers, str]:
        """(answers, why the new champion is to be rolled back). The reason is "" while the answers are the new champion's."""
        old = score(self.before.session, records)
        try:
            new = score(self.new.session, records)
        except Exception as error:  # the graph failed on a real record: ONNX Runtime raises many types, without a common root
            return old, f"it failed on a record: {str(error).splitlines()[0][:200]}"
        why = self._failure(new, old)
        return (old if why else new), why

    def _failure(self, new: Answers, old: Answers) -> str:
        if not (np.isfinite(new.score).all() and np.isfinite(new.p_value).all()):
            return "its scores are not finite"
        flagged = [
            (answers.p_value <= loaded.bundle.manifest.threshold.p_value).tolist()
            for answers, loaded in ((new, self.new), (old, self.before))
        ]
        self._flagged += zip(*flagged, strict=True)
        new_share, old_share = (float(share) for share in np.mean(self._flagged, axis=0))
        rule = ROLLBACK_RULE
        if len(self._flagged) >= rule.records and new_share > rule.new_above and old_share < rule.old_below:
            return f"it flagged {new_share:.0%} of {len(self._flagged)} records, {name_of(self.before.bundle)} {old_share:.0%}"
        return ""
