"""How long things are kept, and the work that keeps the store small: a little at a time, so that no batch waits for it.

Age is counted in days on which the store was in use, not by the clock: a clock that was wrong for an hour, and a line that was
off for a year, make nothing old. Nor do old times in a record: history that is read today is as fresh as what happens today.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

from anomaly.alarms.evidence import EVIDENCE_BYTES
from anomaly.alarms.store.connection import Connection
from anomaly.errors import StoreError
from anomaly.schema import DAY_S

ALL_DAYS = 7  # all scores; after that the worst of each minute of a line
MINUTE_DAYS = 366
SHADOW_DAYS, REJECTED_DAYS = 30, 92
DELIVERED_DAYS = 30  # that a sink has an event
UNDELIVERED_DAYS = 366  # what no sink took in a year
EVENT_DAYS = 5 * 366
LIMIT_BYTES = 4_000_000_000
SLICE, THIN_SLICE = 5000, 10_000  # rows at a time: some 20 ms
KEPT_LAST = 100_000  # scores that stay as long as there are older events to remove
EVERY_S = 1.0
FREE_PAGES, FREE_SHARE, PAGES = 2000, 0.1, 500  # more than both are given back, so many pages at a time
_NEWEST = 1 << 62
_OUTBOX = "DELETE FROM outbox WHERE (seq, sink) IN (SELECT seq, sink FROM outbox WHERE seq < ? {} LIMIT ?)"
_SETTLED = _OUTBOX.format("AND state NOT IN ('waiting', 'dead')")  # what no sink is to be sent any more
_TABLES = ("scores", "shadow", "rejected", "events")


class Retention(Connection):
    """Keeps the store within its bounds. `limit_bytes` is for the whole file, `evidence_bytes` for what it keeps of alarms."""

    _last: dict[Path, float] = {}  # noqa: RUF012 - one turn a second for all connections of this process

    def __init__(
        self,
        path: Path,
        clock: Callable[[], float] = time.time,
        limit_bytes: int = LIMIT_BYTES,
        evidence_bytes: int = EVIDENCE_BYTES,
        read_only: bool = False,
    ) -> None:
        self.limit_bytes = limit_bytes
        self.evidence_bytes = min(evidence_bytes, limit_bytes // 2)
        self._chores: list[Callable[[], bool]] = []
        super().__init__(path, clock, read_only)

    def size_bytes(self) -> int:
        """What the store's contents take of its file."""
        (pages,), (free,), (size,) = (self._read(f"PRAGMA {name}")[0] for name in ("page_count", "freelist_count", "page_size"))
        return int((pages - free) * size)

    def tidy(self) -> bool:
        """Do a little of what is to be thinned or removed, at most once a second; returns whether there was anything to do.

        What cannot be done now (a full disk) is done later.
        """
        now = time.monotonic()
        if now - self._last.get(self.path, -EVERY_S) < EVERY_S:
            return False
        self._last[self.path] = now
        with contextlib.suppress(StoreError):
            return self.tidy_now()
        return False

    def tidy_now(self) -> bool:
        """As `tidy`, at once. Raises StoreError."""
        if self._mark_day():
            self._chores = [self._thin, *self._removals()]
        if self.size_bytes() > self.limit_bytes:
            return self._shrink()
        while self._chores:
            if self._chores[0]():
                return True
            self._chores.pop(0)
        return self._give_back()

    def _open(self) -> None:
        self._today = -1
        super()._open()

    # --- days ---

    def _mark_day(self) -> bool:
        """Note where each table stands when a day begins; returns whether there may be work (a new day, or a new start)."""
        today = int(self.clock() // DAY_S)
        if self._today == today:
            return False
        with self._transaction("day not marked", full=False) as db:
            ends = dict(db.execute("SELECT name, seq FROM sqlite_sequence"))
            marks = [ends.get(table, 0) + 1 for table in _TABLES]
            db.execute("INSERT OR IGNORE INTO days (day, scores, shadow, rejected, events) VALUES (?, ?, ?, ?, ?)", (today, *marks))
            db.execute("DELETE FROM days WHERE number <= (SELECT max(number) FROM days) - ?", (EVENT_DAYS + 1,))
        self._today = today
        return True

    def _older_than(self, table: str, days: int) -> int:
        """Rows of a table with a lower number are older than so many days of use."""
        rows = self._read(f"SELECT {table} FROM days ORDER BY number DESC LIMIT 1 OFFSET ?", (days,))  # noqa: S608 - fixed names
        return int(rows[0][0]) if rows else 0

    # --- chores: each does a slice, and says whether it found any ---

    def _thin(self) -> bool:
        """Of older scores keep the worst of each minute of a line."""
        until = self._older_than("scores", ALL_DAYS)
        begin = max(int((self._read("SELECT value FROM meta WHERE key = 'thinned'") or [[0]])[0][0]), self._first("scores"))
        if begin >= until:
            return False
        end = min(begin + THIN_SLICE, until)
        with self._transaction("scores not thinned", full=False) as db:
            db.execute(
                "DELETE FROM scores WHERE seq >= ?1 AND seq < ?2 AND seq NOT IN (SELECT seq FROM (SELECT seq, row_number() OVER "
                "(PARTITION BY line, CAST(time / 60 AS INTEGER) ORDER BY p_value, score DESC) AS place FROM scores "
                "WHERE seq >= ?1 AND seq < ?2) WHERE place = 1)",
                (begin, end),
            )
            db.execute("INSERT OR REPLACE INTO meta VALUES ('thinned', ?)", (str(end),))
        return True

    def _first(self, table: str) -> int:
        return int(self._read(f"SELECT coalesce(min(seq), 0) FROM {table}")[0][0])  # noqa: S608 - fixed names

    def _removals(self) -> list[Callable[[], bool]]:
        age = self._older_than
        return [
            lambda: self._remove("scores", age("scores", MINUTE_DAYS)),
            lambda: self._remove("shadow", age("shadow", SHADOW_DAYS)),
            lambda: self._remove("rejected", age("rejected", REJECTED_DAYS)),
            lambda: self._delete(_SETTLED, age("events", DELIVERED_DAYS)),
            lambda: self._delete(_OUTBOX.format(""), age("events", UNDELIVERED_DAYS)),
            lambda: self._remove_events(age("events", EVENT_DAYS)),
        ]

    def _remove(self, table: str, below: int) -> bool:
        return self._delete(f"DELETE FROM {table} WHERE seq IN (SELECT seq FROM {table} WHERE seq < ? ORDER BY seq LIMIT ?)", below)  # noqa: S608

    def _remove_events(self, below: int) -> bool:
        """Remove old events that nobody waits for, and the alarms they were of, unless one is still open."""
        removed = self._delete(
            "DELETE FROM events WHERE seq IN (SELECT seq FROM events e WHERE seq < ? AND NOT EXISTS "
            "(SELECT 1 FROM outbox o WHERE o.seq = e.seq) ORDER BY seq LIMIT ?)",
            below,
        )
        if removed:
            with self._transaction("alarms not removed", full=False) as db:
                db.execute("DELETE FROM alarms WHERE state = 'normal' AND NOT EXISTS (SELECT 1 FROM events e WHERE e.alarm = alarms.id)")
                for table in ("evidence", "labels"):
                    db.execute(f"DELETE FROM {table} WHERE alarm NOT IN (SELECT id FROM alarms)")  # noqa: S608 - fixed names
        return removed

    def _delete(self, statement: str, below: int) -> bool:
        with self._transaction("old rows not removed", full=False) as db:
            return db.execute(statement, (below, SLICE)).rowcount > 0

    # --- size ---

    def _shrink(self) -> bool:
        """Over the limit: the oldest go, first of what is missed least. Waiting events, open alarms and the audit stay."""
        return (
            self._remove("shadow", _NEWEST)
            or self._remove("rejected", self._older_than("rejected", 1))
            or self._remove("scores", self._last_seq("scores") - KEPT_LAST)
            or self._delete(_SETTLED, _NEWEST)
            or self._remove_events(_NEWEST)
            or self._remove("rejected", _NEWEST)
            or self._remove("scores", _NEWEST)
        )

    def _last_seq(self, table: str) -> int:
        return int(self._read(f"SELECT coalesce(max(seq), 0) FROM {table}")[0][0])  # noqa: S608 - fixed names

    def _give_back(self) -> bool:
        """Give free pages back to the disk, some at a time; a few are kept for rows to come."""
        (pages,), (free,) = (self._read(f"PRAGMA {name}")[0] for name in ("page_count", "freelist_count"))
        if free <= max(FREE_PAGES, FREE_SHARE * pages):
            return False
        with self._errors("free pages not given back"), self._turn:
            self._db.execute(f"PRAGMA incremental_vacuum({PAGES})").fetchall()
        (left,) = self._read("PRAGMA freelist_count")[0]
        return bool(left < free)
