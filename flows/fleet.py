"""`python -m flows.fleet FILE`: many lines fitted, judged and published, as wide as the machine or a Dask cluster is.

    python -m flows.fleet deploy/fleet.toml --workers 2            # Dask with two processes of this machine, as long as it runs
    python -m flows.fleet lines.csv --scheduler tcp://boss:8786    # a cluster that is there; its workers see the same files

A line is one task. One that fails is a row of the summary. What was made is kept in the work folder: a run that was killed goes on, and
one on unchanged data trains nothing. Exit code 1 when a line failed.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import pandas as pd
from prefect import flow, get_run_logger, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.futures import as_completed
from rich.console import Console
from rich.table import Table

from anomaly.data.spreadsheet import write_csv
from anomaly.errors import in_words
from anomaly.pipeline.fleet import Fleet, FleetLine, Outcome, fit_line, read_fleet, report_on_line, summary
from anomaly.registry.follow import Fresh, note_release
from flows.shared import errors_told, one_server, runner

SHOWN = ("line", "state", "normals", "auroc", "flagged", "seconds", "reason")


@task(name="line", task_run_name="{line.slug}", cache_policy=NO_CACHE, retries=1, retry_delay_seconds=10)
def work_on(line: FleetLine, release: Path, work: Path) -> Outcome:
    """One line, from data to its release folder. Tried once more where its worker was lost; what goes wrong with the line is an outcome."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # as many workers as cores: no more threads than that
    done = fit_line(line, release, work)
    if done.state != "failed":
        where = release / line.slug
        fresh = Fresh(where / done.bundle, line.data, lambda page: report_on_line(line, where / done.bundle, work, page))
        note_release(where, get_run_logger(), fresh)
    return done


@flow(name="fleet")
def fleet_flow(lines: Path, out: Path = Path("out/fleet")) -> pd.DataFrame:
    """All lines of a table. Returns the summary, which is left in `out` as CSV too and shown as an artifact."""
    fleet = read_fleet(lines)
    outcomes = _worked(fleet)
    found = summary(outcomes)
    path = out / "summary.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_csv(found, path)
    rows = [{key: row[key] for key in SHOWN} for row in found.astype(object).where(found.notna(), "").to_dict("records")]
    failed = sum(one.state == "failed" for one in outcomes)
    words = f"{len(outcomes) - failed} of {len(outcomes)} lines published or unchanged; {failed} failed"
    create_table_artifact(key="fleet", table=rows, description=words)
    get_run_logger().info(words)
    return found


def _worked(fleet: Fleet) -> list[Outcome]:
    """The outcome of every line, in the table's order, each told as it comes."""
    futures = {work_on.submit(line, fleet.release, fleet.work): line for line in fleet.line}
    found: dict[str, Outcome] = {}
    for done, future in enumerate(as_completed(list(futures)), start=1):
        line = futures[future]
        outcome = future.result(raise_on_failure=False)
        if isinstance(outcome, BaseException):  # the worker was lost, twice
            outcome = Outcome(line.name, "failed", in_words(outcome))
        found[line.name] = outcome
        get_run_logger().info(f"{done} of {len(futures)}: {outcome.line} {outcome.state} {outcome.reason}".rstrip())
    return [found[line.name] for line in fleet.line]


def main() -> int:
    """The command. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.fleet", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("lines", type=Path, help="TOML with a [[line]] each, or CSV with the columns name, spec, data")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes on this machine; 0 works in this process")
    parser.add_argument("--scheduler", help="address of a Dask scheduler, in place of processes on this machine")
    parser.add_argument("--out", type=Path, default=Path("out/fleet"), help="folder for summary.csv")
    asked = parser.parse_args()
    with errors_told():
        read_fleet(asked.lines)  # a mistake in it is told before a server is started
        with one_server():
            found = fleet_flow.with_options(task_runner=runner(asked.workers, asked.scheduler))(asked.lines, asked.out)
    _print(found)
    return int((found["state"] == "failed").any())


def _print(found: pd.DataFrame) -> None:
    table = Table(*SHOWN)
    for row in found[list(SHOWN)].itertuples(index=False):
        table.add_row(*("" if pd.isna(cell) else f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in row))
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
