"""Many events as one: how many alarms there were, which are still open, and the most urgent of them by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from anomaly.alarms.delivery.fact import Fact
from anomaly.alarms.events import Event, iso, make_event
from anomaly.alarms.routing import PRIORITIES

LISTED = 20  # alarms by name
NO_LINE = "delivery"  # the line of what belongs to none
_KEPT = ("class", "condition", "reason", "began", "priority", "state", "record")
Why = Literal["away", "quiet", "many"]  # the sink did not answer; quiet hours; more than it is to be sent in a minute
_WHEN: dict[Why, str] = {"away": "while you were away", "quiet": "in the quiet hours", "many": "within a minute"}


def summary_event(sink: str, why: Why, facts: Sequence[Fact]) -> Event:
    """One event of kind `summary` for many, which are given oldest first. The same events are summed up under the same id."""
    last = {fact.row.alarm: fact for fact in facts if fact.is_alarm}
    still_open = sum(fact.kind != "alarm.closed" for fact in last.values())
    others = sum(not fact.is_alarm for fact in facts)
    lines = sorted({fact.line for fact in facts})
    listed = sorted(last.values(), key=lambda fact: (fact.kind == "alarm.closed", -PRIORITIES.index(fact.priority), fact.row.seq))
    data = {
        "reason": _reason(why, len(last), still_open, others),
        "alarms": len(last),
        "open": still_open,
        "other_events": others,
        "events": len(facts),
        "lines": lines,
        "priority": max((fact.priority for fact in facts), key=PRIORITIES.index),
        "began": iso(min(fact.time for fact in facts)),
        "list": [_entry(fact) for fact in listed[:LISTED]],
    }
    subject = f"{sink} {facts[0].row.id} {facts[-1].row.id} {len(facts)}"
    return make_event("summary", lines[0] if len(lines) == 1 else NO_LINE, subject, max(fact.time for fact in facts), data)


def _entry(fact: Fact) -> dict[str, object]:
    return {"line": fact.line, "open": fact.kind != "alarm.closed"} | {key: fact.data[key] for key in _KEPT if key in fact.data}


def _reason(why: Why, alarms: int, still_open: int, others: int) -> str:
    """The sentence that people read first.

    >>> _reason("away", 41, 0, 0)
    '41 alarms opened and closed while you were away'
    >>> _reason("quiet", 1, 1, 2)
    '1 alarm in the quiet hours, 1 still open, and 2 other events'
    """
    more = "more " if why == "many" else ""
    rest = f"{others} {'' if not alarms else 'other '}event{'s' * (others != 1)}"
    if not alarms:
        return f"{rest} {_WHEN[why]}"
    words = f"{alarms} {more}alarm{'s' * (alarms != 1)}"
    words += f" {_WHEN[why]}, {still_open} still open" if still_open else f" opened and closed {_WHEN[why]}"
    return f"{words}, and {rest}" if others else words
