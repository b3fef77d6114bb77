"""What the page reads of the store: on read-only connections of its own, so that it never stands in the monitor's way."""

from __future__ import annotations

import json
import logging
import math
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from anomaly.alarms.book import Alarm, Hold, Label
from anomaly.alarms.routing import PRIORITIES
from anomaly.alarms.store.alarm_rows import AGAIN, Action, acted, read_alarms, read_holds, read_labels
from anomaly.alarms.store.connection import connect_to_read
from anomaly.errors import StoreError

log = logging.getLogger("anomaly")
WAIT_S = 2.0
RECENT_ROWS = 20_000  # of the newest scores that a glance looks at
SPARKLINE = 60  # p-values
MOST_POINTS = 2000  # of a line over time
MOST_ROWS = 2_000_000  # of scores that one look reads
_URGENCY = " ".join(f"WHEN '{name}' THEN {number}" for number, name in enumerate(PRIORITIES))
ORDERS = {
    "urgent": f"CASE a.priority {_URGENCY} ELSE -1 END DESC, a.opened DESC, a.id",
    "newest": "a.opened DESC, a.id",
    "oldest": "a.opened, a.id",
}


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """A read-only connection to a store. Raises StoreError for one that cannot be read."""
    with damage_told(path), closing(connect_to_read(path, WAIT_S)) as db:
        yield db


@contextmanager
def damage_told(path: Path) -> Iterator[None]:
    """SQLite takes any value in any column: rows that do not read as we write them are the store's trouble. Raises StoreError then."""
    try:
        yield
    except sqlite3.Error as error:
        raise StoreError(f"{path}: cannot be read ({error}); check the disk") from error
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
        log.exception("a row of the store is not as it was written")
        what = f"{type(error).__name__}: {error}".partition("\n")[0][:100]
        raise StoreError(f"{path}: a row in it is not as it was written ({what}; the log has more); {AGAIN}") from error


# --- lines ---


def line_names(db: sqlite3.Connection) -> list[str]:
    """The lines of a store, by name."""
    return [name for (name,) in db.execute("SELECT name FROM lines ORDER BY name")]


def lines_with_alarms(db: sqlite3.Connection) -> list[str]:
    """The lines that have an alarm, by name."""
    query = "SELECT name FROM lines l WHERE EXISTS (SELECT 1 FROM alarms a WHERE a.line = l.id) ORDER BY name"
    return [name for (name,) in db.execute(query)]


class Glance(NamedTuple):
    """What the newest rows say of a line: their p-values, the oldest first, and the time of the newest."""

    p_values: list[float]
    newest: float | None


def glances(db: sqlite3.Connection) -> dict[str, Glance]:
    """By line, from the newest rows of all lines together. A line that is not among them is not in it."""
    query = (
        "SELECT l.name, s.time, s.p_value FROM scores s JOIN lines l ON l.id = s.line "
        "WHERE s.seq > (SELECT coalesce(max(seq), 0) FROM scores) - ? ORDER BY s.seq"
    )
    found: dict[str, list[tuple[float | None, float | None]]] = {}
    for name, time, p_value in db.execute(query, (RECENT_ROWS,)):
        found.setdefault(name, []).append((time, p_value))
    return {
        name: Glance([round(p, 6) for _, p in rows[-SPARKLINE:] if p is not None], max((t for t, _ in rows if t is not None), default=None))
        for name, rows in found.items()
    }


@dataclass(frozen=True)
class Series:
    """P-values of a line over time: the lowest of each stretch. `times` (n,) seconds since 1970, `p_values` (n,), `records` n names."""

    times: np.ndarray[Any, np.dtype[np.float64]]
    p_values: np.ndarray[Any, np.dtype[np.float64]]
    records: list[str]


def newest_time(db: sqlite3.Connection, line: str) -> float | None:
    """Of a line's scored records, None where there are none."""
    query = "SELECT s.time FROM scores s JOIN lines l ON l.id = s.line WHERE l.name = ? ORDER BY s.seq DESC LIMIT 1"
    row = db.execute(query, (line,)).fetchone()
    return None if row is None or row[0] is None else float(row[0])


