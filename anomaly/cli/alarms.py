"""`anomaly alarms …`: what is on, and what people do about it, on the store of a monitor that may be running or not."""

from __future__ import annotations

import getpass
import json
import os
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anomaly.alarms.wording import SHORT, about, condition_words, worst_record
from anomaly.cli.terminal.alarm_table import alarm_as_dict, because, hold_as_dict, print_events, print_table, sure
from anomaly.cli.terminal.console import err, out
from anomaly.data.clock import in_zone, when
from anomaly.errors import StoreError
from anomaly.names import masked, one_line

if TYPE_CHECKING:
    from anomaly.alarms.book import Alarm, HoldKind
    from anomaly.alarms.events import Event
    from anomaly.alarms.store import Store

alarms_app = typer.Typer(no_args_is_help=True, help="List, acknowledge and shelve alarms; their history.")

SAID = ("commented", "labelled")  # deeds that no event tells of
UNITS = {"m": 60.0, "h": 3600.0, "d": 86400.0}
LONGEST_S = 7 * 86400.0  # what is held back for longer is out of service
TAKEN_UP_S = 60.0  # a monitor that runs ends a hold within that after its time


def _seconds(text: str) -> float:
    """A time such as 30m, 8h or 2d, in seconds. Raises BadParameter."""
    found = re.fullmatch(r"(\d{1,5}(?:\.\d+)?)([mhd])", text.strip())
    if found is None or not 0 < float(found[1]) * UNITS[found[2]] <= LONGEST_S:
        raise typer.BadParameter(f"{text!r}: write minutes, hours or days, up to 7 days: 30m, 8h, 2d")
    return float(found[1]) * UNITS[found[2]]


StorePath = Annotated[Path, typer.Option("--store", help="The event store of the monitor (SQLite).")]
Line = Annotated[str | None, typer.Option("--line", help="Only alarms of this line.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON instead of a table.")]
Who = Annotated[str | None, typer.Option("--who", help="Who does it; the login name when not given.")]
Why = Annotated[str, typer.Option("--why", help="The reason: it is told to the sinks, and kept in the audit log.")]
OneAlarm = Annotated[str | None, typer.Argument(metavar="[ID]", help="An alarm, whose condition is meant; the begin of its id is enough.")]
Condition = Annotated[str | None, typer.Option("--condition", help="With --line: one condition, such as process or sensor:flow.")]
For = Annotated[str, typer.Option("--for", help="How long: 30m, 8h, 2d.")]


@alarms_app.command("list")
def list_alarms(
    store: StorePath = Path("anomaly.db"),
    line: Line = None,
    all_: Annotated[bool, typer.Option("--all", help="Also those that are over and done with.")] = False,
    json_: AsJson = False,
) -> None:
    """What is on, or waits for someone, and what is held back. The most urgent first."""
    from anomaly.alarms.routing import PRIORITIES
    from anomaly.alarms.store import ZONE

    db = open_store(store, line)
    found = sorted(db.alarms(line, live=not all_), key=lambda alarm: (-PRIORITIES.index(alarm.priority), alarm.since))
    holds = db.holds(line)
    if json_:
        out.print_json(json.dumps({"alarms": [alarm_as_dict(alarm) for alarm in found], "held": [hold_as_dict(*hold) for hold in holds]}))
        return
    if not found:
        out.print("no alarm is on" if not all_ else "no alarm yet")
        for name in [line] if line is not None else db.lines():
            if not db.has_read(name):
                out.print(one_line(f"line {name!r} has not read a record yet: whether all is well is not known"))
    else:
        notes = _nuisances(db, found)
        rows = [
            (
                alarm.id[:SHORT],
                alarm.priority,
                alarm.state,
                alarm.line,
                alarm.condition,
                when(alarm.opened, alarm.zone),
                sure(alarm),
                in_zone(notes[alarm.id], alarm.zone),
            )
            for alarm in found
        ]
        print_table(("id", "priority", "state", "line", "condition", "since", "as unusual as", "about"), rows)
    done = 0 if all_ else len(db.alarms(line, live=False)) - len(found)
    if done:
        out.print(f"{done:,} more {'is' if done == 1 else 'are'} over and done with: anomaly alarms list --all")
    for name, hold in holds:
        until = f"until {when(hold.until, db.kept(name, ZONE))}" if hold.until is not None else "until someone ends it"
        if hold.until is not None and hold.until < time.time() - TAKEN_UP_S:
            until += " (that is over: the line's monitor does not run, and ends it when it does)"
        out.print(one_line(masked(f"{hold.kind}: {name}, {condition_words(hold.condition)}, {until}, by {hold.who}{because(hold.why)}")))


