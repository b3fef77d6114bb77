"""One lane: at least once, in order per alarm, back-off, dead letters. Time is a number here; no thread but that of the sink's calls."""

from __future__ import annotations

import json
import random
import sqlite3
from pathlib import Path

import pytest

from anomaly.alarms.delivery.lane import FAILURES, LONGEST_REST_S, Lane
from anomaly.alarms.events import make_event
from anomaly.alarms.sinks.webhook import Webhook
from anomaly.alarms.store import Store
from anomaly.errors import SinkError, StoreError
from tests.alarms.conftest import Receiver, put
from tests.alarms.delivery.conftest import Noting, route


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def lane_of(store: Store, sink: object, **keys: object) -> tuple[Lane, Clock]:
    clock = Clock()
    return Lane(route(sink, **keys), lambda: store, clock, random.Random(1)), clock


def drain(lane: Lane, clock: Clock, store: Store, rounds: int = 400) -> None:
    """Look again and again, each time when the lane asks for it, until nothing waits."""
    for _ in range(rounds):
        clock.now = max(clock.now, min(lane.attempt(store), clock.now + 1000.0))
        if not store.pressing(lane.route.name)[0]:
            return


def fail(times: int, error: Exception):
    def do(call: int) -> None:
        if call <= times:
            raise error

    return do


def test_a_failing_receiver_gets_everything_in_order_in_the_end(store: Store, receiver: Receiver) -> None:
    rng = random.Random(1)
    ids = put(store, 60, ["w"])
    receiver.answers = [500 if rng.random() < 0.3 else 204 for _ in range(400)]
    lane, clock = lane_of(store, Webhook("w", receiver.url, None))
    drain(lane, clock, store)
    bodies = [json.loads(body) for _, body in receiver.got]
    assert sorted(b["id"] for b in bodies) == sorted(ids)
    for alarm in ("alarm0", "alarm1", "alarm2"):
        times = [b["time"] for b in bodies if b["subject"] == alarm]
        assert times == sorted(times)
    assert store.counts()["delivered"] == 60


@pytest.mark.parametrize("error", [SinkError("no"), ValueError("a bug"), KeyError("k"), SystemExit(3), RecursionError()])
def test_any_exception_of_a_sink_is_a_failed_try(store: Store, error: Exception) -> None:
    ids = put(store, 6, ["w"])
    sink = Noting("w", fail(5, error))
    lane, clock = lane_of(store, sink)
    lane.attempt(store)
    assert lane.status.failing_since == clock.now
    assert lane.status.error.startswith("w: " if not isinstance(error, SinkError) else "no")
    drain(lane, clock, store)
    assert sorted(sink.ids) == sorted(ids)
    assert (lane.status.failing_since, lane.status.error) == (None, "")


def test_a_refusal_for_good_is_a_dead_letter_at_once_and_holds_up_nothing(store: Store) -> None:
    ids = put(store, 6, ["w"])
    sink = Noting("w", fail(1, SinkError("w: HTTP 413: too large", permanent=True)))
    lane, _ = lane_of(store, sink)
    lane.attempt(store)
    assert sink.ids == ids[1:]
    (letter,) = store.dead_letters()
    assert (letter.sink, letter.error, json.loads(letter.body)["id"]) == ("w", "w: HTTP 413: too large", ids[0])
    assert store.replay("other") == store.replay(ids=["x"]) == 0
    assert store.replay("w", [ids[0]]) == 1
    lane.attempt(store)
    assert sink.ids == [*ids[1:], ids[0]]


def test_a_sign_of_life_that_was_refused_is_not_kept_to_be_sent_when_there_may_be_no_life(store: Store) -> None:
    store.add_events([make_event("heartbeat", "press", "press", 1.0, {"status": "ok"})], ["w"])
    sink = Noting("w", fail(1, SinkError("w: HTTP 400", permanent=True)))
    lane, _ = lane_of(store, sink, heartbeat_s=60.0)
    lane.attempt(store)
    assert sink.calls == 1
    assert (store.dead_letters(), store.replay()) == ([], 0)