def series(db: sqlite3.Connection, line: str, begin: float, end: float, most: int = MOST_POINTS) -> Series:
    """A line's p-values from `begin` to `end`: `most` points at most, each the lowest of its stretch."""
    query = (
        "SELECT time, p_value, seq FROM (SELECT s.time, s.p_value, s.seq FROM scores s "
        "WHERE s.line = (SELECT id FROM lines WHERE name = ?) "
        "ORDER BY s.seq DESC LIMIT ?) WHERE time BETWEEN ? AND ? AND p_value IS NOT NULL"
    )
    rows = np.array(db.execute(query, (line, MOST_ROWS, begin, end)).fetchall(), np.float64).reshape(-1, 3)
    rows = rows[np.argsort(rows[:, 0], kind="stable")]
    if len(rows) > most:
        place = np.minimum(((rows[:, 0] - begin) / max(end - begin, 1e-9) * most).astype(np.int64), most - 1)
        order = np.lexsort((rows[:, 1], place))
        first = np.r_[True, np.diff(place[order]) > 0]
        rows = rows[np.sort(order[first])]
    names = _records(db, rows[:, 2].astype(np.int64).tolist())
    return Series(rows[:, 0], rows[:, 1], names)


def _records(db: sqlite3.Connection, numbers: Sequence[int]) -> list[str]:
    found = dict(
        db.execute("SELECT seq, record FROM scores WHERE seq IN (SELECT value FROM json_each(?))", (json.dumps(list(numbers)),)).fetchall()
    )
    return [found.get(number, "") for number in numbers]


def rejected(db: sqlite3.Connection, line: str, last: int = 100) -> list[tuple[str, float | None, str]]:
    """The newest records that were set aside: (record, time, reason)."""
    query = "SELECT r.record, r.time, r.reason FROM rejected r JOIN lines l ON l.id = r.line WHERE l.name = ? ORDER BY r.seq DESC LIMIT ?"
    return db.execute(query, (line, last)).fetchall()


# --- alarms ---


def find_alarms(
    db: sqlite3.Connection, *, line: str | None = None, live: bool | None = None, state: str | None = None, alarm_class: str | None = None,
    condition: str | None = None, text: str = "", begin: float | None = None, end: float | None = None, order: str = "urgent",
    limit: int = 50, offset: int = 0,
) -> tuple[int, list[Alarm]]:  # fmt: skip
    """(how many there are, some of them in order). `text` is looked for in condition, line and what is said of it."""
    asked: list[tuple[str, Any]] = [
        ("l.name = ?", line), ("a.state = ?", state), ("a.class = ?", alarm_class), ("a.condition = ?", condition),
        ("coalesce(a.closed, 9e15) >= ?", begin),
        ("a.opened <= ?", end),
    ]  # fmt: skip
    asked = [(words, value) for words, value in asked if value is not None]
    if text:
        asked.append(("instr(lower(a.condition || ' ' || l.name || ' ' || a.data), lower(?)) > 0", text))
    where = [words for words, _ in asked] + ([] if live is None else ["a.state <> 'normal'" if live else "a.state = 'normal'"])
    clause = f"WHERE {' AND '.join(where)}" if where else ""
    values = [value for _, value in asked]
    (total,) = db.execute(f"SELECT count(*) FROM alarms a JOIN lines l ON l.id = a.line {clause}", values).fetchone()  # noqa: S608 - ours
    if not total or not limit:
        return total, []
    ids = [
        id_
        for (id_,) in db.execute(
            f"SELECT a.id FROM alarms a JOIN lines l ON l.id = a.line {clause} ORDER BY {ORDERS[order]} LIMIT ? OFFSET ?",  # noqa: S608
            [*values, limit, offset],
        )
    ]
    found = {alarm.id: alarm for alarm in read_alarms(db, "WHERE a.id IN (SELECT value FROM json_each(?))", (json.dumps(ids),))}
    return total, [found[id_] for id_ in ids]


