"""The first records of a new champion, and a challenger beside it: whatever they do, the line goes on with right answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from anomaly.alarms.store import Store
from anomaly.bundle.archive import Bundle
from anomaly.edge.monitor import Monitor
from anomaly.edge.probation import PROBATION_RECORDS, ROLLBACK_RULE
from anomaly.edge.release import Release
from anomaly.edge.runtime.session import open_session
from anomaly.edge.sources.uri import open_source
from tests.edge.tiny import tiny_bundle


class Line:
    """A line that follows a release folder, with a CSV that can be added to."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.feed, self.rows = folder, folder / "feed.csv", 0
        self.feed.write_text("time,a,b\n")
        self.one = tiny_bundle(folder / "1.anomaly")
        self.publish("champion", self.one)
        self.release = Release(str(folder), folder / "keep", lambda bundle: open_session(bundle, "cpu"), every_s=1e9)
        first, _ = self.release.first()
        source = open_source(str(self.feed), first.bundle.manifest.input, lambda _: False, {})
        self.loop = Monitor(first.bundle, first.session, source, Store(folder / "s.db"), "l", release=self.release)

    def publish(self, role: str, bundle: Bundle) -> None:
        (self.folder / f"{role}.json").write_text(json.dumps({"bundle": bundle.path.name, "hash": bundle.hash}))

    def go_on(self, count: int, reading: float = 0.5) -> None:
        """Look at the release, then score `count` more rows."""
        self.release.look()
        with self.feed.open("a") as stream:
            stream.write("".join(f"{i},{reading},{0.1 + i / 1e4}\n" for i in range(self.rows, self.rows + count)))
        self.rows += count
        self.loop.run(threading.Event(), once=True)

    def bundle_events(self) -> list[tuple[str, str]]:
        events = [event for event in self.loop.store.events() if ".bundle." in event["type"]]
        return [(event["type"].rpartition(".")[2], event["data"]["reason"]) for event in events]


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    made = Line(tmp_path)
    yield made
    made.release.close()


def test_a_champion_that_fails_on_records_is_rolled_back_and_no_record_is_lost(line: Line) -> None:
    line.go_on(10)
    line.publish("champion", tiny_bundle(line.folder / "2.anomaly", batch=1))  # passes its self-test, fails on two records at once
    line.go_on(10)
    (swapped, _), (rolled_back, why) = line.bundle_events()
    assert (swapped, rolled_back) == ("swapped", "rolled_back")
    assert why.startswith("it failed on a record: ")
    assert why.endswith("tiny-1 is in use again")
    scored = line.loop.store.scores("l")
    assert len(scored) == 19
    np.testing.assert_allclose([each.score for each in scored], 0.5)
    assert line.loop.bundle.hash == line.one.hash


def test_a_champion_that_flags_far_more_is_rolled_back_once_there_are_enough_records(line: Line) -> None:
    line.go_on(10)
    line.publish("champion", tiny_bundle(line.folder / "2.anomaly", threshold=0.9))  # flags every record: p is 0.6
    line.go_on(ROLLBACK_RULE.records - 1)
    assert [kind for kind, _ in line.bundle_events()] == ["swapped"]
    line.go_on(1)
    assert line.bundle_events()[1] == ("rolled_back", "it flagged 100% of 20 records, tiny-1 0%; tiny-1 is in use again")


def test_a_champion_that_flags_what_the_one_before_flags_too_stays(line: Line) -> None:
    line.go_on(10)
    two = tiny_bundle(line.folder / "2.anomaly", threshold=0.02)
    line.publish("champion", two)
    line.go_on(PROBATION_RECORDS - 1, reading=9.0)  # a fault: both flag it
    kept = line.folder / "keep" / "last-good.json"
    assert json.loads(kept.read_text())["hash"] == line.one.hash
    line.go_on(1)
    assert json.loads(kept.read_text())["hash"] == two.hash  # it has proved itself
    assert [kind for kind, _ in line.bundle_events()] == ["swapped"]


def test_a_challenger_that_fails_is_dropped_and_the_line_goes_on(line: Line, caplog: pytest.LogCaptureFixture) -> None:
    line.publish("challenger", tiny_bundle(line.folder / "2.anomaly", batch=1))
    line.go_on(10)
    assert any("the challenger" in text and "failed and is let go" in text for text in caplog.messages)
    assert line.loop.store.shadow("l") == []
    assert len(line.loop.store.scores("l")) == 9
