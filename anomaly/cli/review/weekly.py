"""`anomaly alarms weekly`: the week of each line as a page."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from anomaly.cli.alarms import Line, StorePath, open_store
from anomaly.cli.review.labels import StoreFile, moment
from anomaly.cli.terminal.console import out
from anomaly.names import masked, one_line


def weekly(
    store_file: StoreFile = None,
    out_: Annotated[Path, typer.Option("--out", help="The page to write (HTML).")] = Path("weekly.html"),
    pdf: Annotated[bool, typer.Option("--pdf", help="Also as PDF, by Chromium where this machine has it.")] = False,
    until: Annotated[
        str | None,
        typer.Option(
            "--until", help="The seven days up to this time; up to the last midnight (UTC), and up to now where the store is younger."
        ),
    ] = None,
    store: StorePath = Path("anomaly.db"),
    line: Line = None,
) -> None:
    """A page on the week of each line: alarms against budget, ISA-18.2 figures, labels, drift, time watched."""
    from anomaly.alarms.weekly.report import write_report

    said = write_report(
        open_store(store_file or store, line), out_, time.time() if until is None else moment(until), line, pdf, until is None
    )
    for words in said:
        out.print(one_line(masked(words)))