@alarms_app.command()
def show(
    id_: Annotated[str, typer.Argument(metavar="ID", help="The alarm; the begin of its id is enough.")],
    store: StorePath = Path("anomaly.db"),
    json_: AsJson = False,
) -> None:
    """All that is known of one alarm, with its history."""
    db = open_store(store)
    alarm = find_alarm(db, id_)
    events = db.events_of(alarm.id)
    if json_:
        out.print_json(json.dumps(alarm_as_dict(alarm) | {"events": events}))
        return
    over = when(alarm.closed, alarm.zone) if alarm.closed is not None else "no"
    seen = f"{when(alarm.acknowledged, alarm.zone)} by {alarm.acknowledged_by}" if alarm.acknowledged is not None else "no"
    facts = [
        ("id", alarm.id), ("line", alarm.line), ("class", alarm.alarm_class), ("condition", alarm.condition), ("priority", alarm.priority),
        ("state", alarm.state), ("since", when(alarm.opened, alarm.zone)), ("over", over), ("acknowledged", seen),
        ("as unusual as", sure(alarm)),
        ("about", in_zone(about(alarm.data), alarm.zone)), ("sensors", ", ".join(alarm.data.get("sensors", []))),
        ("label", _labelled(db, alarm)), ("kept", ", ".join(f"{each.kind}: {each.role}" for each in db.evidence(alarm.id))),
        ("record", worst_record(alarm.data)), ("bundle", str(alarm.data.get("bundle", ""))),
    ]  # fmt: skip
    for name, value in facts:
        if value:
            out.print(one_line(masked(f"{name:14} {value}")))
    print_events(events)
    said = [each for each in db.actions(alarm=alarm.id) if each.action.startswith(SAID)]
    if said:  # no event tells of these
        print_table(("time", "who", "said", "why"), [(when(each.time, alarm.zone), each.who, each.action, each.why) for each in said])


def _labelled(db: Store, alarm: Alarm) -> str:
    found = db.label_of(alarm.id)
    return f"{found.words} by {found.who} at {when(found.time, alarm.zone)}{because(found.reason)}" if found is not None else ""


@alarms_app.command()
def ack(
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Alarms; the begin of an id is enough.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="All alarms that nobody has acknowledged; of one line with --line.")] = False,
    store: StorePath = Path("anomaly.db"),
    line: Line = None,
    who: Who = None,
    why: Why = "",
) -> None:
    """Acknowledge alarms: someone has seen them. They are not repeated any more, and close when their condition is over."""
    if bool(ids) == all_:
        raise typer.BadParameter("name alarms by their ids (anomaly alarms list shows them), or give --all")
    db = open_store(store, line)
    found = [find_alarm(db, each) for each in ids] if ids else [alarm for alarm in db.alarms(line) if alarm.acknowledged is None]
    other = [alarm for alarm in found if line is not None and alarm.line != line]
    if other:
        raise StoreError(f"alarm {other[0].id[:SHORT]} is of line {other[0].line!r}, not of {line!r}; leave --line out")
    if not found:
        out.print("no alarm waits for it")
    for alarm in found:
        _acknowledge(db, alarm, name_of(who), one_line(why))


def _acknowledge(db: Store, alarm: Alarm, who: str, why: str) -> None:
    from anomaly.alarms.deeds import acknowledge

    acknowledge(db, alarm, who, why)
    out.print(one_line(f"acknowledged {alarm.id[:SHORT]}: {alarm.line}, {alarm.condition}"))


