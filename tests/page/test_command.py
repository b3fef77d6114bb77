"""`anomaly page`: a token signs in by the lines that are printed with it, and the page of a store runs by itself until it is stopped."""

from __future__ import annotations

import re
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.main import get_command
from typer.testing import CliRunner

from anomaly.alarms.store import Store
from anomaly.cli.main import app
from anomaly.cli.page import EXAMPLES
from anomaly.page.auth.guard import Auth
from anomaly.page.auth.settings import read_auth


def told(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})


@pytest.mark.parametrize("name", ["A. Meier", 'the "wall" \\ hall 3', "田中"])
def test_a_token_signs_in_by_the_lines_that_are_printed_with_it(tmp_path: Path, name: str) -> None:
    result = told("page", "token", "--name", name, "--role", "operate")
    file = tmp_path / "page.toml"
    file.write_text(result.stdout, encoding="utf-8")
    token = re.search(r"^ {4}(\S{43})$", result.stderr, re.MULTILINE)
    assert token is not None
    assert token[1] not in result.stdout
    person = Auth(read_auth(file)).token(token[1])
    assert person is not None
    assert (person.name, person.role) == (name, "operate")


def test_what_is_missing_or_wrong_is_told(tmp_path: Path) -> None:
    assert "--store, the event store" in told("page").output
    assert told("page", "token", "--name", "a\nb", "--role", "view").exit_code == 2
    Store(tmp_path / "s.db").close()
    with closing(sqlite3.connect(tmp_path / "foreign.db")) as foreign:
        foreign.execute("CREATE TABLE parts (name TEXT)")
    for arguments, words in (
        (("--store", str(tmp_path / "no.db")), "no such store"),
        (
            ("--store", str(tmp_path / "foreign.db"), "--listen", "127.0.0.1:0"),
            "foreign.db: a database of another program; give the event store",
        ),
        (("--store", str(tmp_path / "s.db"), "--listen", "0.0.0.0:0"), "--page-auth"),
    ):
        assert words in str(told("page", *arguments).exception)
    assert not (tmp_path / "no.db").exists()


def test_examples_parse(tmp_path: Path) -> None:
    group: Any = get_command(app).commands["page"]  # type: ignore[attr-defined]
    for example in EXAMPLES:
        group.make_context("page", example.split()[2:])


def page_of_a_store(folder: Path) -> subprocess.Popen[str]:
    """`anomaly page` of an empty store, on a port that it chooses."""
    Store(folder / "s.db").close()
    command = [sys.executable, "-m", "anomaly.cli", "page", "--store", str(folder / "s.db"), "--listen", "127.0.0.1:0"]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def address_of(running: subprocess.Popen[str]) -> str:
    """Where it says that it answers, as soon as it does."""
    assert running.stderr is not None
    found = re.search(r"http://\S+", running.stderr.readline())
    assert found is not None
    return found[0]


def test_the_page_of_a_store_runs_until_it_is_stopped(tmp_path: Path) -> None:
    with page_of_a_store(tmp_path) as running:
        try:
            address = address_of(running)
            assert ask(f"{address}/api/v1/lines").json()["lines"] == []
        finally:
            running.send_signal(signal.SIGTERM)
        assert running.wait(20) == 0


def test_the_end_does_not_wait_for_those_who_watch_and_says_nothing_of_them(tmp_path: Path) -> None:
    with page_of_a_store(tmp_path) as running:
        try:
            address = address_of(running)
            ask(f"{address}/api/v1/lines")
            with httpx.stream("GET", f"{address}/api/v1/live", timeout=60, trust_env=False) as live:
                news = live.iter_raw()
                assert next(news)
                running.send_signal(signal.SIGTERM)
                assert b": the end" in b"".join(news)
        finally:
            running.send_signal(signal.SIGTERM)
        assert running.stderr.read() == ""
        assert running.wait(20) == 0


def ask(address: str) -> httpx.Response:
    end = time.monotonic() + 20
    while True:
        try:
            return httpx.get(address, trust_env=False)
        except httpx.TransportError:
            if time.monotonic() > end:
                raise
