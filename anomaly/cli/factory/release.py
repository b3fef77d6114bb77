"""`anomaly release …`: who is champion and who is challenger in a release folder, and by whose word."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from anomaly.cli.terminal.console import out, print_verdict
from anomaly.cli.terminal.options import AsJson
from anomaly.names import one_line

release_app = typer.Typer(no_args_is_help=True, help="Promote a challenger, roll a champion back, and what was done before.")

Folder = Annotated[Path, typer.Argument(help="The release folder.")]
By = Annotated[str, typer.Option("--by", help="Who says so; the login name when not given.")]
Why = Annotated[str, typer.Option("--why", help="The reason; it is kept.")]


@release_app.command()
def history(release: Folder, json_: AsJson = False) -> None:
    """What was published, promoted and rolled back: when, by whom, and why."""
    from anomaly.bundle.release_folder import ReleaseFolder

    found = ReleaseFolder(release).history()
    if json_:
        out.print_json(json.dumps([asdict(entry) for entry in found]))
        return
    print_verdict([entry.in_words() for entry in found] or [f"{one_line(str(release))}: nothing was published in it"])


@release_app.command()
def promote(
    release: Folder,
    by: By = "",
    why: Why = "",
    bundle: Annotated[str | None, typer.Option(help="A bundle of the folder by its file name, in place of the challenger.")] = None,
) -> None:
    """Make the challenger the champion. The edge takes it over between two records."""
    from anomaly.bundle.release_folder import ReleaseFolder

    print_verdict([ReleaseFolder(release).promote(by, why, bundle).in_words()])


@release_app.command()
def rollback(release: Folder, by: By = "", why: Why = "") -> None:
    """Make the champion before the champion again. The one that is taken back is not published again by a schedule."""
    from anomaly.bundle.release_folder import ReleaseFolder

    print_verdict([ReleaseFolder(release).rollback(by, why).in_words()])


@release_app.command()
def withdraw(release: Folder, by: By = "", why: Why = "") -> None:
    """Let the challenger go."""
    from anomaly.bundle.release_folder import ReleaseFolder

    done = ReleaseFolder(release).withdraw(by, why)
    print_verdict([f"{one_line(str(release))}: it has no challenger" if done is None else done.in_words()])
