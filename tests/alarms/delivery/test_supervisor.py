"""All lanes together: none holds up another, what fails for long is told to the others, and the end is bounded in time."""

from __future__ import annotations

import json
import logging
import threading
import time
from pathlib import Path

import pytest

from anomaly.alarms.delivery import delivering
from anomaly.alarms.delivery.lane import Lane
from anomaly.alarms.sinks.json_lines import JsonLines
from anomaly.alarms.store import Store
from anomaly.errors import SinkError
from tests.alarms.conftest import put
from tests.alarms.delivery.conftest import Noting, delivery, route, until


def test_what_was_waiting_before_a_restart_is_delivered(store: Store, tmp_path: Path) -> None:
    ids = put(store, 9, ["file"])
    with delivering(store.path, [route(JsonLines("file", tmp_path / "a.jsonl"))]):
        pass
    assert [json.loads(line)["id"] for line in (tmp_path / "a.jsonl").read_text().splitlines()] == ids


def test_a_sink_that_hangs_holds_up_no_other(store: Store) -> None:
    """Version 0.8.0: a healthy file sink got its first of 200 alarms after 1,003 s."""
    never = threading.Event()
    hanging, healthy = Noting("hangs", lambda _: never.wait(60)), Noting("file")
    began = time.monotonic()
    with delivery(store.path, route(hanging), route(healthy)) as lanes:
        ids = put(store, 200, ["hangs", "file"])
        lanes.wake()
        until(lambda: len(healthy.taken) == 200, 2.0 + 10)
        assert healthy.ids == ids
    assert time.monotonic() - began < 20
    assert Store(store.path).outbox_counts() == {("hangs", "waiting"): 200, ("file", "delivered"): 200}
    never.set()


def test_a_call_that_never_comes_back_is_left_alone_and_the_sink_opened_anew(store: Store) -> None:
    never = threading.Event()
    first, second = Noting("w", lambda _: never.wait(60)), Noting("w")
    ids = put(store, 3, ["w"])
    hangs_once = route(first, timeout_s=-1.5)  # with the grace of two seconds: half a second a try
    hangs_once.open = lambda: second
    with delivery(store.path, hangs_once):
        until(lambda: len(second.taken) == 3)
    assert sorted(second.ids) == sorted(ids)
    never.set()
    until(lambda: first.closed == 1)


def test_threads_do_not_pile_up_behind_a_sink_that_hangs_for_ever(store: Store) -> None:
    never = threading.Event()
    put(store, 50, ["w"], alarms=50)
    sink = Noting("w", lambda _: never.wait(60))
    with delivery(store.path, route(sink, timeout_s=-1.9)) as lanes:
        until(lambda: "have not come back" in lanes.status()[0].error)
    assert sink.calls == 3
    never.set()


def test_a_sink_that_fails_for_long_is_told_in_the_log(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    def do(_: int) -> None:
        raise SinkError("w: HTTP 503")

    with delivery(store.path, route(Noting("w", do)), failing_after_s=0.2) as lanes:
        put(store, 1, ["w"])
        lanes.wake()
        until(lambda: "sink w has taken nothing for" in caplog.text)


def test_a_sink_that_fails_for_long_is_an_alarm_to_the_others_and_its_end_too(store: Store, tmp_path: Path) -> None:
    broken = threading.Event()
    broken.set()

    def do(_: int) -> None:
        if broken.is_set():
            raise SinkError("w: HTTP 503")

    bad, good, put_down = Noting("w", do), Noting("file"), Noting("other")
    with delivery(store.path, route(bad), route(good), route(put_down), failing_after_s=0.5) as lanes:
        put(store, 3, ["w"])
        lanes.wake()
        until(lambda: good.taken and put_down.taken)
        (opened,) = good.taken
        assert opened["type"] == "anomaly.alarm.opened"
        assert (opened["data"]["class"], opened["data"]["condition"], opened["data"]["priority"]) == ("delivery", "sink w", "high")
        assert "w: HTTP 503; 3 events wait, 0 dead letters" in opened["data"]["reason"]
        assert lanes.health()[0].state == "failing"
    with delivery(store.path, route(bad), route(good), route(put_down), failing_after_s=0.5) as lanes:  # a restart keeps it open
        broken.clear()
        until(lambda: len(good.taken) > 1)
        closed = good.taken[1]
        assert (closed["type"], closed["subject"]) == ("anomaly.alarm.closed", opened["subject"])
        assert lanes.health()[0].state == "ok"
    assert len(good.taken) == 2
    assert all(body["data"].get("class") != "delivery" for body in bad.taken)


def test_a_lane_whose_thread_is_gone_is_started_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    real, deaths = Lane.run, [1]

    def run(self: Lane) -> None:
        if deaths:
            deaths.pop()
            return
        real(self)

    monkeypatch.setattr(Lane, "run", run)
    sink = Noting("w")
    ids = put(store, 3, ["w"])
    with delivery(store.path, route(sink)) as lanes:
        until(lambda: len(sink.taken) == 3)
        assert lanes.status()[0].restarts == 1
    assert sink.ids == ids


def test_the_end_is_bounded_in_time_and_says_what_waits(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    never = threading.Event()
    put(store, 5, ["hangs", "away"])
    away = Noting("away", lambda _: (_ for _ in ()).throw(SinkError("away: refused")))
    began = time.monotonic()
    with caplog.at_level(logging.WARNING), delivery(store.path, route(Noting("hangs", lambda _: never.wait(60))), route(away)):
        until(lambda: away.calls >= 3)
    assert time.monotonic() - began < 10
    never.set()
    assert "sink away: 5 events still wait (away: refused); they are sent at the next start" in caplog.text
    assert "sink hangs: 5 events still wait" in caplog.text
