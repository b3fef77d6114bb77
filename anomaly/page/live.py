"""What has changed, told to all viewers as it happens (server-sent events). One thread looks, however many watch.

The loop of a line does nothing for it: the thread looks at the board, and at numbers of the store that grow.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

from anomaly.errors import AnomalyError
from anomaly.page import queries
from anomaly.page.lines import look_at_lines
from anomaly.page.site import Site

LOOK_S = 0.25
LINES_S = 1.0  # at most so often all lines are told
BEAT_S = 5.0  # a word that the connection lives
MOST_WAITING = 50  # messages for one viewer; who reads more slowly is let go, and comes back by itself
MOST_VIEWERS = 500
ALARM_KINDS = frozenset(
    {"opened", "closed", "escalated", "reminded", "acknowledged", "shelved", "unshelved", "out_of_service", "in_service"}
)
log = logging.getLogger("anomaly")


def message(kind: str, data: Any) -> bytes:
    """One server-sent event. https://html.spec.whatwg.org/multipage/server-sent-events.html

    >>> message("hello", {"time": 1})
    b'event: hello\\ndata: {"time":1}\\n\\n'
    """
    return f"event: {kind}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode()


class Viewer:
    """One connection. Its queue belongs to the event loop that serves it."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.queue: asyncio.Queue[bytes | None] = asyncio.Queue(MOST_WAITING)
        self.slow = False

    def put(self, body: bytes | None) -> None:
        """On the event loop that serves it."""
        try:
            self.queue.put_nowait(body)
        except asyncio.QueueFull:
            self.slow = True


def _put_all(viewers: list[Viewer], body: bytes | None) -> None:
    for viewer in viewers:
        viewer.put(body)


class Feed:
    """Looks while anybody watches."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self._viewers: set[Viewer] = set()
        self._lock = threading.Lock()
        self._awake, self._stop = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    def close(self) -> None:
        """End the thread, and let all viewers go: else the end of the server would wait for them."""
        self._stop.set()
        self._awake.set()
        self._tell(None)

    async def watch(self) -> AsyncIterator[bytes]:
        """What one viewer is sent: first all lines, then what changes, until the viewer goes or reads too slowly."""
        viewer = Viewer()
        self._add(viewer)
        try:
            yield b"retry: 1000\n\n"
            lines = await asyncio.to_thread(self._lines)
            if lines:
                yield lines
            while not (viewer.slow or self._stop.is_set()):
                try:
                    body = await asyncio.wait_for(viewer.queue.get(), BEAT_S)
                except TimeoutError:
                    body = message("beat", {})
                if body is not None:
                    yield body
            if self._stop.is_set():  # told here, not in the queue: one who has just come may not have looked there yet
                yield b": the end\n\n"
        finally:
            with self._lock:
                self._viewers.discard(viewer)

    @property
    def full(self) -> bool:
        """Whether no further viewer is taken."""
        return len(self._viewers) >= MOST_VIEWERS

    def _add(self, viewer: Viewer) -> None:
        with self._lock:
            self._viewers.add(viewer)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="page feed", daemon=True)
                self._thread.start()
        self._awake.set()

    def _lines(self) -> bytes:
        with suppress(AnomalyError):
            return message("lines", look_at_lines(self.site).model_dump(mode="json"))
        return b""

    def _tell(self, body: bytes | None) -> None:
        """From any thread: each event loop is woken once, for all whom it serves."""
        with self._lock:
            viewers = list(self._viewers)
        for loop in {viewer.loop for viewer in viewers}:
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(_put_all, [viewer for viewer in viewers if viewer.loop is loop], body)

    def _run(self) -> None:
        seen: queries.Stamp | None = None
        shown, told = "", 0.0
        while not self._stop.is_set():
            with self._lock:
                watched = bool(self._viewers)
            if not watched:
                seen = None
                self._awake.clear()
                self._awake.wait(5.0)
                continue
            self._wait_for_turn()
            try:
                seen = self._look(seen)
                if time.monotonic() - told >= LINES_S:
                    lines, told = look_at_lines(self.site), time.monotonic()
                    state = lines.model_dump_json(exclude={"time": True, "lines": {"__all__": {"last_record_age_s"}}})
                    if state != shown:
                        self._tell(message("lines", lines.model_dump(mode="json")))
                    shown = state
            except AnomalyError as error:
                self._tell(message("trouble", {"why": str(error)[:300]}))
                self._stop.wait(2.0)
            except Exception:
                log.exception("the page's live view had an error that is ours to mend; it goes on")
                self._stop.wait(2.0)
            self._stop.wait(LOOK_S)

    def _wait_for_turn(self) -> None:
        """Until the line has ended a turn: what follows falls between two of them. Many lines leave no such time."""
        lines = list(self.site.board.lines.values()) if self.site.board is not None else []
        if len(lines) == 1:
            lines[0].turned.clear()
            lines[0].turned.wait(LOOK_S)

    def _look(self, seen: queries.Stamp | None) -> queries.Stamp:
        """Tell of events and deeds since the last look, all at once: each word to a hundred viewers takes time from the line's loop."""
        with queries.reading(self.site.store) as db:
            now = queries.stamp(db)
            if seen is None or now == seen:
                return now
            events = queries.events_after(db, seen.events) if now.events > seen.events else []
        told = []
        for body in events:
            kind = str(body["type"]).rpartition(".")[2]
            line = str(body["source"]).removeprefix("/anomaly/")
            data = body["data"]
            told.append(
                message("alarm" if kind in ALARM_KINDS else "event", {
                    "kind": kind, "line": line, "alarm": body["subject"], "time": body["time"], "priority": data.get("priority", ""),
                    "state": data.get("state", ""), "condition": data.get("condition", ""),
                })
            )  # fmt: skip
        if now.acted != seen.acted or now.events < seen.events:
            told.append(message("acted", {"number": now.acted}))
        if told:
            self._tell(b"".join(told))
        return now
