"""What the test for drift looks at while a line runs: scores, each sensor's part in them, and its readings, outside alarms."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomaly.alarms.drift import DriftMonitor, read_reference
from anomaly.alarms.events import Event
from anomaly.bundle.archive import Bundle
from anomaly.data.records import Record
from anomaly.data.tables.pattern.take_off import without_pattern
from anomaly.edge.kinds import kind_of
from anomaly.edge.runtime.batching import Answers

REFERENCE = "reference.parquet"


class DriftWatch:
    """Drift of one line under the bundle in use. A bundle without a reference is not watched."""

    def __init__(self, line: str, kept: str = "") -> None:
        """`kept`: what `self.kept` said at the last commit."""
        self._line, self._kept = line, kept
        self._monitor: DriftMonitor | None = None
        self._hash = ""

    @property
    def kept(self) -> str:
        """The state for the store."""
        return self._kept if self._monitor is None else self._monitor.kept

    @property
    def level(self) -> float | None:
        """Evidence of drift, 0 to 1 (found); None where there is no reference."""
        return None if self._monitor is None else self._monitor.level

    def use(self, bundle: Bundle) -> None:
        """Compare with this bundle's normals from now on."""
        if bundle.hash == self._hash:
            return
        manifest, kept = bundle.manifest, self.kept
        self._monitor, self._hash = None, bundle.hash
        self._sensors, self._last_rows = manifest.input.sensors, kind_of(manifest.input.name).last_rows
        if REFERENCE not in bundle.members:
            return
        try:
            reference = read_reference(bundle.members[REFERENCE], manifest.calibration)
            self._monitor = DriftMonitor(self._line, bundle.hash, reference, self._sensors, kept)
        except Exception as error:  # a reference of another make: the line runs without this
            logging.getLogger(__name__).warning(
                "%s: drift is not watched, the bundle's %s cannot be used: %s", self._line, REFERENCE, error
            )
            return
        self._names = reference.names

    def take(self, records: Sequence[Record[NDArray[Any]]], answers: Answers, counts: NDArray[np.bool_]) -> list[Event]:
        """Take in a batch of records; `counts` (n,) says which are neither flagged nor part of an alarm."""
        if self._monitor is None or not records or not counts.any():
            return []
        return self._monitor.take([record.time for record in records], answers.score, counts, self._followed(records, answers))

    def _followed(self, records: Sequence[Record[NDArray[Any]]], answers: Answers) -> NDArray[np.float64] | None:
        """What the reference follows beside the score (n, D), NaN where this line has no such sensor."""
        if not self._names or self._last_rows is None:
            return None
        columns = {f"share:{sensor.name}": column for sensor, column in zip(self._sensors, np.stack(answers.detail).T, strict=True)}
        readings = without_pattern(np.array([record.time for record in records]), self._last_rows(records)[0], self._sensors)
        columns |= {f"level:{sensor.name}": column for sensor, column in zip(self._sensors, readings.T, strict=True)}
        unknown = np.full(len(records), np.nan)
        return np.column_stack([columns.get(name, unknown) for name in self._names]).astype(np.float64)


def outside_alarms(
    times: Sequence[float], p_values: NDArray[np.float32], threshold: float, open_before: bool, events: Sequence[Event]
) -> NDArray[np.bool_]:
    """Records (n,) that are neither flagged nor part of a process alarm, by the `events` of their batch."""
    moments = np.asarray(times, np.float64)
    counts: NDArray[np.bool_] = p_values > threshold
    start = -np.inf if open_before else None
    for event in events:
        if event.data.get("class") != "process":
            continue
        if event.kind == "opened":
            start = event.time
        elif event.kind == "closed" and start is not None:
            counts &= (moments < start) | (moments > event.time)
            start = None
    return counts if start is None else counts & (moments < start)