def flagged_of(
    db: sqlite3.Connection, line: str, begin: float, end: float, threshold: float, most: int
) -> tuple[int, list[tuple[str, float, float | None, float]]]:
    """(how many records were flagged in a stretch of time, the most unusual of them: (record, time, score, p-value), by time)."""
    query = (
        "SELECT record, time, score, p_value FROM (SELECT * FROM scores WHERE line = (SELECT id FROM lines WHERE name = ?) "
        "ORDER BY seq DESC LIMIT ?) WHERE time BETWEEN ? AND ? AND p_value <= ? ORDER BY p_value, time"
    )
    rows = db.execute(query, (line, MOST_ROWS, begin, end, threshold * (1 + 1e-6))).fetchall()  # compared in float32 at the line
    return len(rows), sorted(rows[:most], key=lambda row: row[1])


def one_alarm(db: sqlite3.Connection, id_: str) -> Alarm | None:
    """An alarm by its whole id."""
    found = read_alarms(db, "WHERE a.id = ?", (id_,))
    return found[0] if found else None


class Marks(NamedTuple):
    """What else is known of alarms, by id: what people said of them, and of how many records something is kept."""

    labels: dict[str, Label]
    kept: dict[str, int]


def marks_of(db: sqlite3.Connection, ids: Sequence[str]) -> Marks:
    """Labels of these alarms, and how much is kept of each."""
    asked = json.dumps(list(ids))
    labels = read_labels(db, "WHERE b.alarm IN (SELECT value FROM json_each(?))", (asked,))
    query = "SELECT alarm, count(*) FROM evidence WHERE alarm IN (SELECT value FROM json_each(?)) GROUP BY alarm"
    return Marks({label.alarm: label for label in labels}, dict(db.execute(query, (asked,)).fetchall()))


def waiting_counts(db: sqlite3.Connection) -> dict[str, tuple[int, int, int, int]]:
    """By line: alarms that nobody has acknowledged, live ones, those of them of the scores, the highest priority's place (-1: none).

    What is held back counts as live alone.
    """
    query = (
        f"SELECT l.name, sum(a.acknowledged IS NULL AND a.state NOT IN {_QUIET}), count(*), "  # noqa: S608 - fixed words
        f"sum(a.class = 'process' AND a.state NOT IN {_QUIET}), "
        f"max(CASE WHEN a.state IN {_QUIET} THEN -1 ELSE CASE a.priority {_URGENCY} ELSE 0 END END) "
        "FROM alarms a JOIN lines l ON l.id = a.line WHERE a.state <> 'normal' GROUP BY l.name"
    )
    return {name: (int(waits), int(live), int(process), int(worst)) for name, waits, live, process, worst in db.execute(query)}


def of_the_data(db: sqlite3.Connection) -> dict[str, list[Alarm]]:
    """By line: alarms that are not of the scores and are on, or were and wait for someone; without those that are held back.

    Those that are on come first, and of them the most urgent.
    """
    found: dict[str, list[Alarm]] = {}
    where = f"WHERE a.class <> 'process' AND a.state <> 'normal' AND a.state NOT IN {_QUIET}"
    for alarm in sorted(read_alarms(db, where), key=lambda alarm: (alarm.closed is not None, -PRIORITIES.index(alarm.priority))):
        found.setdefault(alarm.line, []).append(alarm)
    return found


_QUIET = "('shelved', 'suppressed by design', 'out of service')"


def events_of(db: sqlite3.Connection, alarm: str) -> list[dict[str, Any]]:
    """All events of an alarm in order, as CloudEvents."""
    return [json.loads(body) for (body,) in db.execute("SELECT body FROM events WHERE alarm = ? ORDER BY seq", (alarm,))]


def events_of_kind(db: sqlite3.Connection, line: str, kinds: Sequence[str], last: int = 100) -> list[dict[str, Any]]:
    """The newest events of some kinds of a line, the newest first."""
    query = "SELECT body FROM events WHERE line = ? AND kind IN (SELECT value FROM json_each(?)) ORDER BY seq DESC LIMIT ?"
    return [json.loads(body) for (body,) in db.execute(query, (line, json.dumps(list(kinds)), last))]


