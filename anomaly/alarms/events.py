"""The one event format: CloudEvents 1.0 in JSON."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, get_args

AlarmKind = Literal[
    "opened", "closed", "reminded", "escalated", "acknowledged", "shelved", "unshelved",
    "out_of_service", "in_service", "suppressed", "unsuppressed", "flood",
]  # fmt: skip
EventKind = AlarmKind | Literal["rejected", "swapped", "refused", "rolled_back", "heartbeat", "drifted", "summary"]
_SUBJECT = dict.fromkeys(get_args(AlarmKind), "alarm") | {
    "rejected": "record", "swapped": "bundle", "refused": "bundle", "rolled_back": "bundle",
    "heartbeat": "line", "drifted": "line", "summary": "delivery",
}  # fmt: skip
TYPES = tuple(f"{subject}.{kind}" for kind, subject in _SUBJECT.items())  # of all events, without `anomaly.`
_NAMESPACE = uuid.UUID("6f1c3a52-7d0a-4d1f-9f39-0d6f4c6f0a11")  # ours, so that the same fact has the same id everywhere


@dataclass(frozen=True, slots=True)
class Event:
    """One fact. Its `id` is derived from its content, so the same fact, made again after a crash, has the same id."""

    id: str
    kind: EventKind
    line: str
    alarm: str
    time: float
    data: dict[str, Any]

    def to_json(self) -> str:
        """CloudEvents 1.0, structured JSON; `subject` is the alarm's stable id."""
        return json.dumps(
            {
                "specversion": "1.0",
                "id": self.id,
                "source": f"/anomaly/{self.line}",
                "type": f"anomaly.{_SUBJECT[self.kind]}.{self.kind}",
                "subject": self.alarm,
                "time": iso(self.time),
                "datacontenttype": "application/json",
                "data": self.data,
            },
            sort_keys=True,
        )


def make_event(kind: EventKind, line: str, alarm: str, time: float, data: dict[str, Any]) -> Event:
    """An event whose id is a UUID over line, alarm, kind and time."""
    return Event(str(uuid.uuid5(_NAMESPACE, f"{line}|{alarm}|{kind}|{time!r}")), kind, line, alarm, time, data)


def alarm_id(line: str, bundle_hash: str, began: float, record: str) -> str:
    """The stable id of an alarm: line, detector, and the record it began with."""
    return str(uuid.uuid5(_NAMESPACE, f"{line}|{bundle_hash}|{began!r}|{record}"))


def iso(time: float) -> str:
    """Seconds since 1970 as RFC 3339 in UTC."""
    return datetime.fromtimestamp(time, UTC).isoformat().replace("+00:00", "Z")
