"""Connections that are opened and left alone take nothing from the line, and do not keep others from the page."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http import HTTPStatus

import httpx
import pytest
import uvicorn

from anomaly.alarms.health.address import Address
from anomaly.page.app import make_app
from anomaly.page.auth.connections import connection_class
from anomaly.page.auth.guard import Auth
from anomaly.page.serve import serving_page
from anomaly.page.site import Site
from tests.page.conftest import NO_LIMITS, settings


@contextmanager
def serving(site: Site, most: int, of_one: int, shared: Callable[[str], bool], says_s: float) -> Iterator[tuple[str, int]]:
    bound = socket.create_server(("127.0.0.1", 0))
    kind = connection_class(most, of_one, shared, says_s)
    server = uvicorn.Server(uvicorn.Config(make_app(site, Auth(), NO_LIMITS), http=kind, lifespan="off", log_config=None))
    thread = threading.Thread(target=server.run, args=([bound],), daemon=True)
    thread.start()
    try:
        yield "127.0.0.1", bound.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(20)
        bound.close()


def opened(stack: ExitStack, place: tuple[str, int], says: bytes = b"") -> socket.socket:
    found = stack.enter_context(socket.create_connection(place, 20))
    if says:
        found.sendall(says)
    return found


def ended(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def status(place: tuple[str, int]) -> int:
    return httpx.get(f"http://{place[0]}:{place[1]}/api/v1/me", trust_env=False).status_code


HALF = (b"", b"GET / HTTP/1.1\r\nHost: ", b"POST /api/v1/session HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")


@pytest.mark.parametrize("says", HALF)
def test_who_says_nothing_or_half_a_request_is_let_go(site: Site, says: bytes) -> None:
    with serving(site, 100, 100, lambda _: False, 0.5) as place, ExitStack() as stack:
        begun = time.monotonic()
        assert all(ended(each) for each in [opened(stack, place, says) for _ in range(5)])
        assert time.monotonic() - begun >= 0.4
        assert status(place) == HTTPStatus.OK


def test_a_head_in_small_pieces_is_let_go_as_well(site: Site) -> None:
    with serving(site, 100, 100, lambda _: False, 1.0) as place, ExitStack() as stack:
        slow = opened(stack, place, b"GET / HTTP/1.1\r\n")
        slow.settimeout(0.1)
        end = time.monotonic() + 20
        try:
            while time.monotonic() < end:
                slow.sendall(b"X: 1\r\n")
                time.sleep(0.05)
        except (BrokenPipeError, ConnectionResetError):
            return
    raise AssertionError("it may say its pieces for ever")


def test_one_address_has_so_many_and_all_together_have_so_many(site: Site) -> None:
    for most, of_one, shared in ((100, 5, False), (5, 100, False), (5, 1, True)):
        with serving(site, most, of_one, lambda _, shared=shared: shared, 30.0) as place, ExitStack() as stack:  # type: ignore[misc]
            held = [opened(stack, place) for _ in range(5)]
            assert ended(opened(stack, place))
            held[0].close()
            end = time.monotonic() + 20
            while True:  # its place is free again
                try:
                    assert status(place) == HTTPStatus.OK
                    break
                except httpx.TransportError:
                    assert time.monotonic() < end


def test_a_viewer_of_live_news_is_not_let_go(site: Site) -> None:
    with serving(site, 100, 100, lambda _: False, 0.3) as place, ExitStack() as stack:
        live = stack.enter_context(httpx.stream("GET", f"http://{place[0]}:{place[1]}/api/v1/live", timeout=30, trust_env=False))
        begun = time.monotonic()
        for _ in live.iter_raw():
            if time.monotonic() - begun > 1.0:
                break
        assert time.monotonic() - begun > 1.0


def test_which_addresses_many_people_share() -> None:
    auth = Auth(settings(proxies=["10.1.0.0/16", "2001:db8::1"]))
    assert [auth.shared(each) for each in ("127.0.0.1", "::1", "10.1.2.3", "2001:db8::1", "10.2.0.1", "2001:db8::2", "")] == [True] * 4 + [
        False
    ] * 3


def test_silent_connections_do_not_take_the_page_from_others(site: Site) -> None:
    with serving_page(site, Address("127.0.0.1", 0), Auth()) as here, ExitStack() as stack:
        for _ in range(300):
            opened(stack, (here.host, here.port), b"GET / HTTP/1.1\r\nX-")
        assert status((here.host, here.port)) == HTTPStatus.OK
