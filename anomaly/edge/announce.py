"""What a monitor says of its line: changes of the process alarm and of bundles as events, in words; files of bad records kept aside."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomaly.alarms.events import Event, EventKind, iso, make_event
from anomaly.alarms.evidence.keeper import Found
from anomaly.alarms.health.log import LineLog
from anomaly.alarms.process import Change
from anomaly.alarms.wording import beyond_alone
from anomaly.bundle.archive import Bundle
from anomaly.data.records import Rejected
from anomaly.edge.kinds import Records, kind_of
from anomaly.edge.release import name_of
from anomaly.names import record_name
from anomaly.schema import InputSchema

_KINDS: dict[str, EventKind] = {"opened": "opened", "joined": "reminded", "closed": "closed"}
MOST_NAMED = 5  # sensors in a reason; an event's `sensors` has them all


@dataclass(frozen=True)
class Judged:
    """Records of a batch with what the graph says of each: p-values and scores (n,), third output, one a record.

    limit: the score from which on a record is flagged, None where that is not known
    """

    records: Records
    p_values: NDArray[np.float32]
    scores: NDArray[np.float32]
    details: Sequence[NDArray[np.float32]]
    limit: float | None = None

    def found(self, number: int) -> Found:
        """One of them, for its evidence."""
        return self.records[number], float(self.p_values[number]), self.details[number]

    def said(self, number: int, schema: InputSchema) -> dict[str, Any]:
        """One of them, as an event tells it: when, which, how unusual, why, and its sensors' readings by name."""
        record, kind = self.records[number], kind_of(schema.name)
        said = {"time": iso(record.time), "record": record.id, "p_value": float(self.p_values[number]), "score": float(self.scores[number])}
        said |= self.explained(number, schema)
        if kind.last_rows is not None:
            pairs = self._readings(number, schema).items()
            said["values"] = {name: float(f"{value:.6g}") if math.isfinite(value) else None for name, value in pairs}
        return said

    def explained(self, number: int, schema: InputSchema) -> dict[str, Any]:
        """What stood out in one of them; of sensors each that is `beyond` the normals by itself says so."""
        found = kind_of(schema.name).explain(self.details[number], schema)
        if self.limit is not None and found.get("top"):
            outside = _outside(self._readings(number, schema), schema)
            found["top"] = beyond_alone(found["top"], float(self.scores[number]), self.limit, outside)
        return found

    def _readings(self, number: int, schema: InputSchema) -> dict[str, float]:
        """The last row as it was read: patterns are taken off where it is scored."""
        last_rows = kind_of(schema.name).last_rows
        assert last_rows is not None
        row = last_rows([self.records[number]])[0][0].astype(np.float64) + np.array([sensor.offset for sensor in schema.sensors])
        return {sensor.name: value for sensor, value in zip(schema.sensors, row.tolist(), strict=True)}


def _outside(readings: Mapping[str, float], schema: InputSchema) -> set[str]:
    """The sensors that read what none of their normals did."""
    ranges = {sensor.name: (sensor.normal_low, sensor.normal_high) for sensor in schema.sensors}
    return {
        name for name, (low, high) in ranges.items()
        if low is not None and high is not None and not low <= readings[name] <= high and math.isfinite(readings[name])
    }  # fmt: skip


class WorstRecord:
    """The most unusual record of the alarm that is on, or of the run of flagged records that may open one.

    `kept` is what is known of it as JSON, for the store, so that a restart goes on where it was.
    """

    def __init__(self, kept: str = "") -> None:
        self.known: dict[str, Any] = json.loads(kept or "{}")

    @property
    def kept(self) -> str:
        return json.dumps(self.known) if self.known else ""

    def clear(self) -> None:
        """No alarm is on, and no run."""
        self.known = {}

    def take(self, judged: Judged, first: int, stop: int, since: float | None, schema: InputSchema) -> int | None:
        """Take in records `first` to `stop` (exclusive) from the time `since` on; what is known from before that is forgotten.

        Returns which of them is more unusual than all before, None for none.
        """
        if since is not None and self.known and self.known["since"] < since:
            self.clear()
        rows = [i for i in range(first, stop) if since is None or judged.records[i].time >= since]
        if not rows:
            return None
        worst = rows[int(judged.p_values[rows].argmin())]
        if not self.known or float(judged.p_values[worst]) < self.known["p_value"]:
            begin = self.known.get("since", judged.records[rows[0]].time if since is None else since)
            self.known = judged.said(worst, schema) | {"since": begin}
            return worst
        return None

    def so_far(self, flagged: int) -> dict[str, Any]:
        """What the book keeps of an alarm that is on: how many records it has flagged, and its `worst` one without readings."""
        worst = {key: value for key, value in self.known.items() if key not in ("since", "values")}
        return {"flagged": flagged} | ({"worst": worst, "p_value": worst["p_value"], "score": worst["score"]} if worst else {})

    def ended(self, last: dict[str, Any], sensors: Sequence[str], schema: InputSchema) -> dict[str, Any]:
        """What an event of the end tells: the `worst` and the `last` record, with the readings of the alarm's sensors and their units."""
        found = {"worst": {key: value for key, value in self.known.items() if key != "since"}, "last": last}
        for said in found.values():
            if "values" in said:
                said["values"] = {name: said["values"].get(name) for name in sensors}
        units = {sensor.name: sensor.unit for sensor in schema.sensors if sensor.unit and sensor.name in sensors}
        return found | ({"units": units} if units else {})


def process_event(change: Change, line: str, alarm: str, judged: Judged, number: int, bundle: Bundle, worst: WorstRecord) -> Event:
    """The event of a change of the process alarm at a record of a batch. At its end it tells the `worst` record and the last one."""
    manifest, record = bundle.manifest, judged.records[number].id
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
        "least_p": manifest.least_p,
        "bundle": name_of(bundle),
        "bundle_hash": bundle.hash,
        "flagged": change.flagged,
    }
    if change.kind == "joined":
        data["joined"] = names
    elif names:
        data["sensors"] = names
    if change.kind == "closed":
        data |= {"lasted_s": change.time - change.began} | worst.ended(judged.said(number, manifest.input), names, manifest.input)
    else:
        data |= judged.explained(number, manifest.input)
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
