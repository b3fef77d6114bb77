"""A store that is only read stays as it is, byte for byte: an older one, a file of another program, a copy in a locked folder."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from anomaly.alarms.events import make_event
from anomaly.alarms.store import Store
from anomaly.cli.alarms import alarms_app
from anomaly.errors import StoreError
from tests.alarms.store.version2 import write_old_store

NOBODY = 65534
UNIX = pytest.mark.skipif(not hasattr(os, "setresuid"), reason="rights of Unix")


def write_store(path: Path) -> None:
    with closing(Store(path)) as store:
        store.add_events([make_event("opened", "press", "a1", 5.0, {"class": "process", "condition": "process"})], [])


def settle(path: Path) -> dict[str, bytes]:
    """All of a store in its one file; what lies in the folder then."""
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return {each.name: each.read_bytes() for each in path.parent.iterdir()}


def write_foreign(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE meta (name TEXT, email TEXT)")
        db.execute("INSERT INTO meta VALUES ('a', 'b')")
        db.commit()


def test_a_file_of_another_program_is_refused_and_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "customers.db"
    write_foreign(path)
    before = path.read_bytes()
    for read_only in (False, True):
        with pytest.raises(StoreError, match=r"customers\.db: a database of another program; give the event store"):
            Store(path, read_only=read_only)
    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == {path.name: before}


def test_a_store_of_an_older_version_is_not_rewritten_by_who_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    write_old_store(path)
    before = settle(path)[path.name]
    with pytest.raises(StoreError, match=r"older version \(schema 2\); start its monitor once, or: anomaly alarms list --store old\.db"):
        Store(path, read_only=True)
    assert path.read_bytes() == before
    Store(path).close()
    with closing(Store(path, read_only=True)) as store:
        assert store.lines() == ["Press", "cam", "press"]


@pytest.mark.parametrize("schema", ["", "three", "-1", "9" * 5000])
def test_a_schema_that_is_no_number_is_told(tmp_path: Path, schema: str) -> None:
    path = tmp_path / "s.db"
    write_store(path)
    with closing(sqlite3.connect(path)) as db:
        db.execute("UPDATE meta SET value = ? WHERE key = 'schema'", (schema,))
        db.commit()
    for read_only in (False, True):
        with pytest.raises(StoreError, match=r"s\.db: its table meta is damaged"):
            Store(path, read_only=read_only)


def test_what_is_open_to_be_read_cannot_be_written(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    write_store(path)
    with closing(Store(path, read_only=True)) as store, pytest.raises(StoreError, match="not noted: the store is open to be read alone"):
        store.note("me", "commented", "press")


@pytest.fixture
def locked() -> Iterator[Path]:
    """A folder in which nobody may write once `as_a_guest` holds."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)
        Path(folder).chmod(0o755)


@contextmanager
def as_a_guest(folder: Path) -> Iterator[None]:
    """Who may read what is in the folder, and write nothing. Root, who may do all, is someone else meanwhile."""
    for each in folder.iterdir():
        each.chmod(0o444)
    folder.chmod(0o555)
    root = os.geteuid() == 0
    try:
        if root:
            os.setresuid(NOBODY, NOBODY, 0)
        yield
    finally:
        if root:
            os.setresuid(0, 0, 0)


def ask(*words: str) -> tuple[int, str]:
    found = CliRunner().invoke(alarms_app, words)
    return found.exit_code, f"{found.output} {found.exception}"


@UNIX
def test_a_copy_on_a_locked_folder_is_read_where_all_of_it_is_in_one_file(tmp_path: Path, locked: Path) -> None:
    path = locked / "s.db"
    write_store(path)
    before = settle(path)
    write_store(tmp_path / "s.db")
    writable = ask("list", "--store", str(tmp_path / "s.db"))  # what is loaded meanwhile needs not be readable for the guest
    with as_a_guest(locked):
        assert ask("list", "--store", str(path)) == writable
        code, words = ask("ack", "--all", "--store", str(path))
    assert writable[0] == 0
    assert "press" in writable[1]
    assert code != 0
    assert "open to be read alone, as nobody may write to the file or its folder" in words
    assert {each.name: each.read_bytes() for each in locked.iterdir()} == before


@UNIX
def test_a_copy_with_rows_in_its_log_says_what_to_do_on_a_locked_folder(tmp_path: Path, locked: Path) -> None:
    with closing(Store(tmp_path / "s.db")) as store:
        store.note("me", "commented", "press")
        for end in ("", "-wal"):
            (locked / f"s.db{end}").write_bytes((tmp_path / f"s.db{end}").read_bytes())
    assert (locked / "s.db-wal").stat().st_size
    with as_a_guest(locked), pytest.raises(StoreError, match=r"newest rows are in s\.db-wal .* copy both files to a folder of your own"):
        Store(locked / "s.db", read_only=True)
