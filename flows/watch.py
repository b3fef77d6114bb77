"""`python -m flows.watch URL …`: one look at the boxes of a plant; a verdict a line, and a Prefect event for each change.

As a deployment it is run every few minutes. Each run is short, and keeps what it knows in one file.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from prefect import flow, get_run_logger
from prefect.artifacts import create_table_artifact
from prefect.events import emit_event

from anomaly.operations.watch import Box, Change, Watched, remember, watch


@flow(name="watch", flow_run_name="watch", timeout_seconds=120)
def watch_flow(boxes: list[Box], state: Path = Path(".anomaly/watch.json")) -> Watched:
    """One look at each box: does it live, do its alarms keep the budget, is its data sound, has it drifted.

    What is newly wrong with a line, or well again, is one event `anomaly.watch.silent`, `.data`, `.budget`, `.drift` or `.ok`.
    """
    found = watch(boxes, state, time.time())
    for change in found.changes:
        _emit(change)
    remember(found, state)
    rows = [{"box": one.box, "line": one.line, "verdict": "ok" if one.ok else "look", "says": one.says} for one in found.verdicts]
    create_table_artifact(key="watch", table=sorted(rows, key=lambda row: row["verdict"]), description=found.says)
    get_run_logger().info(found.says)
    return found


def _emit(change: Change) -> None:
    """One event on the line, or on the box where none of its lines is known."""
    verdict = change.verdict
    resource = f"anomaly.line.{verdict.line}" if verdict.line else f"anomaly.box.{verdict.box}"
    emit_event(
        f"anomaly.watch.{change.what}",
        resource={"prefect.resource.id": resource, "prefect.resource.name": verdict.line or verdict.box, "anomaly.box": verdict.box},
        payload={"box": verdict.box, "line": verdict.line, "says": change.says},
    )
    get_run_logger().warning(f"{verdict.box} {verdict.line}: {change.says}")


def main() -> int:
    """The command. Returns 1 when a line needs a look."""
    parser = argparse.ArgumentParser(prog="python -m flows.watch", description=__doc__)
    parser.add_argument("boxes", nargs="+", help="addresses of boxes (http://…), or files of stores")
    parser.add_argument("--state", type=Path, default=Path(".anomaly/watch.json"))
    asked = parser.parse_args()
    found = watch_flow([Box(name=each, **{"url" if each.startswith("http") else "store": each}) for each in asked.boxes], asked.state)
    for one in found.verdicts:
        print(f"{one.box} {one.line}: {one.says}")
    print(found.says)
    return int(any(not one.ok for one in found.verdicts))


if __name__ == "__main__":
    raise SystemExit(main())
