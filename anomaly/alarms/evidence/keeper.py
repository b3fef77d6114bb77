"""Gathers the evidence of a line's alarms while its monitor runs. While no alarm is on it only remembers a row of readings now and then."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomaly.alarms.evidence.made import HISTORY_ROWS, Evidence, Recent, Role, Scale, make_evidence
from anomaly.data.records import Record
from anomaly.schema import InputSchema

HISTORY_S = 6 * 3600.0  # readings before an alarm
MOST_VALUES = 1_000_000  # of readings that are remembered
Found = tuple[Record[NDArray[Any]], float, NDArray[np.float32]]  # a record, its p-value, its map or contribution


class Keeper:
    """One line's. Nothing that goes wrong in it stops the line: it is told in the log."""

    def __init__(self, log: logging.LoggerAdapter[logging.Logger]) -> None:
        self._log = log
        self._history: deque[tuple[float, NDArray[np.float32]]] = deque()
        self._step_s, self._next = 0.0, -np.inf
        self._worst: Found | None = None
        self._asked: dict[tuple[str, Role], Found] = {}
        self.shares: NDArray[np.float64] | None = None  # of the newest score, by sensor

    def use(self, schema: InputSchema, scale: Scale | None = None) -> None:
        """Go on with the records of another bundle, whose sensors may be others. `scale`: of its heat-maps, None where it is not known."""
        self._schema, self._scale, self.shares = schema, scale, None
        rows = min(HISTORY_ROWS, max(1, MOST_VALUES // max(len(schema.sensors), 1)))
        self._step_s = max(HISTORY_S / rows, schema.period_s or 0.0) * 0.999
        self._history, self._next = deque(maxlen=rows if schema.sensors else 0), -np.inf

    def remember(self, records: Sequence[Record[NDArray[Any]]], contributions: Sequence[NDArray[np.float32]] | None = None) -> None:
        """Rows of readings, for the hours before an alarm that may come. At most one in ten seconds is kept.

        contributions: N of (C,), what each sensor adds to the scores of these records
        """
        if not self._history.maxlen:
            return
        if contributions is not None and len(contributions):
            newest = contributions[-1].astype(np.float64)
            self.shares = newest / max(float(newest.sum()), 1e-12)
        for record in records:
            if record.time >= self._next or record.time < self._next - 2 * self._step_s:
                self._history.append((record.time, record.payload[-1].copy()))
                self._next = record.time + self._step_s

    def recent(self) -> Recent | None:
        """What the sensors have read in the last hours, for those who watch: any thread may ask. None for pictures."""
        schema, kept = self._schema, list(self._history)  # one step for the interpreter: the loop may add to it meanwhile
        if not schema.sensors:
            return None
        values = np.array([row for _, row in kept], np.float64).reshape(len(kept), len(schema.sensors))
        values += np.array([sensor.offset for sensor in schema.sensors])
        names, units = [sensor.name for sensor in schema.sensors], [sensor.unit for sensor in schema.sensors]
        return np.array([time for time, _ in kept]), values, names, units, self.shares

    # --- what belongs to an alarm ---

    def opened(self, alarm: str, found: Found) -> None:
        """The record that opens an alarm."""
        self._asked[alarm, "opened"] = found

    def worse(self, found: Found) -> None:
        """The most unusual record so far, of an alarm or of the flagged records that may open one."""
        self._worst = found

    def belongs(self, alarm: str | None) -> None:
        """What is worst so far belongs to this alarm."""
        if alarm is not None and self._worst is not None:
            opening = self._asked.get((alarm, "opened"))
            if opening is None or opening[0].id != self._worst[0].id:
                self._asked[alarm, "worst"] = self._worst
            self._worst = None

    def forget(self) -> None:
        """No alarm is on, and no flagged record may open one."""
        self._worst = None

    def made(self) -> list[Evidence]:
        """Evidence to be stored with this turn."""
        if not self._asked:
            return []
        asked, self._asked = self._asked, {}
        found = []
        try:
            times = np.array([time for time, _ in self._history])
            rows = np.array([row for _, row in self._history], np.float32).reshape(len(times), len(self._schema.sensors))
            order = np.argsort(times, kind="stable")
            for (alarm, role), (record, p_value, detail) in asked.items():
                history = times[order], rows[order]
                one = make_evidence(alarm, role, record, p_value, detail, self._schema, history, self._scale)
                found += [one] if one is not None else []
        except Exception as error:  # the alarm itself is what counts
            self._log.warning("no picture or readings are kept of an alarm: %s", str(error)[:200])
        return found


def going_on(found: Iterable[Evidence], renamed: Mapping[str, str]) -> list[Evidence]:
    """Evidence by the ids of alarms as the book has them. What opened a trip of an alarm that was there before may be its worst record."""
    return [replace(each, alarm=renamed[each.alarm], role="worst") if each.alarm in renamed else each for each in found]
