"""What the page does with a file that is no store of this version, and with one whose rows are damaged: it says so, and changes nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

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
