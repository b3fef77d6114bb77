"""The store stays small, and what must be remembered is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from anomaly.alarms.events import make_event
from anomaly.alarms.life import State
from anomaly.alarms.store import Batch, Scored, Store
from anomaly.alarms.store import retention as kept

DAY = 86400.0


class Clock:
    def __init__(self) -> None:
        self.now = 1_700_000_000.0 // DAY * DAY

    def __call__(self) -> float:
        return self.now


def fill(store: Store, clock: Clock, rows: int, line: str = "l", sinks: tuple[str, ...] = (), step: float = 10.0) -> list[Scored]:
    """One day's rows, an event with them."""
    rng = np.random.default_rng(int(clock.now))
    scored = [Scored(f"f:{clock.now + step * i:.0f}", clock.now + step * i, float(rng.random()), float(rng.random())) for i in range(rows)]
    events = [make_event("opened", line, f"a{clock.now:.0f}", clock.now, {})]
    store.commit(Batch(line, "b" * 64, {"at": clock.now}, State(), None, scored, [(f"r{clock.now:.0f}", clock.now, "bad")], events, sinks))
    return scored


def work(store: Store) -> int:
    """All that is to be done; returns in how many slices."""
    slices = 0
    while store.tidy_now():
        slices += 1
        assert slices < 10_000
    return slices


def test_all_scores_for_a_week_then_the_worst_of_each_minute_then_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "MINUTE_DAYS", 20)
    clock = Clock()
    store = Store(tmp_path / "s.db", clock=clock)
    days = []
    for _ in range(25):
        work(store)
        days.append(fill(store, clock, 600))
        clock.now += DAY
    work(store)
    left = {s.record for s in store.scores("l")}
    for age, scored in enumerate(reversed(days), start=1):
        minutes: dict[int, Scored] = {}
        for s in scored:
            minutes[int(s.time // 60)] = min(minutes.get(int(s.time // 60), s), s, key=lambda one: one.p_value)
        worst = {s.record for s in minutes.values()}
        rows = {s.record for s in scored}
        found = left & rows
        assert found == (rows if age <= kept.ALL_DAYS else worst if age <= 20 else set()), age


def test_a_wrong_clock_and_old_records_make_nothing_old(tmp_path: Path) -> None:
    clock = Clock()
    store = Store(tmp_path / "s.db", clock=clock)
    scored = fill(store, clock, 600)
    history = [Scored(f"old:{i}", float(i), 1.0, 0.5) for i in range(500)]  # of 1970, read today
    store.commit(Batch("l", "b", {"at": 1}, State(), None, history))
    for leap in (0.0, 40 * 365 * DAY, 0.0, -9 * 365 * DAY, DAY):
        clock.now += leap
        work(store)
        clock.now -= leap if leap != DAY else 0.0
        work(store)
    assert len(store.scores("l")) == len(scored) + len(history)


def test_what_no_sink_waits_for_goes_and_what_one_waits_for_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "EVENT_DAYS", 40)
    clock = Clock()
    store = Store(tmp_path / "s.db", clock=clock)
    for day in range(60):
        work(store)
        fill(store, clock, 2, sinks=("good", "away"))
        store.settle(store.waiting("good", clock.now), "delivered")
        if day == 3:
            store.failed(store.waiting("away", clock.now)[:1], "no", None)
        clock.now += DAY
    work(store)
    counts = store.counts()
    assert counts["delivered"] == kept.DELIVERED_DAYS
    assert (counts["waiting"], counts["dead"]) == (59, 1)  # nobody has had them
    assert counts["events"] == 60  # those that wait hold theirs
    store.settle(store.waiting("away", 1e12, whole=True), "delivered")
    clock.now += DAY
    work(store)
    assert store.counts()["events"] == 40  # the last 40 days of use, of which one had none, and the dead letter


def test_the_size_has_a_bound_and_what_waits_and_what_is_open_stays(tmp_path: Path) -> None:
    clock = Clock()
    store = Store(tmp_path / "s.db", clock=clock, limit_bytes=3_000_000)
    for _ in range(12):
        fill(store, clock, 20_000, sinks=("pager",), step=1.0)
        clock.now += DAY
        work(store)
    store._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    assert store.size_bytes() <= 3_000_000
    assert store.path.stat().st_size < 2 * 3_000_000
    counts = store.counts()
    assert counts["waiting"] == counts["events"] == 12
    newest = store.scores("l")[-1]
    assert newest.time >= clock.now - DAY
    assert store.resume("l")[0] == {"at": clock.now - DAY}


def test_room_is_given_back_to_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "FREE_PAGES", 20)
    clock = Clock()
    store = Store(tmp_path / "s.db", clock=clock)
    fill(store, clock, 60_000, step=1.0)
    store._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    full = store.path.stat().st_size
    for _ in range(9):
        clock.now += DAY
        work(store)
    store._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    assert len(store.scores("l")) < 60_000 / 60 + 20
    assert store.path.stat().st_size < full / 5
    assert store._read("PRAGMA integrity_check") == [("ok",)]


def test_a_picture_stays_known_when_its_score_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "MINUTE_DAYS", 9)
    monkeypatch.setattr(kept, "REJECTED_DAYS", 9)
    clock = Clock()
    store = Store(tmp_path / "s.db", clock=clock)
    assert not store.known("l", "first.png@1")  # the source asks: from now on it is remembered
    scored = [record.record for record in fill(store, clock, 300, step=1.0)]
    rejected = store.rejections("l")[0][0]
    for _ in range(12):
        clock.now += DAY
        work(store)
    assert store.scores("l") == []
    assert store.rejections("l") == []
    again = Store(tmp_path / "s.db", clock=clock)
    assert all(again.known("l", record) for record in (*scored, rejected))
    assert not again.known("l", "new.png@1")
    assert not again.known("other", scored[0])


def test_what_was_handled_before_the_first_question_is_known_too(tmp_path: Path) -> None:
    clock = Clock()
    store = Store(tmp_path / "s.db", clock=clock)
    before = [record.record for record in fill(store, clock, 50)]
    assert store.known("l", before[7])
    clock.now += DAY
    after = [record.record for record in fill(store, clock, 50)]
    assert store._read("SELECT count(*) FROM handled")[0][0] == 102  # 100 scored, 2 set aside
    assert all(store.known("l", record) for record in before + after)


def test_a_row_takes_half_the_room_of_080s(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.db")
    for begin in range(0, 60_000, 600):
        scored = [Scored(f"press.csv:{i}", 1.7e9 + i, 0.1 + i / 7, 1 / (i + 3)) for i in range(begin, begin + 600)]
        store.commit(Batch("l", "b" * 64, {"at": begin}, State(), None, scored))
    assert store.size_bytes() / 60_000 < 139 / 2
