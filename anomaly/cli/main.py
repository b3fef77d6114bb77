"""`anomaly …`: the command line. Training-side packages are imported only by the commands that train."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from anomaly import __version__
from anomaly.cli.console import err, out
from anomaly.cli.console import progress as progress_of
from anomaly.cli.edge import Provider, ProviderName, edge_app, open_bundle
from anomaly.cli.transfer import transfer_app
from anomaly.errors import AnomalyError

if TYPE_CHECKING:
    from anomaly.pipeline.steps import Steps

app = typer.Typer(
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    help="Industrial anomaly detection: pretrain, fit, evaluate, monitor.",
)
bundle_app = typer.Typer(no_args_is_help=True, help="Look into, verify and sign bundles.")
app.add_typer(bundle_app, name="bundle")
app.add_typer(transfer_app)
app.add_typer(edge_app)

Work = Annotated[Path, typer.Option(help="Folder for intermediate results; safe to delete.")]
Data = Annotated[Path, typer.Option(help="Folder of pictures, or a table or folder of tables.")]
SpecPath = Annotated[Path, typer.Argument(help="The detector's spec (TOML).")]
BundlePath = Annotated[Path, typer.Argument(help="The bundle (.anomaly).")]


class Layout(StrEnum):
    mvtec = "mvtec"
    folder = "folder"
    table = "table"
    skab = "skab"
    nab = "nab"


def main() -> None:
    """Entry point: errors of ours are printed as one message, exit code 1; an interrupt exits 130."""
    try:
        app()
    except AnomalyError as error:
        err.print(f"error: {error}", style="bold red", markup=False)
        sys.exit(1)
    except KeyboardInterrupt:
        err.print("interrupted; run the same command again to go on from where it stopped")
        sys.exit(130)


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        out.print(f"anomaly-pipeline {__version__}")
        raise typer.Exit


def _steps(spec: Path, data: Path, work: Path, extractor: Path | None, progress: Callable[[str], None]) -> Steps:
    from anomaly.pipeline.kinds import open_line
    from anomaly.pipeline.steps import Steps
    from anomaly.spec import read_spec

    parsed = read_spec(spec)
    if extractor is not None and not extractor.is_file():
        raise typer.BadParameter(f"{extractor}: no such file", param_hint="--extractor")
    return Steps(open_line(parsed, data), work, extractor, progress)


@app.command()
def pretrain(
    spec: SpecPath,
    data: Data,
    out_: Annotated[Path, typer.Option("--out", help="Where the extractor goes (.safetensors).")],
    work: Work = Path(".anomaly"),
) -> None:
    """Adapt or train the feature extractor on normal data."""
    with progress_of("pretrain") as progress:
        steps = _steps(spec, data, work, None, progress)
        from anomaly.pipeline.steps import copy_file

        copy_file(steps.pretrain(), out_)
    from anomaly.features.tensors import load_tensors

    about = load_tensors(out_)[1]
    out.print(f"extractor: {out_}")
    for key, value in about.get("adaptation", {}).items():
        out.print(f"  adaptation, {key.replace('_', ' ')}: {value}", markup=False)


@app.command()
def fit(
    spec: SpecPath,
    data: Data,
    out_: Annotated[Path, typer.Option("--out", help="Where the bundle goes (.anomaly).")],
    extractor: Annotated[Path | None, typer.Option(help="An extractor from `anomaly pretrain`; made here when not given.")] = None,
    work: Work = Path(".anomaly"),
) -> None:
    """Fit a detector on normal data and export it as one bundle."""
    with progress_of("fit") as progress:
        steps = _steps(spec, data, work, extractor, progress)
        from anomaly.pipeline.steps import copy_file

        copy_file(steps.export(), out_)
    _print_fit(out_, steps)


def _print_fit(path: Path, steps: Steps) -> None:
    from anomaly.bundle.archive import read_bundle
    from anomaly.data.tables.units import unknown_units

    bundle = read_bundle(path)
    manifest = bundle.manifest
    fit_report = manifest.provenance["fit"]
    if not steps.trained:
        out.print("nothing has changed since the last fit: taken from the work folder")
    out.print(f"bundle: {path}  ({path.stat().st_size / 1e6:.1f} MB, hash {bundle.hash[:12]})")
    out.print(f"  normals: {fit_report['normals']}; worth {manifest.calibration['independent_scores']:g} independent scores")
    score = manifest.threshold.score
    out.print(f"  flagged at p <= {manifest.threshold.p_value:.3g}" + (f", score >= {score:.4g}" if score is not None else ""))
    if manifest.calibration["threshold_is_extrapolated"]:
        out.print("  note: the threshold rests on a fitted tail, not on counts; more normal data would put it on firm ground")
    out.print(f"  made-up faults on held-out normals: AUROC {fit_report['injected_auroc']:.3f}")
    adaptation = fit_report["extractor"].get("adaptation", {})
    if "kept" in adaptation:
        out.print(f"  adaptation to the normals {'kept' if adaptation['kept'] else 'not kept'}: {adaptation['why']}", markup=False)
    for unit, near in unknown_units(sensor.unit for sensor in manifest.input.sensors).items():
        meant = f"; did you mean {near!r}?" if near else ""
        out.print(f"  note: unit {unit!r} is not known to pint and is shown as written{meant}", markup=False)
    suspects = sorted(fit_report.get("suspects", {}).items(), key=lambda item: -item[1])
    if suspects:
        out.print(
            f"  {len(suspects)} among the normals stand out, for a person to look at (all: anomaly bundle inspect); the worst, by score:"
        )
    for where, value in suspects[:5]:
        out.print(f"    {where}: {value:.4g}", markup=False)
    for reason in list(fit_report.get("rejected", {}).values())[:10]:
        err.print(f"  set aside: {reason}", markup=False)
    for name, care in fit_report.get("care", {}).items():
        if set(care) - {"rows"}:
            out.print(f"  {name}: " + ", ".join(f"{v} {k.replace('_', ' ')}" for k, v in care.items()), markup=False)
    for table in getattr(steps.line, "tables", []) if steps.trained else []:
        for note in table.care.notes[:5]:
            err.print(f"  {note}", markup=False)


@app.command()
def evaluate(
    bundle: BundlePath,
    data: Data,
    json_: Annotated[Path | None, typer.Option("--json", help="Where the figures go.")] = None,
    layout: Annotated[Layout | None, typer.Option(help="How the data lies; found when not given.")] = None,
    report: Annotated[Path | None, typer.Option(help="Where a report goes (self-contained HTML).")] = None,
    provider: Provider = ProviderName.auto,
) -> None:
    """Figures of a detector on labelled data."""
    from anomaly.atomic import write_text
    from anomaly.pipeline.assess import evaluate_bundle, report_on

    opened, session = open_bundle(bundle, provider)
    evaluation = evaluate_bundle(opened, session, data, layout.value if layout else None)
    for reason in evaluation.rejected[:10]:
        err.print(f"set aside: {reason}", markup=False)
    if json_ is not None:
        write_text(json_, json.dumps(evaluation.figures, indent=1, sort_keys=True) + "\n")
    if report is not None:
        report_on(opened, evaluation, data, report)
        out.print(f"report: {report}")
    _print_figures(evaluation.figures)


def _print_figures(figures: dict[str, Any]) -> None:
    intervals = figures.get("ci95", {})
    for key, value in figures.items():
        if isinstance(value, (int, float)):
            between = f"   (95 %: {intervals[key][0]:.4g} to {intervals[key][1]:.4g})" if key in intervals else ""
            out.print(f"  {key:22} {value:.4g}{between}")
    for kind, found in figures.get("per_defect", {}).items():
        area = "–" if found["image_auroc"] is None else f"{found['image_auroc']:.4f}"
        out.print(f"  {kind:22} n {found['n']}, image_auroc {area}, found {found['found']:.0%}", markup=False)


@app.command()
def score(
    bundle: BundlePath,
    paths: Annotated[list[Path], typer.Argument(help="Pictures, tables or folders of them.")],
    json_: Annotated[Path | None, typer.Option("--json", help="Where the scores go as JSON.")] = None,
    csv_: Annotated[Path | None, typer.Option("--csv", help="Where the scores go as CSV.")] = None,
    provider: Provider = ProviderName.auto,
) -> None:
    """Score files; prints a line a record unless a file is named."""
    from anomaly.atomic import replacing, write_text
    from anomaly.pipeline.assess import score_paths

    opened, session = open_bundle(bundle, provider)
    frame, rejected = score_paths(opened, session, paths)
    for reason in rejected:
        err.print(f"set aside: {reason}", markup=False)
    if json_ is not None:
        write_text(json_, frame.to_json(orient="records", indent=1))
    if csv_ is not None:
        with replacing(csv_) as part:
            frame.to_csv(part, index=False)
    if json_ is None and csv_ is None:
        for row in frame.itertuples():
            out.print(f"{row.record}  score {row.score:.4g}  p {row.p_value:.3g}{'  FLAGGED' if row.flagged else ''}", markup=False)
    err.print(f"{len(frame)} records, {int(frame['flagged'].sum())} flagged, {len(rejected)} set aside")


@app.command()
def elpv(
    out_: Annotated[Path, typer.Option("--out", help="The folder to make.")],
    train: Annotated[int, typer.Option(help="Normal cells to learn from.")] = 400,
    seed: Annotated[int, typer.Option(help="Which ones.")] = 0,
) -> None:
    """Lay out the mono solar cells of the installed `elpv-dataset` package as a camera data set."""
    from benchmarks.protocols.elpv import write_elpv

    for folder, count in write_elpv(out_, "mono", train, seed).items():
        out.print(f"{out_ / folder}: {count} pictures")


@app.command()
def table(
    source: Annotated[str, typer.Argument(help="A CSV, Parquet, WAV, MATLAB or TSB-AD file; with --query a database URL or env:NAME.")],
    out_: Annotated[Path, typer.Option("--out", help="The table to write, .csv or .parquet; for TSB-AD a folder.")],
    query: Annotated[str, typer.Option(help="SQL whose rows become the table.")] = "",
    time: Annotated[str, typer.Option(help="The time column.")] = "time",
    long: Annotated[str, typer.Option(help="SENSOR,VALUE: one reading a row, in these two columns.")] = "",
    zone: Annotated[str, typer.Option(help="Times are local ones of this zone, such as Europe/Berlin.")] = "",
    counter: Annotated[list[str] | None, typer.Option(help="A column that counts up; it becomes growth a row. Repeatable.")] = None,
    period_s: Annotated[float | None, typer.Option(help="Mean over so many seconds a row.")] = None,
    rate: Annotated[float | None, typer.Option(help="Sampling rate in Hz (MATLAB).")] = None,
    frame_s: Annotated[float, typer.Option(help="Seconds of sound or vibration a row.")] = 0.5,
    variable: Annotated[list[str] | None, typer.Option(help="A MATLAB variable to take. Repeatable.")] = None,
) -> None:
    """Make the table that everything else reads of what a plant has: long exports, SQL, sound, vibration, local times, counters."""
    from anomaly.data.tables.conversion import Conversion, convert

    sensor, _, value = long.partition(",")
    pair = (sensor.strip(), value.strip()) if long else None
    how = Conversion(query, time, pair, zone, tuple(counter or ()), period_s, rate, frame_s, tuple(variable or ()))
    for path, rows in convert(source, out_, how).items():
        out.print(f"{path}: {rows} rows")


class Protocol(StrEnum):
    skab = "skab"
    nab = "nab"


@app.command()
def benchmark(
    protocol: Annotated[Protocol, typer.Argument(help="Whose protocol to follow.")],
    data: Annotated[Path, typer.Option(help="Your copy of the benchmark's data folder.")],
    json_: Annotated[Path, typer.Option("--json", help="Where the figures go.")],
    spec: Annotated[Path | None, typer.Option(help="A sensor spec; the defaults when not given.")] = None,
    records: Annotated[Path | None, typer.Option(help="Normal records of the machine's kind: [calibration] records.")] = None,
    extractor: Annotated[Path | None, typer.Option(help="An extractor from `anomaly pretrain`, for every series.")] = None,
    rate: Annotated[float | None, typer.Option(help="False-alarm rate: [budget] false_alarm_rate.")] = None,
) -> None:
    """Run a published protocol on your copy of its data: one spec for every series, no label seen."""
    from anomaly.atomic import write_text
    from anomaly.spec import Budget, SensorSpec, read_spec
    from benchmarks.protocols.sensors import PROTOCOLS

    parsed = read_spec(spec) if spec else SensorSpec(kind="sensor")
    if not isinstance(parsed, SensorSpec):
        raise typer.BadParameter(f"{spec}: a camera spec; these benchmarks are of sensors", param_hint="--spec")
    if records is not None:
        parsed = parsed.model_copy(update={"calibration": parsed.calibration.model_copy(update={"records": records})})
    if rate is not None:
        parsed = parsed.model_copy(update={"budget": Budget(false_alarm_rate=rate)})
    with progress_of(f"benchmark {protocol.value}") as progress:
        figures = PROTOCOLS[protocol.value](parsed, data, extractor, progress)
    used = parsed.model_dump(mode="json")
    used["calibration"]["records"] = records.name if records else None  # where it lies is this machine's affair
    write_text(json_, json.dumps(figures | {"spec": used}, indent=1, sort_keys=True) + "\n")
    for name, value in figures.items():
        if not name.startswith("by_"):
            out.print(f"{name}: {json.dumps(value)}", markup=False)


@bundle_app.command()
def inspect(bundle: BundlePath) -> None:
    """Print a bundle's manifest and hash."""
    from anomaly.bundle.archive import read_bundle

    opened = read_bundle(bundle)
    out.print_json(opened.manifest.model_dump_json())
    out.print(f"hash: {opened.hash}\nsigned: {'yes' if opened.signed else 'no'}")


@bundle_app.command()
def verify(
    bundle: BundlePath,
    key: Annotated[Path | None, typer.Option(help="PEM public key; then a valid signature is required.")] = None,
) -> None:
    """Check every member's hash, the signature if a key is given, and the self-test."""
    from anomaly.bundle.archive import read_bundle
    from anomaly.edge.runtime.self_test import self_test
    from anomaly.edge.runtime.session import open_session

    opened = read_bundle(bundle, key)
    tested = self_test(opened, open_session(opened, "cpu"))
    signature = "signature valid" if key else ("signed, no key given to check against" if opened.signed else "not signed")
    out.print(f"{bundle}: whole; {len(opened.members)} members; self-test passed on {tested} examples; {signature}")


@bundle_app.command()
def sign(bundle: BundlePath, key: Annotated[Path, typer.Option(help="PEM private key (Ed25519).")]) -> None:
    """Sign a bundle in place."""
    from anomaly.bundle.archive import sign_bundle

    sign_bundle(bundle, key)
    out.print(f"{bundle}: signed")


if __name__ == "__main__":
    main()
