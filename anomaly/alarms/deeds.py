"""What people do to alarms, whether from a shell or from the page: acknowledge, hold back, release. Each is one row of the audit log."""

from __future__ import annotations

import re
from collections.abc import Sequence

from anomaly.alarms.book import PROCESS, WHOLE_LINE, Alarm, AlarmBook, Hold, HoldKind
from anomaly.alarms.events import Event
from anomaly.alarms.quality import CONDITIONS, KEPT_BESIDE
from anomaly.alarms.store import ZONE, Store
from anomaly.alarms.wording import SHORT, condition_words
from anomaly.data.clock import when
from anomaly.errors import NotPossibleError
from anomaly.names import one_line

OF_A_SENSOR = re.compile(r"sensor(_frozen|_range)?:.")


def acknowledge(store: Store, alarm: Alarm, who: str, why: str) -> list[Event]:
    """Someone has seen an alarm. Raises NotPossibleError where nothing is left to acknowledge."""

    def do(book: AlarmBook) -> list[Event]:
        known = book.alarms.get(alarm.id)
        if known is None:
            raise NotPossibleError(f"alarm {alarm.id[:SHORT]} of line {alarm.line!r} is over and done with; nothing is left to acknowledge")
        if known.acknowledged is not None:
            raise NotPossibleError(
                f"alarm {alarm.id[:SHORT]} was acknowledged by {known.acknowledged_by} at {when(known.acknowledged, alarm.zone)} already"
            )
        return book.acknowledge(known, who, why, store.clock())

    return store.act(alarm.line, "acknowledged", who, why, do, alarm.id)


def hold(
    store: Store, kind: HoldKind, line: str, conditions: Sequence[str], seconds: float | None, who: str, why: str, alarm: str = ""
) -> list[Event]:
    """Hold back the alarms of conditions of a line for so many seconds, or until someone ends it (None)."""
    now = store.clock()
    end = None if seconds is None else now + seconds
    holds = [Hold(kind, each, now, end, who, why) for each in conditions]
    until = f" until {when(end, store.kept(line, ZONE))}" if end is not None else ""
    return store.act(line, f"{kind}{until}: {_told(conditions)}", who, why, lambda book: book.hold_all(holds), alarm)


def release(store: Store, kind: HoldKind, line: str, conditions: Sequence[str], who: str, why: str, alarm: str = "") -> list[Event]:
    """End a hold before its time. Raises NotPossibleError where the conditions are not held so."""
    words = _told(conditions)

    def do(book: AlarmBook) -> list[Event]:
        holds = [book.holds[kind, each] for each in conditions if (kind, each) in book.holds]
        if not holds:
            held = ", ".join(condition_words(each.condition) for each in book.holds.values() if each.kind == kind)
            raise NotPossibleError(f"{words} of line {line!r} is not {kind}" + (f"; what is: {held}" if held else ""))
        return book.release_all(holds, who, why, store.clock())

    return store.act(line, f"no longer {kind}: {words}", who, why, do, alarm)


def known_conditions(store: Store, line: str) -> list[str]:
    """The conditions that any line has, and those of sensors and sinks that this one had."""
    return sorted(each for each in {PROCESS, *CONDITIONS, *store.conditions_of(line)} if not each.startswith(KEPT_BESIDE))


def check_condition(store: Store, line: str, condition: str) -> str:
    """The condition in one line, as it is held back. Raises NotPossibleError for one that the line cannot have."""
    name, known = one_line(condition), known_conditions(store, line)
    if name not in known and name != WHOLE_LINE and not OF_A_SENSOR.match(name):
        raise NotPossibleError(f"line {line!r} has no condition {name!r}; it has {', '.join(known)}, and sensor:NAME for a sensor")
    return name


def _told(conditions: Sequence[str]) -> str:
    return ", ".join(map(condition_words, conditions))
