"""What is to be sent to the sinks: an outbox row for each event and sink, and what became of it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from anomaly.alarms.events import Event
from anomaly.alarms.store.connection import Connection


@dataclass(frozen=True, slots=True)
class Waiting:
    """An event that a sink has not taken yet."""

    seq: int
    sink: str
    alarm: str
    attempts: int
    body: str
    id: str


class Outbox(Connection):
    """Events on their way to the sinks."""

    def add_events(self, events: Iterable[Event], sinks: Sequence[str] | None = None) -> None:
        """Store events outside of a batch, for `sinks`; for those that their line is registered for when that is None."""
        with self._transaction("events not stored"):
            for event in events:
                self._add(event, self._sinks_of(event.line) if sinks is None else sinks)

    def replace_event(self, event: Event, sink: str) -> None:
        """Store an event for one sink in place of the earlier ones of its kind, line and alarm: only the newest is worth anything."""
        with self._transaction("event not stored", full=False) as db:
            earlier = db.execute("SELECT seq FROM events WHERE alarm = ? AND line = ? AND kind = ?", (event.alarm, event.line, event.kind))
            for row in earlier.fetchall():
                db.execute("DELETE FROM outbox WHERE seq = ?", row)
                db.execute("DELETE FROM events WHERE seq = ?", row)
            self._add(event, [sink])

    def _sinks_of(self, line: str) -> list[str]:
        row = self._db.execute("SELECT sinks FROM lines WHERE name = ?", (line,)).fetchone()
        return list(json.loads(row[0])) if row else []

    def _add(self, event: Event, sinks: Sequence[str]) -> None:
        """Store one event. The same one again changes nothing. Inside a transaction."""
        added = self._db.execute(
            "INSERT OR IGNORE INTO events (id, kind, line, alarm, time, body) VALUES (?, ?, ?, ?, ?, ?)",
            (event.id, event.kind, event.line, event.alarm, event.time, event.to_json()),
        )
        if added.rowcount:
            self._db.executemany("INSERT INTO outbox (seq, sink) VALUES (?, ?)", ((added.lastrowid, sink) for sink in sinks))

    def due(self, sink: str, now: float, limit: int = 100) -> list[Waiting]:
        """Events a sink should be sent now, oldest first; of one alarm only those with no earlier one still waiting."""
        with self._errors("the outbox cannot be read"):
            rows = self._db.execute(
                "SELECT o.seq, o.sink, e.alarm, o.attempts, e.body, e.id, o.next_at FROM outbox o JOIN events e USING (seq) "
                "WHERE o.sink = ? AND o.state = 'waiting' ORDER BY o.seq",
                (sink,),
            )
            held: set[str] = set()
            found: list[Waiting] = []
            for seq, name, alarm, attempts, body, event_id, next_at in rows:
                if alarm in held or next_at > now:
                    held.add(alarm)  # order per alarm: what follows waits too
                    continue
                found.append(Waiting(seq, name, alarm, attempts, body, event_id))
                if len(found) == limit:
                    break
            rows.close()
            return found

    def delivered(self, item: Waiting) -> None:
        """The sink has it."""
        self._set(item, "delivered", item.attempts + 1, 0.0, "")

    def failed(self, item: Waiting, error: str, next_at: float | None) -> None:
        """The sink refused it: try again at `next_at`, or None to keep it as a dead letter."""
        self._set(item, "waiting" if next_at is not None else "dead", item.attempts + 1, next_at or 0.0, error[:500])

    def _set(self, item: Waiting, state: str, attempts: int, next_at: float, error: str) -> None:
        with self._transaction("delivery state not stored") as db:
            db.execute(
                "UPDATE outbox SET state = ?, attempts = ?, next_at = ?, error = ? WHERE seq = ? AND sink = ?",
                (state, attempts, next_at, error, item.seq, item.sink),
            )
