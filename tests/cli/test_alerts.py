"""`anomaly alerts`: a test that arrives, dead letters that are shown and sent again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from anomaly.alarms.store import Store
from anomaly.cli.alerts import alerts_app
from anomaly.errors import DataError, SpecError
from tests.alarms.conftest import put
from tests.alarms.delivery.rude import RudeReceiver


@pytest.fixture
def rude() -> Iterator[RudeReceiver]:
    started = RudeReceiver()
    yield started
    started.close()


def run(*arguments: object):
    return CliRunner().invoke(alerts_app, [str(each) for each in arguments])


def test_a_test_arrives_clearly_marked_and_leaves_nothing_open(tmp_path: Path, rude: RudeReceiver) -> None:
    path = tmp_path / "alerts.toml"
    path.write_text(
        f'[[sink]]\nname="w"\nkind="webhook"\nurl="{rude.url("204")}"\nkinds=["bundle.*"]\nquiet="00:00-23:59"\n'
        '[[sink]]\nname="other"\nkind="apprise"\nurl_env="NOT_SET"'  # not opened: one may be tested before all are set up
    )
    done = run("test", "w", "--alerts", path, "--line", "press-3")
    assert done.exit_code == 0, done.output
    assert "sink w took the opened test alarm" in done.output
    opened, closed = (json.loads(body) for _, _, body in rude.got)
    assert (opened["type"], closed["type"]) == ("anomaly.alarm.opened", "anomaly.alarm.closed")
    assert opened["subject"] == closed["subject"]
    assert opened["source"] == "/anomaly/press-3"
    assert opened["data"]["test"] is closed["data"]["test"] is True
    assert "Nothing is wrong" in opened["data"]["reason"]


@pytest.mark.parametrize(("path", "words"), [("400", "it would be a dead letter"), ("500", "it would be tried again")])
def test_a_test_that_is_not_taken_says_what_would_become_of_an_alarm(tmp_path: Path, rude: RudeReceiver, path: str, words: str) -> None:
    file = tmp_path / "alerts.toml"
    file.write_text(f'[[sink]]\nname="w"\nkind="webhook"\nurl="{rude.url(path)}"')
    done = run("test", "w", "--alerts", file)
    assert done.exit_code == 1
    assert words in done.output
    assert f"HTTP {path}" in done.output
    missing = run("test", "nobody", "--alerts", file)
    assert isinstance(missing.exception, SpecError)
    assert "no sink 'nobody'; there are w" in str(missing.exception)


def test_dead_letters_are_shown_and_replayed(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    store = Store(path)
    ids = put(store, 4, ["w", "other"])
    for sink in ("w", "other"):
        store.failed(store.waiting(sink, 0.0)[:2], "w: HTTP 413: too \x1b[31mlarge", None)
    shown = run("dead-letters", "--store", path, "--sink", "w")
    assert f"{ids[0][:8]}  sink w  line l  1970-01-01T00:00:00Z  ALARM" in shown.output
    assert "1 try; the last: w: HTTP 413: too \\x1b[31mlarge" in shown.output
    assert "2 dead letters; `anomaly alerts replay` sends them again" in shown.output
    letters = [json.loads(line) for line in run("dead-letters", "--store", path, "--json").stdout.splitlines()]
    assert [(letter["sink"], letter["event"]["id"]) for letter in letters] == [
        ("other", ids[0]), ("w", ids[0]), ("other", ids[1]), ("w", ids[1])
    ]  # fmt: skip
    assert "no dead letter with an id that begins so" in str(run("replay", "nonsense", "--store", path).exception)
    assert "2 dead letters will be sent again" in run("replay", ids[0][:12], "--store", path).output
    assert "1 dead letter of sink w will be sent again" in run("replay", "--sink", "w", "--store", path).output
    assert store.outbox_counts() == {("w", "waiting"): 4, ("other", "waiting"): 3, ("other", "dead"): 1}


def test_a_store_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    for command in ("dead-letters", "replay"):
        assert isinstance(run(command, "--store", tmp_path / "no.db").exception, DataError)
    assert not (tmp_path / "no.db").exists()
