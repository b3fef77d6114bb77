"""`python -m flows.batch BUNDLE SOURCE... --out FOLDER`: a history scored as `anomaly batch` does it, as wide as a Dask cluster is.

    python -m flows.batch line.anomaly archive --out scored --workers 4             # Dask with four processes, as long as it runs
    python -m flows.batch line.anomaly s3://history/line3 --out /share/scored --scheduler tcp://boss:8786

A part of the plan is one task. One that fails stops no other; the run then fails at its end, and the same command does what is left. The
workers of a cluster see bundle, sources and `--out` under the same paths as this process.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.futures import as_completed

from anomaly.batch.part import Counts
from anomaly.batch.plan import PICTURES, ROWS
from anomaly.batch.run import Outcome, Scored, run_batch
from anomaly.bundle.release_folder import ReleaseFolder
from anomaly.errors import BundleError, DataError, in_words
from anomaly.names import masked, slug
from flows.shared import RETRIED, errors_told, logged, named, one_server, runner

NAMED = 5  # of the parts that failed


@task(name="part", task_run_name="part {number}", **RETRIED)
def score(work: partial[Counts], number: int) -> Counts:
    """One part, on a worker. What may pass by itself is tried twice more."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # as many workers as cores: no more threads than that
    return work(number)


@flow(name="parts", flow_run_name=named("parts"))
def parts_flow(bundle: Path, sources: list[str], out: Path, query: str, one_table: bool, shares: bool, rows: int, pictures: int) -> Outcome:
    """All parts of a plan, mapped over the workers of the task runner. Raises DataError at the end where some failed."""

    def scored(work: partial[Counts]) -> Scored:
        return partial(_mapped, work)

    say = logged(bundle.stem)
    return run_batch(
        bundle, sources, out, progress=say, shares=shares, query=query, one_table=one_table, rows=rows, pictures=pictures, scored=scored
    )


def _mapped(work: partial[Counts], numbers: Sequence[int]) -> Iterator[Counts]:
    futures = {score.submit(work, number): number for number in numbers}
    failed: list[str] = []
    for future in as_completed(list(futures)):
        found = future.result(raise_on_failure=False)
        if isinstance(found, Counts):
            yield found
        else:
            failed.append(f"part {futures[future]}: {in_words(found)}")
    if failed:
        more = [f"and {len(failed) - NAMED} more"] if len(failed) > NAMED else []
        raise DataError(f"{len(failed)} of {len(numbers)} parts failed; run it again, and it does these alone:", *failed[:NAMED], *more)


@flow(name="batch", flow_run_name=named("batch"))
def batch_flow(
    bundle: Path,
    sources: list[str],
    out: Path,
    query: str = "",
    one_table: bool = False,
    shares: bool = False,
    workers: int = 2,
    scheduler: str | None = None,
    rows: int = ROWS,
    pictures: int = PICTURES,
) -> Outcome:
    """Score a history into `out`, going on where an earlier run was stopped, as `anomaly batch` does and with the same files.

    `bundle`: a bundle, or a release folder, whose champion is taken. `sources`, `query`, `one_table`: those of `anomaly batch`.
    `workers`: processes on this machine (0: this one alone), unless the address of a Dask `scheduler` is given. `rows`, `pictures`: of one
    part.
    """
    bundle = _champion(bundle)
    done = parts_flow.with_options(task_runner=runner(workers, scheduler))(bundle, sources, out, query, one_table, shares, rows, pictures)
    counts = done.counts
    words = f"{counts.flagged:,} of {counts.records:,} records scored are flagged, {counts.rejected:,} set aside; {done.parts} parts"
    get_run_logger().info("%s, %d of them done before, in %s", words, done.done_before, done.scores)
    refused = "".join(f"- {why}\n" for why in done.refused[:NAMED])
    create_markdown_artifact(key=f"{slug(out.name).replace('_', '-').replace('.', '-')}-batch", markdown=f"**{words}.**\n\n{refused}")
    return done


def _champion(bundle: Path) -> Path:
    """A bundle as it is, of a release folder its champion. Raises BundleError."""
    if not bundle.is_dir():
        return bundle
    champion = ReleaseFolder(bundle).pointed("champion")
    if champion is None:
        raise BundleError(f"{bundle}: no champion in it; publish one first, or name a bundle")
    return champion


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.batch", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path, help="a bundle, or a release folder, whose champion is taken")
    parser.add_argument("sources", nargs="+", help="pictures, tables, folders of them, s3://BUCKET/FOLDER; with --query a database")
    parser.add_argument("--out", type=Path, required=True, help="the folder for the scores")
    parser.add_argument("--query", default="", help="SQL whose rows are scored")
    parser.add_argument("--one-table", action="store_true", help="all Parquet files of the source are one table (a data set)")
    parser.add_argument("--shares", action="store_true", help="each sensor's share of the score too")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes on this machine; 0 works in this process")
    parser.add_argument("--scheduler", help="address of a Dask scheduler, in place of processes on this machine")
    parser.add_argument("--rows", type=int, default=ROWS, help="rows of one part (default: %(default)s)")
    parser.add_argument("--pictures", type=int, default=PICTURES, help="pictures of one part (default: %(default)s)")
    asked = parser.parse_args()
    for source in asked.sources:
        if masked(source) != source:
            parser.error(f"{masked(source)}: Prefect would keep it; set an environment variable to the address, and name env:NAME")
    with errors_told():
        _champion(asked.bundle)  # before a server is started
        with one_server():
            batch_flow(**vars(asked))


if __name__ == "__main__":
    main()
