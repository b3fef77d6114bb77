"""`anomaly pretrain`, `fit`, `bundle variants`, `transfer`, `sources`, `curve`: what learns from normal data.

PyTorch takes seconds to import, so it is imported only when the spec has been read and the paths are there.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from enum import StrEnum
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from anomaly.cli.terminal.console import err, out
from anomaly.cli.terminal.options import BundlePath, Data, FiguresPath, SpecPath, Work, check_data, check_not_empty, writable_file
from anomaly.cli.terminal.progress import progress
from anomaly.cli.terminal.verdicts import print_few_labels, print_transfer
from anomaly.errors import DataError, SpecError
from anomaly.progress import Progress, part, skipped

if TYPE_CHECKING:
    from anomaly.bundle.archive import Bundle
    from anomaly.pipeline.steps import Steps
    from anomaly.spec import CameraSpec, SensorSpec

train_app = typer.Typer()
LOADING = 0.1  # share of a command that loading PyTorch takes, about


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
Faults = Annotated[
    Path | None,
    typer.Option(help="A few labelled faults of this line: pictures in folders by kind, or tables with labels or stretches (from, to)."),
]


MADE_FOR = {"camera": "pictures", "sensor": "readings"}
FITTING = {"pictures": "a folder of pictures: use specs/camera.toml", "readings": "a table of readings: use specs/sensor.toml"}


def check_fits(data: Path, kind: str) -> None:
    """Raise DataError when there is no data, or what a spec of another kind is made for."""
    from anomaly.data.files import looks_like

    check_data(data)
    found = looks_like(data)
    if found and kind in MADE_FOR and found != MADE_FOR[kind]:
        raise DataError(f"{data}: this looks like {FITTING[found]}; the spec given is for a {kind}")


def check_spec_is_a_file(spec: Path) -> None:
    """Raise SpecError for a folder, or data, in the place of the spec."""
    from anomaly.data.files import looks_like

    found = looks_like(spec) if spec.exists() and spec.suffix.lower() != ".toml" else ""
    if found or spec.is_dir():
        what = (
            f"this looks like {FITTING[found]}" if found else "this is a folder: give a spec such as specs/sensor.toml or specs/camera.toml"
        )
        raise SpecError(f"{spec}: {what}, and name the data with --data")


def read_inputs(spec: Path, data: Path) -> CameraSpec | SensorSpec:
    """The spec. Raises SpecError for a bad one, DataError when there is no data, both before anything slow is imported."""
    from anomaly.spec import check_paths, read_spec

    check_spec_is_a_file(spec)
    parsed = read_spec(spec)
    check_paths(spec, parsed)
    check_fits(data, parsed.kind)
    return parsed


def with_faults(spec: CameraSpec | SensorSpec, faults: Path | None) -> CameraSpec | SensorSpec:
    """The spec with these labelled faults as its [transfer] faults. Raises DataError for a path that is not there."""
    if faults is None:
        return spec
    if not faults.exists():
        raise DataError(f"{faults}: no such file or folder; --faults names labelled faults of this line")
    check_not_empty(faults)
    return spec.model_copy(update={"transfer": spec.transfer.model_copy(update={"faults": faults})})


def open_steps(
    spec: CameraSpec | SensorSpec, data: Path, work: Path, say: Progress, extractor: Path | None = None, quick: bool = False
) -> Steps:
    """The steps on the data to a bundle, with each one's share of the time; imports what is slow."""
    say("loading PyTorch")
    from anomaly.pipeline.kinds import KINDS, open_line
    from anomaly.pipeline.steps import Steps

    skipped(part(say, 0.0, LOADING))  # how long it took to load says nothing about the rest
    say("looking for the data")
    shares = dict(KINDS[spec.kind].steps_s)
    if extractor is not None:
        del shares["pretrain"]
    if quick:
        shares["variants"] = min(shares.values())
    return Steps(open_line(spec, data), work, extractor, part(say, LOADING, 1.0), shares=shares, quick=quick)


