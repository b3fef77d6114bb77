"""What the event of an alarm's end tells: its most unusual record and its last one, with readings by name, also over a restart."""

from __future__ import annotations

import threading
from pathlib import Path

import pandas as pd
import pytest

from anomaly.alarms.store import Store
from anomaly.alarms.wording import about, describe_message
from anomaly.edge.monitor import Monitor
from anomaly.edge.runtime.session import open_session
from anomaly.edge.sources.uri import open_source
from anomaly.schema import Channel, InputSchema
from tests.edge.tiny import tiny_bundle

SCHEMA = InputSchema(
    name="window", dtype="float32", channels=2, window=2, period_s=1.0, max_gap_s=10,
    sensors=(Channel(name="flow", unit="l/s", offset=100.0), Channel(name="heat")),
)  # fmt: skip
FLOW = [0.1, 0.2, 0.1, 5.0, 6.5, 9.0, 7.0, 6.0, 0.3, 0.2, 0.1, 0.1]  # above 4.6 a record is flagged; the worst is the sixth


@pytest.mark.parametrize("restarts", [(), (4,), (3, 6, 8)])
def test_the_end_tells_the_worst_and_the_last_readings(tmp_path: Path, restarts: tuple[int, ...]) -> None:
    bundle = tiny_bundle(tmp_path / "b.anomaly", SCHEMA)
    feed = tmp_path / "feed.csv"
    frame = pd.DataFrame({"time": pd.date_range("2026-01-01", periods=len(FLOW), freq="s"), "flow": FLOW, "heat": 0.5})
    frame["flow"] += 100.0
    store = tmp_path / "s.db"
    for stop in (*restarts, len(FLOW)):
        frame.head(stop).to_csv(feed, index=False)
        db = Store(store)
        source = open_source(str(feed), SCHEMA, lambda _: False, db.resume("l")[0])
        Monitor(bundle, open_session(bundle, "cpu"), source, db, "l").run(threading.Event(), once=True)
    events = Store(store).events()
    (closed,) = [event for event in events if event["type"] == "anomaly.alarm.closed"]
    data = closed["data"]
    assert data["sensors"] == ["flow"]
    worst, last = data["worst"], data["last"]
    assert worst["time"] == "2026-01-01T00:00:05Z"
    assert worst["values"] == {"flow": pytest.approx(109.0)}
    assert worst["p_value"] == pytest.approx(data["p_value"])
    assert worst["score"] == pytest.approx(9.0, rel=1e-5)
    assert worst["top"][0]["sensor"] == "flow"
    assert last["values"]["flow"] < 101
    assert last["record"] == data["record"]
    assert data["units"] == {"flow": "l/s"}
    assert "Most unusual record: feed.csv:7" in describe_message(closed)[1]
    assert "At its worst: flow 109 l/s, at the end 100." in describe_message(closed)[1]


def test_an_alarm_that_is_on_counts_its_flagged_records_and_is_known_by_its_worst(tmp_path: Path) -> None:
    """Version 0.8.0: six faulty pictures in a row were one alarm that told of the first alone, until it closed."""
    bundle = tiny_bundle(tmp_path / "b.anomaly", SCHEMA)
    feed, store = tmp_path / "feed.csv", tmp_path / "s.db"
    frame = pd.DataFrame({"time": pd.date_range("2026-01-01", periods=len(FLOW), freq="s"), "flow": FLOW, "heat": 0.5})
    frame["flow"] += 100.0
    known = []
    for stop in (4, 6, 8, len(FLOW)):
        frame.head(stop).to_csv(feed, index=False)
        db = Store(store)
        source = open_source(str(feed), SCHEMA, lambda _: False, db.resume("l")[0])
        Monitor(bundle, open_session(bundle, "cpu"), source, db, "l").run(threading.Event(), once=True)
        (alarm,) = Store(store).alarms("l", live=False)
        assert "values" not in alarm.data.get("worst", {}) or alarm.closed is not None
        known.append((alarm.data["flagged"], alarm.data["worst"]["record"], about(alarm.data).rpartition(", ")[2]))
        assert alarm.data["p_value"] == alarm.data["worst"]["p_value"]
    first, worst = "feed.csv:5", "feed.csv:7"
    assert known == [
        (1, first, "heat 9%"),
        (3, worst, "3 records flagged"),
        (5, worst, "5 records flagged"),
        (6, worst, "6 records flagged"),
    ]
    told = [event["type"].rpartition(".")[2] for event in Store(store).events()]
    assert told == ["opened", "escalated", "closed"]  # counting makes no event
