"""Live rows: what MQTT and OPC UA share. Whole rows as they come, or readings one by one that are held and cut into rows."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from anomaly.bundle.manifest import InputSchema
from anomaly.data.records import Rejected
from anomaly.edge.feed import Feed
from anomaly.edge.rows import Held, Rolling, within_limits

QUEUE = 10_000  # windows


class RowFeed(Feed):
    """Rows of readings with their times; one that does not come after the one before is set aside."""

    def __init__(self, name: str, schema: InputSchema, clock: Callable[[], float] = time.time) -> None:
        self.schema = schema
        self._rolling = Rolling(schema)
        self._held = Held(schema)
        self._last = -np.inf
        super().__init__(name, QUEUE, clock)

    def whole_row(self, moment: float, readings: Mapping[str, float]) -> None:
        """All sensors of one moment (those not named are missing)."""
        row = np.array([[readings.get(sensor.name, np.nan) for sensor in self.schema.sensors]], dtype=np.float64)
        self._row(moment, within_limits(row, self.schema))

    def reading(self, moment: float, readings: Mapping[str, float]) -> None:
        """Some sensors of one moment: held, and cut into rows every period."""
        for when, row in self._held.take(moment, readings):
            self._row(when, row[None])

    def reject(self, moment: float, reason: str) -> None:
        """A message that cannot be read."""
        self.put(Rejected(f"{self.name}@{moment:.6f}", moment, f"{self.name}: {reason}"))

    def _row(self, moment: float, row: NDArray[np.float32]) -> None:
        if moment <= self._last:
            self.reject(moment, f"a row of {moment:.3f} came after one of {self._last:.3f}; rows must come in order")
            return
        self._last = moment
        for record in self._rolling.extend([f"{self.name}@{moment:.6f}"], np.array([moment]), row):
            self.put(record)
