"""A CloudEvents text as sinks that speak another language need it, and which alarms are on."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from anomaly.alarms.wording import describe_message
from anomaly.names import one_line

_ON = {"alarm.opened": True, "alarm.reminded": True, "alarm.escalated": True, "alarm.closed": False}
_ON_BY_STATE = {
    "unacknowledged": True, "acknowledged": True, "normal": False, "returned unacknowledged": False, "latched unacknowledged": True,
    "shelved": False, "suppressed by design": False, "out of service": False,
}  # fmt: skip
_UNSAFE = re.compile(r"[+#/%\s\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class ParsedEvent:
    """What an event says.

    kind: such as "alarm.opened"
    alarm: the alarm's stable id
    time: when it happened, seconds since 1970
    """

    id: str
    kind: str
    line: str
    alarm: str
    time: float
    data: dict[str, Any]

    @property
    def on(self) -> bool | None:
        """Whether the alarm asks for attention after this event; None for an event that says nothing of it, or is of no alarm."""
        if not self.kind.startswith("alarm."):
            return None
        if self.kind == "alarm.flood":
            return self.data.get("flood") != "over"
        return _ON.get(self.kind, _ON_BY_STATE.get(str(self.data.get("state", ""))))

    @property
    def test(self) -> bool:
        """Whether it is of `anomaly alerts test`, and no alarm of a line."""
        return bool(self.data.get("test"))

    def text(self, key: str) -> str:
        """A word of its data as one line, "" where there is none."""
        value = self.data.get(key)
        return "" if value is None else one_line(str(value))


def parse_event(body: str) -> ParsedEvent:
    """An event from the text that the outbox holds."""
    event = json.loads(body)
    line, kind = str(event["source"]).removeprefix("/anomaly/"), str(event["type"]).removeprefix("anomaly.")
    return ParsedEvent(str(event["id"]), kind, line, str(event.get("subject", "")), seconds(str(event["time"])), event.get("data") or {})


def words_of(body: str) -> str:
    """An event in words, on one line."""
    title, text = describe_message(json.loads(body))
    return one_line(f"{title}. {' '.join(text.splitlines())}")


def seconds(text: str) -> float:
    """RFC 3339 as seconds since 1970. Raises ValueError.

    >>> seconds("1970-01-01T00:01:00Z")
    60.0
    """
    found = datetime.fromisoformat(text)
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def as_level(name: str) -> str:
    """A name from outside as one level of a topic or path: what would mean something else there is written as %HH. No two become one.

    >>> as_level("press 3/left+right")
    'press%203%2Fleft%2Bright'
    """
    return _UNSAFE.sub(lambda found: "".join(f"%{byte:02X}" for byte in found[0].encode()), one_line(name)) or "%"


class OpenAlarms:
    """Which alarms of each line are on, by the events that came."""

    def __init__(self) -> None:
        self._of: dict[str, set[str]] = {}

    def apply(self, event: ParsedEvent) -> int:
        """How many alarms of the event's line are on after it."""
        alarms = self._of.setdefault(event.line, set())
        if event.on and not event.test:
            alarms.add(event.alarm)
        elif event.on is False:
            alarms.discard(event.alarm)
        return len(alarms)

    def recall(self, told: Iterable[str]) -> list[ParsedEvent]:
        """Take the last event of each alarm from before. Returns the events."""
        events = [parse_event(body) for body in told]
        for event in events:
            self.apply(event)
        return events

    def lines(self) -> dict[str, int]:
        """How many are on, by line."""
        return {line: len(alarms) for line, alarms in self._of.items()}
