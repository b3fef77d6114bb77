"""`anomaly alerts test|dead-letters|replay`: whether sinks work, and what they did not take."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anomaly.cli.terminal.console import err, out
from anomaly.errors import DataError, SinkError

if TYPE_CHECKING:
    from anomaly.alarms.store import Store
    from anomaly.alarms.store.outbox import DeadLetter

alerts_app = typer.Typer(no_args_is_help=True, help="Where alarms go: test a sink, look at what was not taken, send it again.")
StorePath = Annotated[Path, typer.Option(help="The event store (SQLite).")]
SinkName = Annotated[str | None, typer.Option(help="Only of this sink.")]


@alerts_app.command("test")
def try_sink(
    sink: Annotated[str, typer.Argument(help="The sink's name in the file.")],
    alerts: Annotated[Path, typer.Option(help="Where alarms go (TOML, see deploy/alerts.toml).")] = Path("alerts.toml"),
    line: Annotated[str, typer.Option(help="The line that the test is said to be of.")] = "test",
) -> None:
    """Send an alarm and its end, both marked as a test, to one sink. No filter and no quiet hour holds them back.

    Exit code 1 when the sink does not take them.
    """
    from anomaly.alarms.delivery.caller import Caller
    from anomaly.alarms.delivery.trial import trial_events
    from anomaly.alarms.sinks.alerts_toml import read_route

    route = read_route(alerts, sink)
    caller = Caller(route)
    try:
        for event in trial_events(line, time.time()):
            began = time.monotonic()
            caller.send(event.to_json(), event.id)
            out.print(f"sink {sink} took the {event.kind} test alarm in {time.monotonic() - began:.2f} s")
    except SinkError as error:
        then = "it would be a dead letter" if error.permanent else "it would be tried again"
        err.print(f"error: not taken, {then}: {error}", style="bold red")
        raise typer.Exit(1) from error
    finally:
        caller.close()


@alerts_app.command("dead-letters")
def dead_letters(
    store: StorePath = Path("anomaly.db"),
    sink: SinkName = None,
    json_: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Events that a sink did not take and that are not tried again, with its last answer."""
    from anomaly.alarms.events import EventKind, make_event
    from anomaly.alarms.wording import describe_event

    letters = _open(store, sink).dead_letters(sink)
    for letter in letters:
        body = json.loads(letter.body)
        if json_:
            told = {"sink": letter.sink, "attempts": letter.attempts, "error": letter.error, "event": body}
            typer.echo(json.dumps(told))
            continue
        kind: EventKind = body["type"].rpartition(".")[2]
        event = make_event(kind, body["source"].removeprefix("/anomaly/"), body["subject"], _seconds(body["time"]), body["data"])
        out.print(f"{body['id'][:8]}  sink {letter.sink}  line {event.line}  {describe_event(event)}")
        tries = "1 try" if letter.attempts == 1 else f"{letter.attempts} tries"
        out.print(f"          {tries}; the last: {letter.error}")
    if not json_:
        tail = "; `anomaly alerts replay` sends them again" if letters else ""
        err.print(f"{len(letters)} dead letter{'s' * (len(letters) != 1)}{tail}")


@alerts_app.command()
def replay(
    ids: Annotated[list[str] | None, typer.Argument(help="Events, by the begin of their ids; all when none is given.")] = None,
    store: StorePath = Path("anomaly.db"),
    sink: SinkName = None,
) -> None:
    """Let dead letters be sent again. A monitor that runs on the store does so at once; else the next one does."""
    opened = _open(store, sink)
    letters = opened.dead_letters(sink)
    wanted = [_match(begin, letters) for begin in ids or []]
    count = opened.replay(sink, wanted)
    out.print(f"{count} dead letter{'s' * (count != 1)}{'' if sink is None else f' of sink {sink}'} will be sent again")


def _open(path: Path, sink: str | None) -> Store:
    """The store. Raises DataError when it is not there, or has nothing of the sink."""
    from anomaly.alarms.store import Store

    if not path.exists():
        raise DataError(f"{path}: no such store; --store names the one that the monitor uses")
    store = Store(path)
    known = sorted({name for name, _ in store.outbox_counts()})
    if sink is not None and sink not in known:
        raise DataError(f"{path}: has nothing of a sink {sink!r}; its sinks are {', '.join(known) or 'none yet'}")
    return store


def _match(begin: str, letters: list[DeadLetter]) -> str:
    """The id that begins so. Raises DataError when there is none, or more than one."""
    found = sorted({event for letter in letters if (event := json.loads(letter.body)["id"]).startswith(begin)})
    if len(found) != 1:
        what = "no dead letter" if not found else f"{len(found)} dead letters"
        raise DataError(f"{begin!r}: {what} with an id that begins so; `anomaly alerts dead-letters` shows them")
    return str(found[0])


def _seconds(time_: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(time_).timestamp()
