"""`anomaly …`: the command line. A command imports what is slow only when it needs it."""

from __future__ import annotations

import io
import sys
import traceback
from typing import Annotated

import typer

from anomaly import __version__
from anomaly.cli.alarms import alarms_app
from anomaly.cli.alerts import alerts_app
from anomaly.cli.bundle import bundle_app
from anomaly.cli.data import data_app
from anomaly.cli.edge import edge_app
from anomaly.cli.factory.release import release_app
from anomaly.cli.judge import judge_app
from anomaly.cli.page import page_app
from anomaly.cli.review.labels import erase, label, labels
from anomaly.cli.review.weekly import weekly
from anomaly.cli.simulate import simulate
from anomaly.cli.terminal.command import Quiet, Verbose, arrange, begin
from anomaly.cli.terminal.console import err, manner, out
from anomaly.cli.terminal.helps import HELPS
from anomaly.cli.training.check import check_app
from anomaly.cli.training.fit import fit_app
from anomaly.cli.training.init import init_app
from anomaly.cli.training.transfer import transfer_app
from anomaly.cli.training.variants import variants
from anomaly.errors import AnomalyError
from anomaly.names import one_line

app = typer.Typer(
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    help="Alarms learnt from normal data alone: pictures of good parts, or readings of a machine that runs well.",
    epilog="First: anomaly fit FOLDER, then: anomaly monitor NAME.anomaly --source FOLDER. Each command: anomaly COMMAND -h",
)
for group in (init_app, fit_app, check_app, data_app, judge_app, edge_app, transfer_app):
    app.add_typer(group)
bundle_app.command()(variants)  # here, since it needs the training side, which nothing else of the group may
app.add_typer(bundle_app, name="bundle")
app.add_typer(release_app, name="release")
app.add_typer(alerts_app, name="alerts")
alarms_app.command("simulate")(simulate)
for command in (label, labels, erase, weekly):
    alarms_app.command()(command)
app.add_typer(alarms_app, name="alarms")
app.add_typer(page_app, name="page")
arrange(app, HELPS)


def main() -> None:
    """Entry point: errors of ours, and what the system refuses (rights, a full disk), are printed as one message, exit code 1."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name of a file may hold what the terminal cannot show
    try:
        app()
    except AnomalyError as error:
        if manner.verbose:
            err.print("".join(traceback.format_exception(error)), always=True)
        err.print(f"error: {error}", style="bold red", always=True)
        sys.exit(1)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "anomaly" or manner.verbose:
            raise
        words = f"error: this needs {error.name}, which the base install does without; run: pip install 'anomaly-pipeline[train]'"
        err.print(words, style="bold red", always=True)
        sys.exit(1)
    except OSError as error:
        if error.strerror is None:
            raise
        where = "" if error.filename is None else f"{one_line(str(error.filename))}: "
        err.print(f"error: {where}{error.strerror}", style="bold red", always=True)
        sys.exit(1)


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False, quiet: Quiet = False, verbose: Verbose = False
) -> None:
    begin()
    manner.quiet = err.muted = quiet
    manner.verbose = verbose
    if version:
        out.print(f"anomaly-pipeline {__version__}")
        raise typer.Exit


if __name__ == "__main__":
    main()
