"""The tables of the store, how a store of an older version becomes one of this version, and what is taken over of one that was lost."""

from __future__ import annotations

import hashlib
import re
import secrets
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from anomaly.alarms.evidence.rows import TABLES as EVIDENCE
from anomaly.alarms.store.alarm_rows import AGAIN, LABELS, adopt_open_alarms
from anomaly.errors import StoreError
from anomaly.names import one_line

SCHEMA_VERSION = 3
PROCESS = "process"  # the condition whose alarm is that of the scores
_SCORED = """(seq INTEGER PRIMARY KEY AUTOINCREMENT, line INTEGER NOT NULL, record TEXT NOT NULL, time REAL, score REAL, p_value REAL,
  bundle INTEGER NOT NULL)"""
# Rows of scores, shadow, rejected and events lie in the order in which they came: the old end is what is thinned and removed.
_TABLES = f"""
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE lines (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, position TEXT NOT NULL DEFAULT '{{}}',
  sinks TEXT NOT NULL DEFAULT '[]', remembers INTEGER NOT NULL DEFAULT 0);
CREATE TABLE bundles (id INTEGER PRIMARY KEY, hash TEXT NOT NULL UNIQUE);
CREATE TABLE scores {_SCORED};
CREATE TABLE shadow {_SCORED};
CREATE TABLE rejected (seq INTEGER PRIMARY KEY AUTOINCREMENT, line INTEGER NOT NULL, record TEXT NOT NULL, time REAL,
  reason TEXT NOT NULL);
CREATE TABLE handled (line INTEGER NOT NULL, record INTEGER NOT NULL, PRIMARY KEY (line, record)) WITHOUT ROWID;
CREATE TABLE days (number INTEGER PRIMARY KEY AUTOINCREMENT, day INTEGER NOT NULL UNIQUE, scores INTEGER NOT NULL,
  shadow INTEGER NOT NULL, rejected INTEGER NOT NULL, events INTEGER NOT NULL);
CREATE TABLE conditions (line INTEGER NOT NULL, name TEXT NOT NULL, state TEXT NOT NULL, alarm TEXT,
  PRIMARY KEY (line, name)) WITHOUT ROWID;
CREATE TABLE alarms (id TEXT PRIMARY KEY, line INTEGER NOT NULL REFERENCES lines, class TEXT NOT NULL, condition TEXT NOT NULL,
  priority TEXT NOT NULL, state TEXT NOT NULL, opened REAL NOT NULL, closed REAL, acknowledged REAL, acknowledged_by TEXT,
  data TEXT NOT NULL DEFAULT '{{}}') WITHOUT ROWID;
CREATE INDEX alarms_of_condition ON alarms (line, condition, opened);
CREATE INDEX alarms_live ON alarms (line) WHERE state <> 'normal';
CREATE TABLE held (line INTEGER NOT NULL REFERENCES lines, condition TEXT NOT NULL, kind TEXT NOT NULL, since REAL NOT NULL,
  until REAL, who TEXT NOT NULL, why TEXT NOT NULL DEFAULT '', PRIMARY KEY (line, condition, kind)) WITHOUT ROWID;
CREATE TABLE audit (seq INTEGER PRIMARY KEY, time REAL NOT NULL, who TEXT NOT NULL, action TEXT NOT NULL, line TEXT NOT NULL,
  alarm TEXT NOT NULL, why TEXT NOT NULL, previous TEXT NOT NULL, hash TEXT NOT NULL);
CREATE TABLE events (seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, line TEXT NOT NULL,
  alarm TEXT NOT NULL, time REAL NOT NULL, body TEXT NOT NULL);
CREATE INDEX events_of_alarm ON events (alarm);
CREATE TABLE outbox (seq INTEGER NOT NULL REFERENCES events, sink TEXT NOT NULL, state TEXT NOT NULL DEFAULT 'waiting',
  attempts INTEGER NOT NULL DEFAULT 0, next_at REAL NOT NULL DEFAULT 0, error TEXT NOT NULL DEFAULT '',
  PRIMARY KEY (seq, sink)) WITHOUT ROWID;
CREATE INDEX outbox_waiting ON outbox (sink, seq) WHERE state = 'waiting';
"""


def digest(record: str) -> int:
    """A record's name as a signed 64-bit integer. Among a million names the chance that a new one meets another's is 5e-14.

    >>> digest("a.png@1") == digest("a.png@1") != digest("b.png@1")
    True
    """
    return int.from_bytes(hashlib.blake2b(one_line(record).encode(), digest_size=8).digest(), "big", signed=True)


