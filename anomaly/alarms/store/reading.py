"""What can be asked of the store."""

from __future__ import annotations

import json
import math
from typing import Any

from anomaly.alarms.store.batch import Scored
from anomaly.alarms.store.connection import Connection


class Reading(Connection):
    """Queries for people, reports and tests."""

    def lines(self) -> list[str]:
        """The names of all lines."""
        return [name for (name,) in self._read("SELECT name FROM lines ORDER BY name")]

    def counts(self) -> dict[str, int]:
        """How many scored, rejected, events, waiting, delivered, dead."""
        tables = ("scores", "rejected", "events")
        found = {name: int(self._read(f"SELECT count(*) FROM {name}")[0][0]) for name in tables}  # noqa: S608 - fixed names
        found |= {"waiting": 0, "delivered": 0, "dead": 0}
        found |= {state: int(count) for state, count in self._read("SELECT state, count(*) FROM outbox GROUP BY state")}
        return found

    def events(self) -> list[dict[str, Any]]:
        """All events in order, as CloudEvents."""
        return [json.loads(body) for (body,) in self._read("SELECT body FROM events ORDER BY seq")]

    def scores(self, line: str) -> list[Scored]:
        """A line's scored records in time order."""
        query = (
            "SELECT s.record, s.time, s.score, s.p_value FROM scores s JOIN lines l ON l.id = s.line WHERE l.name = ? "
            "ORDER BY s.time, s.record, s.seq"
        )
        return [Scored(record, _number(time), _number(score), _number(p)) for record, time, score, p in self._read(query, (line,))]

    def shadow(self, line: str) -> list[tuple[str, float, float, float, str]]:
        """What challengers said of a line's records: (record, time, score, p_value, bundle hash)."""
        query = (
            "SELECT s.record, s.time, s.score, s.p_value, b.hash FROM shadow s "
            "JOIN lines l ON l.id = s.line JOIN bundles b ON b.id = s.bundle WHERE l.name = ? ORDER BY s.time, s.record, s.seq"
        )
        return [(record, _number(time), _number(score), _number(p), b) for record, time, score, p, b in self._read(query, (line,))]

    def scored_by(self, line: str) -> dict[str, int]:
        """How many of a line's scores are by which bundle (its hash)."""
        query = (
            "SELECT b.hash, count(*) FROM scores s JOIN lines l ON l.id = s.line JOIN bundles b ON b.id = s.bundle "
            "WHERE l.name = ? GROUP BY b.hash"
        )
        return dict(self._read(query, (line,)))

    def has_read(self, line: str) -> bool:
        """Whether a line has ever read a record. Quick where its source keeps a position, else as long as finding its first score."""
        query = (
            "SELECT l.position <> '{}' OR EXISTS(SELECT 1 FROM scores s WHERE s.line = l.id) "
            "OR EXISTS(SELECT 1 FROM rejected r WHERE r.line = l.id) FROM lines l WHERE l.name = ?"
        )
        found = self._read(query, (line,))
        return bool(found and found[0][0])

    def rejections(self, line: str) -> list[tuple[str, float, str]]:
        """A line's rejected records: (record, time, reason)."""
        query = (
            "SELECT r.record, r.time, r.reason FROM rejected r JOIN lines l ON l.id = r.line "
            "WHERE l.name = ? ORDER BY r.time, r.record, r.seq"
        )
        return [(record, _number(time), reason) for record, time, reason in self._read(query, (line,))]


def _number(value: float | None) -> float:
    """SQLite keeps a NaN as NULL."""
    return math.nan if value is None else value
