"""`anomaly check`: a spec, and the data for it, looked over before anything is fitted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anomaly.cli.terminal.console import err, out
from anomaly.cli.terminal.options import AsJson, SpecPath
from anomaly.cli.training.inputs import check_fits, check_spec_is_a_file
from anomaly.errors import AnomalyError, DataError, SpecError
from anomaly.names import one_line

if TYPE_CHECKING:
    from anomaly.spec import CameraSpec, SensorSpec

check_app = typer.Typer()


@check_app.command()
def check(
    spec: SpecPath,
    data: Annotated[Path | None, typer.Option(help="Data to be read by it: folder of pictures, a table or folder of tables.")] = None,
    json_: AsJson = False,
) -> None:
    """Look a spec over before anything is fitted: all mistakes at once, and whether data can be read by it. Exit code 1 when not."""
    parsed, mistakes = _read(spec)
    sound = parsed is not None and not mistakes
    told: list[str] = []
    if data is not None:
        found, wrong = _look(data, parsed)
        told += found
        mistakes += wrong
    if sound:  # of the spec alone where the data is wrong: it is not said of both
        told.insert(0, f"{spec}: {'no mistake in the spec itself' if mistakes else 'sound'}; {_in_words(parsed)}")
    if json_:
        out.print_json(json.dumps({"spec": str(spec), "sound": not mistakes, "mistakes": mistakes, "found": told}))
    else:
        for line in told:
            out.print(one_line(line))
        for line in mistakes:
            err.print(f"error: {line}", style="bold red", always=True)
    if mistakes:
        raise typer.Exit(1)


def _read(path: Path) -> tuple[CameraSpec | SensorSpec | None, list[str]]:
    """The spec, None where it cannot be read, and every mistake in it."""
    from anomaly.spec import check_paths, read_spec

    try:
        check_spec_is_a_file(path)
        parsed = read_spec(path)
    except SpecError as error:
        return None, str(error).splitlines()
    try:
        check_paths(path, parsed)
    except SpecError as error:
        return parsed, str(error).splitlines()
    return parsed, []


def _look(data: Path, spec: CameraSpec | SensorSpec | None) -> tuple[list[str], list[str]]:
    """What is found in the data, and what is wrong with it. Without a spec only whether there is any."""
    try:
        check_fits(data, spec.kind if spec is not None else "")
        return ([] if spec is None else _page(data, spec)), []
    except AnomalyError as error:
        return [], str(error).splitlines()


def _page(data: Path, spec: CameraSpec | SensorSpec) -> list[str]:
    """What a fit by this spec would find. Raises DataError where it would be refused."""
    from anomaly.spec import SensorSpec

    if isinstance(spec, SensorSpec):
        from anomaly.cli.training.init import page
        from anomaly.pipeline.propose import look

        return page(look(data, asked=spec.input, pattern=True))
    from anomaly.data.pictures.layouts import find_pictures
    from anomaly.data.pictures.survey import check_enough, survey_pictures

    found = find_pictures(data)
    if not found.train:
        raise DataError(f"{data}: no picture of a good part in it")
    survey = survey_pictures(found.train, spec.input.color, spec.input.bits)
    check_enough(survey, data)
    return [*survey.notes, *found.notes, *list(survey.rejected.values())[:10]]


def _in_words(spec: CameraSpec | SensorSpec | None) -> str:
    from anomaly.pipeline.propose import budget_words

    return "" if spec is None else f"{spec.name}, a {spec.kind} detector; {budget_words(spec.budget, spec.kind)}"
