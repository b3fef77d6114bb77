"""Which of a line's records nobody has confirmed as normal: what lies in an alarm, unless someone said that it was a false one.

A detector that is fitted anew does not learn from these. Flagged records outside of alarms stay in: normals have such records, and without
them every new threshold would be lower than the one before.
"""

from __future__ import annotations

import json
import re
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from anomaly.errors import DataError, StoreError
from anomaly.schema import InputSchema

FALSE_ALARM = re.compile(r"\s*(false alarm|nuisance)\b", re.IGNORECASE)  # how the reason of an acknowledgement begins that confirms normals


@dataclass(frozen=True)
class Unconfirmed:
    """What lies in the alarms of a line.

    stretches: (from, to) in seconds since 1970, the last one perhaps without end (infinite)
    pictures: file names of pictures that were scored in them
    alarms, excused: how many alarms count, and how many were labelled a nuisance or acknowledged as false
    """

    stretches: tuple[tuple[float, float], ...]
    pictures: tuple[str, ...]
    alarms: int
    excused: int

    @property
    def says(self) -> str:
        alarm = "1 alarm" if self.alarms == 1 else f"{self.alarms} alarms"
        excused = f"; {self.excused} that people called false alarms count as normal" if self.excused else ""
        return f"Not learnt from: what lies in {alarm}{excused}."


def unconfirmed(store: Path, line: str | None, schema: InputSchema) -> Unconfirmed:
    """What lies in the process alarms of a line in a store's file, read only. `line` None is the only line of the store.

    A sensor's alarm begins with a window: its stretch begins where that window does. Raises StoreError, and DataError for an unknown line.
    """
    if not store.is_file():
        raise StoreError(f"{store}: no such file; name the store of the line's monitor, or a copy of it")
    reach_s = ((schema.window or 1) - 1) * (schema.period_s or 0.0)
    try:
        with closing(sqlite3.connect(f"{store.absolute().as_uri()}?mode=ro", uri=True, timeout=30)) as db:
            number, name = line_of(db, store, line)
            acknowledged = db.execute("SELECT alarm, why FROM audit WHERE line = ? AND action = 'acknowledged'", (name,))
            said = _labelled(db, number)
            excused = {alarm for alarm, why in acknowledged if FALSE_ALARM.match(why) and alarm not in said}
            excused |= {alarm for alarm, verdict in said.items() if verdict == "nuisance"}
            query = "SELECT id, opened, closed FROM alarms WHERE line = ? AND class = 'process' ORDER BY opened"
            alarms = db.execute(query, (number,)).fetchall()
            meant = [row for row in alarms if row[0] not in excused]
            stretches = tuple(
                (_began(db, id_, opened) - reach_s, float("inf") if closed is None else float(closed)) for id_, opened, closed in meant
            )
            return Unconfirmed(stretches, _pictures(db, number, stretches), len(meant), len(alarms) - len(meant))
    except sqlite3.Error as error:
        raise StoreError(f"{store}: cannot be read ({error}); is it a store of this version?") from error


def _labelled(db: sqlite3.Connection, number: int) -> dict[str, str]:
    """Alarm -> real or nuisance, as somebody labelled it: that counts, whatever was said with the acknowledgement."""
    if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'labels'").fetchone():
        return {}  # a store of an older version
    return dict(db.execute("SELECT alarm, verdict FROM labels WHERE line = ?", (number,)).fetchall())


def line_of(db: sqlite3.Connection, store: Path, line: str | None) -> tuple[int, str]:
    """(number, name) of a line in an open store; of its only one for None. Raises DataError, which names those that are there."""
    known = {str(name): int(number) for number, name in db.execute("SELECT id, name FROM lines ORDER BY name")}
    if line is None and len(known) == 1:
        line = next(iter(known))
    if line not in known:
        asked = "more than one line" if line is None else f"no line {line!r}"
        raise DataError(f"{store}: {asked}; name one of {', '.join(known) or '(it has none yet)'}")
    return known[line], line


def _began(db: sqlite3.Connection, alarm: str, opened: float) -> float:
    """The first flagged record of an alarm, which its opening event tells; the opening itself where that event is no longer kept."""
    for (body,) in db.execute("SELECT body FROM events WHERE alarm = ? AND kind = 'opened' ORDER BY seq LIMIT 1", (alarm,)):
        try:
            return min(opened, datetime.fromisoformat(json.loads(body)["data"]["began"]).timestamp())
        except (KeyError, ValueError):
            break
    return opened


def _pictures(db: sqlite3.Connection, number: int, stretches: tuple[tuple[float, float], ...]) -> tuple[str, ...]:
    """File names of the records in them; a record of a folder is NAME@TIME."""
    found = set()
    for begin, end in stretches:
        query = "SELECT record FROM scores WHERE line = ? AND time >= ? AND time <= ?"
        found |= {str(record).rpartition("@")[0].rpartition("/")[2] for (record,) in db.execute(query, (number, begin, min(end, 1e15)))}
    return tuple(sorted(found - {""}))


def overrides(found: Unconfirmed, schema: InputSchema, given: dict[str, Any]) -> dict[str, Any]:
    """Keys of a spec, with their values, by which its fit leaves these out, and takes the input that the running line reads.

    `given`: the spec's [input] as it is, whose own `leave_out` stays.
    """
    if schema.name != "window":
        return {"input.leave_out": sorted({*given.get("leave_out", ()), *found.pictures})}
    told = [[_iso(begin), _iso(min(end, 253_370_764_800.0))] for begin, end in found.stretches]
    return {"input.leave_out": [*given.get("leave_out", ()), *told], "input.window": schema.window}


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()
