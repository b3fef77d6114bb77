"""Alarms, and what holds them back, as rows of the store; and the audit log, in which each row vouches for all before it.

Functions on a connection, to be called inside a transaction.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable
from typing import Any, NamedTuple

from anomaly.alarms.book import Alarm, AlarmBook, Changes, Hold, Label, PictureLabel
from anomaly.alarms.events import Event
from anomaly.errors import DataError, StoreError
from anomaly.names import masked, one_line

AGAIN = "put a copy of the store in its place, or move the file away: the monitor then begins a new one"
_ALARM = "a.id, l.name, a.class, a.condition, a.priority, a.state, a.opened, a.closed, a.acknowledged, a.acknowledged_by, a.data"
_HEAD = "audit head"  # in `meta`: number and hash of the last row, so that rows missing at the end are seen, too
FIRST = "0" * 64  # what the first row names as the hash before it


class DamagedRowError(StoreError, ValueError):
    """A row that is not as this program writes it."""


def put_changes(db: sqlite3.Connection, line: int, changes: Changes) -> None:
    """Store what a turn has changed of a line's book. Who acknowledged an alarm meanwhile stays."""
    for alarm in changes.alarms.values():
        kept = {"since": alarm.since, "reminded": alarm.reminded, "told": alarm.told, "latched": alarm.latched, "says": alarm.data}
        db.execute(
            "INSERT INTO alarms VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET priority = excluded.priority, "
            "state = excluded.state, closed = excluded.closed, acknowledged = coalesce(acknowledged, excluded.acknowledged), "
            "acknowledged_by = coalesce(nullif(acknowledged_by, ''), excluded.acknowledged_by), data = excluded.data",
            (
                alarm.id, line, alarm.alarm_class, alarm.condition, alarm.priority, alarm.state, alarm.opened, alarm.closed,
                alarm.acknowledged, alarm.acknowledged_by, json.dumps(kept, sort_keys=True),
            ),
        )  # fmt: skip
    for hold in changes.ended:
        db.execute("DELETE FROM held WHERE line = ? AND kind = ? AND condition = ?", (line, hold.kind, hold.condition))
    for hold in changes.began:
        row = (line, hold.condition, hold.kind, hold.since, hold.until, hold.who, hold.why)
        db.execute("INSERT OR REPLACE INTO held (line, condition, kind, since, until, who, why) VALUES (?, ?, ?, ?, ?, ?, ?)", row)


def read_alarms(db: sqlite3.Connection, where: str = "", values: Iterable[Any] = ()) -> list[Alarm]:
    """Alarms in the order in which they opened. `where`: a condition on the tables a (alarms) and l (lines), with `values` for it."""
    query = f"SELECT {_ALARM} FROM alarms a JOIN lines l ON l.id = a.line {where} ORDER BY a.opened, a.id"  # noqa: S608 - ours
    return [_alarm(*row) for row in db.execute(query, tuple(values))]


def _alarm(
    id_: str, line: str, class_: str, condition: str, priority: Any, state: Any, opened: float, closed: float | None,
    acknowledged: float | None, acknowledged_by: str | None, data: str,
) -> Alarm:  # fmt: skip
    kept = json.loads(data)
    return Alarm(
        id_, line, class_, condition, priority, state, opened, kept["since"], kept["reminded"], closed, acknowledged, acknowledged_by or "",
        kept["told"], kept["latched"], kept["says"],
    )  # fmt: skip


def read_holds(db: sqlite3.Connection, where: str = "", values: Iterable[Any] = ()) -> list[tuple[str, Hold]]:
    """(line, what holds alarms of it back), the oldest first; `where` as for `read_alarms`, on the table h."""
    query = (
        "SELECT l.name, h.kind, h.condition, h.since, h.until, h.who, h.why FROM held h JOIN lines l ON l.id = h.line "  # noqa: S608 - ours
        f"{where} ORDER BY h.since, l.name, h.condition"
    )
    return [(line, Hold(*rest)) for line, *rest in db.execute(query, tuple(values))]


LABELS = """
CREATE TABLE IF NOT EXISTS labels (alarm TEXT PRIMARY KEY, line INTEGER NOT NULL, time REAL NOT NULL, who TEXT NOT NULL,
  verdict TEXT NOT NULL, kind TEXT NOT NULL, reason TEXT NOT NULL, marks TEXT NOT NULL) WITHOUT ROWID;
"""


