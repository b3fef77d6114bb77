"""What people say of an alarm when they have looked: it was real, or a nuisance; why; of what kind; and where."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from anomaly.alarms.events import iso
from anomaly.alarms.wording import record_words
from anomaly.errors import DataError

Verdict = Literal["real", "nuisance"]
Box = tuple[float, float, float, float]  # x, y, width, height in pixels of the original picture, from its upper left corner
Stretch = tuple[float, float]  # from, to: seconds since 1970
LONGEST_REASON, LONGEST_KIND, MOST_MARKS = 2000, 63, 1000


@dataclass(frozen=True)
class PictureLabel:
    """What was last said of one picture of an alarm, `record` by name: an alarm may cover several, good ones and bad ones.

    boxes: where the fault is in this picture; none for all of it

    Raises DataError for a mark that cannot be.
    """

    record: str
    verdict: Verdict
    kind: str = ""
    boxes: tuple[Box, ...] = ()

    def __post_init__(self) -> None:
        _check(self.verdict, self.kind, self.boxes)

    @property
    def words(self) -> str:
        """In a few words, for the audit log.

        >>> PictureLabel("b.png", "real", "crack", ((1, 2, 3, 4),)).words
        'picture b.png real (crack), boxes 1,2,3,4'
        """
        return f"picture {record_words(self.record)} {_words(self.verdict, self.kind, self.boxes)}"


@dataclass(frozen=True)
class Label:
    """What was last said of an alarm; what was said before is in the audit log.

    verdict: "real" for a fault that is there, "nuisance" for an alarm that should not have been
    kind: of the fault, in the plant's own words, "" when not said
    boxes, stretches: where the fault is in the picture that opened the alarm, or when it lasted; none for all of it
    pictures: what was said of single pictures; the alarm is real when one of them is

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
    pictures: tuple[PictureLabel, ...] = ()

    def __post_init__(self) -> None:
        _check(self.verdict, self.kind, self.boxes, self.stretches)
        if len(self.reason) > LONGEST_REASON:
            raise DataError(f"a reason has at most {LONGEST_REASON} letters, a kind at most {LONGEST_KIND}")
        for begin, end in self.stretches:
            if not (math.isfinite(begin) and math.isfinite(end)):
                raise DataError("a stretch of time has a begin and an end")
            if end < begin:
                raise DataError(f"stretch {iso(begin)} to {iso(end)}: the end comes before the begin; swap them")

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        said = {"alarm": self.alarm, "line": self.line, "verdict": self.verdict, "time": iso(self.time), "who": self.who}
        marks = {"boxes": [list(box) for box in self.boxes], "stretches": [[iso(begin), iso(end)] for begin, end in self.stretches]}
        pictures = [
            {"record": record_words(one.record), "verdict": one.verdict, "kind": one.kind, "boxes": [list(box) for box in one.boxes]}
            for one in self.pictures
        ]
        return said | {"reason": self.reason, "kind": self.kind} | marks | {"pictures": pictures}

    @property
    def words(self) -> str:
        """In a few words, for the audit log.

        >>> Label("a", "oven", "real", 0.0, "ada", kind="crack", boxes=((1, 2, 3, 4),)).words
        'labelled real (crack), boxes 1,2,3,4'
        """
        times = f", {' and '.join(f'{iso(begin)} to {iso(end)}' for begin, end in self.stretches)}" if self.stretches else ""
        if len(self.pictures) == 1:
            (one,) = self.pictures
            return f"labelled {_words(one.verdict, one.kind, one.boxes)}, picture {record_words(one.record)}"
        pictures = "".join(f"; {one.words}" for one in self.pictures)
        return f"labelled {_words(self.verdict, self.kind, self.boxes)}{times}{pictures}"

    def of_pictures(self, records: Sequence[str], before: Label | None) -> Label:
        """The label as what is said of these pictures alone, beside what was said of others `before`. Boxes belong to one picture.

        >>> first = Label("a", "oven", "real", 0.0, "ada", kind="crack", boxes=((1, 2, 3, 4),)).of_pictures(["1.png"], None)
        >>> Label("a", "oven", "nuisance", 9.0, "bob").of_pictures(["2.png"], first).words
        'labelled real (crack); picture 1.png real (crack), boxes 1,2,3,4; picture 2.png nuisance'
        """
        if self.boxes and len(records) > 1:
            raise DataError("a box belongs to one picture: name the picture that it was drawn on")
        known = {one.record: one for one in before.pictures} if before is not None else {}
        for record in records:
            known.pop(record, None)  # the newest comes last
            known[record] = PictureLabel(record, self.verdict, self.kind, self.boxes)
        real = [one for one in known.values() if one.verdict == "real"]
        verdict: Verdict = "real" if real else "nuisance"
        return replace(self, verdict=verdict, kind=real[-1].kind if real else "", boxes=(), pictures=tuple(known.values()))


def _check(verdict: Verdict, kind: str, boxes: Sequence[Box], stretches: Sequence[Stretch] = ()) -> None:
    if verdict not in get_args(Verdict):
        raise DataError(f"a label is real or nuisance, not {verdict!r}")
    if len(kind) > LONGEST_KIND:
        raise DataError(f"a reason has at most {LONGEST_REASON} letters, a kind at most {LONGEST_KIND}")
    if len(boxes) + len(stretches) > MOST_MARKS:
        raise DataError(f"a label has at most {MOST_MARKS} boxes and stretches")
    if verdict == "nuisance" and (boxes or stretches or kind):
        raise DataError("a nuisance has no fault in it: leave kind, boxes and stretches out, or label the alarm real")
    for box in boxes:
        if len(box) != 4 or not all(map(math.isfinite, box)) or min(box[:2]) < 0 or min(box[2:]) <= 0:
            raise DataError(f"box {','.join(f'{side:g}' for side in box)}: write x,y,width,height in pixels, none of them negative")


def _words(verdict: Verdict, kind: str, boxes: Sequence[Box]) -> str:
    marks = f", boxes {' '.join(','.join(f'{side:g}' for side in box) for box in boxes)}" if boxes else ""
    return f"{verdict}{f' ({kind})' if kind else ''}{marks}"
