"""Heartbeats for a dead man's switch: a sink that asks for them hears of each line again and again, and their absence is the alarm.

A line is heard of only while its loop goes on and the store takes what it finds. Only the newest heartbeat waits for a sink: after an
outage nobody is told how things stood last week.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from anomaly.alarms.events import Event, make_event
from anomaly.alarms.health.board import Board
from anomaly.alarms.store import Store
from anomaly.errors import StoreError

LOOK_S = 0.5
RETRY_S = 5.0
log = logging.getLogger(__name__)


def heartbeat(board: Board, line: str, sink: str, every_s: float, now: float) -> Event:
    """A line's sign of life for a sink, with how it stands. The next one comes `every_s` seconds later."""
    shown = board.lines[line]
    outbox = board.stored().outbox
    data = {
        "next_within_s": every_s,
        "status": "trouble" if shown.missing() or board.store_trouble() else "ok",
        "missing": shown.missing(),
        "records": shown.scored,
        "flagged": shown.flagged,
        "rejected": shown.rejected,
        "last_record_age_s": round(shown.last_record_age_s, 1),
        "open_alarms": sum(count for (name, *_), count in board.stored().alarms.items() if name == line),
        "waiting": sum(count for (_, state), count in outbox.items() if state == "waiting"),
        "dead_letters": sum(count for (_, state), count in outbox.items() if state == "dead"),
        "bundle": shown.bundle,
        "bundle_hash": shown.bundle_hash,
        "provider": shown.provider,
    }
    return make_event("heartbeat", line, f"heartbeat/{sink}", now, data)


class Heartbeats:
    """Which line is to be heard of when. `every_s`: of each sink that asks."""

    def __init__(self, board: Board, every_s: Mapping[str, float], clock: Callable[[], float] = time.time) -> None:
        self.board, self.every_s, self.clock = board, every_s, clock
        self._told: dict[tuple[str, str], float] = {}

    def beat(self, store: Store) -> int:
        """Store what is due; returns how many were. Raises StoreError."""
        now, stuck = self.board.clock(), self.board.stuck()
        alive = [name for name, line in self.board.lines.items() if line.last_turn is not None and not line.store and name not in stuck]
        due = [
            (line, sink)
            for line in alive
            for sink, every_s in self.every_s.items()
            if now - self._told.get((line, sink), float("-inf")) >= every_s
        ]
        for line, sink in due:
            store.replace_event(heartbeat(self.board, line, sink, self.every_s[sink], self.clock()), sink)
            self._told[line, sink] = now
        return len(due)


@contextmanager
def beating(board: Board, store: Path, every_s: Mapping[str, float], wake: Callable[[], None]) -> Iterator[None]:
    """Heartbeats while the block runs, by a thread and a connection of its own. `wake`: there is something to deliver."""
    if not every_s:
        yield
        return
    over = threading.Event()
    thread = threading.Thread(target=_run, args=(Heartbeats(board, every_s), store, wake, over), name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(5.0)


def _run(heartbeats: Heartbeats, path: Path, wake: Callable[[], None], over: threading.Event) -> None:
    while not over.is_set():
        try:
            store = Store(path)
            try:
                while not over.wait(LOOK_S):
                    if heartbeats.beat(store):
                        wake()
            finally:
                store.close()
        except StoreError as error:  # without the store nothing is watched either: the silence is right
            log.warning("no heartbeat: %s", error)
            over.wait(RETRY_S)
