"""The store: scores, alarm state, events with their outbox rows, and where the source was read to, in one SQLite file.

What belongs together is committed together: after a crash either a batch of records is in with all its events and the
source's new position, or none of it is and the records are read again. WAL mode; every commit reaches the disk.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from anomaly.alarms.events import Event
from anomaly.alarms.life import State
from anomaly.errors import StoreError

SCHEMA_VERSION = 2
_SHADOW = """CREATE TABLE shadow (line TEXT, record TEXT, time REAL NOT NULL, score REAL NOT NULL, p_value REAL NOT NULL,
  bundle TEXT NOT NULL, PRIMARY KEY (line, record, bundle)) WITHOUT ROWID"""
_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE lines (line TEXT PRIMARY KEY, position TEXT NOT NULL, state TEXT NOT NULL, alarm TEXT) WITHOUT ROWID;
CREATE TABLE scores (line TEXT, record TEXT, time REAL NOT NULL, score REAL NOT NULL, p_value REAL NOT NULL,
  bundle TEXT NOT NULL, PRIMARY KEY (line, record)) WITHOUT ROWID;
CREATE TABLE rejected (line TEXT, record TEXT, time REAL NOT NULL, reason TEXT NOT NULL, PRIMARY KEY (line, record)) WITHOUT ROWID;
CREATE TABLE events (seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, line TEXT NOT NULL,
  alarm TEXT NOT NULL, time REAL NOT NULL, body TEXT NOT NULL);
CREATE TABLE outbox (seq INTEGER NOT NULL REFERENCES events, sink TEXT NOT NULL, state TEXT NOT NULL DEFAULT 'waiting',
  attempts INTEGER NOT NULL DEFAULT 0, next_at REAL NOT NULL DEFAULT 0, error TEXT NOT NULL DEFAULT '',
  PRIMARY KEY (seq, sink)) WITHOUT ROWID;
CREATE INDEX outbox_waiting ON outbox (sink, seq) WHERE state = 'waiting';
"""


@dataclass(frozen=True, slots=True)
class Scored:
    """One scored record as the store keeps it."""

    record: str
    time: float
    score: float
    p_value: float