def copy(source: Path, target: Path) -> None:
    """Copy a step's result to where it was asked for, atomically."""
    from anomaly.pipeline.steps import copy_file

    copy_file(source, target)


@train_app.command()
def pretrain(
    spec: SpecPath,
    data: Data,
    out_: Annotated[Path, typer.Option("--out", callback=writable_file, help="Where the extractor goes (.safetensors).")],
    work: Work = Path(".anomaly"),
) -> None:
    """Adapt or train the feature extractor on normal data, in full, and say what that gained. `anomaly fit` only tries a first stretch."""
    parsed = read_inputs(spec, data)
    with progress("pretrain", goes_on=True) as say:
        steps = open_steps(parsed, data, work, say)
        steps.full_pretraining, steps.shares = True, {"pretrain": 1.0}
        copy(steps.pretrain(), out_)
    from anomaly.features.tensors import load_tensors

    about = load_tensors(out_)[1]
    out.print(f"extractor: {out_}")
    adaptation = about.get("adaptation", {})
    print_adaptation(adaptation)
    if adaptation.get("why") == NOT_ASKED:
        out.print('  nothing was trained, as the spec says; [pretrain] method = "auto" trains on the normals and says what that gains')
    for key, value in adaptation.items():
        if key not in ("kept", "why", "gain", "gain_ci95"):  # the reason tells the gain with its interval
            text = value["why"] if isinstance(value, dict) else f"{value:.4g}" if isinstance(value, float) else value
            out.print(f"    {key.replace('_', ' ')}: {text}")


@train_app.command()
def fit(
    spec: SpecPath,
    data: Data,
    out_: Annotated[Path, typer.Option("--out", callback=writable_file, help="Where the bundle goes (.anomaly).")],
    extractor: Annotated[Path | None, typer.Option(help="An extractor from `anomaly pretrain`; made here when not given.")] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Leave the fp16 and int8 variants for later: `anomaly bundle variants` adds them.")
    ] = False,
    faults: Faults = None,
    work: Work = Path(".anomaly"),
) -> None:
    """Fit a detector on normal data and export it as one bundle."""
    parsed = with_faults(read_inputs(spec, data), faults)
    if extractor is not None and not extractor.is_file():
        raise typer.BadParameter(f"{extractor}: no such file", param_hint="--extractor")
    if extractor is not None and faults is not None:
        raise typer.BadParameter("what is learnt of faults goes into the extractor; leave --extractor out", param_hint="--faults")
    with progress("fit", goes_on=True) as say:
        steps = open_steps(parsed, data, work, say, extractor, quick)
        copy(steps.export(), out_)
        say("reading the bundle back")
        from anomaly.bundle.archive import read_bundle
        from anomaly.data.tables.units import unknown_units

        bundle = read_bundle(out_)
        unknown = unknown_units(sensor.unit for sensor in bundle.manifest.input.sensors)
    _print_fit(bundle, steps, data, unknown)


NOT_ASKED = "not asked for"  # why there is no adaptation where the spec wants none


def print_adaptation(found: dict[str, Any]) -> None:
    """Whether the extractor is one adapted to the normals, and why, with what was gained."""
    if found.get("why", NOT_ASKED) != NOT_ASKED:
        out.print(f"  adaptation to the normals {'kept' if found['kept'] else 'not kept'}: {found['why']}")


HARDLY = 0.1  # of the made-up faults found, on average over the kinds: a detector that finds fewer deserves a warning


