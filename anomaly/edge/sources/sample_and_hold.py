"""Readings that come one sensor at a time into rows: sample and hold."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from anomaly.schema import InputSchema, within_limits

BACK_READINGS = 10  # in a row, each older than a reading may be: the clock that stamps them was set back


class SampleAndHold:
    """Readings that come one sensor at a time, on change: the last of each is held, and a row is cut at every multiple of the period.

    A reading older than the schema's `max_gap_s` (ten periods when it has none), or than the sensor's own `hold_s` where that is longer,
    counts as missing. Where the clock of the readings was set back, cutting begins anew at their time (`set_back` counts that).
    """

    def __init__(self, schema: InputSchema) -> None:
        self._at = {sensor.name: index for index, sensor in enumerate(schema.sensors)}
        self._channels = schema.sensors
        self.period_s = schema.period_s or 1.0
        self._max_age_s = schema.max_gap_s or 10 * self.period_s
        self._ages_s = np.array([max(self._max_age_s, sensor.hold_s) for sensor in schema.sensors])
        self._values = np.full(len(schema.sensors), np.nan)
        self._since = np.full(len(schema.sensors), -np.inf)
        self._next: float | None = None
        self._behind = 0
        self.set_back = 0

    def known(self, sensor: str) -> bool:
        """Whether a sensor of this name is looked at."""
        return sensor in self._at

    def take(self, time: float, readings: Mapping[str, float]) -> list[tuple[float, NDArray[np.float32]]]:
        """Readings of one moment -> the rows (time, (C,)) that are complete by now: one for every period that has passed.

        After a silence longer than a reading may be old, no rows are made up for it: cutting starts again after this moment.
        """
        rows: list[tuple[float, NDArray[np.float32]]] = []
        self._follow_back(time)
        if self._next is None or time - self._next > self._max_age_s:
            self._next = (time // self.period_s + 1) * self.period_s
        while time >= self._next:
            fresh = self._next - self._since <= self._ages_s
            if fresh.any():
                rows.append((self._next, within_limits(np.where(fresh, self._values, np.nan), self._channels)))
            self._next = max(
                self._next + self.period_s, np.nextafter(self._next, np.inf)
            )  # a period may be less than a time can tell apart
        for sensor, value in readings.items():
            index = self._at.get(sensor)
            if index is not None:
                self._values[index], self._since[index] = value, max(time, self._since[index])
        return rows

    def _follow_back(self, time: float) -> None:
        """See whether the clock was set back. What is held then counts as if it had come now."""
        if self._next is None or time > self._next - self.period_s - self._max_age_s:
            self._behind = 0
            return
        self._behind += 1
        if self._behind >= BACK_READINGS:
            self._since = np.where(self._next - self._since <= self._ages_s, time, -np.inf)
            self._next, self._behind = None, 0
            self.set_back += 1
