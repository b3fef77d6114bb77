"""`/healthz`, `/readyz` and `/metrics` over HTTP, in threads beside the loop.

Nobody is asked who they are, so it is for this machine's own address, or for a network that is trusted.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer, ThreadingMixIn
from typing import Any

from anomaly.alarms.health.address import Address
from anomaly.alarms.health.board import Board
from anomaly.errors import SpecError

TIMEOUT_S = 10.0  # for one that connects and then says nothing
MOST_AT_A_TIME = 16
PATHS = ("/healthz", "/readyz", "/metrics")


@contextmanager
def serving(board: Board, address: Address) -> Iterator[Address]:
    """Answer while the block runs. Yields the address, with the port that was got where 0 was asked for.

    Raises SpecError when the address cannot be had.
    """
    from anomaly.alarms.health.metrics import Metrics

    try:
        server = _Server(address, board, Metrics(board))
    except OSError as error:
        raise SpecError(
            f"--listen {address}: {error.strerror or error}; is another monitor running there? name another address or port"
        ) from error
    thread = threading.Thread(target=server.serve_forever, args=(0.2,), name="health", daemon=True)
    thread.start()
    try:
        yield Address(address.host, server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5.0)


class _Server(ThreadingMixIn, TCPServer):
    """Not http.server's own: that looks up the name of this machine first, which takes seconds where a plant has no name server."""

    daemon_threads = True
    block_on_close = False  # one that reads slowly does not hold up the end
    allow_reuse_address = os.name != "nt"  # on Windows it would let two listen at once
    request_queue_size = MOST_AT_A_TIME

    def __init__(self, address: Address, board: Board, metrics: Any) -> None:
        self.board, self.metrics = board, metrics
        self.slots = threading.BoundedSemaphore(MOST_AT_A_TIME)
        if ":" in address.host:
            self.address_family = socket.AF_INET6
        super().__init__((address.host, address.port), _Answer)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Hand the request to a thread; too many at a time are let go at once."""
        if not self.slots.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away in the middle is no news."""


class _Answer(BaseHTTPRequestHandler):
    server: _Server
    timeout = TIMEOUT_S
    server_version = "anomaly"
    sys_version = ""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/metrics":
            body, kind = self.server.metrics.text()
            self._send(HTTPStatus.OK, body, kind)
        elif path in PATHS:
            board = self.server.board
            wrong = board.stuck() if path == "/healthz" else board.missing()
            status = HTTPStatus.SERVICE_UNAVAILABLE if wrong else HTTPStatus.OK
            body = json.dumps({"status": "unavailable" if wrong else "ok"} | board.summary(), indent=1).encode() + b"\n"
            self._send(status, body, "application/json")
        else:
            self._send(HTTPStatus.NOT_FOUND, f"there is {', '.join(PATHS)}\n".encode(), "text/plain; charset=utf-8")

    def do_HEAD(self) -> None:
        self.do_GET()

    def _send(self, status: HTTPStatus, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not logged: a scrape every few seconds would drown the rest."""