def _print_made_up(fit_report: dict[str, Any]) -> None:
    """How well made-up faults are told from held-out normals."""
    out.print(f"  made-up faults on held-out normals: AUROC {fit_report['injected_auroc']:.3f}")
    marks = fit_report.get("marks")
    if marks and marks["words"]:  # none where no mark found a place
        out.print(f"  {marks['words']}", soft_wrap=True)
        if marks["warning"]:
            out.print(f"  warning: {marks['warning']}", soft_wrap=True)
    if found := fit_report.get("injected_found"):
        best = sorted(found.items(), key=lambda item: -item[1])
        out.print("    found, above 99 % of the normals: " + ", ".join(f"{kind.replace('_', ' ')} {share:.0%}" for kind, share in best))
        if sum(found.values()) < HARDLY * len(found):
            out.print(
                "  warning: hardly any made-up fault is found. Either the normals vary that much, or faults among them set the threshold:"
            )
            out.print("    look at what stands out below; where it is a fault, label it (--faults) or take it out, and fit again")


def _print_fit(bundle: Bundle, steps: Steps, data: Path, unknown: Sequence[str]) -> None:
    from anomaly.pipeline.kinds import KINDS

    path, manifest = bundle.path, bundle.manifest
    fit_report = manifest.provenance["fit"]
    if not steps.trained:
        out.print("nothing has changed since the last fit: taken from the work folder")
    out.print(f"bundle: {path}  ({path.stat().st_size / 1e6:.1f} MB, hash {bundle.hash[:12]})")
    for text in fit_report.get("tables", ()):
        out.print(f"  {text}")
    out.print(f"  normals: {fit_report['normals']}; worth {manifest.calibration['independent_scores']:.0f} independent scores")
    for text in fit_report.get("views", {}).get("why", ()):
        out.print(f"  looked at: {text}")
    score = manifest.threshold.score
    out.print(f"  flagged at p <= {manifest.threshold.p_value:.3g}" + (f", score >= {score:.4g}" if score is not None else ""))
    for note in filter(None, (manifest.calibration["too_short"], manifest.calibration["too_coarse"])):
        out.print(f"  note: {note}")
    _print_made_up(fit_report)
    print_adaptation(fit_report["extractor"].get("adaptation", {}))
    print_few_labels(fit_report["extractor"].get("transfer", {}))
    if steps.quick and KINDS[manifest.kind].has_variants:
        extractor = [] if steps.extractor is None else ["--extractor", str(steps.extractor)]
        later = shlex.join(["anomaly", "bundle", "variants", str(path), "--data", str(data), *extractor, "--work", str(steps.work)])
        out.print(f"  without the fp16 and int8 variants; to add them: {later}")
    if unknown:
        out.print(f"  note: units that pint does not know, shown as they are written: {', '.join(unknown)}")
    suspects = sorted(fit_report.get("suspects", {}).items(), key=lambda item: -item[1])
    if suspects:
        out.print(
            f"  {len(suspects)} among the normals stand out, for a person to look at (all: anomaly bundle inspect); the worst, by score:"
        )
    for where, value in suspects[:5]:
        out.print(f"    {where}: {value:.4g}")
    for reason in list(fit_report.get("rejected", {}).values())[:10]:
        err.print(f"  set aside: {reason}")
    for name, care in fit_report.get("care", {}).items():
        if set(care) - {"rows"}:
            out.print(f"  {name}: " + ", ".join(f"{v} {k.replace('_', ' ')}" for k, v in care.items()))
    for note in steps.line.notes() if steps.trained else []:
        err.print(f"  {note}")


