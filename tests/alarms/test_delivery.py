"""The outbox worker: at least once, in order, and no secret where it does not belong."""

from __future__ import annotations

import json
import random
from pathlib import Path

from anomaly.alarms.delivery import FIRST_RETRY_S, LONGEST_RETRY_S, MAX_ATTEMPTS, DeliveryThread, deliver_due
from anomaly.alarms.sinks.json_lines import JsonLines
from anomaly.alarms.sinks.webhook import Webhook
from anomaly.alarms.store import Store
from anomaly.backoff import backoff_s
from anomaly.errors import SinkError
from tests.alarms.conftest import Receiver, put


def test_failing_receiver_gets_everything_in_order_in_the_end(store: Store, receiver: Receiver) -> None:
    rng = random.Random(1)
    ids = put(store, 60, ["w"])
    receiver.answers = [500 if rng.random() < 0.3 else 204 for _ in range(400)]
    sink, now = Webhook("w", receiver.url, None), 0.0
    for _ in range(200):
        deliver_due(store, [sink], lambda: now, rng)
        now += 400.0
        if not store.due("w", 1e12):
            break
    bodies = [json.loads(body) for _, body in receiver.got]
    assert sorted(b["id"] for b in bodies) == sorted(ids)
    for alarm in ("alarm0", "alarm1", "alarm2"):
        times = [b["time"] for b in bodies if b["subject"] == alarm]
        assert times == sorted(times)
    assert store.counts()["delivered"] == 60


def test_one_dead_sink_holds_up_no_other(store: Store, tmp_path: Path, receiver: Receiver) -> None:
    put(store, 6, ["dead", "file"])
    receiver.server.shutdown()
    receiver.server.server_close()
    dead = Webhook("dead", receiver.url, None)
    taken = deliver_due(store, [dead, JsonLines("file", tmp_path / "a.jsonl")], lambda: 0.0, random.Random(0))
    assert taken == 6
    assert len((tmp_path / "a.jsonl").read_text().splitlines()) == 6
    assert store.counts()["waiting"] == 6
    assert store.due("dead", 0.0) == []  # backed off


def test_undeliverable_is_kept_as_a_dead_letter(store: Store) -> None:
    put(store, 1, ["w"])

    class Refusing:
        name = "w"

        def send(self, body: str, event_id: str) -> None:
            raise SinkError("no")

    for i in range(MAX_ATTEMPTS + 5):
        deliver_due(store, [Refusing()], lambda i=i: i * 1000.0, random.Random(0))
    assert store.counts()["dead"] == 1
    assert store.counts()["events"] == 1


def test_backoff_grows_to_five_minutes() -> None:
    waits = [backoff_s(n, 1.0, FIRST_RETRY_S, LONGEST_RETRY_S) for n in range(12)]
    assert waits[:4] == [1, 2, 4, 8]
    assert waits[-1] == 300
    assert backoff_s(3, 0.0, FIRST_RETRY_S, LONGEST_RETRY_S) == 4


def test_thread_delivers_what_was_waiting_before_a_restart(store: Store, tmp_path: Path) -> None:
    ids = put(store, 9, ["file"])
    thread = DeliveryThread(store.path, [JsonLines("file", tmp_path / "a.jsonl")])
    thread.close()
    assert [json.loads(line)["id"] for line in (tmp_path / "a.jsonl").read_text().splitlines()] == ids


def test_secrets_reach_neither_store_nor_error(store: Store) -> None:
    put(store, 1, ["w"])
    sink = Webhook("w", "http://user:hunter2@127.0.0.1:9/x", "topsecret")
    deliver_due(store, [sink], lambda: 0.0, random.Random(0))
    dump = "\n".join(store._db.iterdump())
    assert "hunter2" not in dump
    assert "topsecret" not in dump
    assert "ConnectError" in dump
