"""What MQTT, Kafka and OPC UA share: whole rows as they come, or single readings that are held and cut into rows."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from anomaly.data.records import Rejected
from anomaly.data.tables.dialect.times import TIME_NAMES, parse_time
from anomaly.data.tables.hold import Holder
from anomaly.data.tables.order import LateRows, RowOrder
from anomaly.edge.sources.base import EARLIEST, LATEST
from anomaly.edge.sources.live.feed import Feed
from anomaly.edge.sources.sample_and_hold import SampleAndHold
from anomaly.edge.sources.window_buffer import WindowBuffer
from anomaly.errors import RecordError, in_words
from anomaly.schema import InputSchema, within_limits

QUEUE = 10_000  # windows


class RowFeed(Feed):
    """Rows of readings with their times. A row whose time is not after the row before is set aside."""

    def __init__(self, name: str, schema: InputSchema, clock: Callable[[], float] = time.time) -> None:
        self.schema = schema
        self._windows = WindowBuffer(schema)
        self.forget()
        super().__init__(name, QUEUE, clock)

    def forget(self) -> None:
        """Start again: the source may repeat rows that have come before."""
        self.held = SampleAndHold(self.schema)
        self._begin()

    def _begin(self) -> None:
        """The rows to come are not connected with those before."""
        self._windows.clear()
        self._holder = Holder(self.schema.sensors)
        self._order, self._late = RowOrder(self.schema.max_gap_s or np.inf), LateRows()

    def whole_row(self, moment: float, readings: Mapping[str, float]) -> None:
        """All sensors of one moment (those not named are missing)."""
        row = np.array([[readings.get(sensor.name, np.nan) for sensor in self.schema.sensors]], dtype=np.float64)
        self._row(moment, within_limits(row, self.schema.sensors))

    def reading(self, moment: float, readings: Mapping[str, float]) -> None:
        """Some sensors of one moment: held, and cut into rows every period."""
        if not _readable(moment):
            self.reject(self.clock(), _unreadable(moment))
            return
        before = self.held.set_back
        rows = self.held.take(moment, readings)
        if self.held.set_back != before:
            self._begin()
        for when, row in rows:
            self._row(when, row[None])

    def message(self, where: str, sensor: str, payload: bytes, now: float) -> None:
        """A message from a bus: a JSON object is a row (with its `time`, else `now`), a number is a reading of `sensor`."""
        try:
            value = json.loads(payload)
            if isinstance(value, dict):
                self.whole_row(*self._read_object(value, now))
            elif isinstance(value, int | float) and not isinstance(value, bool):
                self.reading(now, {sensor: float(value)})
            else:
                raise RecordError("neither a JSON object nor a number")
        except Exception as error:  # whatever a message holds (a number of 400 digits, say) must not end the client's thread
            self.reject(now, f"{where}: {in_words(error)}; the message: {payload[:200]!r}")

    def reject(self, moment: float, reason: str) -> None:
        """A message that cannot be read."""
        self.put(Rejected(f"{self.name}@{moment:.6f}", moment, f"{self.name}: {reason}"))

    def _row(self, moment: float, row: NDArray[np.float32]) -> None:
        if not _readable(moment):
            self.reject(self.clock(), _unreadable(moment))
            return
        last, times = self._order.last, np.array([moment])
        taken = self._order.take(times)
        self._late.take(times, taken)
        if taken.rewind is not None:
            withdrawn = self._windows.rewind(taken.rewind)
            self.reject(moment, f"the times of the last {withdrawn} rows, up to {last:.3f}, were far ahead of this one at {moment:.3f}")
        if not taken.kept[0]:
            self.reject(moment, f"a row of {moment:.3f} came after one of {last:.3f}; rows must come in order")
            if self._late.enough:
                self._begin()
            return
        row = self._holder.fill(times, row)
        for record in self._windows.extend([f"{self.name}@{moment:.6f}"], times, row):
            self.put(record)

    def _read_object(self, message: Mapping[str, object], now: float) -> tuple[float, dict[str, float]]:
        """(time, readings) of a JSON object. Raises RecordError naming the key of a time that cannot be read."""
        named = self.schema.dialect.time if self.schema.dialect else ()
        moment, readings = now, {}
        for key, value in message.items():
            if key in named or key.lower() in TIME_NAMES:
                moment = parse_time(str(value), f"key {key!r}", self.schema.dialect, self._order.last, self.schema.period_s)
            elif isinstance(value, int | float):  # a switch (true, false) is a reading as well
                readings[key] = float(value)
            # anything else is a text beside the readings, or null: that reading is missing
        return moment, readings


def _readable(moment: float) -> bool:
    return EARLIEST <= moment <= LATEST  # not so for NaN


def _unreadable(moment: float) -> str:
    return f"{moment:g} is no time: it must be seconds since 1970, within the years 1 to 9999"
