"""`anomaly table`: what a plant has, as the table that everything else reads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anomaly.cli.console import out

data_app = typer.Typer()


@data_app.command()
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
