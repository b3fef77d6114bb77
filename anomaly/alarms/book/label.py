"""What people say of an alarm when they have looked: it was real, or a nuisance; why; of what kind; and where."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

from anomaly.alarms.events import iso
from anomaly.errors import DataError

Verdict = Literal["real", "nuisance"]
Box = tuple[float, float, float, float]  # x, y, width, height in pixels of the original picture, from its upper left corner
Stretch = tuple[float, float]  # from, to: seconds since 1970
LONGEST_REASON, LONGEST_KIND, MOST_MARKS = 2000, 63, 1000


@dataclass(frozen=True)
class Label:
    """What was last said of an alarm; what was said before is in the audit log.

    verdict: "real" for a fault that is there, "nuisance" for an alarm that should not have been
    kind: of the fault, in the plant's own words, "" when not said
    boxes, stretches: where the fault is in the picture that opened the alarm, or when it lasted; none for all of it

    Raises DataError for a mark that cannot be.
    """

    alarm: str
    line: str
    verdict: Verdict
    time: float
    who: str
    reason: str = ""
    kind: str = ""
    boxes: tuple[Box, ...] = ()
    stretches: tuple[Stretch, ...] = ()

    def __post_init__(self) -> None:
        if self.verdict not in get_args(Verdict):
            raise DataError(f"a label is real or nuisance, not {self.verdict!r}")
        if len(self.reason) > LONGEST_REASON or len(self.kind) > LONGEST_KIND:
            raise DataError(f"a reason has at most {LONGEST_REASON} letters, a kind at most {LONGEST_KIND}")
        if len(self.boxes) + len(self.stretches) > MOST_MARKS:
            raise DataError(f"a label has at most {MOST_MARKS} boxes and stretches")
        if self.verdict == "nuisance" and (self.boxes or self.stretches or self.kind):
            raise DataError("a nuisance has no fault in it: leave kind, boxes and stretches out, or label the alarm real")
        for box in self.boxes:
            if len(box) != 4 or not all(map(math.isfinite, box)) or min(box[:2]) < 0 or min(box[2:]) <= 0:
                raise DataError(f"box {','.join(f'{side:g}' for side in box)}: write x,y,width,height in pixels, none of them negative")
        for begin, end in self.stretches:
            if not (math.isfinite(begin) and math.isfinite(end)):
                raise DataError("a stretch of time has a begin and an end")
            if end < begin:
                raise DataError(f"stretch {iso(begin)} to {iso(end)}: the end comes before the begin; swap them")

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        said = {"alarm": self.alarm, "line": self.line, "verdict": self.verdict, "time": iso(self.time), "who": self.who}
        marks = {"boxes": [list(box) for box in self.boxes], "stretches": [[iso(begin), iso(end)] for begin, end in self.stretches]}
        return said | {"reason": self.reason, "kind": self.kind} | marks

    @property
    def words(self) -> str:
        """In a few words, for the audit log.

        >>> Label("a", "oven", "real", 0.0, "ada", kind="crack", boxes=((1, 2, 3, 4),)).words
        'labelled real (crack), boxes 1,2,3,4'
        """
        kind = f" ({self.kind})" if self.kind else ""
        boxes = f", boxes {' '.join(','.join(f'{side:g}' for side in box) for box in self.boxes)}" if self.boxes else ""
        times = f", {' and '.join(f'{iso(begin)} to {iso(end)}' for begin, end in self.stretches)}" if self.stretches else ""
        return f"labelled {self.verdict}{kind}{boxes}{times}"
