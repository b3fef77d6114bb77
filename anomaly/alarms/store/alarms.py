"""Alarms in the store: a line's book, what people do to it from wherever they are, and what can be asked of both."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from typing import Any, get_args

from anomaly.alarms.book import Alarm, AlarmBook, Box, Hold, Label, Stretch, Verdict
from anomaly.alarms.events import AlarmKind, Event
from anomaly.alarms.evidence import Evidence, check_boxes, check_marks, meant
from anomaly.alarms.evidence.rows import erase_evidence, evidence_size, read_evidence
from anomaly.alarms.store.alarm_rows import (
    Action,
    acted,
    append_action,
    broken_row,
    put_changes,
    put_label,
    read_alarms,
    read_holds,
    read_labels,
)
from anomaly.alarms.store.outbox import Outbox
from anomaly.errors import StoreError
from anomaly.schema import AlarmSettings

_LIVE = "WHERE l.name = ? AND a.state <> 'normal'"


class Alarms(Outbox):
    """What is known of alarms."""

    def book(self, line: str, settings: AlarmSettings | None = None) -> AlarmBook:
        """The book of a line as it was last stored; an empty one for a new line."""
        with self._errors("the alarms cannot be read"):
            holds = [hold for _, hold in read_holds(self._db, "WHERE l.name = ?", (line,))]
            return AlarmBook(line, read_alarms(self._db, _LIVE, (line,)), holds, settings)

    def acted(self) -> int:
        """A number that grows whenever somebody acts on an alarm."""
        with self._errors("the audit log cannot be read"):
            return acted(self._db)

    def add_events(self, events: Iterable[Event], sinks: Sequence[str] | None = None) -> None:
        """Store events outside of a batch, for `sinks`; for those that their line is registered for when that is None.

        Alarms that open, go on or close by them go through the book of their line.
        """
        with self._transaction("events not stored") as db:
            for event in events:
                if event.kind in ("opened", "reminded", "closed"):
                    self._apply(db, event.line, lambda book, event=event: book.apply([event], self.clock()), sinks)  # type: ignore[misc]
                else:
                    self._add(event, self._sinks_of(event.line) if sinks is None else sinks)

    def pass_time(self, line: str) -> list[Event]:
        """Reminders, and what was held back until now, of a line that no monitor serves; returns what was stored of it."""
        if not self.book(line).due(self.clock()):
            return []
        with self._transaction("events not stored") as db:
            return self._apply(db, line, lambda book: book.apply([], self.clock()))

    def act(self, line: str, action: str, who: str, why: str, do: Callable[[AlarmBook], list[Event]], alarm: str = "") -> list[Event]:
        """Someone does something to the alarms of a line: it is done to the book, told to the line's sinks, and written into the audit log.

        `do` takes the book as it is now and returns the events. Raises StoreError, and whatever `do` raises: nothing is stored then.
        """
        with self._transaction("nothing was done") as db:
            if not db.execute("SELECT 1 FROM lines WHERE name = ?", (line,)).fetchone():
                raise StoreError(f"{self.path}: no line {line!r}; its lines are {', '.join(self._names(db)) or 'none yet'}")
            events = self._apply(db, line, do)
            append_action(db, self.clock(), who, action, line, alarm, why)
            return events

    def _apply(
        self, db: sqlite3.Connection, line: str, do: Callable[[AlarmBook], list[Event]], sinks: Sequence[str] | None = None
    ) -> list[Event]:
        book = self.book(line)
        events = do(book)
        put_changes(db, self._line(line), book.changes)
        for event in events:
            chosen = self._sinks_of(line) if sinks is None else sinks
            self._add(event, () if event.id in book.changes.quiet else chosen)
        return events

    def _names(self, db: sqlite3.Connection) -> list[str]:
        return [name for (name,) in db.execute("SELECT name FROM lines ORDER BY name")]

    def note(self, who: str, action: str, line: str, alarm: str = "", why: str = "") -> None:
        """A row of the audit log for what was done elsewhere: a word on an alarm, a bundle that was promoted."""
        with self._transaction("not noted") as db:
            append_action(db, self.clock(), who, action, line, alarm, why)

    def replay(self, sink: str | None = None, ids: Sequence[str] = (), who: str = "") -> int:
        """Dead letters wait again (`Outbox.replay`). Who asked for it is in the audit log, in the same transaction."""
        with self._transaction("dead letters not replayed") as db:
            count = self._replay(db, sink, ids)
            if who and count:
                append_action(db, self.clock(), who, f"replayed {count} dead letters of {sink or 'all sinks'}", "", "", "")
            return count

    # --- labels and evidence ---

    def label(
        self, alarm: str, verdict: Verdict, who: str, reason: str = "", kind: str = "", boxes: Sequence[Box] = (),
        stretches: Sequence[Stretch] = (), records: Sequence[str] = (),
    ) -> Label:  # fmt: skip
        """Someone says whether an alarm was real or a nuisance. The newest word counts; all of them are in the audit log.

        records: the pictures, as `evidence` names them, of which it is said; none for the alarm as a whole, which is its picture where one
        alone is kept, and with boxes the one that opened it
        Raises DataError for marks that cannot be (`Label`), StoreError for an alarm that the store does not have.
        """
        with self._transaction("the label was not stored") as db:
            found = read_alarms(db, "WHERE a.id = ?", (alarm,))
            if not found:
                raise StoreError(f"{self.path}: no alarm {alarm!r}")
            line = found[0].line
            label = Label(alarm, line, verdict, self.clock(), who, reason, kind, tuple(map(tuple, boxes)), tuple(map(tuple, stretches)))  # type: ignore[arg-type]
            evidence = read_evidence(db, alarm)
            check_marks(label, found[0], evidence)
            said, records = label, records or meant(label, evidence)
            if records:
                said = label.of_pictures(records, None)
                label = label.of_pictures(records, next(iter(read_labels(db, "WHERE b.alarm = ?", (alarm,))), None))
            check_boxes(label, evidence)
            put_label(db, self._line(line), label)
            append_action(db, label.time, who, said.words, line, alarm, reason)
            return label

    def label_of(self, alarm: str) -> Label | None:
        """What was last said of an alarm, None for nothing."""
        with self._errors("the labels cannot be read"):
            found = read_labels(self._db, "WHERE b.alarm = ?", (alarm,))
            return found[0] if found else None

    def labels(self, line: str | None = None) -> list[Label]:
        """All labels, or those of a line, in the order in which they were given."""
        with self._errors("the labels cannot be read"):
            return read_labels(self._db, "" if line is None else "WHERE l.name = ?", () if line is None else (line,))

    def evidence(self, alarm: str) -> list[Evidence]:
        """What is kept of an alarm: of the record that opened it, then of its worst one where that is another. Empty when it is gone."""
        with self._errors("the evidence cannot be read"):
            return read_evidence(self._db, alarm)

    def evidence_size(self) -> tuple[int, int]:
        """(how many records are kept, bytes)."""
        with self._errors("the evidence cannot be read"):
            return evidence_size(self._db)

    def erase(self, alarms: Iterable[Alarm], who: str, why: str = "") -> int:
        """Remove the pictures and readings of alarms; the alarms stay. Returns how many records were removed. It is in the audit log."""
        with self._transaction("nothing was erased") as db:
            count = 0
            for alarm in alarms:
                erased = erase_evidence(db, [alarm.id])
                if erased:
                    append_action(db, self.clock(), who, "erased pictures or readings", alarm.line, alarm.id, why)
                count += erased
        with self._errors("what was erased may still be in the write-ahead log"):
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return count

    # --- reading ---

    def alarms(self, line: str | None = None, live: bool = True, since: float | None = None) -> list[Alarm]:
        """Alarms in the order in which they opened. `live`: only those that are on or wait for someone. `since`: opened since then."""
        asked: list[tuple[str, Any]] = [("l.name = ?", line)] if line is not None else []
        asked += [("a.opened >= ?", since)] if since is not None else []
        texts = [text for text, _ in asked] + (["a.state <> 'normal'"] if live else [])
        with self._errors("the alarms cannot be read"):
            return read_alarms(self._db, f"WHERE {' AND '.join(texts)}" if texts else "", [value for _, value in asked])

    def find_alarms(self, beginning: str) -> list[Alarm]:
        """The alarms whose id begins so."""
        with self._errors("the alarms cannot be read"):
            return read_alarms(self._db, "WHERE substr(a.id, 1, length(?1)) = ?1", (beginning.lower(),))

    def holds(self, line: str | None = None) -> list[tuple[str, Hold]]:
        """(line, what holds alarms of it back), the oldest first."""
        with self._errors("the alarms cannot be read"):
            return read_holds(self._db, "" if line is None else "WHERE l.name = ?", () if line is None else (line,))

    def events_of(self, alarm: str) -> list[dict[str, Any]]:
        """All events of an alarm in order, as CloudEvents."""
        return [json.loads(body) for (body,) in self._read("SELECT body FROM events WHERE alarm = ? ORDER BY seq", (alarm,))]

    def alarm_events(self, line: str | None = None, last: int = 100) -> list[dict[str, Any]]:
        """The last events on alarms, of a line or of all, in order."""
        kinds = ", ".join(f"'{kind}'" for kind in get_args(AlarmKind))
        query = f"SELECT body FROM events WHERE kind IN ({kinds}) AND (?1 IS NULL OR line = ?1) ORDER BY seq DESC LIMIT ?2"  # noqa: S608
        return [json.loads(body) for (body,) in self._read(query, (line, last))][::-1]

    def conditions_of(self, line: str) -> list[str]:
        """The conditions of a line that are known by name: those that are watched now, and those that had an alarm."""
        query = (
            "SELECT c.name FROM conditions c JOIN lines l ON l.id = c.line WHERE l.name = ?1 "
            "UNION SELECT a.condition FROM alarms a JOIN lines l ON l.id = a.line WHERE l.name = ?1"
        )
        return sorted(name for (name,) in self._read(query, (line,)))

    def actions(self, line: str | None = None, alarm: str | None = None) -> list[Action]:
        """The audit log, or its rows of a line or an alarm."""
        query = "SELECT * FROM audit WHERE (?1 IS NULL OR line = ?1) AND (?2 IS NULL OR alarm = ?2) ORDER BY seq"
        return [Action._make(row) for row in self._read(query, (line, alarm))]

    def broken_action(self) -> str:
        """Words on the first row of the audit log that is not as it was written, "" when all are."""
        with self._errors("the audit log cannot be read"):
            return broken_row(self._db)
