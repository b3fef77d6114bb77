"""The event store: all of a batch or nothing."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from anomaly.alarms.events import make_event
from anomaly.alarms.life import State
from anomaly.alarms.store import Batch, Scored, Store
from anomaly.errors import StoreError
from tests.alarms.conftest import put


def test_the_same_event_twice_is_stored_once(store: Store) -> None:
    put(store, 4, ["w"])
    put(store, 4, ["w"])
    assert store.counts() == {"scores": 8, "rejected": 0, "events": 4, "waiting": 4, "delivered": 0, "dead": 0}


def test_a_line_never_gets_what_is_of_a_line_of_nearly_the_same_name(store: Store) -> None:
    alarmed = State(active=True, opened=1.0, worst=1e-9)
    names = ["press", "pr%ss", "pr_ss", "press\nsilent"]
    for name in names:
        store.commit(Batch(name, "b", {"of": name}, State(), None, quality={"silent": (alarmed, f"alarm of {name}")}))
    assert store.resume("Press") == ({}, State(), None)
    assert store.quality("Press") == store.quality("PRESS") == {}
    for name in names:
        assert store.quality(name) == {"silent": (alarmed, f"alarm of {name}")}
        assert store.resume(name) == ({"of": name}, State(), None)


def test_a_source_without_a_position_keeps_the_one_that_is_stored(store: Store) -> None:
    store.commit(Batch("l", "b", {"offset": 7}, State(), None))
    store.commit(Batch("l", "b", {}, State(), None, [Scored("r", 1.0, float("nan"), 0.5)]))
    assert store.resume("l")[0] == {"offset": 7}
    assert store.scores("l")[0].p_value == 0.5


def test_events_from_elsewhere_go_to_the_sinks_that_the_line_is_registered_for(store: Store) -> None:
    store.register("l", ["w", "v"])
    operator = Store(store.path)
    before = store.data_version()
    operator.add_events([make_event("opened", "l", "a", 1.0, {}), make_event("opened", "unknown", "b", 1.0, {})])
    operator.add_events([make_event("opened", "l", "c", 1.0, {"condition": "silent"})], sinks=["v"])
    assert store.data_version() != before
    assert [item.alarm for item in store.waiting("w", 1e12)] == ["a"]
    assert [item.alarm for item in store.waiting("v", 1e12)] == ["a", "c"]
    assert store.counts()["events"] == 3


def test_full_disk_stores_nothing_by_halves(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.db")
    put(store, 3, ["w"])
    pages = store._db.execute("PRAGMA page_count").fetchone()[0]
    store._db.execute(f"PRAGMA max_page_count = {pages + 1}")  # SQLite's own full disk
    scored = [Scored(f"x{i}" * 50, 0.0, 1.0, 0.5) for i in range(2000)]
    with pytest.raises(StoreError, match=r"batch not stored; records will be read again \(database or disk is full\); free space"):
        store.commit(Batch("l", "b", {"offset": 99}, State(), None, scored, [], [make_event("opened", "l", "n", 9.0, {})], ["w"]))
    assert store.counts()["events"] == 3
    assert store.resume("l")[0] == {"offset": 3}
    store._db.execute("PRAGMA max_page_count = 100000")
    put(store, 5, ["w"])
    assert store.counts()["events"] == 5


def test_what_is_no_store_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_text("this is a text file, not a database at all, quite long enough" * 20)
    with pytest.raises(StoreError, match=r"x\.db: cannot be used as the event store"):
        Store(tmp_path / "x.db")
    store = Store(tmp_path / "n.db")
    store.close()
    with sqlite3.connect(tmp_path / "n.db") as db:
        db.execute("UPDATE meta SET value = '99'")
    with pytest.raises(StoreError, match="store of schema 99, this version reads 1 to 3"):
        Store(tmp_path / "n.db")
