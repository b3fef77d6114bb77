"""Many boxes in one list, asked over HTTP: those that answer are shown, whatever the others do."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from anomaly.alarms.health.address import Address
from anomaly.errors import SpecError
from anomaly.page.app import make_boxes_app
from anomaly.page.auth.guard import Auth
from anomaly.page.boxes import Box, Boxes, BoxesView, read_boxes
from anomaly.page.serve import serving_boxes, serving_page
from anomaly.page.site import Site
from tests.page.conftest import OWN, TOKENS, settings

FREE = Address("127.0.0.1", 0)


def until(boxes: Boxes, true: Callable[[BoxesView], bool], within_s: float = 20.0) -> BoxesView:
    end = time.monotonic() + within_s
    while not true(found := boxes.look()):
        assert time.monotonic() < end, found
        time.sleep(0.05)
    return found


def states(found: BoxesView) -> dict[str, str]:
    return {each.name: each.state for each in found.boxes}


@contextmanager
def answering(answer: Callable[[str], tuple[int, bytes]]) -> Iterator[str]:
    """A box that answers each path as it is told."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answer(self.path)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def test_a_box_that_is_dead_or_silent_never_hides_the_others(site: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, socket.create_server(("127.0.0.1", 0)) as gone:
        dead = f"http://127.0.0.1:{gone.getsockname()[1]}"
        gone.close()
        with serving_page(site, FREE, Auth()) as here:
            asked = Boxes([
                Box(name="silent", url=f"http://127.0.0.1:{silent.getsockname()[1]}"), Box(name="dead", url=dead),
                Box(name="north", url=f"http://{here}", page="https://north.example"),
            ])  # fmt: skip
            assert set(states(asked.look()).values()) == {"not asked yet"}
            with asked.asking():
                found = until(asked, lambda now: states(now) == {"silent": "away", "dead": "away", "north": "there"})
    assert [each.name for each in found.boxes] == ["dead", "silent", "north"]
    assert all(each.since is not None for each in found.boxes)
    assert "within 3 s" in found.boxes[1].why
    assert [(each.box, each.page, each.line.name, each.line.waiting) for each in found.lines] == [
        ("north", "https://north.example", "press", 1)
    ]
    assert [each.alarm.id for each in found.alarms] == ["a1"]


def test_a_box_that_goes_is_away_since_then_and_comes_back(site: Site) -> None:
    with serving_page(site, FREE, Auth()) as here:
        asked = Boxes([Box(name="north", url=f"http://{here}")])
        with asked.asking():
            until(asked, lambda now: states(now) == {"north": "there"})
    with asked.asking():
        away = until(asked, lambda now: states(now) == {"north": "away"})
        assert away.lines == []
        since = away.boxes[0].since
        with serving_page(site, here, Auth()):
            again = until(asked, lambda now: states(now) == {"north": "there"})
    assert again.boxes[0].since is not None
    assert since is not None
    assert again.boxes[0].since > since


def test_a_box_is_asked_with_the_token_of_the_environment(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NORTH", TOKENS["view"])
    monkeypatch.setenv("SOUTH", "wrong")
    with serving_page(site, FREE, Auth(settings())) as here:
        url = f"http://{here}"
        asked = Boxes(
            [Box(name="north", url=url, token_env="NORTH"), Box(name="south", url=url, token_env="SOUTH"), Box(name="none", url=url)]
        )
        with asked.asking():
            found = until(asked, lambda now: "not asked yet" not in states(now).values())
    assert states(found) == {"north": "there", "south": "away", "none": "away"}
    assert "token" in next(each.why for each in found.boxes if each.name == "south")
    assert TOKENS["view"] not in found.model_dump_json()


def test_what_a_box_says_is_taken_apart_with_care(site: Site) -> None:
    with serving_page(site, FREE, Auth()) as here:
        asked = Boxes([Box(name="real", url=f"http://{here}")])
        with asked.asking():
            line = until(asked, lambda now: bool(now.lines)).lines[0].line.model_dump(mode="json")
    answers: dict[str, Any] = {
        "newer": {"lines": [line | {"of a later version": 1}], "alarms": [], "more": 2},
        "older": {"lines": [{"name": "press"}], "alarms": []},
        "list": [1],
        "deep": json.loads("[" * 500 + "]" * 500),
        "text": "<html>",
    }
    bodies = {name: json.dumps(body).encode() for name, body in answers.items()} | {
        "rubbish": b"\xff\x00", "long": b"[" + b"1," * 3_000_000 + b"1]", "nesting": b"[" * 1_000_000,
    }  # fmt: skip
    with answering(lambda path: (200, bodies[path.split("/")[1]])) as url, answering(lambda path: (302, b"")) as elsewhere:
        asked = Boxes([*(Box(name=name, url=f"{url}/{name}") for name in bodies), Box(name="moved", url=elsewhere)])
        with asked.asking():
            found = until(asked, lambda now: "not asked yet" not in states(now).values())
    assert [name for name, state in states(found).items() if state == "there"] == ["newer"]
    assert all(each.why for each in found.boxes if each.state == "away")


def test_the_list_is_for_those_who_may_look(site: Site) -> None:
    page = TestClient(make_boxes_app(Boxes([Box(name="north", url="http://127.0.0.1:1")]), Auth(settings())), base_url=OWN)
    assert page.get("/api/v1/boxes").status_code == 401
    page.headers["Authorization"] = f"Bearer {TOKENS['view']}"
    assert page.get("/api/v1/boxes").json()["boxes"][0]["state"] == "not asked yet"
    assert page.get("/api/v1/me").json()["shows"] == "boxes"
    assert page.get("/api/v1/lines").status_code == 404
    with serving_boxes(Boxes([Box(name="north", url="http://127.0.0.1:1")]), FREE, Auth()) as here:
        assert here.port != 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "box"),
        ('[[box]]\nname = "a"\nurl = "ftp://b"', "box.0.url"),
        ('[[box]]\nname = "a"\nurl = "http://me:pw@b"', "box.0.url"),
        ('[[box]]\nname = "a"\nurl = "http://b"\ntoken = "t"', "token_env"),
        ('[[box]]\nname = "a"\nurl = "http://b"\n[[box]]\nname = "a"\nurl = "http://c"', "another name"),
        ('[[box]]\nname = "a"\nurl = "http://b"\ntoken_env = "NOT_SET_HERE"', "NOT_SET_HERE is not set"),
    ],
)
def test_mistakes_in_the_file_are_named(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "boxes.toml"
    file.write_text(text)
    with pytest.raises(SpecError, match=r"boxes\.toml") as error:
        read_boxes(file)
    assert words in str(error.value)
    assert ":pw@" not in str(error.value)
