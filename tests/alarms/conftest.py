"""A store, events to put into it, and a real receiver for what is sent."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from anomaly.alarms.events import make_event
from anomaly.alarms.life import State
from anomaly.alarms.store import Batch, Scored, Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "s.db")
    yield opened
    opened.close()


def put(store: Store, count: int, sinks: list[str], alarms: int = 3) -> list[str]:
    events = [
        make_event("opened" if i // alarms % 2 == 0 else "closed", "l", f"alarm{i % alarms}", float(i), {"record": str(i)})
        for i in range(count)
    ]
    scored = [Scored(str(i), float(i), 1.0, 0.5) for i in range(count)]
    store.commit(Batch("l", "b", {"offset": count}, State(), None, scored, [], events, sinks))
    return [e.id for e in events]


class Receiver:
    """A real HTTP server that notes what it gets and answers as told."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.answers: list[int] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = receiver.answers.pop(0) if receiver.answers else 204
                if status < 400:
                    receiver.got.append((dict(self.headers), body))
                self.send_response(status)
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/alarms"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    started = Receiver()
    yield started
    started.server.shutdown()
    started.server.server_close()
