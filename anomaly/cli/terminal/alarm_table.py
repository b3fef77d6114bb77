"""Alarms as a terminal shows them, and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from rich.table import Table

from anomaly.alarms.book import Alarm, Hold
from anomaly.alarms.events import iso
from anomaly.alarms.wording import SHORT, zone_in
from anomaly.cli.terminal.console import out
from anomaly.data.clock import in_zone, when
from anomaly.names import masked, one_line
from anomaly.rarity import rare_words

UNKNOWN_LEAST = 1e-6  # of an alarm of an older version, which did not say what its normals can tell


def sure(alarm: Alarm) -> str:
    """How sure an alarm of the scores is, in words."""
    p_value = alarm.data.get("p_value")
    if not isinstance(p_value, float) or not p_value >= 0:
        return ""
    return rare_words(p_value, float(alarm.data.get("least_p", UNKNOWN_LEAST)))


def because(why: str) -> str:
    return f": {why}" if why else ""


def alarm_as_dict(alarm: Alarm) -> dict[str, Any]:
    times = {name: getattr(alarm, name) for name in ("opened", "closed", "acknowledged")}
    return {
        "id": alarm.id, "line": alarm.line, "class": alarm.alarm_class, "condition": alarm.condition, "priority": alarm.priority,
        "state": alarm.state, "acknowledged_by": alarm.acknowledged_by or None, "data": alarm.data,
    } | {name: None if value is None else iso(value) for name, value in times.items()}  # fmt: skip


def hold_as_dict(line: str, hold: Hold) -> dict[str, Any]:
    until = None if hold.until is None else iso(hold.until)
    return {
        "line": line, "kind": hold.kind, "condition": hold.condition, "since": iso(hold.since), "until": until, "who": hold.who,
        "why": hold.why,
    }  # fmt: skip


def print_events(events: Sequence[dict[str, Any]]) -> None:
    rows: list[tuple[str, ...]] = []
    for body in events:
        data = body["data"]
        verb = str(body["type"]).rpartition(".")[2].replace("_", " ") + (" (held back)" if data.get("held_back") else "")
        by = f"by {data['who']}{because(data.get('why', ''))}" if data.get("who") else str(data.get("reason", ""))
        line, subject = str(body["source"]).removeprefix("/anomaly/"), str(body["subject"])
        alarm = subject if subject == data.get("condition") else subject[:SHORT]  # a hold where no alarm is on
        time = when(datetime.fromisoformat(body["time"]).timestamp(), zone_in(data))
        rows.append((time, line, alarm, verb, str(data.get("priority", "")), str(data.get("state", "")), in_zone(by, zone_in(data))))
    print_table(("time", "line", "alarm", "what", "priority", "state", "by, or why"), rows)


def print_table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table that fits the terminal; into a file or a pipe, a line for each row."""
    cells = [[one_line(masked(cell)) for cell in row] for row in rows]
    if not out.is_terminal:
        widths = [max(len(row[column]) for row in [names, *cells]) for column in range(len(names))]
        for row in [names, *cells]:
            out.print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
        return
    table = Table(box=None, pad_edge=False, show_edge=False)
    for name in names:
        table.add_column(name, overflow="fold")
    for row in cells:
        table.add_row(*row)
    out.print(table)