def actions(db: sqlite3.Connection, line: str | None = None, alarms: Sequence[str] = (), last: int = 200, offset: int = 0) -> list[Action]:
    """Rows of the audit log, the newest first."""
    query = (
        "SELECT * FROM audit WHERE (?1 IS NULL OR line = ?1) AND (?2 = '[]' OR alarm IN (SELECT value FROM json_each(?2))) "
        "ORDER BY seq DESC LIMIT ?3 OFFSET ?4"
    )
    return [Action._make(row) for row in db.execute(query, (line, json.dumps(list(alarms)), last, offset))]


def holds(db: sqlite3.Connection, line: str | None = None) -> list[tuple[str, Hold]]:
    """(line, what holds alarms of it back), the oldest first."""
    return read_holds(db, "" if line is None else "WHERE l.name = ?", () if line is None else (line,))


class Shot(NamedTuple):
    """A picture that is kept of an alarm."""

    alarm: str
    role: str
    record: str
    time: float
    p_value: float


def pictures(db: sqlite3.Connection, line: str, last: int = 24) -> list[Shot]:
    """Of the newest pictures that are kept of a line's alarms, the most unusual first."""
    query = (
        "SELECT alarm, role, record, time, p_value FROM (SELECT e.* FROM evidence e JOIN lines l ON l.id = e.line "
        "WHERE l.name = ? AND e.kind = 'picture' ORDER BY e.seq DESC LIMIT ?) ORDER BY p_value, time DESC"
    )
    return [Shot(*row) for row in db.execute(query, (line, last))]


# --- champion and challenger ---


def shadow_counts(
    db: sqlite3.Connection, line: str, champion: tuple[str, float], challenger: tuple[str, float], most: int = 200_000
) -> tuple[int, int, int, int]:
    """Of records that both judged: flagged by both, by the champion alone, by the challenger alone, by neither.

    champion, challenger: (hash, p-value at which it flags)
    """
    query = (
        "SELECT s.p_value <= ?1 AS a, c.p_value <= ?2 AS b, count(*) FROM (SELECT * FROM shadow WHERE line = (SELECT id FROM lines WHERE "
        "name = ?3) AND bundle = (SELECT id FROM bundles WHERE hash = ?5) ORDER BY seq DESC LIMIT ?6) c JOIN scores s ON s.line = c.line "
        "AND s.record = c.record AND s.bundle = (SELECT id FROM bundles WHERE hash = ?4) GROUP BY 1, 2"
    )
    db.execute("PRAGMA automatic_index = ON")
    values = (champion[1], challenger[1], line, champion[0], challenger[0], most)
    found = {(bool(a), bool(b)): int(count) for a, b, count in db.execute(query, values)}
    return tuple(found.get(pair, 0) for pair in ((True, True), (True, False), (False, True), (False, False)))  # type: ignore[return-value]


def mcnemar(only_one: int, only_other: int) -> float | None:
    """The exact two-sided p-value that two rates on the same records differ (McNemar 1947); None where they differ nowhere.

    >>> mcnemar(0, 5), mcnemar(0, 0)
    (0.0625, None)
    """
    n, k = only_one + only_other, min(only_one, only_other)
    if not n:
        return None
    logs = [math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1) - n * math.log(2) for i in range(k + 1)]
    return min(1.0, 2 * math.fsum(math.exp(each) for each in logs))


# --- what has changed ---


class Stamp(NamedTuple):
    """Numbers that grow: events, what people did, scores. Two looks with the same stamp saw the same."""

    events: int
    acted: int
    scores: int


def stamp(db: sqlite3.Connection) -> Stamp:
    """How far the store is. Cheap."""
    ends = dict(db.execute("SELECT name, seq FROM sqlite_sequence WHERE name IN ('events', 'scores')"))
    return Stamp(int(ends.get("events", 0)), acted(db), int(ends.get("scores", 0)))


def events_after(db: sqlite3.Connection, number: int, most: int = 500) -> list[dict[str, Any]]:
    """Events that came after the one of that number, in order."""
    return [json.loads(body) for (body,) in db.execute("SELECT body FROM events WHERE seq > ? ORDER BY seq LIMIT ?", (number, most))]
