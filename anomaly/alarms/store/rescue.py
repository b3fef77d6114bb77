"""What is taken over from a store whose file was lost while it was in use: a deleted file can be read as long as it is open."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from typing import Any, NamedTuple

_EVENTS = (
    "SELECT id, kind, line, alarm, time, body, seq FROM events WHERE seq IN (SELECT seq FROM outbox WHERE state IN ('waiting', 'dead'))"
)
_OUTBOX = "SELECT sink, state, attempts, next_at, error, seq FROM outbox WHERE state IN ('waiting', 'dead')"
_OF_LINES = ("alarms", "held")  # tables with a line's number


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
    for table, (columns, found) in rescued.tables.items():
        at = columns.index("line") if found and table in _OF_LINES else None
        moved = found if at is None else [[*row[:at], ids[row[at]], *row[at + 1 :]] for row in found]
        marks = ", ".join("?" * len(columns))
        if moved:
            db.executemany(f"INSERT OR IGNORE INTO {table} ({', '.join(columns)}) VALUES ({marks})", moved)  # noqa: S608 - names of our own
