"""All that one process shows: its lines, its store, its sinks. One question each for whoever asks: does it live, is it ready."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anomaly.alarms.health.line import LineHealth
from anomaly.alarms.health.stored import Stored, read_stored

STUCK_S = 120.0  # a line whose loop has not ended a turn for so long hangs: its source, its graph or its store does not answer
FREE_BYTES = 1 << 20  # with less room on the disk nothing can be stored
READ_EVERY_S = 2.0  # the store is read no oftener, however often someone asks


@dataclass(frozen=True, slots=True)
class SinkHealth:
    """How the delivery to one sink stands. `state`: `ok`, or a word for what is wrong (`failing`, `stopped`)."""

    sink: str
    state: str = "ok"
    last_success_age_s: float | None = None
    error: str = ""


@dataclass
class Board:
    """What a monitor or a box shows of itself.

    lines: by name, in order; a line that could not be opened yet is there too
    sinks: gives the state of each lane of delivery
    """

    store: Path
    lines: dict[str, LineHealth] = field(default_factory=dict)
    sinks: Callable[[], Sequence[SinkHealth]] = lambda: ()
    clock: Callable[[], float] = time.monotonic
    stuck_s: float = STUCK_S

    def __post_init__(self) -> None:
        self._read: tuple[float, Stored] | None = None

    def add(self, names: Iterable[str]) -> None:
        """Lines that are going to be opened."""
        self.lines = self.lines | {name: LineHealth(name, self.clock) for name in names}  # a new one: another thread may be reading

    def stored(self) -> Stored:
        """What the store says, a few seconds old at most."""
        now = self.clock()
        if self._read is None or not 0 <= now - self._read[0] < READ_EVERY_S:
            self._read = (now, read_stored(self.store))
        return self._read[1]

    def stuck(self) -> list[str]:
        """Lines whose loop hangs. A line that has not begun is not judged: its bundle may still be compiled for a GPU."""
        ages = {name: line.last_turn_age_s for name, line in self.lines.items()}
        return [name for name, age in ages.items() if age is not None and age > self.stuck_s]

    def missing(self) -> list[str]:
        """Why not all lines are ready, in words; [] when all are."""
        found = [f"line {name}: {what}" for name, line in self.lines.items() for what in line.missing()]
        found += [f"line {name}: no turn for {self.lines[name].last_turn_age_s:.0f} s" for name in self.stuck()]
        trouble = self.store_trouble()
        return [*found, *([f"store: {trouble}"] if trouble else []), *([] if self.lines else ["no line yet"])]

    def store_trouble(self) -> str:
        """Why the store cannot be written, as far as can be seen without writing; "" when it can."""
        folder = self.store.absolute().parent
        if not self.store.exists():
            return f"{self.store} is not there"
        if not (os.access(self.store, os.W_OK) and os.access(folder, os.W_OK)):
            return f"{self.store} may not be written"
        if shutil.disk_usage(folder).free < FREE_BYTES:
            return f"the disk of {self.store} is full"
        return ""

    def summary(self) -> dict[str, Any]:
        """How things stand, for people and heartbeats."""
        return {
            "stuck": self.stuck(),
            "missing": self.missing(),
            "lines": {
                name: {
                    "records": line.scored,
                    "flagged": line.flagged,
                    "rejected": line.rejected,
                    "last_record_age_s": round(line.last_record_age_s, 1),
                    "bundle": line.bundle,
                    "provider": line.provider,
                    "missing": line.missing(),
                }
                for name, line in self.lines.items()
            },
            "sinks": {sink.sink: sink.state + (f": {sink.error}" if sink.error else "") for sink in self.sinks()},
        }