@dataclass
class Batch:
    """What one turn of a line is to store: all of it is committed, or none.

    `shadow` are the same records as a challenger, `shadow_bundle`, scores them. `quality`: state and open alarm of each data-quality
    condition. `position` is where the source is read on from.
    """

    line: str
    bundle: str
    position: dict[str, Any]
    state: State
    alarm: str | None
    scored: Sequence[Scored] = ()
    rejected: Sequence[tuple[str, float, str]] = ()
    events: Sequence[Event] = ()
    sinks: Sequence[str] = ()
    shadow: Sequence[Scored] = ()
    shadow_bundle: str = ""
    quality: Mapping[str, tuple[State, str | None]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Waiting:
    """An event that a sink has not taken yet."""

    seq: int
    sink: str
    alarm: str
    attempts: int
    body: str
    id: str


class Store:
    """One connection to the store, for one thread at a time. Writers of one process take turns by a lock, others by SQLite's own."""

    _turn = threading.Lock()

    def __init__(self, path: Path) -> None:
        """Open or create. Raises StoreError when the file is not a store, is from another version, or cannot be written."""
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute("PRAGMA foreign_keys = ON")
            self._create()
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"{path}: cannot be used as the event store ({error}); check the path, rights and free space") from error

    def _create(self) -> None:
        with self._transaction():
            if not self._db.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone():
                for statement in (*_SCHEMA.split(";"), _SHADOW):
                    self._db.execute(statement)
                self._db.execute("INSERT INTO meta VALUES ('schema', ?)", (str(SCHEMA_VERSION),))
            version = int(self._db.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone()[0])
            if version == 1:
                self._db.execute(_SHADOW)
                self._db.execute("UPDATE meta SET value = ? WHERE key = 'schema'", (str(SCHEMA_VERSION),))
                version = SCHEMA_VERSION
        if version != SCHEMA_VERSION:
            raise StoreError(f"{self.path}: store of schema {version}, this version reads {SCHEMA_VERSION}; use the matching version")

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._turn:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def close(self) -> None:
        self._db.close()

    # --- the monitor's side ---

    def resume(self, line: str) -> tuple[dict[str, Any], State, str | None]:
        """(source position, alarm state, open alarm's id) as of the last commit; fresh ones for a new line."""
        row = self._db.execute("SELECT position, state, alarm FROM lines WHERE line = ?", (line,)).fetchone()
        if row is None:
            return {}, State(), None
        return json.loads(row[0]), State(**json.loads(row[1])), row[2]

    def quality(self, line: str) -> dict[str, tuple[State, str | None]]:
        """State and open alarm of a line's data-quality conditions, as of the last commit."""
        rows = self._db.execute("SELECT line, state, alarm FROM lines WHERE line LIKE ? ESCAPE '\\'", (_like(f"{line}\n"),))
        return {name.partition("\n")[2]: (State(**json.loads(state)), alarm) for name, state, alarm in rows}

    def setting(self, key: str) -> str:
        """A remembered value, "" when there is none."""
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return str(row[0]) if row else ""

    def set(self, key: str, value: str) -> None:
        """Remember a value."""
        with self._transaction():
            self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def known(self, line: str, record: str) -> bool:
        """Whether a record has been scored or rejected before."""
        query = "SELECT 1 FROM scores WHERE line = ?1 AND record = ?2 UNION ALL SELECT 1 FROM rejected WHERE line = ?1 AND record = ?2"
        return self._db.execute(query, (line, record)).fetchone() is not None

    def commit(self, batch: Batch) -> None:
        """Commit a batch: records, events with one outbox row a sink, alarm states and source position, all or nothing.

        Raises StoreError (a full disk, say); nothing of the batch is then in the store.
        """
        line = batch.line
        states = [(line, json.dumps(batch.position), json.dumps(asdict(batch.state)), batch.alarm)]
        states += [(f"{line}\n{name}", "{}", json.dumps(asdict(state)), alarm) for name, (state, alarm) in batch.quality.items()]
        try:
            # An event reaches the disk before anything sees it. Scores alone reach it with the next event or checkpoint: after a
            # power cut (not after a crash of this process) their records are read again, and nothing else is lost.
            self._db.execute(f"PRAGMA synchronous = {'FULL' if batch.events else 'NORMAL'}")
            with self._transaction():
                self._put("scores", line, batch.scored, batch.bundle)
                self._put("shadow", line, batch.shadow, batch.shadow_bundle)
                self._db.executemany("INSERT OR REPLACE INTO rejected VALUES (?, ?, ?, ?)", ((line, *r) for r in batch.rejected))
                for event in batch.events:
                    self._add(event, batch.sinks)
                self._db.executemany("INSERT OR REPLACE INTO lines VALUES (?, ?, ?, ?)", states)
        except sqlite3.Error as error:
            raise StoreError(
                f"{self.path}: batch not stored ({error}); free space or check the disk; records will be read again"
            ) from error

    def _put(self, table: str, line: str, scored: Sequence[Scored], bundle: str) -> None:
        rows = [(line, s.record, s.time, s.score, s.p_value, bundle) for s in scored]
        self._db.executemany(f"INSERT OR REPLACE INTO {table} VALUES (?, ?, ?, ?, ?, ?)", rows)  # noqa: S608 - fixed names

    def _add(self, event: Event, sinks: Sequence[str]) -> None:
        added = self._db.execute(
            "INSERT OR IGNORE INTO events (id, kind, line, alarm, time, body) VALUES (?, ?, ?, ?, ?, ?)",
            (event.id, event.kind, event.line, event.alarm, event.time, event.to_json()),
        )
        if added.rowcount:
            self._db.executemany("INSERT INTO outbox (seq, sink) VALUES (?, ?)", ((added.lastrowid, sink) for sink in sinks))

    # --- the delivery's side ---

    def due(self, sink: str, now: float, limit: int = 100) -> list[Waiting]:
        """Events a sink should be sent now, oldest first; of one alarm only those with no earlier one still waiting."""
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
        try:
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute(
                "UPDATE outbox SET state = ?, attempts = ?, next_at = ?, error = ? WHERE seq = ? AND sink = ?",
                (state, attempts, next_at, error, item.seq, item.sink),
            )
        except sqlite3.Error as error_:
            raise StoreError(f"{self.path}: delivery state not stored ({error_})") from error_

    # --- reading ---

    def counts(self) -> dict[str, int]:
        """How many scored, rejected, events, waiting, delivered, dead."""
        db = self._db
        found = {name: int(db.execute(f"SELECT count(*) FROM {name}").fetchone()[0]) for name in ("scores", "rejected", "events")}  # noqa: S608 - fixed names
        found |= {"waiting": 0, "delivered": 0, "dead": 0}
        found |= {state: int(count) for state, count in db.execute("SELECT state, count(*) FROM outbox GROUP BY state")}
        return found

    def events(self) -> list[dict[str, Any]]:
        """All events in order, as CloudEvents."""
        return [json.loads(body) for (body,) in self._db.execute("SELECT body FROM events ORDER BY seq")]

    def scores(self, line: str) -> list[Scored]:
        """A line's scored records in time order."""
        return [
            Scored(*row)
            for row in self._db.execute("SELECT record, time, score, p_value FROM scores WHERE line = ? ORDER BY time, record", (line,))
        ]

    def shadow(self, line: str) -> list[tuple[str, float, float, float, str]]:
        """What challengers said of a line's records: (record, time, score, p_value, bundle hash)."""
        query = "SELECT record, time, score, p_value, bundle FROM shadow WHERE line = ? ORDER BY time, record"
        return list(self._db.execute(query, (line,)))

    def rejections(self, line: str) -> list[tuple[str, float, str]]:
        """A line's rejected records: (record, time, reason)."""
        return list(self._db.execute("SELECT record, time, reason FROM rejected WHERE line = ? ORDER BY time, record", (line,)))


def _like(prefix: str) -> str:
    """A LIKE pattern for texts that begin so."""
    return prefix.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
