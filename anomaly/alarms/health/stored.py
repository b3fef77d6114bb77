"""What the store says to those who watch: a read-only look by a connection of its own, so that it never stands in the loop's way."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

WAIT_S = 1.0


@dataclass(frozen=True, slots=True)
class Stored:
    """outbox: (sink, `waiting` or `dead`) -> how many. alarms: (line, class, state, priority) -> how many are open.

    `bytes`: of the file and what is not merged into it yet. `trouble`: why nothing could be read, "" when it could.
    """

    outbox: dict[tuple[str, str], int] = field(default_factory=dict)
    alarms: dict[tuple[str, str, str, str], int] = field(default_factory=dict)
    bytes: int = 0
    trouble: str = ""


def read_stored(path: Path) -> Stored:
    """Look at the store. Never raises: what is wrong is told in `trouble`."""
    try:
        size = sum(file.stat().st_size for file in (path, path.with_name(path.name + "-wal")) if file.exists())
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=WAIT_S)) as db:
            query = "SELECT sink, state, count(*) FROM outbox WHERE state IN ('waiting', 'dead') GROUP BY 1, 2"
            outbox = {(sink, state): int(count) for sink, state, count in db.execute(query)}
            return Stored(outbox, _open_alarms(db), size)
    except (sqlite3.Error, OSError) as error:
        return Stored(trouble=str(error))


def _open_alarms(db: sqlite3.Connection) -> dict[tuple[str, str, str, str], int]:
    if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'alarms'").fetchone():
        return {}
    query = (
        "SELECT l.name, a.class, a.state, a.priority, count(*) FROM alarms a JOIN lines l ON l.id = a.line "
        "WHERE a.closed IS NULL GROUP BY 1, 2, 3, 4"
    )
    return {(line, kind, state, priority): int(count) for line, kind, state, priority, count in db.execute(query)}
