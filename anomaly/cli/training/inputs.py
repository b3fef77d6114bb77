"""What the training commands are given, read and checked before anything slow is imported.

PyTorch takes seconds to import, so it is imported only when the spec has been read and the paths are there.
"""

from __future__ import annotations

import shlex
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anomaly.cli.terminal.options import check_data, check_not_empty
from anomaly.errors import DataError, SpecError, UnclearError
from anomaly.progress import Progress, part, skipped

if TYPE_CHECKING:
    from anomaly.pipeline.steps import Steps
    from anomaly.spec import CameraSpec, SensorSpec

QUICKLY_READ = 50_000_000  # bytes of tables, which are read before PyTorch is loaded, to see whether they are clear
LOADING = 0.1  # share of a command that loading PyTorch takes, about
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
        init = shlex.join(["anomaly", "init", str(data)])
        raise DataError(f"{data}: this looks like {FITTING[found]}; the spec given is for a {kind}. `{init}` proposes one that fits")


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


def check_clear(spec: CameraSpec | SensorSpec, data: Path, file: Path) -> None:
    """Raise DataError where readings can be read in two ways and the spec, in `file`, does not say which; of large ones the fit says it."""
    if spec.kind != "sensor":
        return
    from anomaly.data.tables.dialect.find import find_dialect
    from anomaly.data.tables.files import find_tables, table_schema

    tables = find_tables(data)[0]
    if sum(path.stat().st_size for path in tables) > QUICKLY_READ:
        return
    try:
        find_dialect(tables, table_schema(spec.input).asked)
    except UnclearError as error:
        raise DataError(*error.args, f"the spec is {file}: a line in it that begins with # is taken for a comment") from error


def with_faults(spec: CameraSpec | SensorSpec, faults: Path | None) -> CameraSpec | SensorSpec:
    """The spec with these labelled faults as its [transfer] faults. Raises DataError for a path that is not there."""
    if faults is None:
        return spec
    if not faults.exists():
        raise DataError(f"{faults}: no such file or folder; --faults names labelled faults of this line")
    check_not_empty(faults)
    return spec.model_copy(update={"transfer": spec.transfer.model_copy(update={"faults": faults})})


def open_steps(
    spec: CameraSpec | SensorSpec,
    data: Path,
    work: Path,
    say: Progress,
    extractor: Path | None = None,
    quick: bool = False,
    report: bool = False,
) -> Steps:
    """The steps on the data to a bundle, with each one's share of the time, and the report's after them; imports what is slow."""
    say("loading PyTorch")
    from anomaly.pipeline.kinds import KINDS, open_line
    from anomaly.pipeline.steps import Steps

    skipped(part(say, 0.0, LOADING))  # how long it took to load says nothing about the rest
    say("looking for the data")
    line = open_line(spec, data)
    expected = partial(KINDS[spec.kind].steps_s, line)
    return Steps(line, work, extractor, part(say, LOADING, 1.0), expected=expected, report=report, quick=quick)


def copy(source: Path, target: Path) -> None:
    """Copy a step's result to where it was asked for, atomically."""
    from anomaly.atomic import copy_file

    copy_file(source, target)


def local_path(path: str) -> Path:
    """The path of a file or folder. Raises DataError for an address, with what to do first, and for a path where nothing is."""
    from anomaly.cli.training.addresses import first_step, is_address

    if is_address(path):
        raise DataError(*first_step(path))
    found = Path(path)
    if not found.exists():
        raise DataError(f"{path}: no such file or folder; give a folder of pictures, a table, or a folder of tables")
    return found
