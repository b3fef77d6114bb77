"""What the page does with a file that is no store of this version, and with one whose rows are damaged: it says so, and changes nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from itertools import product
from pathlib import Path

import pytest

from anomaly.alarms.deeds import hold
from anomaly.alarms.events import make_event
from anomaly.alarms.store import Store
from anomaly.page.app import API, make_app
from anomaly.page.auth.guard import Auth
from anomaly.page.site import Site
from tests.alarms.store.test_read_only import settle, write_foreign
from tests.alarms.store.version2 import write_old_store
from tests.page.conftest import NO_LIMITS, TOKENS, Open, settings

READ = ("/lines", "/line?name=press", "/alarms", "/alarms/a1", "/audit", "/delivery", "/weekly", "/labels.zip")
DO = {"/alarms/a1/acknowledge": {}, "/alarms/a1/comment": {"why": "x"}, "/delivery/replay": {}}


def write_old(path: Path) -> None:
    write_old_store(path)


def write_text(path: Path) -> None:
    path.write_text("when,flow\n" * 500)


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (write_old, "a store of an older version (schema 2); start its monitor once, or: anomaly alarms list --store it.db"),
        (write_foreign, "a database of another program; give the event store that the monitor or box writes"),
        (write_text, "cannot be read (file is not a database)"),
    ],
)
def test_what_is_no_store_of_this_version_is_told_and_stays_as_it_is(
    tmp_path: Path, open_page: Open, write: Callable[[Path], None], words: str
) -> None:
    path = tmp_path / "folder" / "it.db"
    path.parent.mkdir()
    write(path)
    before = path.read_bytes() if write is write_text else settle(path)[path.name]
    page = open_page(app=make_app(Site(path), Auth(settings()), NO_LIMITS))
    page.headers["Authorization"] = f"Bearer {TOKENS['admin']}"
    answers = [page.get(f"{API}{each}") for each in READ] + [page.post(f"{API}{each}", json=body) for each, body in DO.items()]
    for answer in answers:
        assert answer.status_code == 503, (answer.url, answer.text)
        assert "it.db: " in answer.json()["detail"]
        assert words in answer.json()["detail"], answer.url
    assert path.read_bytes() == before


def test_to_look_at_reports_opens_the_store_to_be_read_alone(site: Site, open_page: Open) -> None:
    page = open_page()
    with closing(sqlite3.connect(site.store)) as held:
        held.execute("BEGIN IMMEDIATE")  # whoever writes would have to wait for this one
        for each in ("/delivery", "/weekly", "/labels.zip"):
            assert page.get(f"{API}{each}").status_code == 200


JUNK = ("", "{}", "[1, 2]", '{"data": 7}', -1, 1e300, None, b"\xff\x00")
WRITTEN_BY_US = [
    ("alarms", ("class", "condition", "priority", "state", "opened", "closed", "acknowledged", "acknowledged_by", "data")),
    ("labels", ("time", "who", "verdict", "kind", "reason", "marks")),
    ("events", ("kind", "time", "body")),
    ("outbox", ("sink", "state", "attempts", "error")),
    ("held", ("condition", "kind", "since", "until", "who", "why")),
    ("audit", ("time", "who", "action", "why")),
    ("scores", ("record", "time", "score", "p_value")),
    ("meta", ("value",)),
]


@pytest.mark.parametrize(("table", "columns"), WRITTEN_BY_US, ids=[table for table, _ in WRITTEN_BY_US])
def test_rows_that_somebody_else_has_written_are_the_trouble_of_the_store(
    site: Site, open_page: Open, table: str, columns: tuple[str, ...]
) -> None:
    with closing(Store(site.store)) as store:
        store.label("a1", "real", "me")
        hold(store, "shelved", "press", ("process",), 600.0, "me", "", "")
        store.add_events([make_event("reminded", "press", "a1", 5.0, {"class": "process", "condition": "process"})], ["pager"])
        store.failed(store.waiting("pager", 1e12), "no", None)
    page = open_page(app=make_app(site, Auth(settings()), NO_LIMITS))
    page.headers["Authorization"] = f"Bearer {TOKENS['admin']}"
    before = {each: page.get(f"{API}{each}").status_code for each in READ}
    assert set(before.values()) == {200}
    whole = settle(site.store)[site.store.name]
    told = set()
    for column, junk in product(columns, JUNK):
        for each in site.store.parent.iterdir():
            each.unlink()
        site.store.write_bytes(whole)
        try:
            with closing(sqlite3.connect(site.store, isolation_level=None)) as db:
                db.execute(f"UPDATE {table} SET {column} = ?", (junk,))
        except sqlite3.IntegrityError:
            continue
        for path in READ:
            answer = page.get(f"{API}{path}")
            assert answer.status_code in (200, 404, 503), f"{column} = {junk!r}: {path}: {answer.text}"
            if answer.status_code == 503:
                told.add(path)
                assert "plant.db: " in answer.json()["detail"]
                assert "put a copy of the store in its place" in answer.json()["detail"]
    assert told or table in ("outbox", "scores", "labels")  # what holds no more than text and numbers
