"""A line that runs: rejections by the hundred and floods of alarms are told as one, and the store has each of them."""

from __future__ import annotations

import threading
from pathlib import Path

from anomaly.alarms.events import Event, make_event
from anomaly.alarms.store import Batch, Store
from anomaly.data.records import Rejected
from anomaly.edge.line_book import LineBook
from anomaly.edge.monitor import Monitor
from anomaly.edge.runtime.session import open_session
from anomaly.edge.sources.base import Poll
from tests.edge.tiny import tiny_bundle


class Rejecting:
    """A source whose rows all come before the last one: its clock was set back one hour, and a row comes every 5 s."""

    def __init__(self, count: int) -> None:
        self.left = [Rejected(f"a@{i}", 5.0 * i, f"a@{i}: its time is not after the row before") for i in range(count)]

    def poll(self, limit: int) -> Poll:
        """The next row."""
        return Poll(rejected=[self.left.pop(0)]) if self.left else Poll()

    def close(self) -> None:
        """Nothing to close."""


def test_a_clock_set_back_one_hour_is_a_few_events_and_every_row_is_in_the_store(tmp_path: Path) -> None:
    bundle, store, now = tiny_bundle(tmp_path / "1.anomaly"), Store(tmp_path / "s.db"), [0.0]
    monitor = Monitor(bundle, open_session(bundle, "cpu"), Rejecting(720), store, "l", ["w"], clock=lambda: now[0])
    stop = threading.Event()
    for _ in range(721):
        monitor.turn(stop, once=True)
        now[0] += 5.0
    events = [event for event in store.events() if event["type"] == "anomaly.record.rejected"]
    assert [event["data"].get("count") for event in events] == [None, 120, 599]
    assert len(store.rejections("l")) == 720
    assert monitor.totals.rejected == 720


def opened(number: int) -> Event:
    data = {"class": "data quality", "condition": "sensor", "sensor": f"s{number}", "reason": "no reading", "began": "1970-01-01T00:00:00Z"}
    return make_event("opened", "l", f"alarm {number}", float(number), data)


def test_a_flood_is_stored_whole_and_sent_as_one_also_over_a_restart(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.db")
    store.register("l", ["w"])

    def turn(book: LineBook, events: list[Event], now: float) -> list[Event]:
        batch = Batch("l", "b", {}, *store.resume("l")[1:], sinks=["w"], kept=book.kept)

        def prepare(batch: Batch) -> None:
            batch.events = book.apply(batch, events, now)

        batch.prepare = prepare
        store.commit(batch)
        return [event for event in batch.events if event.id not in batch.changes.quiet]

    sent = turn(LineBook(store, "l"), [opened(i) for i in range(40)], 40.0)
    assert [event.kind for event in sent] == ["opened"] * 10 + ["flood"]
    assert sum(event["type"] == "anomaly.alarm.opened" for event in store.events()) == 40
    assert len(store.waiting("w", 50.0, whole=True)) == 11
    again = LineBook(store, "l")
    assert again.due(2000.0)
    assert [event.kind for event in turn(again, [], 2000.0)] == ["flood"] + ["reminded"] * 30
    assert not LineBook(store, "l").due(2001.0)