@alarms_app.command()
def shelve(
    id_: OneAlarm = None,
    store: StorePath = Path("anomaly.db"),
    line: Line = None,
    condition: Condition = None,
    for_: For = "8h",
    who: Who = None,
    why: Why = "",
) -> None:
    """Put the alarms of a condition, or of a whole line, aside for a time. What is still on when it ends is told then."""
    _hold("shelved", id_, store, line, condition, _seconds(for_), name_of(who), why)


@alarms_app.command()
def unshelve(
    id_: OneAlarm = None,
    store: StorePath = Path("anomaly.db"),
    line: Line = None,
    condition: Condition = None,
    who: Who = None,
    why: Why = "",
) -> None:
    """End shelving before its time."""
    _release("shelved", id_, store, line, condition, name_of(who), why)


@alarms_app.command("out-of-service")
def out_of_service(
    id_: OneAlarm = None,
    store: StorePath = Path("anomaly.db"),
    line: Line = None,
    condition: Condition = None,
    who: Who = None,
    why: Why = "",
) -> None:
    """Take the alarms of a condition, or of a whole line, out of service (maintenance) until `in-service`."""
    _hold("out of service", id_, store, line, condition, None, name_of(who), why)


@alarms_app.command("in-service")
def in_service(
    id_: OneAlarm = None,
    store: StorePath = Path("anomaly.db"),
    line: Line = None,
    condition: Condition = None,
    who: Who = None,
    why: Why = "",
) -> None:
    """Put back into service."""
    _release("out of service", id_, store, line, condition, name_of(who), why)


@alarms_app.command()
def suppress(
    line: Annotated[str, typer.Option("--line", help="The line.")], store: StorePath = Path("anomaly.db"), who: Who = None, why: Why = ""
) -> None:
    """The machine is stopped by design: hold back what that brings by itself, until `unsuppress`. For a script beside the controller."""
    _hold("suppressed", None, store, line, None, None, name_of(who), why)


@alarms_app.command()
def unsuppress(
    line: Annotated[str, typer.Option("--line", help="The line.")], store: StorePath = Path("anomaly.db"), who: Who = None, why: Why = ""
) -> None:
    """The machine runs again."""
    _release("suppressed", None, store, line, None, name_of(who), why)


@alarms_app.command()
def history(
    id_: Annotated[str | None, typer.Argument(metavar="[ID]", help="Only of this alarm; the begin of its id is enough.")] = None,
    store: StorePath = Path("anomaly.db"),
    line: Line = None,
    last: Annotated[int, typer.Option("--last", min=1, help="So many at most, the newest.")] = 100,
    audit: Annotated[bool, typer.Option("--audit", help="What people did, from the audit log, instead of what happened.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Check that nobody has changed the audit log; exit code 1 if so.")] = False,
    json_: AsJson = False,
) -> None:
    """What happened to alarms, and who did what and why."""
    db = open_store(store, line)
    alarm = find_alarm(db, id_).id if id_ is not None else None
    if verify:
        broken = db.broken_action()
        if broken:
            raise StoreError(f"{store}: the audit log is broken: {broken}; what follows in it proves nothing")
        actions = db.actions()
        out.print(f"the audit log is whole: {len(actions)} actions" + (f", the last with hash {actions[-1].hash}" if actions else ""))
        return
    if audit:
        rows = [
            (when(each.time), each.who, each.action, each.line, each.alarm[:SHORT], each.why) for each in db.actions(line, alarm)[-last:]
        ]
        if json_:
            out.print_json(json.dumps([each._asdict() for each in db.actions(line, alarm)[-last:]]))
        else:
            print_table(("time", "who", "what", "line", "alarm", "why"), rows)
        return
    events = db.events_of(alarm)[-last:] if alarm is not None else db.alarm_events(line, last)
    if json_:
        out.print_json(json.dumps(events))
    else:
        print_events(events)


# --- holding back ---


def _target(db: Store, id_: str | None, line: str | None, condition: str | None) -> tuple[str, tuple[str, ...]]:
    """(line, conditions) that are meant: several where an alarm is of several sensors.

    Raises BadParameter where nothing is, StoreError for a condition that the line does not have.
    """
    from anomaly.alarms.book import WHOLE_LINE
    from anomaly.alarms.deeds import check_condition

    if (id_ is None) == (line is None) or (id_ is not None and condition is not None):
        raise typer.BadParameter("name an alarm by its id, or give --line, with --condition for one of its conditions")
    if id_ is not None:
        alarm = find_alarm(db, id_)
        return alarm.line, alarm.conditions
    assert line is not None
    if condition is None:
        return line, (WHOLE_LINE,)
    return line, (check_condition(db, line, condition),)


