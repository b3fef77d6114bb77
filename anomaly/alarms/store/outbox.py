"""What is to be sent to the sinks: an outbox row for each event and sink, and what became of it."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass

from anomaly.alarms.events import Event
from anomaly.alarms.store.connection import Connection
from anomaly.names import masked, one_line

AT_ONCE = 100  # events that are read for one sink at a time
WHOLE = 50_000  # where all of them decide what is sent
ERROR = 700  # characters of an error that are kept: enough for 500 bytes of an answer


@dataclass(frozen=True, slots=True)
class Waiting:
    """An event that a sink has not taken yet."""

    seq: int
    sink: str
    alarm: str
    attempts: int
    body: str
    id: str
    next_at: float = 0.0


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An event that a sink did not take, with the last answer or error."""

    sink: str
    attempts: int
    error: str
    body: str


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

    # --- one sink's view ---

    def pressing(self, sink: str) -> tuple[int, int]:
        """(how many events wait for a sink, number of the newest): a cheap look at whether there is something new."""
        query = "SELECT count(*), coalesce(max(seq), 0) FROM outbox INDEXED BY outbox_waiting WHERE sink = ? AND state = 'waiting'"
        count, newest = self._read(query, (sink,))[0]
        return int(count), int(newest)

    def next_due(self, sink: str, now: float) -> float:
        """When the first of the events that are not due yet will be; infinite when there is none."""
        (at,) = self._read("SELECT min(next_at) FROM outbox WHERE sink = ? AND state = 'waiting' AND next_at > ?", (sink, now))[0]
        return math.inf if at is None else float(at)

    def waiting(self, sink: str, now: float, whole: bool = False) -> list[Waiting]:
        """Events that wait for a sink, oldest first.

        Only the first of those that are due, and of one alarm only those with no earlier one still waiting. With `whole`, all of them.
        """
        query = (
            "SELECT o.seq, o.sink, e.alarm, o.attempts, e.body, e.id, o.next_at FROM outbox o JOIN events e USING (seq) "
            "WHERE o.sink = ? AND o.state = 'waiting' ORDER BY o.seq LIMIT ?"
        )
        with self._errors("the outbox cannot be read"), closing(self._db.execute(query, (sink, WHOLE if whole else -1))) as rows:
            if whole:
                return [Waiting(*row) for row in rows]
            held: set[str] = set()
            found: list[Waiting] = []
            for row in rows:
                item = Waiting(*row)
                if item.alarm in held or item.next_at > now:
                    held.add(item.alarm)  # order per alarm: what follows waits too
                    continue
                found.append(item)
                if len(found) == AT_ONCE:
                    break
            return found

    def told_last(self, sink: str) -> list[str]:
        """The last event that a sink took of each alarm, as CloudEvents texts, oldest first."""
        query = (
            "SELECT e.body, max(e.seq) FROM outbox o JOIN events e USING (seq) WHERE o.sink = ? AND o.state = 'delivered' "
            "AND e.kind NOT IN ('rejected', 'heartbeat', 'summary') GROUP BY e.alarm ORDER BY 2"
        )
        return [body for body, _ in self._read(query, (sink,))]

    def settle(self, items: Sequence[Waiting], state: str) -> None:
        """These wait no longer: `delivered`, or a word for why they are not sent at all (`filtered`, `superseded`).

        A power cut may take that back: then they are sent again. An event is found by its id: a store begun anew gives numbers again.
        """
        with self._transaction("delivery state not stored", full=False) as db:
            db.executemany(
                "UPDATE outbox SET state = ?, attempts = attempts + ?, next_at = 0, error = '' "
                "WHERE seq = (SELECT seq FROM events WHERE id = ?) AND sink = ?",
                ((state, state == "delivered", item.id, item.sink) for item in items),
            )

    def failed(self, items: Sequence[Waiting], error: str, next_at: float | None) -> None:
        """A try failed: the next one at `next_at`, or None to keep them as dead letters."""
        with self._transaction("delivery state not stored", full=next_at is None) as db:
            db.executemany(
                "UPDATE outbox SET state = ?, attempts = attempts + 1, next_at = ?, error = ? "
                "WHERE seq = (SELECT seq FROM events WHERE id = ?) AND sink = ?",
                (
                    ("dead" if next_at is None else "waiting", next_at or 0.0, one_line(masked(error))[:ERROR], item.id, item.sink)
                    for item in items
                ),
            )

    def retry_now(self, sink: str) -> None:
        """All that waits for a sink is due at once: it has come back."""
        with self._transaction("delivery state not stored", full=False) as db:
            db.execute("UPDATE outbox SET next_at = 0 WHERE sink = ? AND state = 'waiting' AND next_at > 0", (sink,))

    # --- for operators ---

    def outbox_counts(self) -> dict[tuple[str, str], int]:
        """How many events, by (sink, state)."""
        return {(sink, state): int(count) for sink, state, count in self._read("SELECT sink, state, count(*) FROM outbox GROUP BY 1, 2")}

    def dead_letters(self, sink: str | None = None) -> list[DeadLetter]:
        """Events that a sink did not take and that are not tried again, oldest first; of one sink, or of all."""
        query = (
            "SELECT o.sink, o.attempts, o.error, e.body FROM outbox o JOIN events e USING (seq) "
            "WHERE o.state = 'dead' AND (?1 IS NULL OR o.sink = ?1) ORDER BY o.seq, o.sink"
        )
        return [DeadLetter(*row) for row in self._read(query, (sink,))]

    def _replay(self, db: sqlite3.Connection, sink: str | None, ids: Sequence[str]) -> int:
        """Dead letters wait again, with no try counted: all, or those of one sink, or those events. Returns how many."""
        query = (
            "UPDATE outbox SET state = 'waiting', attempts = 0, next_at = 0 WHERE state = 'dead' AND (?1 IS NULL OR sink = ?1) "
            "AND (?2 = '[]' OR seq IN (SELECT seq FROM events WHERE id IN (SELECT value FROM json_each(?2))))"
        )
        return db.execute(query, (sink, json.dumps(list(ids)))).rowcount
