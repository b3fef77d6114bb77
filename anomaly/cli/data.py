"""`anomaly table`: what a plant has, as the table that everything else reads."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from anomaly.cli.terminal.console import out
from anomaly.cli.terminal.options import AsJson, check_not_empty, positive, writable_file
from anomaly.cli.terminal.progress import progress
from anomaly.cli.training.inputs import local_path
from anomaly.names import one_line

data_app = typer.Typer()


@data_app.command()
def inspect(
    path: Annotated[str, typer.Argument(metavar="PATH", help="A table, a folder of tables, or a folder of pictures.")],
    spec: Annotated[Path | None, typer.Option(help="A sensor spec, for what its input section says of the tables.")] = None,
    json_: AsJson = False,
) -> None:
    """Read data as `fit` would, and tell in a page what was found: how it is written, gaps, and each sensor's readings."""
    from anomaly.data.files import looks_like

    data = local_path(path)
    if looks_like(data) == "pictures":
        from anomaly.data.pictures.survey import describe_pictures

        _tell("pictures", [*describe_pictures(data), f"next: {shlex.join(['anomaly', 'fit', str(data)])}"], json_)
        return
    from anomaly.data.tables.files import find_tables, read_normals, table_schema
    from anomaly.data.tables.profile import describe_tables
    from anomaly.spec import SensorInput, SensorSpec, read_spec

    asked = read_spec(spec) if spec is not None else None
    wanted = asked.input if isinstance(asked, SensorSpec) else SensorInput()
    train, test = find_tables(data)
    tables = read_normals(train, table_schema(wanted), wanted.train_rows, pattern=wanted.pattern == "auto")
    beside = [f"{len(train)} to learn from, {len(test)} to test on: {', '.join(path.name for path in test)}"] if test else []
    labels = [
        f"label {name!r} in {table.path.name}: {int((label > 0).sum())} of {len(label)} rows"
        for table in tables
        for name, label in table.labels.items()
    ]
    notes = [note for table in tables for note in table.report.notes]
    first = tables[0]
    _tell(
        "readings",
        [*beside, *describe_tables(tables), *notes, *labels],
        json_,
        rows=sum(len(table.times) for table in tables),
        period_s=first.period_s,
        time=list(first.dialect.time),
        time_format=list(first.dialect.time_format),
        sensors=[{"name": channel.name, "unit": channel.unit} for channel in first.channels],
    )


def _tell(kind: str, lines: Sequence[str], as_json: bool, **found: Any) -> None:
    """The page, or the same as JSON."""
    if as_json:
        out.print_json(json.dumps({"kind": kind, **found, "lines": lines}))
        return
    for line in lines:
        out.print(one_line(line))


def writable_table(path: Path) -> Path:
    """The path of the table, or a folder where the source becomes several tables."""
    return path if path.is_dir() else writable_file(path) or path


def two_columns(text: str) -> str:
    """SENSOR,VALUE, or nothing. Raises BadParameter for anything else."""
    names = [part.strip() for part in text.split(",")]
    if text and (len(names) != 2 or not all(names)):
        raise typer.BadParameter(f"{text!r}: name two columns with a comma, the one with the sensor's name and the one with its reading")
    return text


def known_zone(name: str) -> str:
    """The name of a time zone, or nothing. Raises BadParameter for one that is not known."""
    from zoneinfo import ZoneInfo

    try:
        return name and ZoneInfo(name).key
    except (ValueError, OSError, KeyError) as error:
        raise typer.BadParameter(f"{name!r} is no time zone that is known here; write it as Europe/Berlin") from error


@data_app.command()
def table(
    source: Annotated[str, typer.Argument(help="A CSV, Parquet, WAV, MATLAB or TSB-AD file; with --query a database URL or env:NAME.")],
    out_: Annotated[Path, typer.Option("--out", callback=writable_table, help="The table, .csv or .parquet; for TSB-AD a folder.")],
    query: Annotated[str, typer.Option(help="SQL whose rows become the table.")] = "",
    time: Annotated[str, typer.Option(help="The time column; found when not given.")] = "",
    long: Annotated[str, typer.Option(callback=two_columns, help="SENSOR,VALUE: one reading a row, in these two columns.")] = "",
    zone: Annotated[str, typer.Option(callback=known_zone, help="Times are local ones of this zone, such as Europe/Berlin.")] = "",
    counter: Annotated[list[str] | None, typer.Option(help="A column that counts up; it becomes growth a row. Repeatable.")] = None,
    period_s: Annotated[float | None, typer.Option(callback=positive, help="Mean over so many seconds a row.")] = None,
    rate: Annotated[float | None, typer.Option(callback=positive, help="Sampling rate in Hz (MATLAB).")] = None,
    frame_s: Annotated[float, typer.Option(callback=positive, help="Seconds of sound or vibration a row.")] = 0.5,
    variable: Annotated[list[str] | None, typer.Option(help="A MATLAB variable to take. Repeatable.")] = None,
) -> None:
    """Make the table that everything else reads of what a plant has: long exports, SQL, sound, vibration, local times, counters."""
    if not query:
        check_not_empty(Path(source))
    with progress("table") as say:
        say("query of the database" if query else f"reading {Path(source).name}")
        from anomaly.data.tables.conversion import Conversion, convert

        sensor, _, value = long.partition(",")
        pair = (sensor.strip(), value.strip()) if long else None
        how = Conversion(query, time, pair, zone, tuple(counter or ()), period_s, rate, frame_s, tuple(variable or ()))
        written = convert(source, out_, how)
    for path, rows in written.items():
        out.print(f"{path}: {rows} rows")