def variants(
    bundle: BundlePath,
    data: Data,
    out_: Annotated[Path | None, typer.Option("--out", callback=writable_file, help="Where it goes; in place when not given.")] = None,
    extractor: Annotated[Path | None, typer.Option(help="The extractor that the bundle was fitted with, if one was given.")] = None,
    work: Work = Path(".anomaly"),
) -> None:
    """Add the fp16 and int8 variants to a bundle that was fitted with --quick. DATA is what it was fitted on."""
    from anomaly.bundle.archive import judged_variants, read_bundle

    before = read_bundle(bundle)
    check_data(data)
    target = bundle if out_ is None else out_
    writable_file(target)
    if judged_variants(before):
        _print_variants(before)
        out.print(f"{bundle}: has its variants already; nothing was changed")
        return
    with progress("variants", goes_on=True) as say:
        say("loading PyTorch")
        from anomaly.pipeline.add_variants import add_variants
        from anomaly.pipeline.kinds import kind_of

        skipped(part(say, 0.0, LOADING))
        known = kind_of(before).has_variants
        found = add_variants(before, data, work, extractor, target, part(say, LOADING, 1.0)) if known else before
    if not known:
        out.print(f"{bundle}: a {before.manifest.kind} detector has no variants: its one graph is quick on every machine")
        return
    _print_variants(found)
    version = before.manifest.version
    out.print(f"bundle: {target}  (version {version} as before; hash {found.hash[:12]}, before {before.hash[:12]})")
    if before.signed:
        err.print(f"{target}: not signed any more, since its content is another; sign it again: anomaly bundle sign {target} --key KEY")


def _print_variants(bundle: Bundle) -> None:
    from anomaly.bundle.archive import VARIANTS, judged_variants

    for name, taken in judged_variants(bundle).items():
        out.print(f"  {name:18} " + (f"{len(bundle.members[VARIANTS[name]]) / 1e6:.1f} MB" if taken else "not good enough, left out"))


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


@train_app.command()
def transfer(
    source: Source,
    spec: SpecPath,
    data: Data,
    out_: Annotated[Path, typer.Option("--out", callback=writable_file, help="Where the bundle goes (.anomaly).")],
    method: Annotated[Method, typer.Option(help="The way; auto judges all and takes none unless it clearly helps.")] = Method.auto,
    normals: Normals = None,
    faults: Faults = None,
    source_faults: Annotated[Path | None, typer.Option(help="The same of the other line, for TrAdaBoost.")] = None,
    work: Work = Path(".anomaly"),
) -> None:
    """Fit a detector that starts from another line, and say whether that helped."""
    parsed = transfer_spec(spec, source, method.value, normals, faults, source_faults)
    check_fits(data, parsed.kind)
    with progress("transfer", goes_on=True) as say:
        steps = open_steps(parsed, data, work, say)
        copy(steps.export(), out_)
    from anomaly.bundle.archive import read_bundle

    bundle = read_bundle(out_)
    print_transfer(bundle.manifest.provenance["fit"]["extractor"]["transfer"])
    out.print(f"bundle: {out_}  (hash {bundle.hash[:12]})")


@train_app.command()
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
        from anomaly.atomic import write_text
        from anomaly.pipeline.kinds import open_line
        from anomaly.pipeline.rank_sources import rank_sources

        ranked = rank_sources(open_line(parsed, data), source, say)
    for place, row in enumerate(ranked, 1):
        out.print(f"{place}. {row['source']}  " + ", ".join(f"{k} {v:.4f}" for k, v in row.items() if k != "source"))
    if json_ is not None:
        write_text(json_, json.dumps(ranked, indent=1) + "\n")


@train_app.command()
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
        from anomaly.atomic import replacing
        from anomaly.evaluation.report.curve import curve_table, write_curve
        from anomaly.pipeline.kinds import KINDS, learning_curve, open_line

        found = learning_curve(open_line(parsed, data), seeds, say)
    with replacing(out_.with_suffix(".csv")) as part:
        found.to_csv(part, index=False)
    words = KINDS[parsed.kind].curve_axes
    write_curve(found, f"{parsed.name}: {method.value} from {source.name}", out_, *words)
    for row in curve_table(found).to_dict("records"):
        between = "one run" if isnan(row["low"]) else f"{row['low']:.4f} to {row['high']:.4f}"
        out.print(f"  {row['way']:16} {row['normals']:5} {words[0]}  {row['auroc']:.4f}  ({between})")
    out.print(f"page: {out_}")