def test_what_a_receiver_asks_to_wait_is_waited(store: Store) -> None:
    put(store, 3, ["w"])
    sink = Noting("w", fail(1, SinkError("busy", retry_after_s=120.0)))
    lane, clock = lane_of(store, sink)
    assert lane.attempt(store) == 1120.0
    clock.now = 1119.0
    assert (lane.attempt(store), sink.calls) == (1120.0, 1)
    clock.now = 1120.0
    lane.attempt(store)
    assert len(sink.taken) == 3


def test_a_sink_that_is_away_is_asked_seldom_and_then_gets_all_at_once(store: Store) -> None:
    ids = put(store, 100, ["w"], alarms=100)
    sink = Noting("w", lambda _: (_ for _ in ()).throw(SinkError("away")) if clock.now < 1000.0 + 3600 else None)
    lane, clock = lane_of(store, sink)
    while clock.now < 4600.0:
        clock.now = max(clock.now + 0.001, lane.attempt(store))
    asked = sink.calls
    assert FAILURES + 3600 / LONGEST_REST_S < asked < FAILURES + 2 * 3600 / LONGEST_REST_S + 20
    assert clock.now < 4600.0 + LONGEST_REST_S
    lane.attempt(store)
    lane.attempt(store)
    assert sorted(sink.ids) == sorted(ids)
    assert store.counts()["dead"] == 0  # an outage makes no dead letters, however long


def test_one_event_that_is_never_taken_holds_up_only_its_alarm(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anomaly.alarms.delivery.lane.MAX_ATTEMPTS", 20)
    ids = put(store, 30, ["w"], alarms=3)
    bad = ids[0]

    class Picky(Noting):
        def send(self, body: str, event_id: str) -> None:
            if event_id == bad:
                raise SinkError("HTTP 500")
            super().send(body, event_id)

    sink = Picky("w")
    lane, clock = lane_of(store, sink)
    lane.attempt(store)
    assert len(sink.taken) == 20
    for i in range(25):
        put(store, 31 + i, ["w"], alarms=3)  # the others go on
        clock.now += 400.0
        lane.attempt(store)
    assert [json.loads(letter.body)["id"] for letter in store.dead_letters()] == [bad]
    lane.attempt(store)
    assert set(ids[1:]) <= set(sink.ids)


def test_an_error_of_the_store_is_noted_and_passes(store: Store, tmp_path: Path) -> None:
    ids = put(store, 5, ["w"])
    sink, failures = Noting("w"), [sqlite3.OperationalError("disk I/O error"), StoreError("locked"), RuntimeError("a bug")]

    class Failing(Store):
        def waiting(self, *arguments, **keys):
            if failures:
                raise failures.pop()
            return super().waiting(*arguments, **keys)

    lane = Lane(route(sink), lambda: Failing(store.path), random=random.Random(1))
    lane.close(20.0)
    lane.run()
    assert sink.ids == ids
    assert not failures
    assert (lane.status.failing_since, lane.status.error) == (None, "")


def test_what_was_taken_is_not_sent_again_when_it_could_not_be_written_down_at_once(store: Store) -> None:
    ids = put(store, 5, ["w"])
    sink, failures = Noting("w"), [StoreError("disk full")]

    class Failing(Store):
        def settle(self, *arguments) -> None:
            if failures:
                raise failures.pop()
            super().settle(*arguments)

    lane = Lane(route(sink), lambda: Failing(store.path), random=random.Random(1))
    lane.close(20.0)
    lane.run()
    assert sink.ids == ids


def test_secrets_reach_neither_store_nor_error(store: Store) -> None:
    put(store, 1, ["w"])
    lane, _ = lane_of(store, Webhook("w", "http://user:hunter2@127.0.0.1:9/x", "topsecret"))
    lane.attempt(store)
    dump = "\n".join(store._db.iterdump())
    assert "hunter2" not in dump
    assert "topsecret" not in dump
    assert "ConnectError" in dump