def put_label(db: sqlite3.Connection, line: int, label: Label) -> None:
    """Store what someone said of an alarm, in place of what was said before."""
    who, kind, reason = (one_line(masked(text)) for text in (label.who, label.kind, label.reason))
    marks: list[Any] = [label.boxes, label.stretches]
    if label.pictures:  # else as older versions read it
        marks.append([(one.record, one.verdict, one_line(masked(one.kind)), one.boxes) for one in label.pictures])
    row = (label.alarm, line, label.time, who, label.verdict, kind, reason, json.dumps(marks))
    db.execute("INSERT OR REPLACE INTO labels (alarm, line, time, who, verdict, kind, reason, marks) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)


def read_labels(db: sqlite3.Connection, where: str = "", values: Iterable[Any] = ()) -> list[Label]:
    """Labels in the order in which they were given; `where` as for `read_alarms`, on the table b."""
    query = (
        "SELECT b.alarm, l.name, b.verdict, b.time, b.who, b.reason, b.kind, b.marks FROM labels b JOIN lines l ON l.id = b.line "  # noqa: S608
        f"{where} ORDER BY b.time, b.alarm"
    )
    found = []
    for alarm, line, verdict, time, who, reason, kind, marks in db.execute(query, tuple(values)):
        try:
            boxes, stretches, *more = json.loads(marks)
            pictures = tuple(
                PictureLabel(record, said, of, tuple(map(tuple, drawn))) for record, said, of, drawn in (more[0] if more else ())
            )
            spans = tuple(map(tuple, stretches))
            found.append(Label(alarm, line, verdict, time, who, reason, kind, tuple(map(tuple, boxes)), spans, pictures))
        except DataError as error:
            raise DamagedRowError(f"the label of alarm {alarm}: {error}; {AGAIN}") from error
    return found


def adopt_open_alarms(db: sqlite3.Connection) -> None:
    """Give the alarms that are open in a store of an older version the rows that it did not have."""
    query = (
        "SELECT l.id, l.name, c.name, e.id, e.alarm, e.time, e.body, max(e.seq) FROM conditions c JOIN lines l ON l.id = c.line "
        "JOIN events e ON e.alarm = c.alarm AND e.kind = 'opened' GROUP BY c.line, c.name"
    )
    for line, name, condition, id_, alarm, time, body, _ in db.execute(query).fetchall():
        book = AlarmBook(name, [], [])
        data = {"condition": condition.partition(":")[0]} | json.loads(body)["data"]
        book.apply([Event(id_, "opened", name, alarm, time, data)], time)
        put_changes(db, line, book.changes)


# --- the audit log ---


class Action(NamedTuple):
    """One row of the audit log: who did what, when, and why. `alarm` is "" for what concerns no single alarm."""

    seq: int
    time: float
    who: str
    action: str
    line: str
    alarm: str
    why: str
    previous: str
    hash: str

    @property
    def digest(self) -> str:
        """SHA-256 over all other fields, and by `previous` over all rows before."""
        return hashlib.sha256(json.dumps(self[:-1], separators=(",", ":")).encode()).hexdigest()


def append_action(db: sqlite3.Connection, time: float, who: str, action: str, line: str, alarm: str, why: str) -> None:
    """Add a row to the audit log."""
    seq, previous = _head(db)
    who, action, line, why = (one_line(masked(text)) for text in (who, action, line, why))
    row = Action(seq + 1, time, who, action, line, alarm, why, previous, "")
    row = row._replace(hash=row.digest)
    db.execute("INSERT INTO audit VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
    db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (_HEAD, f"{row.seq} {row.hash}"))


def _head(db: sqlite3.Connection) -> tuple[int, str]:
    """Number and hash of the last row, as they were noted with it."""
    kept = db.execute("SELECT value FROM meta WHERE key = ?", (_HEAD,)).fetchone()
    seq, _, digest = (kept[0] if kept else f"0 {FIRST}").partition(" ")
    return int(seq), digest


def acted(db: sqlite3.Connection) -> int:
    """How many actions of people the store has: whether one has come."""
    return _head(db)[0]


def broken_row(db: sqlite3.Connection) -> str:
    """Words on the first row of the audit log that is not as it was written, "" when all are."""
    previous, expected = FIRST, 1
    for row in map(Action._make, db.execute("SELECT * FROM audit ORDER BY seq")):
        if row.seq != expected:
            return f"row {expected} is missing"
        if row.previous != previous or row.hash != row.digest:
            return f"row {row.seq} ({row.action} by {row.who}) was changed, or the rows before it were"
        previous, expected = row.hash, expected + 1
    seq, digest = _head(db)
    if (seq, digest) != (expected - 1, previous):
        return f"row {expected} is missing" if seq >= expected else f"row {expected - 1} was not written by this program"
    return ""
