"""`anomaly transfer`, `anomaly sources`, `anomaly curve`: starting from another line."""

from __future__ import annotations

import json
from enum import StrEnum
from math import isnan
from pathlib import Path
from typing import Annotated, Any

import typer

from anomaly.cli.console import err, out, progress

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
SpecPath = Annotated[Path, typer.Argument(help="This line's spec (TOML).")]
Data = Annotated[Path, typer.Option(help="This line's normals: a folder of pictures, or a table or folder of tables.")]
Normals = Annotated[Path | None, typer.Option(help="The other line's normal data; several ways need it.")]


def transfer_spec(
    spec: Path, source: Path, method: str, normals: Path | None, faults: Path | None = None, others: Path | None = None
) -> Any:
    """The spec with its [transfer] filled in: a source that is neither bundle nor extractor is the other line's normal data.

    Raises SpecError naming the key when the parts do not go together.
    """
    from pydantic import ValidationError

    from anomaly.errors import SpecError
    from anomaly.spec import EXTRACTORS, Transfer, read_spec

    is_extractor = source.suffix in EXTRACTORS
    if not is_extractor and normals is not None:
        raise SpecError(f"{source}: not a bundle or an extractor, so it is taken for normal data; leave --normals out, or give a bundle")
    for path in (source, normals, faults, others):
        if path is not None and not path.exists():
            raise SpecError(f"{path}: no such file or folder")
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
        raise SpecError("\n".join(item["msg"].removeprefix("Value error, ") for item in error.errors())) from error
    return read_spec(spec).model_copy(update={"transfer": asked})


@transfer_app.command()
def transfer(
    source: Source,
    spec: SpecPath,
    data: Data,
    out_: Annotated[Path, typer.Option("--out", help="Where the bundle goes (.anomaly).")],
    method: Annotated[Method, typer.Option(help="The way; auto judges all and takes none unless it clearly helps.")] = Method.auto,
    normals: Normals = None,
    faults: Annotated[Path | None, typer.Option(help="Labelled faults of this line, in folders by kind (cameras).")] = None,
    source_faults: Annotated[Path | None, typer.Option(help="Labelled faults of the other line (cameras, tradaboost).")] = None,
    work: Annotated[Path, typer.Option(help="Folder for intermediate results; safe to delete.")] = Path(".anomaly"),
) -> None:
    """Fit a detector that starts from another line, and say whether that helped."""
    parsed = transfer_spec(spec, source, method.value, normals, faults, source_faults)
    with progress("transfer") as say:
        from anomaly.pipeline.kinds import open_line
        from anomaly.pipeline.steps import Steps, copy_file

        steps = Steps(open_line(parsed, data), work, None, say)
        copy_file(steps.export(), out_)
    from anomaly.bundle.archive import read_bundle

    bundle = read_bundle(out_)
    print_transfer(bundle.manifest.provenance["fit"]["extractor"]["transfer"])
    out.print(f"bundle: {out_}  (hash {bundle.hash[:12]})")


def print_transfer(found: dict[str, Any]) -> None:
    """What the guard found, a line a way."""
    if found.get("ways"):
        out.print(f"  target only              AUROC on made-up faults {found['target_only_auroc']:.4f}")
    for way, figures in found.get("ways", {}).items():
        low, high = figures["gain_ci95"]
        out.print(
            f"  {way:24} {figures['auroc']:.4f}  {figures['gain']:+.4f} ({low:+.4f} to {high:+.4f})  {figures['verdict']}", markup=False
        )
    if found.get("negative_transfer"):
        err.print(f"negative transfer: {', '.join(found['negative_transfer'])} made it worse than the target alone", style="bold")
    if "method" in found:
        out.print(f"taken: {found['method']}; {found['why']}", markup=False)
    if "few_labels" in found:
        labels, over = found["few_labels"], found["few_labels"]["over_normal_only"]
        between = "{:+.4f} to {:+.4f}".format(*over["gain_ci95"])
        out.print(
            f"labelled faults ({labels['faults']}): vote {labels['vote']}; {over['gain']:+.4f} ({between}) over the normal-only score"
        )


@transfer_app.command()
def sources(
    spec: SpecPath,
    data: Data,
    source: Annotated[list[Path], typer.Option(help="A bundle, an extractor or normal data of another line. Repeatable.")],
    json_: Annotated[Path | None, typer.Option("--json", help="Where the figures go.")] = None,
) -> None:
    """Rank other lines as sources for this one before anything is trained."""
    from anomaly.atomic import write_text
    from anomaly.pipeline.kinds import open_line
    from anomaly.pipeline.rank_sources import rank_sources
    from anomaly.spec import read_spec

    with progress("sources") as say:
        ranked = rank_sources(open_line(read_spec(spec), data), source, say)
    for place, row in enumerate(ranked, 1):
        out.print(f"{place}. {row['source']}  " + ", ".join(f"{k} {v:.4f}" for k, v in row.items() if k != "source"), markup=False)
    if json_ is not None:
        write_text(json_, json.dumps(ranked, indent=1) + "\n")


@transfer_app.command()
def curve(
    source: Source,
    spec: SpecPath,
    data: Data,
    out_: Annotated[Path, typer.Option("--out", help="Where the page goes (.html); the runs go beside it as .csv.")],
    method: Annotated[Method, typer.Option(help="The way of transfer.")] = Method.frozen,
    normals: Normals = None,
    seeds: Annotated[int, typer.Option(help="Draws of normals a size.")] = 5,
) -> None:
    """Accuracy on labelled records against the number of normals, with a transfer and without, as a plot and a table."""
    from anomaly.atomic import replacing
    from anomaly.evaluation.report.curve import curve_table, write_curve
    from anomaly.pipeline.kinds import KINDS, learning_curve, open_line

    if method in (Method.auto, Method.tradaboost):
        raise typer.BadParameter("name one way; auto and tradaboost are not curves of one way", param_hint="--method")
    parsed = transfer_spec(spec, source, method.value, normals)
    with progress("curve") as say:
        found = learning_curve(open_line(parsed, data), seeds, say)
    with replacing(out_.with_suffix(".csv")) as part:
        found.to_csv(part, index=False)
    words = KINDS[parsed.kind].curve_axes
    write_curve(found, f"{parsed.name}: {method.value} from {source.name}", out_, *words)
    for row in curve_table(found).to_dict("records"):
        between = "one run" if isnan(row["low"]) else f"{row['low']:.4f} to {row['high']:.4f}"
        out.print(f"  {row['way']:16} {row['normals']:5} {words[0]}  {row['auroc']:.4f}  ({between})", markup=False)
    out.print(f"page: {out_}")
