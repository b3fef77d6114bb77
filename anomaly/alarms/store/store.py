"""The store as a monitor uses it: it resumes a line, asks what was handled, and commits a batch."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from anomaly.alarms.evidence.rows import put_evidence
from anomaly.alarms.life import State
from anomaly.alarms.store.alarm_rows import put_changes
from anomaly.alarms.store.alarms import Alarms
from anomaly.alarms.store.batch import Batch, Scored
from anomaly.alarms.store.claim import Claims
from anomaly.alarms.store.reading import Reading
from anomaly.alarms.store.retention import Retention
from anomaly.alarms.store.schema import PROCESS, digest
from anomaly.names import masked, one_line

_HANDLED = "INSERT OR IGNORE INTO handled VALUES (?, ?)"


class Store(Alarms, Reading, Retention, Claims):
    """One connection to the store. `refresh` is to be called now and then: it sees that the file was deleted, say."""

    def _open(self) -> None:
        if not hasattr(self, "_asked"):  # what a store that was begun anew knows nothing of
            self._asked: set[str] = set()  # lines whose source asks what was handled
            self._registered: dict[str, Sequence[str]] = {}
            self._positions: dict[str, str] = {}
        super()._open()
        for line, sinks in self._registered.items():
            self.register(line, sinks)

    def _forget(self) -> None:
        super()._forget()
        self._written: dict[tuple[str, str], tuple[str, str | None]] = {}  # what is stored of a line's conditions
        self._remembering: dict[str, bool] = {}

    def register(self, line: str, sinks: Sequence[str]) -> None:
        """Make a line known, and the sinks that events of it go to from now on, whoever adds them."""
        with self._transaction(f"line {line!r} not registered") as db:
            db.execute("UPDATE lines SET sinks = ? WHERE id = ?", (json.dumps(list(sinks)), self._line(line)))
        self._registered[line] = tuple(sinks)

    def resume(self, line: str) -> tuple[dict[str, Any], State, str | None]:
        """(source position, state of the process alarm, open alarm's id) as of the last commit; fresh ones for a new line."""
        rows = self._read("SELECT position FROM lines WHERE name = ?", (line,))
        state, alarm = self._conditions(line).get(PROCESS, (State(), None))
        return (json.loads(rows[0][0]) if rows else {}), state, alarm

    def quality(self, line: str) -> dict[str, tuple[State, str | None]]:
        """State and open alarm of a line's data-quality conditions, as of the last commit."""
        return {name: kept for name, kept in self._conditions(line).items() if name != PROCESS}

    def _conditions(self, line: str) -> dict[str, tuple[State, str | None]]:
        query = "SELECT c.name, c.state, c.alarm FROM conditions c JOIN lines l ON l.id = c.line WHERE l.name = ?"
        return {name: (State(**json.loads(state)), alarm) for name, state, alarm in self._read(query, (line,))}

    def setting(self, key: str) -> str:
        """A remembered value, "" when there is none."""
        rows = self._read("SELECT value FROM meta WHERE key = ?", (key,))
        return str(rows[0][0]) if rows else ""

    def set(self, key: str, value: str) -> None:
        """Remember a value."""
        with self._transaction("setting not stored") as db:
            db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def kept(self, line: str, name: str) -> str:
        """What the line was to remember under this name (`Batch.kept`), "" for nothing."""
        return self.setting(f"{name} {line}")

    def known(self, line: str, record: str) -> bool:
        """Whether a record has been scored or rejected before.

        From the first question on, all that is handled for the line stays known (8 bytes a record), also when its score is no longer kept.
        """
        self._asked.add(line)
        if line not in self._remembering:
            rows = self._read("SELECT remembers FROM lines WHERE name = ?", (line,))
            self._remembering[line] = bool(rows and rows[0][0])
        if self._remembering[line]:
            query = "SELECT 1 FROM handled h JOIN lines l ON l.id = h.line WHERE l.name = ? AND h.record = ?"
            return bool(self._read(query, (line, digest(record))))
        query = " UNION ALL ".join(
            f"SELECT 1 FROM {table} t JOIN lines l ON l.id = t.line WHERE l.name = ?1 AND t.record = ?2"  # noqa: S608 - fixed names
            for table in ("scores", "rejected")
        )
        return bool(self._read(query + " LIMIT 1", (line, one_line(record))))

    def commit(self, batch: Batch) -> None:
        """Commit a batch: records, events with one outbox row a sink, alarm states and source position, all or nothing.

        Raises StoreError (a full disk, say); nothing of the batch is then in the store.
        """
        # An event reaches the disk before anything sees it. Scores alone reach it with the next event or checkpoint: after a
        # power cut (not after a crash of this process) their records are read again, and nothing else is lost.
        with self._transaction("batch not stored; records will be read again", full=bool(batch.events or batch.prepare)) as db:
            if batch.prepare is not None:
                batch.prepare(batch)
                batch.prepare = None
            line = self._line(batch.line)
            self._put("scores", line, batch.scored, batch.bundle)
            self._put("shadow", line, batch.shadow, batch.shadow_bundle)
            db.executemany(
                "INSERT INTO rejected (line, record, time, reason) VALUES (?, ?, ?, ?)",
                ((line, one_line(record), time, one_line(masked(reason))) for record, time, reason in batch.rejected),
            )
            self._remember(batch, line)
            put_changes(db, line, batch.changes)
            for event in batch.events:
                self._add(event, () if event.id in batch.changes.quiet else batch.sinks)
            if batch.evidence:
                put_evidence(db, line, batch.evidence, self.evidence_bytes)
            if batch.position:  # a source without one: what is stored stays
                self._positions[batch.line] = json.dumps(batch.position)
            if batch.line in self._positions:  # also that of earlier batches, where the store was begun anew
                db.execute("UPDATE lines SET position = ? WHERE id = ?", (self._positions[batch.line], line))
            written = self._put_conditions(batch, line)
        self._written |= written
        if batch.line in self._asked:
            self._remembering[batch.line] = True

    def _put(self, table: str, line: int, scored: Sequence[Scored], bundle: str) -> None:
        if scored:
            key = self._bundle(bundle)
            rows = ((line, one_line(s.record), s.time, s.score, s.p_value, key) for s in scored)
            self._db.executemany(f"INSERT INTO {table} (line, record, time, score, p_value, bundle) VALUES (?, ?, ?, ?, ?, ?)", rows)  # noqa: S608

    def _put_conditions(self, batch: Batch, line: int) -> dict[tuple[str, str], tuple[str, str | None]]:
        """Store the conditions that have changed; returns them."""
        conditions = {PROCESS: (batch.state, batch.alarm), **batch.quality}
        kept = {(batch.line, f"kept {name}"): (text, None) for name, text in batch.kept.items()}
        kept = {key: value for key, value in kept.items() if self._written.get(key) != value}
        texts = {(batch.line, name): (json.dumps(asdict(state)), alarm) for name, (state, alarm) in conditions.items()}
        changed = {key: kept for key, kept in texts.items() if self._written.get(key) != kept}
        rows = ((line, name, *kept) for (_, name), kept in changed.items())
        self._db.executemany("INSERT OR REPLACE INTO conditions VALUES (?, ?, ?, ?)", rows)
        memory = ((f"{name.removeprefix('kept ')} {line_name}", text) for (line_name, name), (text, _) in kept.items())
        self._db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", memory)
        return changed | kept

    def _remember(self, batch: Batch, line: int) -> None:
        """Keep what was handled where the source asks for it; with the first batch also what was handled before."""
        (remembers,) = self._db.execute("SELECT remembers FROM lines WHERE id = ?", (line,)).fetchone()
        if not remembers and batch.line in self._asked:
            self._db.execute("UPDATE lines SET remembers = 1 WHERE id = ?", (line,))
            for table in ("scores", "rejected"):
                self._keep(line, (name for (name,) in self._db.execute(f"SELECT record FROM {table} WHERE line = ?", (line,))))  # noqa: S608
        elif remembers:
            self._keep(line, (s.record for s in batch.scored))
            self._keep(line, (record for record, *_ in batch.rejected))

    def _keep(self, line: int, records: Iterable[str]) -> None:
        self._db.executemany(_HANDLED, [(line, digest(record)) for record in records])
