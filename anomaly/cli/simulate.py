"""`anomaly alarms simulate`: what proposed alarm settings would have made of history, before they go live."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from anomaly.cli.terminal.console import out

_ROWS = {
    "alarms": "Alarms", "false_alarms": "False alarms", "false_alarms_per_week": "False alarms a week", "faults": "Faults",
    "faults_alarmed": "Faults alarmed", "median_delay_s": "Delay of an alarm, s (median)", "normal_days": "Normal days",
}  # fmt: skip


def simulate(
    bundle: Annotated[Path, typer.Argument(help="The bundle (.anomaly).")],
    data: Annotated[list[Path], typer.Option("--data", help="History: tables of normal running, or folders of them.")],
    faults: Annotated[list[Path] | None, typer.Option("--faults", help="Tables of faults; without labels all rows are faulty.")] = None,
    on_delay: Annotated[float | None, typer.Option(min=0, help="Seconds flagged before an alarm opens.")] = None,
    off_delay: Annotated[float | None, typer.Option(min=0, help="Seconds calm before it closes.")] = None,
    deadband: Annotated[float | None, typer.Option(min=1, help="Calm means p above the threshold times this.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="JSON instead of a table.")] = False,
) -> None:
    """Replay history through a bundle's alarm settings and through proposed ones: false alarms a week, delay, what is missed."""
    from anomaly.alarms.replay import promise
    from anomaly.bundle.archive import read_bundle
    from anomaly.edge.runtime.session import open_session
    from anomaly.edge.runtime.simulate import score_history
    from anomaly.edge.runtime.simulate import simulate as replayed

    opened = read_bundle(bundle)
    session = open_session(opened, "cpu")
    runs = score_history(opened, session, data) + (score_history(opened, session, faults, faults=True) if faults else [])
    asked = {"on_delay_s": on_delay, "off_delay_s": off_delay, "deadband": deadband}
    settings = opened.manifest.alarm.model_copy(update={key: value for key, value in asked.items() if value is not None})
    found = replayed(opened, runs, settings)
    per_day = opened.manifest.threshold.budget.get("false_alarms_per_day")
    for one in found.values():
        one["promise"] = promise(one, None if per_day is None else 7 * per_day)
    if json_:
        typer.echo(json.dumps(found, indent=1, sort_keys=True))
        return
    table = Table("", *(f"{name}: on {_told(one['settings']['on_delay_s'])} s, off {_told(one['settings']['off_delay_s'])} s"
                        for name, one in found.items()))  # fmt: skip
    for key, name in _ROWS.items():
        table.add_row(name, *(_told(one[key]) for one in found.values()))
    out.print(table)
    for name, one in found.items():
        out.print(f"{name}: {one['promise']}", markup=False)


def _told(value: Any) -> str:
    return "–" if value is None else f"{value:.4g}"
