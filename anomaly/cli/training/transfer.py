"""`anomaly transfer`, `anomaly sources`, `anomaly curve`: a start from another line."""

from __future__ import annotations

import json
from enum import StrEnum
from math import isnan
from pathlib import Path
from typing import Annotated, Any

import typer

from anomaly.cli.terminal.console import out, print_verdict
from anomaly.cli.terminal.options import Data, FiguresPath, SpecPath, Work, check_not_empty, writable_file, write_json
from anomaly.cli.terminal.progress import progress
from anomaly.cli.terminal.verdicts import print_transfer
from anomaly.cli.training.fitted import leave_report
from anomaly.cli.training.inputs import Faults, check_fits, copy, open_steps, read_inputs
from anomaly.errors import DataError, SpecError

transfer_app = typer.Typer()


class Method(StrEnum):
    auto = "auto"
    frozen = "frozen"
    finetune = "finetune"
    coral = "coral"
    batch_norm = "batch-norm"
    deep_coral = "deep-coral"
    dann = "dann"
    tradaboost = "tradaboost"


Source = Annotated[Path, typer.Argument(help="The other line: its bundle, an extractor, or just its normal data.")]
Normals = Annotated[Path | None, typer.Option(help="The other line's normal data; several ways need it.")]


def transfer_spec(
    spec: Path, source: Path, method: str, normals: Path | None, faults: Path | None = None, others: Path | None = None
) -> Any:
    """The spec with its [transfer] filled in: a source that is neither bundle nor extractor is the other line's normal data.

    Raises SpecError naming the key when the parts do not go together.
    """
    from pydantic import ValidationError

    from anomaly.spec import EXTRACTORS, Transfer, read_spec

    is_extractor = source.suffix in EXTRACTORS
    if not is_extractor and normals is not None:
        raise SpecError(f"{source}: not a bundle or an extractor, so it is taken for normal data; leave --normals out, or give a bundle")
    for path in (source, normals, faults, others):
        if path is not None and not path.exists():
            raise SpecError(f"{path}: no such file or folder")
        if path is not None:
            check_not_empty(path)
    try:
        asked = Transfer.model_validate(
            {
                "source": source if is_extractor else None,
                "normals": normals if is_extractor else source,
                "faults": faults,
                "source_faults": others,
                "method": method,
            }
        )
    except ValidationError as error:
        raise SpecError(*(item["msg"].removeprefix("Value error, ") for item in error.errors())) from error
    return read_spec(spec).model_copy(update={"transfer": asked})


@transfer_app.command()
def transfer(
    source: Source,
    spec: SpecPath,
    data: Data,
    out_: Annotated[Path, typer.Option("--out", callback=writable_file, help="Where the bundle goes (.anomaly).")],
    method: Annotated[Method, typer.Option(help="The way; auto judges all and takes none unless it clearly helps.")] = Method.auto,
    normals: Normals = None,
    faults: Faults = None,
    source_faults: Annotated[Path | None, typer.Option(help="The same of the other line, for TrAdaBoost.")] = None,
    json_: FiguresPath = None,
    work: Work = Path(".anomaly"),
) -> None:
    """Fit a detector that starts from another line, and say whether that helped."""
    parsed = transfer_spec(spec, source, method.value, normals, faults, source_faults)
    check_fits(data, parsed.kind)
    with progress("transfer", goes_on=True) as say:
        steps = open_steps(parsed, data, work, say, report=True)
        copy(steps.export(), out_)
        from anomaly.bundle.archive import read_bundle

        bundle = read_bundle(out_)
        left = leave_report(steps, bundle, None)
    found = bundle.manifest.provenance["fit"]["extractor"]["transfer"]
    if json_ is not None:
        write_json(json_, json.dumps(found, indent=1, sort_keys=True) + "\n")
    print_transfer(found)
    out.print(f"bundle: {out_}  (hash {bundle.hash[:12]})")
    if left is not None:
        out.print(f"report: {left}   (open it in a browser)")


@transfer_app.command()
def sources(
    spec: SpecPath,
    data: Data,
    source: Annotated[list[Path], typer.Option(help="A bundle, an extractor or normal data of another line. Repeatable.")],
    json_: FiguresPath = None,
) -> None:
    """Rank other lines as sources for this one before anything is trained."""
    parsed = read_inputs(spec, data)
    for path in source:
        if not path.exists():
            raise DataError(f"{path}: no such file or folder; --source names a bundle, an extractor or normal data of another line")
        check_not_empty(path)
    with progress("sources") as say:
        from anomaly.evaluation.report.tried import source_words
        from anomaly.pipeline.kinds import open_line
        from anomaly.pipeline.rank_sources import rank_sources

        ranked = rank_sources(open_line(parsed, data), source, say)
    print_verdict(source_words(ranked))
    if json_ is not None:
        write_json(json_, json.dumps(ranked, indent=1) + "\n")


@transfer_app.command()
def curve(
    source: Source,
    spec: SpecPath,
    data: Data,
    out_: Annotated[Path, typer.Option("--out", callback=writable_file, help="Where the page goes (.html); the runs go beside it (.csv).")],
    method: Annotated[Method, typer.Option(help="The way of transfer.")] = Method.frozen,
    normals: Normals = None,
    seeds: Annotated[int, typer.Option(min=1, help="Draws of normals a size.")] = 5,
) -> None:
    """Accuracy on labelled records against the number of normals, with a transfer and without, as a plot and a table."""
    if method in (Method.auto, Method.tradaboost):
        raise typer.BadParameter("name one way; auto and tradaboost are not curves of one way", param_hint="--method")
    parsed = transfer_spec(spec, source, method.value, normals)
    check_fits(data, parsed.kind)
    with progress("curve") as say:
        from anomaly.data.spreadsheet import write_csv
        from anomaly.evaluation.report.curve import curve_table, write_curve
        from anomaly.pipeline.kinds import KINDS, learning_curve, open_line

        found = learning_curve(open_line(parsed, data), seeds, say)
    write_csv(found, out_.with_suffix(".csv"))
    words = KINDS[parsed.kind].curve_axes
    write_curve(found, f"{parsed.name}: {method.value} from {source.name}", out_, *words)
    for row in curve_table(found).to_dict("records"):
        between = "one run" if isnan(row["low"]) else f"{row['low']:.4f} to {row['high']:.4f}"
        out.print(f"  {row['way']:16} {row['normals']:5} {words[0]}  {row['auroc']:.4f}  ({between})")
    out.print(f"page: {out_}")