def prepare(db: sqlite3.Connection, path: Path) -> None:
    """Make a connection ready for use, and what it is connected to a store of this version.

    Raises StoreError for a newer one, and for a file of another program, which stays as it is.
    """
    _version(db, path)  # before anything is changed
    db.execute("PRAGMA auto_vacuum = INCREMENTAL")  # takes effect in a file that is still empty
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA journal_size_limit = 67108864")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA foreign_keys = OFF")  # while tables are moved
    db.execute("BEGIN IMMEDIATE")
    try:
        version = _version(db, path)
        if version == 0:
            create_tables(db)
        elif version < SCHEMA_VERSION:
            _migrate(db)
        for statement in f"{EVIDENCE}{LABELS}".split(";"):  # tables that a store of this schema may lack: those who do not know them go on
            db.execute(statement)
        if version != SCHEMA_VERSION:
            db.execute(f"PRAGMA user_version = {secrets.randbelow(1 << 31)}")  # tells this store from one that is copied over it
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
    if 0 < version < SCHEMA_VERSION:
        _compact(db)
    elif version == 0:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.execute("PRAGMA foreign_keys = ON")


def check(db: sqlite3.Connection, path: Path) -> None:
    """Raise StoreError for what cannot be read as it is: no store, or one of another version. Changes nothing."""
    version = _version(db, path)
    if version == 0:
        raise StoreError(f"{path}: is empty; give the event store that the monitor or box writes")
    if version < SCHEMA_VERSION or not {"evidence", "labels"} <= _tables(db):
        raise StoreError(
            f"{path}: a store of an older version (schema {version}); start its monitor once, or: anomaly alarms list --store {path.name}"
        )


def _version(db: sqlite3.Connection, path: Path) -> int:
    """The schema of a store, 0 for an empty file. Raises StoreError for one that this version cannot read, and for what is no store."""
    names = _tables(db)
    if not names:
        return 0
    if not {"meta", "lines", "events"} <= names:
        raise StoreError(f"{path}: a database of another program; give the event store that the monitor or box writes")
    columns = {name for _, name, *_ in db.execute("PRAGMA table_info(meta)")}
    row = db.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone() if {"key", "value"} <= columns else None
    schema = "none" if row is None else str(row[0])
    if not re.fullmatch("[0-9]{1,9}", schema):
        raise StoreError(f"{path}: its table meta is damaged (schema: {schema[:20]}); {AGAIN}")
    if int(schema) not in {1, 2, SCHEMA_VERSION}:
        raise StoreError(f"{path}: store of schema {int(schema)}, this version reads 1 to {SCHEMA_VERSION}; use the matching version")
    return int(schema)


