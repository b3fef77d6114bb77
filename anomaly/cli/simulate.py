"""`anomaly alarms simulate`: what proposed alarm settings would have made of history, before they go live."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from anomaly.cli.terminal.console import err, out
from anomaly.cli.terminal.progress import progress
from anomaly.schema import LONGEST_DELAY_S, LONGEST_S

_ROWS = {
    "alarms": "Alarms", "false_alarms": "False alarms", "false_alarms_per_week": "False alarms a week", "faults": "Faults",
    "faults_alarmed": "Faults alarmed", "median_delay_s": "Delay of an alarm, s (median)", "normal_days": "Normal days",
}  # fmt: skip
_OF_PARTS = {
    "good_parts": "Good parts", "good_parts_flagged": "Good parts flagged", "false_alarms": "False alarms",
    "false_alarms_per_day": "False alarms a day",
    "bad_parts": "Bad parts", "bad_parts_flagged": "Bad parts flagged", "bad_parts_alarmed_alone": "Bad parts that raise an alarm alone",
    "faults": "Kinds of bad parts, each in a row", "faults_alarmed": "Kinds alarmed", "median_delay_s": "Delay of an alarm, s (median)",
    "normal_days": "Days of good parts",
}  # fmt: skip
_SHARE_OF = {"good_parts_flagged": "good_parts", "bad_parts_flagged": "bad_parts", "bad_parts_alarmed_alone": "bad_parts"}


def simulate(
    bundle: Annotated[Path, typer.Argument(help="The bundle (.anomaly).")],
    data: Annotated[
        list[Path], typer.Option("--data", help="History: tables of normal running, pictures of good parts, or folders of them.")
    ],
    faults: Annotated[
        list[Path] | None, typer.Option("--faults", help="Tables of faults; without labels all rows are faulty. Or folders of bad parts.")
    ] = None,
    period_s: Annotated[
        float | None, typer.Option(min=1e-3, max=LONGEST_S, help="Pictures: seconds from one to the next, in order of name.")
    ] = None,
    on_delay: Annotated[float | None, typer.Option(min=0, max=LONGEST_DELAY_S, help="Seconds flagged before an alarm opens.")] = None,
    off_delay: Annotated[float | None, typer.Option(min=0, max=LONGEST_DELAY_S, help="Seconds calm before it closes.")] = None,
    off_records: Annotated[int | None, typer.Option(min=1, max=1_000_000, help="And for so many records in a row.")] = None,
    deadband: Annotated[float | None, typer.Option(min=1, max=1e9, help="Calm means p above the threshold times this.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="JSON instead of a table.")] = False,
) -> None:
    """Replay history through a bundle's alarm settings and through proposed ones: false alarms a week, delay, what is missed."""
    from anomaly.bundle.archive import read_bundle
    from anomaly.edge.runtime.session import open_session
    from anomaly.edge.runtime.simulate import read_history
    from anomaly.edge.runtime.simulate import simulate as replayed

    opened = read_bundle(bundle)
    session = open_session(opened, "cpu")
    with progress("simulate") as say:
        history = read_history(opened, session, data, faults or [], period_s, say)
    asked = {"on_delay_s": on_delay, "off_delay_s": off_delay, "off_records": off_records, "deadband": deadband}
    settings = opened.manifest.alarm.model_copy(update={key: value for key, value in asked.items() if value is not None})
    found = replayed(opened, history.runs, settings)
    for reason in history.set_aside[:10]:
        err.print(f"set aside: {reason}", markup=False)
    if len(history.set_aside) > 10:
        err.print(f"and {len(history.set_aside) - 10} more")
    if json_:
        told = {"clock": history.clock, "set_aside": list(history.set_aside)} if history.clock else {}
        typer.echo(json.dumps({**found, **told}, indent=1, sort_keys=True))
        return
    if history.clock:
        out.print(f"Clock: {history.clock}", markup=False)
    _print(found)


def _print(found: dict[str, dict[str, Any]]) -> None:
    if found["bundle"] == found["proposed"]:
        found = {"bundle": found["bundle"]}  # nothing else was proposed
    table = Table("", *(f"{name}:\n{_head(one['settings'])}" for name, one in found.items()))
    for key, name in (_OF_PARTS if "good_parts" in found["bundle"] else _ROWS).items():
        table.add_row(name, *(_told(one[key]) + _share(one, key) for one in found.values()))
    out.print(table)
    sentences = {name: one["promise"] for name, one in found.items()}
    for name, sentence in sentences.items() if len(set(sentences.values())) != 1 or len(found) == 1 else [("both", sentences["bundle"])]:
        out.print(f"{name}: {sentence}", markup=False)


def _head(settings: dict[str, Any]) -> str:
    records = f", {settings['off_records']} records" if settings["off_records"] > 1 else ""
    return f"on {_told(settings['on_delay_s'])} s\noff {_told(settings['off_delay_s'])} s{records}\ndeadband {_told(settings['deadband'])}"


def _share(one: dict[str, Any], key: str) -> str:
    whole = one.get(_SHARE_OF.get(key, ""))
    return f" ({one[key] / whole:.1%})" if whole else ""


def _told(value: Any) -> str:
    return "–" if value is None else str(value) if isinstance(value, int) else f"{value:.4g}"
