"""What a monitor says of its line: changes of the process alarm and of bundles as events, in words; files of bad records kept aside."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomaly.alarms.events import Event, EventKind, iso, make_event
from anomaly.alarms.health.log import LineLog
from anomaly.alarms.process import Change
from anomaly.bundle.archive import Bundle
from anomaly.data.records import Rejected
from anomaly.edge.kinds import kind_of
from anomaly.edge.release import name_of
from anomaly.names import record_name

_KINDS: dict[str, EventKind] = {"opened": "opened", "joined": "reminded", "closed": "closed"}
MOST_NAMED = 5  # sensors in a reason; an event's `sensors` has them all


def process_event(change: Change, line: str, alarm: str, record: str, detail: NDArray[np.float32], bundle: Bundle) -> Event:
    """The event of a change of the process alarm at a record, of which `detail` is the graph's third output."""
    manifest = bundle.manifest
    names = [manifest.input.sensors[index].name for index in change.sensors]
    data: dict[str, Any] = {
        "class": "process",
        "condition": "process",
        "reason": reason(change, names),
        "record": record,
        "began": iso(change.began),
        "p_value": change.worst,
        "score": change.score,
        "threshold_p": manifest.threshold.p_value,
        "bundle": name_of(bundle),
        "bundle_hash": bundle.hash,
        "flagged": change.flagged,
    }
    if change.kind == "joined":
        data["joined"] = names
    elif names:
        data["sensors"] = names
    data |= (
        {"lasted_s": change.time - change.began}
        if change.kind == "closed"
        else kind_of(manifest.input.name).explain(detail, manifest.input)
    )
    return make_event(_KINDS[change.kind], line, alarm, change.time, data)


def reason(change: Change, names: Sequence[str]) -> str:
    """A change in words. `names`: its sensors, none for pictures."""
    listed = ", ".join(names[:MOST_NAMED]) + (f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else "")
    if change.kind == "closed":
        how = "came back by half of the peak and stays there" if change.why == "came back by half" else "calm again"
        return f"{listed}: {how}" if listed else how
    if change.kind == "joined":
        return f"{listed} too: unlike the normals since the alarm opened"
    if listed:
        return f"{listed}: unlike the normals since {iso(change.began)}"
    return "a record unlike the normals"


def bundle_event(kind: EventKind, line: str, bundle_hash: str, why: str, time: float) -> Event:
    """A bundle was swapped, refused or rolled back."""
    return make_event(kind, line, bundle_hash, time, {"bundle_hash": bundle_hash, "reason": why})


def keep_aside(rejected: Sequence[Rejected], folder: Path | None, log: LineLog) -> None:
    """Copy the files of records that could not be read into a folder, None for nowhere. One that cannot be copied is told."""
    for item in rejected:
        if folder is None or item.path is None:
            continue
        try:
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(item.path, folder / item.id.replace("/", "__"))
        except OSError as error:
            log.warning("%s: could not be kept aside (%s); its reason is in the store", record_name(item.path), error.strerror or error)
