"""What the loop's flows share: events that automations begin with, and names of runs that say line and step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from prefect.events import emit_event
from prefect.runtime import flow_run

from anomaly.names import one_line


def emit(what: str, line: str, says: str, more: dict[str, Any]) -> None:
    """One event `anomaly.release.WHAT` on a line, with a sentence."""
    resource = {"prefect.resource.id": f"anomaly.line.{line}", "prefect.resource.name": one_line(line)}
    emit_event(f"anomaly.release.{what}", resource=resource, payload={"line": line, "says": one_line(says), **more})


def challenged(release: Path, bundle: Path, why: str) -> None:
    """The event that a line has a new challenger."""
    emit("challenger", release.name, f"{bundle.name} is the challenger: {why}.", {"release": str(release)})


def named(step: str) -> Callable[[], str]:
    """The name of a flow's run: the line, by its release folder or its spec, and the step."""

    def name() -> str:
        given = flow_run.parameters or {}
        release, spec = given.get("release"), given.get("spec")
        line = Path(str(release)).name if release and Path(str(release)).name != "release" else Path(str(spec or release or "")).stem
        return one_line(f"{line}: {step}")

    return name
