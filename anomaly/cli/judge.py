"""`anomaly evaluate`, `score`, `batch`, `flagged`: what a bundle makes of data.

Nothing slow is imported before the bundle has been read.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from anomaly.cli.terminal.console import err, manner, out, print_verdict
from anomaly.cli.terminal.options import (
    FOUND,
    STDOUT,
    BundlePath,
    Data,
    ExitZero,
    FiguresPath,
    Provider,
    ProviderName,
    check_not_empty,
    writable_file,
    writable_folder,
    write_json,
)
from anomaly.cli.terminal.progress import progress
from anomaly.errors import DataError
from anomaly.names import one_line
from anomaly.progress import part, skipped

if TYPE_CHECKING:
    from anomaly.bundle.archive import Bundle
    from anomaly.edge.runtime.session import Session

judge_app = typer.Typer()
TOLD = 10  # of what was set aside, and of notes


def check_order(command: str, bundle: Path, others: Sequence[Path]) -> None:
    """Raise DataError when bundle and data have been given the wrong way round, with the command as it was meant."""
    swapped = next((path for path in others if path.suffix.lower() == ".anomaly" and path.is_file()), None)
    if swapped is not None and bundle.suffix.lower() != ".anomaly":
        meant = shlex.join([*command.split(), str(swapped), *(["--data"] if command.endswith("evaluate") else []), str(bundle)])
        raise DataError(f"{bundle}: the bundle comes first, then the data: {meant}{' --out DIR' if command.endswith('flagged') else ''}")


def open_bundle(bundle: Path, provider: ProviderName) -> tuple[Bundle, Session]:
    """A verified bundle in a session; prints what runs where."""
    from anomaly.bundle.archive import read_bundle

    opened = read_bundle(bundle)
    from anomaly.edge.runtime.session import open_session

    session = open_session(opened, provider.value)
    err.print(session.line())
    return opened, session


@judge_app.command()
def evaluate(
    bundle: BundlePath,
    data: Data,
    json_: FiguresPath = None,
    layout: Annotated[str | None, typer.Option(help="How the data lies: mvtec, folder or table; found when not given.")] = None,
    report: Annotated[Path | None, typer.Option(callback=writable_file, help="Where a report goes (self-contained HTML).")] = None,
    provider: Provider = ProviderName.auto,
) -> None:
    """Figures of a detector on labelled data."""
    if not data.exists():
        raise DataError(f"{data}: no such file or folder; --data names the labelled pictures or tables")
    check_not_empty(data)
    check_order("anomaly evaluate", bundle, [data])
    opened, session = open_bundle(bundle, provider)

    with progress("evaluate") as say:
        say("loading what judges")
        from anomaly.pipeline.assess import evaluate_bundle, report_on

        skipped(part(say, 0.0, 0.0))
        evaluation = evaluate_bundle(opened, session, data, layout, part(say, 0.0, 0.9))
        if report is not None:
            part(say, 0.9, 1.0)("report")
            report_on(opened, evaluation, data, report)
    _tell("set aside", evaluation.rejected, always=True)
    _tell("note", evaluation.notes)
    if json_ is not None:
        write_json(json_, json.dumps(evaluation.figures, indent=1, sort_keys=True) + "\n")
    _print_figures(evaluation.figures)
    if report is not None:
        out.print(f"report: {report}")


def _tell(what: str, texts: Sequence[str], *, always: bool = False) -> None:
    """The first few on a line each, all with -v; `always` with -q as well."""
    for text in manner.some(texts, TOLD):
        err.print(f"{what}: {text}", always=always)
    if len(texts) > TOLD and not manner.verbose:
        err.print(f"{what}: {len(texts) - TOLD:,} more (-v tells all)", always=always)


def _end(flagged: int, set_aside: int, exit_zero: bool) -> None:
    """The exit code: 3 when something is flagged, else 1 when something could not be judged."""
    if flagged and not exit_zero:
        raise typer.Exit(FOUND)
    if set_aside:
        raise typer.Exit(1)


def _print_figures(figures: dict[str, Any]) -> None:
    """The verdict first, the figures under it."""
    from anomaly.evaluation.report.evaluated import named_figures, verdict

    print_verdict(verdict(figures)[0])
    for name, value, between in named_figures(figures):
        out.print(f"  {name:58} {value:>8}" + (f"   (95 %: {between})" if between else ""), soft_wrap=True)
    for kind, found in sorted(figures.get("per_defect", {}).items(), key=lambda item: float(item[1]["found"])):
        hits = round(found["found"] * found["n"])
        area = "" if found["image_auroc"] is None else f", AUROC {found['image_auroc']:.3f}"
        text = f"  {one_line(kind):22} {hits} of {found['n']} flagged{area}" + ("" if hits else "   ALL MISSED")
        out.print(text, style=None if hits else "red", soft_wrap=True)


@judge_app.command()
def score(
    bundle: BundlePath,
    paths: Annotated[list[Path], typer.Argument(help="Pictures, tables or folders of them.")],
    json_: FiguresPath = None,
    csv_: Annotated[Path | None, typer.Option("--csv", callback=writable_file, help="Where the scores go as CSV.")] = None,
    provider: Provider = ProviderName.auto,
    exit_zero: ExitZero = False,
) -> None:
    """Score files: each record of a few, of many the worst. All go to --csv or --json. Exit code 3 when something is flagged."""
    if not any(path.exists() for path in paths):  # one of several that is not there is set aside
        raise DataError(f"{paths[0]}: no such file or folder; name pictures, tables or folders of them")
    check_order("anomaly score", bundle, paths)
    opened, session = open_bundle(bundle, provider)
    with progress("score") as say:
        say("loading what scores")
        from anomaly.edge.runtime.files import score_paths

        skipped(part(say, 0.0, 0.0))
        frame, rejected = score_paths(opened, session, paths, say)
    _tell("set aside", rejected, always=True)
    _tell("note", [*frame.attrs["notes"], *(frame["note"].dropna() if "note" in frame else ())])
    if json_ is not None:
        write_json(json_, frame.to_json(orient="records", indent=1))
    if csv_ is not None:
        from anomaly.cli.terminal.scores import on_the_clock, with_bound
        from anomaly.data.spreadsheet import write_csv

        write_csv(on_the_clock(with_bound(frame, opened.manifest.least_p), opened.manifest.input.zone), csv_)
    if json_ is None and csv_ is None:
        from anomaly.cli.terminal.scores import print_scores

        print_scores(frame, opened.manifest)
    flagged = int(frame["flagged"].sum())
    files = [str(path) for path in (json_, csv_) if path not in (None, STDOUT)]
    written = f"; written to {' and '.join(files)}" if files else ""
    err.print(f"{len(frame)} records, {flagged} flagged, {len(rejected)} set aside{written}")
    _end(flagged, len(rejected), exit_zero)


@judge_app.command()
def batch(
    bundle: BundlePath,
    sources: Annotated[list[str], typer.Argument(help="Pictures, tables, folders of them, s3://BUCKET/FOLDER; with --query a database.")],
    out_: Annotated[Path, typer.Option("--out", callback=writable_folder, help="The folder for the scores (Parquet, in parts).")],
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; all cores when not given, one where a GPU scores.")] = None,
    shares: Annotated[bool, typer.Option("--shares", help="Each sensor's share of the score too.")] = False,
    query: Annotated[str, typer.Option(help="SQL whose rows are scored; the source is then a database URL or env:NAME.")] = "",
    one_table: Annotated[bool, typer.Option("--one-table", help="All Parquet files of the source are one table (a data set).")] = False,
    provider: Provider = ProviderName.auto,
    exit_zero: ExitZero = False,
) -> None:
    """Score a whole history to Parquet. Stopped or killed, the same command goes on. Exit code 3 when something is flagged."""
    from anomaly.batch.store import is_stored

    for source in sources:
        if not (query or is_stored(source) or Path(source).exists()):
            raise DataError(f"{source}: no such file or folder; name pictures, tables or folders, s3://BUCKET/FOLDER, or give --query")
    if not bundle.is_file():
        open_bundle(bundle, provider)  # says what is wrong
    with progress("batch", goes_on=True) as say:
        say("loading what scores")
        from anomaly.batch.run import run_batch

        skipped(part(say, 0.0, 0.0))
        done = run_batch(bundle, sources, out_, workers, provider.value, say, shares=shares, query=query, one_table=one_table)
    _tell("set aside", done.refused, always=True)
    _tell("note", done.notes)
    counts = done.counts
    out.print(f"{counts.flagged:,} of {counts.records:,} records scored are flagged", style="bold")
    before = f", {done.done_before} of them done before" if done.done_before else ""
    out.print(f"  scores: {done.scores}, {done.parts} parts{before}", soft_wrap=True)
    if done.without_window:
        out.print(
            f"  {done.without_window:,} of {done.rows:,} rows have no score: too few rows stand before them without a gap", soft_wrap=True
        )
    if counts.rejected or done.refused:
        files = f", and {len(done.refused)} whole files" if done.refused else ""
        out.print(f"  {counts.rejected:,} records{files} set aside, with reasons: {done.scores.with_name('rejected')}", soft_wrap=True)
    _end(counts.flagged, len(done.refused) or int(not counts.records), exit_zero)  # as `score`, where nothing could be scored


@judge_app.command()
def flagged(
    what: Annotated[Path, typer.Argument(metavar="STORE|BUNDLE", help="A bundle, or the store of a monitor (what the line flagged).")],
    path: Annotated[Path, typer.Argument(help="The pictures or tables: a file or a folder.")],
    out_: Annotated[Path, typer.Option("--out", callback=writable_folder, help="The folder for PNG files and flagged.csv.")],
    bundle: Annotated[Path | None, typer.Option(help="With a store: the bundle; looked for beside the store when not given.")] = None,
    line: Annotated[str | None, typer.Option(help="With a store: which of its lines.")] = None,
    most: Annotated[int, typer.Option(min=1, help="So many are drawn at most, the worst; flagged.csv lists all.")] = 200,
    provider: Provider = ProviderName.auto,
    exit_zero: ExitZero = False,
) -> None:
    """What is flagged, worst first: pictures with heat-maps, or stretches of readings as plots, and a CSV. Exit code 3 if any."""
    for given in (what, path):
        if not given.exists():
            raise DataError(f"{given}: no such file or folder")
    check_order("anomaly flagged", what, [path])
    from anomaly.bundle.archive import read_bundle
    from anomaly.edge.runtime.session import open_session

    with progress("flagged") as say:
        say("loading what draws")
        from anomaly.pipeline.report.flagged import LIST, bundle_of, is_store, wanted_of, write_flagged

        store = what if is_store(what) else None
        opened = read_bundle(bundle or what) if store is None or bundle is not None else bundle_of(what, line)
        wanted = None if store is None else wanted_of(store, line, opened)
        session = open_session(opened, provider.value)
        done = write_flagged(opened, session, path, out_, most, say, wanted)
    _tell("set aside", done.rejected, always=True)
    _tell("note", done.notes)
    said = (
        f"{done.flagged:,} of {done.judged:,} records flagged" if store is None else f"{done.flagged:,} records flagged, as the store says"
    )
    if opened.manifest.input.name == "window" and done.flagged:
        said += f", in {done.places:,} {'stretch' if done.places == 1 else 'stretches'} (rows less than a window apart are one)"
    out.print(f"{said}; {done.drawn} drawn, all listed in {out_ / LIST}", style="bold")
    for text in done.worst:
        out.print(f"  {text}")
    if done.places > len(done.worst):
        out.print(f"  and {done.places - len(done.worst):,} more, less unusual, in {out_ / LIST}")
    _end(done.flagged, len(done.rejected), exit_zero)