def _tables(db: sqlite3.Connection) -> set[str]:
    return {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")}


def create_tables(db: sqlite3.Connection) -> None:
    """The tables of this version in an empty file."""
    for statement in _TABLES.split(";"):
        db.execute(statement)
    db.execute("INSERT INTO meta VALUES ('schema', ?)", (str(SCHEMA_VERSION),))


def _migrate(db: sqlite3.Connection) -> None:
    """From schemas 1 and 2 (versions up to 0.8.0), where lines and bundles were text in every row."""
    old = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")]
    db.execute("PRAGMA legacy_alter_table = ON")  # a reference to a table that is renamed stays as it is written
    db.execute("DROP INDEX outbox_waiting")
    for name in old:
        db.execute(f"ALTER TABLE {name} RENAME TO old_{name}")
    create_tables(db)
    db.execute("INSERT OR REPLACE INTO meta SELECT key, value FROM old_meta WHERE key <> 'schema'")
    _migrate_lines(db)
    for table in ("scores", "shadow"):
        if table in old:
            db.execute(f"INSERT OR IGNORE INTO bundles (hash) SELECT DISTINCT bundle FROM old_{table}")  # noqa: S608 - fixed names
            db.execute(
                f"INSERT INTO {table} (line, record, time, score, p_value, bundle) SELECT l.id, o.record, o.time, o.score, o.p_value, b.id "  # noqa: S608
                f"FROM old_{table} o JOIN lines l ON l.name = o.line JOIN bundles b ON b.hash = o.bundle ORDER BY o.time, o.record"
            )
    db.execute(
        "INSERT INTO rejected (line, record, time, reason) SELECT l.id, o.record, o.time, o.reason "
        "FROM old_rejected o JOIN lines l ON l.name = o.line ORDER BY o.time, o.record"
    )
    db.execute("INSERT INTO events SELECT seq, id, kind, line, alarm, time, body FROM old_events")
    db.execute("INSERT INTO outbox SELECT seq, sink, state, attempts, next_at, error FROM old_outbox")
    adopt_open_alarms(db)
    _migrate_handled(db)
    for name in old:
        db.execute(f"DROP TABLE old_{name}")
    db.execute("PRAGMA legacy_alter_table = OFF")


def _migrate_lines(db: sqlite3.Connection) -> None:
    """A line's data-quality conditions were rows of `lines`, named "LINE\\nCONDITION"."""
    rows = db.execute("SELECT line, position, state, alarm FROM old_lines").fetchall()
    names = {name.rpartition("\n")[0] or name for name, *_ in rows}
    for table in ("scores", "rejected"):
        names |= {name for (name,) in db.execute(f"SELECT DISTINCT line FROM old_{table}")}  # noqa: S608 - fixed names
    db.executemany("INSERT INTO lines (name) VALUES (?)", ((name,) for name in sorted(names)))
    for name, position, state, alarm in rows:
        line, _, condition = name.rpartition("\n")
        if not line:
            db.execute("UPDATE lines SET position = ? WHERE name = ?", (position, name))
        db.execute(
            "INSERT INTO conditions SELECT id, ?, ?, ? FROM lines WHERE name = ?",
            (condition if line else PROCESS, state, alarm, line or name),
        )


def _migrate_handled(db: sqlite3.Connection) -> None:
    """A source without a position (a folder of pictures) asks for each record whether it was handled: that is kept for good."""
    db.execute("UPDATE lines SET remembers = 1 WHERE position = '{}'")
    db.create_function("digest", 1, digest, deterministic=True)
    for table in ("scores", "rejected"):
        db.execute(
            f"INSERT OR IGNORE INTO handled SELECT line, digest(record) FROM {table} "  # noqa: S608 - fixed names
            "WHERE line IN (SELECT id FROM lines WHERE remembers)"
        )


def _compact(db: sqlite3.Connection) -> None:
    """Give back the room of the old tables, once. Where that is not possible (no room for a copy) the file stays as large as it is."""
    try:
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        db.execute("VACUUM")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.Error:
        return


# --- a store whose file was lost while it was in use: a deleted file can be read as long as it is open ---

_EVENTS = (
    "SELECT id, kind, line, alarm, time, body, seq FROM events WHERE seq IN (SELECT seq FROM outbox WHERE state IN ('waiting', 'dead'))"
)
_OUTBOX = "SELECT sink, state, attempts, next_at, error, seq FROM outbox WHERE state IN ('waiting', 'dead')"
_OF_LINES = ("alarms", "held", "labels")  # tables with a line's number


class Rescued(NamedTuple):
    """Events that a sink is still to be sent, with their outbox rows; alarms, what is held back, the audit log."""

    events: list[Any]
    outbox: list[Any]
    lines: dict[int, str]
    tables: dict[str, tuple[list[str], list[Any]]]  # columns and rows


def read_rescued(db: sqlite3.Connection) -> Rescued:
    """Read what is left in a connection to a lost file; what can no longer be read is left out."""

    def rows(query: str) -> tuple[list[str], list[Any]]:
        with suppress(sqlite3.Error):
            found = db.execute(query)
            return [column[0] for column in found.description], found.fetchall()
        return [], []

    tables = {name: rows(f"SELECT * FROM {name}") for name in (*_OF_LINES, "audit")}  # noqa: S608 - fixed names
    tables["meta"] = rows("SELECT * FROM meta WHERE key = 'audit head'")
    return Rescued(rows(_EVENTS)[1], rows(_OUTBOX)[1], dict(rows("SELECT id, name FROM lines")[1]), tables)


def write_rescued(db: sqlite3.Connection, rescued: Rescued) -> None:
    """Write it into the store that is there now. What that has already, from another connection, stays. Inside a transaction."""
    numbers: dict[int, int] = {}
    for *event, seq in rescued.events:
        added = db.execute("INSERT OR IGNORE INTO events (id, kind, line, alarm, time, body) VALUES (?, ?, ?, ?, ?, ?)", event)
        if added.rowcount and added.lastrowid:
            numbers[seq] = added.lastrowid
    rows = [(numbers[seq], *row) for *row, seq in rescued.outbox if seq in numbers]
    db.executemany("INSERT INTO outbox (seq, sink, state, attempts, next_at, error) VALUES (?, ?, ?, ?, ?, ?)", rows)
    ids = {}
    for old, name in rescued.lines.items():
        db.execute("INSERT OR IGNORE INTO lines (name) VALUES (?)", (name,))
        (ids[old],) = db.execute("SELECT id FROM lines WHERE name = ?", (name,)).fetchone()
    begun = db.execute("SELECT 1 FROM audit").fetchone()  # a chain of its own, which must not be mixed with another
    for table, (columns, found) in rescued.tables.items():
        if begun and table in ("audit", "meta"):
            continue
        at = columns.index("line") if found and table in _OF_LINES else None
        moved = found if at is None else [[*row[:at], ids[row[at]], *row[at + 1 :]] for row in found if row[at] in ids]
        marks = ", ".join("?" * len(columns))
        if moved:
            db.executemany(f"INSERT OR IGNORE INTO {table} ({', '.join(columns)}) VALUES ({marks})", moved)  # noqa: S608 - names of our own
