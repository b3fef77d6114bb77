"""Serves the page in a thread beside the loop, on the address of health and metrics."""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from anomaly.alarms.health.address import Address
from anomaly.errors import SpecError
from anomaly.page.app import make_app, make_boxes_app
from anomaly.page.auth.connections import MOST_OF_ONE, connection_class, most_connections
from anomaly.page.auth.guard import Auth
from anomaly.page.auth.settings import AuthFile, read_auth
from anomaly.page.boxes import Boxes
from anomaly.page.site import Site

ENDS_S = 3.0  # viewers are let go after that
TURN_S = 0.0005  # the line's loop waits so long at most for what the page does in Python; 5 ms, as Python has it, is seen with many viewers
BACKLOG = 64  # so many are taken at once, before one of them is looked at


def auth_of(listen: Address, file: Path | None) -> Auth | None:
    """Who may look. None: nobody, since the address can be reached by others and no file says who they are. Raises SpecError."""
    if file is not None:
        watched = AuthFile(file)  # before it is read: what changes meanwhile is seen later
        return Auth(read_auth(file), file=watched)
    return Auth() if listen.own else None


@contextmanager
def serving_page(site: Site, address: Address, auth: Auth) -> Iterator[Address]:
    """Answer while the block runs. Yields the address, with the port that was got where 0 was asked for. Raises SpecError."""
    app = make_app(site, auth)
    with _serving(app, address) as got:
        try:
            yield got
        finally:
            app.state.feed.close()


@contextmanager
def serving_boxes(asked: Boxes, address: Address, auth: Auth) -> Iterator[Address]:
    """The same for many boxes, which are asked while the block runs."""
    with _serving(make_boxes_app(asked, auth), address) as got, asked.asking():
        yield got


@contextmanager
def _serving(app: FastAPI, address: Address) -> Iterator[Address]:
    bound = _bind(address)
    auth: Auth = app.state.auth
    config = uvicorn.Config(
        app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=int(ENDS_S), server_header=False,
        proxy_headers=False, backlog=BACKLOG, http=connection_class(most_connections(), MOST_OF_ONE, auth.shared), ws="none",
    )  # fmt: skip
    server = uvicorn.Server(config)
    sys.setswitchinterval(TURN_S)
    thread = threading.Thread(target=server.run, args=([bound],), name="page", daemon=True)
    thread.start()
    try:
        yield Address(address.host, bound.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join(2 * ENDS_S)
        bound.close()


def _bind(address: Address) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name != "nt":  # on Windows it would let two listen at once
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((address.host, address.port))
        bound.listen(BACKLOG)
    except OSError as error:
        bound.close()
        raise SpecError(
            f"--listen {address}: {error.strerror or error}; is another monitor running there? name another address or port"
        ) from error
    return bound
