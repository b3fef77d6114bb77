"""What one page shows: a store, and where a monitor or a box runs in this process, its board."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anomaly.alarms.health.board import Board
from anomaly.alarms.health.line import LineHealth
from anomaly.alarms.store import Store
from anomaly.alarms.store.connection import connect_to_read
from anomaly.errors import DataError
from anomaly.page.queries import damage_told


class NotThereError(DataError):
    """Nothing of that name: 404."""


@dataclass
class Site:
    """Handed to every route. `board` is None where nobody monitors: the store of a monitor that is stopped, or a copy of it."""

    store: Path
    board: Board | None = None
    clock: Callable[[], float] = time.time
    notes: dict[str, Any] = field(default_factory=dict)  # what is worth keeping for a second, by what it is of

    def health(self, line: str) -> LineHealth | None:
        """What the running line shows of itself."""
        return None if self.board is None else self.board.lines.get(line)

    @contextmanager
    def reading(self) -> Iterator[Store]:
        """The store as reports ask it; nothing of it is changed. Raises StoreError for what is no store."""
        with damage_told(self.store), closing(Store(self.store, self.clock, read_only=True)) as store:
            yield store

    @contextmanager
    def writing(self) -> Iterator[Store]:
        """The store to act on. Raises StoreError for what is no store: none is made, and no old one rewritten."""
        connect_to_read(self.store).close()
        with damage_told(self.store), closing(Store(self.store, self.clock)) as store:
            yield store

    def bundle(self, line: str) -> Any:
        """The bundle (`anomaly.bundle.archive.Bundle`) that a line runs now, None where no monitor serves it."""
        health = self.health(line)
        return None if health is None else health.detector

    def remembered(self, key: str, for_s: float, make: Callable[[], Any]) -> Any:
        """What `make` gives, at most so many seconds old: however many look, it is made once."""
        now = time.monotonic()
        kept = self.notes.get(key)
        if kept is None or now - kept[0] > for_s:
            kept = self.notes[key] = (now, make())
        return kept[1]
