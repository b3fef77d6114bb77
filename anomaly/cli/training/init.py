"""`anomaly init`: a spec proposed by a look at the data."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anomaly.cli.terminal.console import err, out
from anomaly.cli.terminal.options import writable_file
from anomaly.cli.training.asking import ask_all, asked
from anomaly.cli.training.front import told
from anomaly.cli.training.inputs import local_path
from anomaly.errors import SpecError, UnclearError
from anomaly.names import one_line, slug

if TYPE_CHECKING:
    from anomaly.pipeline.propose import Answers, Look

init_app = typer.Typer()
Budget = Annotated[
    str | None, typer.Option(help='False alarms you accept: "1 in 100", "0.5 %", for readings also "2 a day". 1 in 100 when not given.')
]
Force = Annotated[bool, typer.Option("--force", help="Write over what is there.")]


@init_app.command()
def init(
    path: Annotated[
        str, typer.Argument(help="A folder of pictures, a table, a folder of tables, or the address of a database or a stream.")
    ],
    out_: Annotated[
        Path | None, typer.Option("--out", callback=writable_file, help="Where the spec goes; NAME.toml here when not given.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the line; by the folder when not given.")] = None,
    budget: Budget = None,
    force: Force = False,
) -> None:
    """Look at data, say what it is, ask what cannot be seen in it (on a terminal), and write a spec that fits as it is."""
    data = local_path(path)
    from anomaly.atomic import write_text
    from anomaly.pipeline.propose import Answers, look, propose, to_toml
    from anomaly.pipeline.propose.proposal import name_of
    from anomaly.spec import SensorInput

    answers = Answers(name=name, budget=budget)
    usual = name_of(data) if name is None else name
    target = Path(f"{slug(usual)}.toml") if out_ is None else out_
    if target.exists() and not force:
        raise SpecError(f"{target} is there already; name another with --out, or write over it with --force")
    writable_file(target)
    try:
        seen, answers = told(answers, lambda known: look(data, asked=SensorInput.model_validate(dict(known.reading)), pattern=True))
    except UnclearError as error:
        _left_open(data, answers, error, target)
        raise typer.Exit(1) from error
    for line in page(seen):
        out.print(line)
    if asked():
        answers = ask_all(seen, answers, usual)
    proposal = propose(data, answers, seen)
    renamed = Path(f"{slug(proposal.spec.name)}.toml")
    if out_ is None and (force or not renamed.exists()):
        target = renamed
    write_text(target, to_toml(proposal))
    out.print(f"spec: {target}")
    fit = shlex.join(["anomaly", "fit", str(target), "--data", str(proposal.data)])
    lacking = _lacking(seen)
    if lacking:
        out.print(f"{lacking}; then: {fit}")
        raise typer.Exit(1)
    out.print(f"next: {fit}")


def _lacking(seen: Look) -> str:
    """What a fit would lack, "" when there is enough."""
    if seen.kind != "camera":
        return ""
    from anomaly.data.pictures.layouts import find_pictures
    from anomaly.data.pictures.survey import FEWEST

    count = len(find_pictures(seen.data).train)
    return f"too few pictures of good parts to learn from: {count}, at least {FEWEST} are needed" if count < FEWEST else ""


def page(seen: Look) -> list[str]:
    """What `anomaly inspect` tells of the data."""
    if seen.kind == "camera":
        from anomaly.data.pictures.survey import describe_pictures

        return [one_line(line) for line in dict.fromkeys((*seen.words, *describe_pictures(seen.data)))]
    from anomaly.data.tables.profile import describe_tables

    notes = [note for table in seen.tables for note in table.report.notes]
    return list(dict.fromkeys(one_line(line) for line in (*seen.words, *describe_tables(seen.tables), *notes)))


def _left_open(data: Path, answers: Answers, error: UnclearError, target: Path) -> None:
    """A spec in which a person says how the tables are to be read, since that cannot be seen."""
    from anomaly.atomic import write_text
    from anomaly.pipeline.propose import Look, propose, to_toml

    words, reading = next(iter(error.choices.items()))
    proposal = propose(data, replace(answers, reading=reading), Look("sensor", data))
    entries = tuple(entry._replace(comment=words, active=False) if entry.key in reading else entry for entry in proposal.entries)
    write_text(target, to_toml(replace(proposal, entries=entries), asks=True))
    err.print(f"error: {error}", style="bold red", always=True)
    err.print(f"spec: {target}; take the # off the line that says how it is meant (as it stands: {words})")
    err.print(f"then: {shlex.join(['anomaly', 'fit', str(target), '--data', str(data)])}")