def _hold(
    kind: HoldKind, id_: str | None, store: Path, line: str | None, condition: str | None, seconds: float | None, who: str, why: str
) -> None:
    from anomaly.alarms.book import WHOLE_LINE
    from anomaly.alarms.deeds import hold, known_conditions

    db = open_store(store, line)
    name, meant = _target(db, id_, line, condition)
    events = hold(db, kind, name, meant, seconds, who, one_line(why), _only(db, id_))
    words = ", ".join(map(condition_words, meant))
    until = f" until {when(db.clock() + seconds)}" if seconds is not None else ""
    out.print(one_line(f"{kind}{until}: {name}, {words}; open alarms held back by it: {_told_of(events)}"))
    unseen = [each for each in meant if each != WHOLE_LINE and each not in known_conditions(db, name)]
    if unseen:
        note = f"note: line {name!r} has never had {', '.join(map(condition_words, unseen))}; mind the spelling"
        err.print(one_line(note), style="yellow")


def _release(kind: HoldKind, id_: str | None, store: Path, line: str | None, condition: str | None, who: str, why: str) -> None:
    from anomaly.alarms.deeds import release

    db = open_store(store, line)
    name, meant = _target(db, id_, line, condition)
    events = release(db, kind, name, meant, who, one_line(why), _only(db, id_))
    out.print(one_line(f"no longer {kind}: {name}, {', '.join(map(condition_words, meant))}; open alarms: {_told_of(events)}"))


def _only(db: Store, id_: str | None) -> str:
    return "" if id_ is None else find_alarm(db, id_).id


def _told_of(events: Sequence[Event]) -> int:
    return len({event.alarm for event in events if event.data["state"] != "normal"})


# --- what all of them share ---


def open_store(store: Path, line: str | None = None) -> Store:
    """The store, which must be there; one that cannot be written is opened to be read. Raises StoreError, also for an unknown line."""
    from anomaly.alarms.store import Store

    if not store.is_file():
        raise StoreError(f"{store}: no such store; give --store, the file that the monitor or box writes")
    db = Store(store, read_only=not (os.access(store, os.W_OK) and os.access(store.parent, os.W_OK)))
    if line is not None and line not in db.lines():
        raise StoreError(f"{store}: no line {line!r}; its lines are {', '.join(db.lines()) or 'none yet'}")
    return db


def find_alarm(db: Store, beginning: str) -> Alarm:
    """The one alarm whose id begins so. Raises StoreError for none or several."""
    found = db.find_alarms(beginning)
    if not found:
        raise StoreError(f"no alarm has an id that begins with {beginning!r}; anomaly alarms list --all shows them")
    if len(found) > 1:
        several = ", ".join(alarm.id[:13] for alarm in found[:5])
        raise StoreError(f"{len(found)} alarms have an id that begins with {beginning!r} ({several}); write more of it")
    return found[0]


def name_of(given: str | None) -> str:
    """Who does it: as given, else the login name."""
    if given is not None and not given.strip():
        raise typer.BadParameter("--who is empty")
    try:
        return one_line(given.strip() if given is not None else getpass.getuser())
    except (OSError, KeyError, ImportError):  # a user without a name, as in a container
        return f"user {os.getuid()}"


def _nuisances(db: Store, alarms: Sequence[Alarm]) -> dict[str, str]:
    """What each alarm is about, led by "chattering" or "stale" where its condition is a nuisance."""
    from anomaly.alarms.flood import nuisance

    openings: dict[tuple[str, str], list[float]] = {}
    for each in db.alarms(live=False):
        openings.setdefault((each.line, each.condition), []).append(each.opened)
    notes = {alarm.id: nuisance(openings[alarm.line, alarm.condition], alarm.closed is None, time.time()) for alarm in alarms}
    return {alarm.id: ": ".join(part for part in (notes[alarm.id], about(alarm.data)) if part) for alarm in alarms}
