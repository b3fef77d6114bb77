"""`anomaly pretrain`, `anomaly fit`: from normal data to an extractor, and to a bundle."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from anomaly.cli.terminal.console import err, out
from anomaly.cli.terminal.options import Data, SpecPath, Work, writable_file
from anomaly.cli.terminal.progress import progress
from anomaly.cli.training.fitted import NOT_ASKED, leave_report, print_adaptation, print_fit
from anomaly.cli.training.front import Given, from_data, from_spec
from anomaly.cli.training.init import Budget, Force
from anomaly.cli.training.inputs import Faults, check_clear, copy, local_path, open_steps, read_inputs, with_faults
from anomaly.errors import DataError

fit_app = typer.Typer()


@fit_app.command()
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
        steps.full_pretraining, steps.expected = True, lambda _: {"pretrain": 1.0}
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


@fit_app.command()
def fit(
    path: Annotated[
        str, typer.Argument(metavar="PATH", help="A folder of pictures, a table or a folder of tables; or a spec (TOML), with --data.")
    ],
    data: Annotated[Path | None, typer.Option(help="With a spec: folder of pictures, or a table or folder of tables.")] = None,
    out_: Annotated[
        Path | None, typer.Option("--out", callback=writable_file, help="Where the bundle goes; NAME.anomaly here when not given.")
    ] = None,
    budget: Budget = None,
    extractor: Annotated[Path | None, typer.Option(help="An extractor from `anomaly pretrain`; made here when not given.")] = None,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick",
            help="Small sizes of input, where no spec is given; no fp16 and int8 variants: `anomaly bundle variants` adds them.",
        ),
    ] = False,
    faults: Faults = None,
    work: Work = Path(".anomaly"),
    report: Annotated[
        Path | None, typer.Option(callback=writable_file, help="Where the report goes (HTML); beside the bundle when not given.")
    ] = None,
    no_report: Annotated[bool, typer.Option("--no-report", help="Leave the report out.")] = False,
    force: Force = False,
) -> None:
    """Fit a detector on normal data and export it as one bundle. Without a spec one is proposed, told and written beside the bundle."""
    given = _given(path, data, out_, budget, force, quick)
    parsed = with_faults(given.spec, faults)
    if extractor is not None and not extractor.is_file():
        raise typer.BadParameter(f"{extractor}: no such file", param_hint="--extractor")
    if extractor is not None and faults is not None:
        raise typer.BadParameter("what is learnt of faults goes into the extractor; leave --extractor out", param_hint="--faults")
    if not given.new:  # what was proposed now has been read so already
        check_clear(parsed, given.data, given.left or Path(path))
    with _not_left(given, path), progress("fit", goes_on=True) as say:
        steps = open_steps(parsed, given.data, work, say, extractor, quick, report=not no_report)
        copy(steps.export(), given.out)
        say("reading the bundle back")
        from anomaly.bundle.archive import read_bundle
        from anomaly.data.tables.units import unknown_units

        bundle = read_bundle(given.out)
        unknown = unknown_units(sensor.unit for sensor in bundle.manifest.input.sensors)
        left = None if no_report else leave_report(steps, bundle, report)
    print_fit(bundle, steps, given.data, unknown)
    if left is not None:
        out.print(f"report: {left}   (open it in a browser)")
    if given.left is not None:
        out.print(f"spec: {given.left}")
        following = shlex.join(["anomaly", "monitor", str(given.out), "--source", "SOURCE", "--once"])
        out.print(f"next: {following}   (a folder or file with new records, or an address)")


@contextmanager
def _not_left(given: Given, path: str) -> Iterator[None]:
    """A spec that this run has written goes again where nothing can be learnt from the data."""
    try:
        yield
    except DataError:
        if given.new and given.left is not None:
            given.left.unlink(missing_ok=True)
            err.print(f"nothing was fitted, so {given.left} is not kept; {shlex.join(['anomaly', 'init', path])} writes it again")
        raise


def _given(path: str, data: Path | None, out_: Path | None, budget: str | None, force: bool, quick: bool) -> Given:
    """The spec, the data and where the bundle goes. Nothing is proposed where a spec, or data beside it, is named."""
    spec = Path(path)
    if out_ is not None and out_.suffix.lower() in (".html", ".htm"):
        raise typer.BadParameter(f"{out_}: a bundle ends in .anomaly; where the report goes is told by --report", param_hint="--out")
    if data is not None:
        return from_spec(spec, data, out_, budget, force)
    if spec.suffix.lower() == ".toml":
        raise typer.BadParameter(f"{path} is a spec: name the data to learn from too", param_hint="--data")
    return from_data(local_path(path), out_, budget, force, quick)
