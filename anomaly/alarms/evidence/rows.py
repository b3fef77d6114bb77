"""Evidence as rows of the store. Functions on a connection, to be called inside a transaction where they write."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable

from anomaly.alarms.evidence.made import Evidence
from anomaly.names import one_line

TABLES = """
CREATE TABLE IF NOT EXISTS evidence (seq INTEGER PRIMARY KEY AUTOINCREMENT, line INTEGER NOT NULL, alarm TEXT NOT NULL, role TEXT NOT NULL,
  kind TEXT NOT NULL, record TEXT NOT NULL, time REAL NOT NULL, p_value REAL, size INTEGER NOT NULL, meta TEXT NOT NULL,
  picture BLOB NOT NULL, packed BLOB NOT NULL);
CREATE UNIQUE INDEX IF NOT EXISTS evidence_of_alarm ON evidence (alarm, role);
CREATE INDEX IF NOT EXISTS evidence_sizes ON evidence (seq, alarm, size);
"""
_COLUMNS = "alarm, role, kind, record, time, p_value, meta, picture, packed"


def put_evidence(db: sqlite3.Connection, line: int, found: Iterable[Evidence], limit_bytes: int) -> None:
    """Store what is kept of alarms, in place of what was kept of them in the same role. Over the limit the oldest goes.

    A record is an alarm's worst only where none that is kept of it is as unusual. Evidence of alarms which someone has labelled goes
    last: the next fit learns from it.
    """
    as_unusual = "SELECT 1 FROM evidence WHERE alarm = ? AND p_value <= ?"
    for one in found:
        if one.role == "worst" and db.execute(as_unusual, (one.alarm, one.p_value)).fetchone():
            continue
        name = one_line(one.record)
        row = (line, one.alarm, one.role, one.kind, name, one.time, one.p_value, one.size, json.dumps(one.meta), one.picture, one.packed)
        db.execute(
            "INSERT OR REPLACE INTO evidence (line, alarm, role, kind, record, time, p_value, size, meta, picture, packed) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            row,
        )
    _count, size = evidence_size(db)
    if size <= limit_bytes:
        return
    oldest = (
        "SELECT e.seq, e.size FROM evidence e INDEXED BY evidence_sizes LEFT JOIN labels b ON b.alarm = e.alarm "
        "ORDER BY b.alarm IS NOT NULL, e.seq"
    )
    for seq, bytes_ in db.execute(oldest).fetchall():
        db.execute("DELETE FROM evidence WHERE seq = ?", (seq,))
        size -= bytes_
        if size <= limit_bytes:
            return


def read_evidence(db: sqlite3.Connection, alarm: str) -> list[Evidence]:
    """What is kept of an alarm: the record that opened it first, then its worst one."""
    query = f"SELECT {_COLUMNS} FROM evidence WHERE alarm = ? ORDER BY role"  # noqa: S608 - ours; "opened" comes before "worst"
    return [
        Evidence(alarm, role, kind, record, time, p_value, json.loads(meta), picture, packed)
        for alarm, role, kind, record, time, p_value, meta, picture, packed in db.execute(query, (alarm,))
    ]


def evidence_size(db: sqlite3.Connection) -> tuple[int, int]:
    """(how many records, bytes)."""
    count, size = db.execute("SELECT count(*), coalesce(sum(size), 0) FROM evidence INDEXED BY evidence_sizes").fetchone()
    return int(count), int(size)


def erase_evidence(db: sqlite3.Connection, alarms: Iterable[str]) -> int:
    """Remove what is kept of these alarms, and overwrite it; returns how many records that were."""
    db.execute("PRAGMA secure_delete = ON")
    try:
        return sum(db.execute("DELETE FROM evidence WHERE alarm = ?", (alarm,)).rowcount for alarm in alarms)
    finally:
        db.execute("PRAGMA secure_delete = OFF")
