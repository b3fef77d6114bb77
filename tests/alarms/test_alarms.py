"""Store, outbox and sinks: nothing is lost, order holds, secrets stay out."""

from __future__ import annotations

import hashlib
import hmac
import json
import random
import sqlite3
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from anomaly.alarms.delivery import MAX_ATTEMPTS, DeliveryThread, backoff, deliver_due
from anomaly.alarms.events import make_event
from anomaly.alarms.life import State
from anomaly.alarms.sinks.base import JsonLines, Webhook, describe, read_sinks
from anomaly.alarms.store import Batch, Scored, Store
from anomaly.errors import SinkError, SpecError, StoreError


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "s.db")
    yield opened
    opened.close()


def put(store: Store, count: int, sinks: list[str], alarms: int = 3) -> list[str]:
    events = [
        make_event("opened" if i // alarms % 2 == 0 else "closed", "l", f"alarm{i % alarms}", float(i), {"record": str(i)})
        for i in range(count)
    ]
    scored = [Scored(str(i), float(i), 1.0, 0.5) for i in range(count)]
    store.commit(Batch("l", "b", {"offset": count}, State(), None, scored, [], events, sinks))
    return [e.id for e in events]


class Receiver:
    """A real HTTP server that notes what it gets and answers as told."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.answers: list[int] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = receiver.answers.pop(0) if receiver.answers else 204
                if status < 400:
                    receiver.got.append((dict(self.headers), body))
                self.send_response(status)
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/alarms"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    started = Receiver()
    yield started
    started.server.shutdown()
    started.server.server_close()


def test_webhook_is_cloudevents_signed_and_idempotent(receiver: Receiver) -> None:
    event = make_event("opened", "press-7", "a", 0.0, {"record": "r"})
    Webhook("w", receiver.url, "secret").send(event.to_json(), event.id)
    headers, body = receiver.got[0]
    sent = json.loads(body)
    assert sent["specversion"] == "1.0"
    assert sent["type"] == "anomaly.alarm.opened"
    assert sent["source"] == "/anomaly/press-7"
    assert sent["time"] == "1970-01-01T00:00:00Z"
    assert headers["Idempotency-Key"] == sent["id"] == event.id
    assert headers["Content-Type"] == "application/cloudevents+json"
    assert headers["X-Anomaly-Signature"] == "sha256=" + hmac.new(b"secret", body, hashlib.sha256).hexdigest()


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
    waits = [backoff(n, 1.0) for n in range(12)]
    assert waits[:4] == [1, 2, 4, 8]
    assert waits[-1] == 300
    assert backoff(3, 0.0) == 4


def test_the_same_event_twice_is_stored_once(store: Store) -> None:
    put(store, 4, ["w"])
    put(store, 4, ["w"])
    assert store.counts() == {"scores": 4, "rejected": 0, "events": 4, "waiting": 4, "delivered": 0, "dead": 0}


def test_thread_delivers_what_was_waiting_before_a_restart(store: Store, tmp_path: Path) -> None:
    ids = put(store, 9, ["file"])
    thread = DeliveryThread(store.path, [JsonLines("file", tmp_path / "a.jsonl")])
    thread.close()
    assert [json.loads(line)["id"] for line in (tmp_path / "a.jsonl").read_text().splitlines()] == ids


def test_a_line_cut_short_by_a_crash_is_closed_first(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"id": "1"}\n{"id": "2')
    JsonLines("f", path).send('{"id": "3"}', "3")
    assert path.read_text().splitlines() == ['{"id": "1"}', '{"id": "2', '{"id": "3"}']


def test_full_disk_stores_nothing_by_halves(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.db")
    put(store, 3, ["w"])
    pages = store._db.execute("PRAGMA page_count").fetchone()[0]
    store._db.execute(f"PRAGMA max_page_count = {pages + 1}")  # SQLite's own full disk
    scored = [Scored(f"x{i}" * 50, 0.0, 1.0, 0.5) for i in range(2000)]
    with pytest.raises(StoreError, match=r"batch not stored \(database or disk is full\).*records will be read again"):
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
    with pytest.raises(StoreError, match="store of schema 99, this version reads 2"):
        Store(tmp_path / "n.db")


def test_sink_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "alerts.toml"

    def read(text: str):
        path.write_text(text)
        return read_sinks(path)

    assert [s.name for s in read_sinks(Path("deploy/alerts.toml"))] == ["file"]
    with pytest.raises(SpecError, match="ALARM_SECRET is not set"):
        read('[[sink]]\nname="w"\nkind="webhook"\nurl="http://x"\nsecret_env="ALARM_SECRET"')
    with pytest.raises(SpecError, match=r"sink 0\.webhook\.url"):
        read('[[sink]]\nname="w"\nkind="webhook"\nurl="ftp://x"')
    with pytest.raises(SpecError, match="same name"):
        read('[[sink]]\nname="a"\nkind="jsonl"\npath="x"\n[[sink]]\nname="a"\nkind="jsonl"\npath="y"')
    with pytest.raises(SpecError, match="unknown key `sinks`"):
        read('[[sinks]]\nname="a"')
    monkeypatch.setenv("ONCALL_URL", "nonsense")
    with pytest.raises(SpecError, match="not a URL that Apprise understands"):
        read('[[sink]]\nname="a"\nkind="apprise"\nurl_env="ONCALL_URL"')


def test_apprise_reaches_a_real_receiver(receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONCALL_URL", receiver.url.replace("http://", "json://"))
    path = tmp_path / "alerts.toml"
    path.write_text('[[sink]]\nname="a"\nkind="apprise"\nurl_env="ONCALL_URL"')
    data = {"record": "r:7", "began": "2026-01-01T00:00:00Z", "p_value": 0.001, "top": [{"sensor": "flow", "share": 0.8}]}
    event = make_event("opened", "press-7", "a", 0.0, data)
    read_sinks(path)[0].send(event.to_json(), event.id)
    sent = json.loads(receiver.got[0][1])
    assert sent["title"] == "press-7: alarm"
    assert "1 normal record in 1,000" in sent["message"]
    assert "flow (80%)" in sent["message"]


def test_secrets_reach_neither_store_nor_error(store: Store) -> None:
    put(store, 1, ["w"])
    sink = Webhook("w", "http://user:hunter2@127.0.0.1:9/x", "topsecret")
    deliver_due(store, [sink], lambda: 0.0, random.Random(0))
    dump = "\n".join(store._db.iterdump())
    assert "hunter2" not in dump
    assert "topsecret" not in dump
    assert "ConnectError" in dump


def test_words() -> None:
    event = json.loads(make_event("closed", "l", "a", 0.0, {"record": "x", "p_value": 0.5}).to_json())
    assert describe(event)[0] == "l: alarm over"
