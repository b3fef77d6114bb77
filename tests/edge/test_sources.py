"""Live sources against real servers on loopback, and what becomes of readings that come one by one."""

from __future__ import annotations

import asyncio
import io
import json
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from anomaly.data.records import Record
from anomaly.edge.sources.base import Source
from anomaly.edge.sources.csv_file import CsvSource
from anomaly.edge.sources.live.feed import Feed
from anomaly.edge.sources.live.sparkplug import Births, decode
from anomaly.edge.sources.rows import SampleAndHold
from anomaly.edge.sources.table_folder import TableFolder
from anomaly.edge.sources.uri import open_source
from anomaly.errors import DataError, RecordError, SourceError
from anomaly.schema import Channel, InputSchema

SCHEMA = InputSchema(
    name="window", dtype="float32", channels=2, window=3, context=2, period_s=1.0, max_gap_s=10,
    sensors=[Channel(name="a"), Channel(name="b", high=50)],
)  # fmt: skip
IMAGE = InputSchema(name="image", dtype="uint8", channels=3)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def until(found: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait for something to become true; fails when it does not."""
    end = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def gather(source: Source, count: int, seconds: float = 20.0) -> list[Record]:
    found: list[Record] = []

    def enough() -> bool:
        found.extend(source.poll(100).records)
        return len(found) >= count

    until(enough, seconds)
    return found


# --- CSV: a block at once is what line by line is ---


@pytest.mark.parametrize("odd", ["", '5,"5",50,x\n', "5,oops,50,x\n", "\n", "5,5,,x\n", "5,NaN,1e3,x\n"])
def test_a_block_at_once_is_what_line_by_line_gives(tmp_path: Path, odd: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f.csv"
    path.write_text(
        "time,a,b,note\n" + "".join(f"{i},{i / 7},{i},x\n" for i in range(5)) + odd + "".join(f"{i},{i},3,x\n" for i in range(6, 60))
    )
    quick = CsvSource(path, SCHEMA, {}).poll(1000)
    monkeypatch.setattr(CsvSource, "_bulk", lambda *_: None)
    slow = CsvSource(path, SCHEMA, {}).poll(1000)
    assert [(r.id, r.time, r.payload.tobytes()) for r in quick.records] == [(r.id, r.time, r.payload.tobytes()) for r in slow.records]
    assert quick.rejected == slow.rejected
    assert quick.position == slow.position
    assert len(quick.records) > 50


@pytest.mark.parametrize("stamp", ["2026-03-01 10:00:{:02d}", "2026-03-01T10:00:{:02d}Z", "2026-03-01T12:00:{:02d}+02:00"])
def test_dates_are_read_alike(tmp_path: Path, stamp: str) -> None:
    path = tmp_path / "f.csv"
    path.write_text("time;a;b\n" + "".join(f"{stamp.format(i)};{i};1\n" for i in range(5)))
    times = [r.time for r in CsvSource(path, SCHEMA, {}).poll(100).records]
    assert times == [pd.Timestamp("2026-03-01 10:00", tz="UTC").timestamp() + i for i in (2, 3, 4)]


# --- tables in a folder ---


def put_table(folder: Path, name: str, start: int, stop: int, age: float) -> None:
    import os

    frame = pd.DataFrame({"time": np.arange(start, stop, dtype=float) + 1e9, "a": np.arange(start, stop) * 1.0, "b": 1.0})
    frame.to_parquet(folder / name)
    os.utime(folder / name, (time.time() - age, time.time() - age))


@pytest.mark.parametrize("limit", [3, 7, 100])
def test_tables_in_a_folder_go_on_where_the_one_before_ended(tmp_path: Path, limit: int) -> None:
    put_table(tmp_path, "z.parquet", 0, 10, 50)
    put_table(tmp_path, "a.parquet", 10, 20, 40)
    (tmp_path / "broken.parquet").write_bytes(b"junk")
    import os

    os.utime(tmp_path / "broken.parquet", (1, 1))
    found, bad, position = [], [], {}
    for _ in range(20):  # a new process for every poll
        poll = TableFolder(tmp_path, SCHEMA, position).poll(limit)
        found += poll.records
        bad += poll.rejected
        position = poll.position
    assert [r.time - 1e9 for r in found] == list(range(2, 20))
    assert found[10].payload[:, 0].tolist() == [8.0, 9.0, 10.0, 11.0, 12.0]  # context over the end of a file
    assert [item.id.split("@")[0] for item in bad] == ["broken.parquet"]


# --- held readings ---


def test_readings_that_come_one_by_one_are_held_and_cut_into_rows() -> None:
    held = SampleAndHold(SCHEMA)
    assert held.take(100.2, {"a": 1.0}) == []
    rows = held.take(102.5, {"b": 60.0})  # beyond its limit: missing
    assert [(when, row.tolist()[0]) for when, row in rows] == [(101.0, 1.0), (102.0, 1.0)]
    assert np.isnan(rows[0][1][1])
    (last,) = held.take(103.1, {"b": 2.0, "unknown": 5.0})
    assert np.isnan(last[1][1])
    (fresh,) = held.take(104.0, {})
    assert fresh[1].tolist() == [1.0, 2.0]
    assert held.take(200.0, {"a": 3.0}) == []  # a long silence makes up no rows


# --- Sparkplug B, as another implementation writes it (pysparkplug 0.6.1) ---

BIRTH = bytes.fromhex(
    "08fbd095ffbc31121e0a087072657373757265100118f4d395ffbc31200a69000000000000f43f12160a04666c6f77100218f4d395ffbc31200965000000bf12180a05"
    "76616c7665100318f4d395ffbc31200350f9ffffff0f12110a026f6e100418f4d395ffbc31200b700112190a05636f756e74100518f4d395ffbc312008588080808080"
    "2012140a0474657874100618f4d395ffbc31200c7a017812130a04676f6e65100718f4d395ffbc31200a38011800"
)
DATA = bytes.fromhex("08d0df95ffbc31120b10016900000000000004401209100228016500004040")


def test_sparkplug_births_and_data() -> None:
    births = Births()
    with pytest.raises(RecordError, match="alias 1 of g/n is not known yet"):
        list(births.readings("g/n", False, decode(DATA), 0.0))
    ((moment, readings),) = births.readings("g/n", True, decode(BIRTH), 0.0)
    assert moment == 1_700_000_000.5
    assert readings == {"pressure": 1.25, "flow": -0.5, "valve": -7.0, "on": 1.0, "count": float(1 << 40)}
    assert list(births.readings("g/n", False, decode(DATA), 0.0)) == [(1_700_000_002.0, {"pressure": 2.5})]  # the historical one is left
    for cut in range(1, len(BIRTH) - 2):
        try:
            decode(BIRTH[:cut])
        except RecordError:
            continue
    with pytest.raises(RecordError, match="cut short"):
        decode(BIRTH[:-5])


# --- MQTT, with a broker ---


class Broker:
    def __init__(self, port: int) -> None:
        self.port = port
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen([mosquitto(), "-p", str(self.port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

        def up() -> bool:
            with socket.socket() as one:
                return one.connect_ex(("127.0.0.1", self.port)) == 0

        until(up)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(10)


def mosquitto() -> str:
    for path in (shutil.which("mosquitto"), "/usr/sbin/mosquitto"):
        if path and Path(path).exists():
            return path
    for command in (["apt-get", "update", "-qq"], ["apt-get", "install", "-y", "-qq", "mosquitto"]):
        if not shutil.which("apt-get") or subprocess.run(command, capture_output=True).returncode:
            pytest.skip("no mosquitto here, and it cannot be installed")
    return "/usr/sbin/mosquitto"


@pytest.fixture
def broker() -> Iterator[Broker]:
    one = Broker(free_port())
    yield one
    one.stop()


def publish(port: int, messages: list[tuple[str, bytes]]) -> None:
    import paho.mqtt.publish as mqtt

    mqtt.multiple([{"topic": topic, "payload": payload, "qos": 1} for topic, payload in messages], hostname="127.0.0.1", port=port)


def test_mqtt_rows_come_again_after_the_broker_was_away(broker: Broker) -> None:
    source = open_source(f"mqtt://127.0.0.1:{broker.port}/plant/pump", SCHEMA, lambda _: False, {})
    try:
        until(lambda: not source.poll(1).trouble)
        row = lambda i: ("plant/pump", json.dumps({"time": 1e9 + i, "a": i, "b": 2 * i, "name": "x"}).encode())  # noqa: E731
        publish(broker.port, [row(i) for i in range(4)] + [("plant/pump", b"{broken"), row(2)])
        rejected = []

        def all_seen() -> bool:
            rejected.extend(source.poll(0).rejected)
            return len(source._queue) >= 4  # type: ignore[attr-defined]

        until(all_seen)
        poll = source.poll(100)
        assert [r.time - 1e9 for r in poll.records] == [2, 3]
        assert poll.records[1].payload[-3:].tolist() == [[1, 2], [2, 4], [3, 6]]
        assert "topic plant/pump" in poll.rejected[0].reason
        assert "came after one of" in poll.rejected[1].reason
        broker.stop()
        until(lambda: "connection" in source.poll(1).trouble)
        broker.start()
        until(lambda: not source.poll(1).trouble)
        publish(broker.port, [row(i) for i in range(5, 7)])
        assert [r.time - 1e9 for r in gather(source, 2)] == [5, 6]
    finally:
        source.close()


def test_mqtt_one_number_a_topic_and_sparkplug(broker: Broker) -> None:
    clock = iter(np.arange(1000.0, 2000.0, 0.25))
    from anomaly.edge.sources.live.mqtt import MqttFeed

    feed = MqttFeed(f"mqtt://127.0.0.1:{broker.port}/plant/pump/+", SCHEMA, clock=lambda: float(next(clock)))
    schema = SCHEMA.model_copy(update={"sensors": [Channel(name="pressure"), Channel(name="flow")]})
    spark = open_source(f"mqtt://127.0.0.1:{broker.port}/spBv1.0/%23", schema, lambda _: False, {})
    try:
        until(lambda: not feed.poll(1).trouble and not spark.poll(1).trouble)
        publish(broker.port, [(f"plant/pump/{name}", b"%d" % i) for i in range(16) for name in ("a", "b")])
        records = gather(feed, 4)
        assert [r.time % 1 for r in records] == [0.0] * len(records)
        assert np.diff([r.time for r in records]).tolist() == [1.0] * (len(records) - 1)
        with pytest.raises(AssertionError):
            gather(spark, 1, 0.5)
        publish(broker.port, [("spBv1.0/g/NBIRTH/n", BIRTH), ("spBv1.0/g/NDATA/n", DATA), ("spBv1.0/g/NDATA/n", DATA[:9])])
        until(lambda: spark._held._since.max() == 1_700_000_002.0)  # type: ignore[attr-defined]
        assert spark._held._values.tolist() == [2.5, -0.5]  # type: ignore[attr-defined]
    finally:
        feed.close()
        spark.close()


# --- Kafka: librdkafka's own broker, which speaks the protocol on loopback ---


@pytest.fixture
def kafka() -> tuple[object, int]:
    """A producer that holds the broker, and the broker's port."""
    from confluent_kafka import Producer

    producer = Producer({"test.mock.num.brokers": 1, "log_level": 0})
    (broker,) = producer.list_topics(timeout=10).brokers.values()
    send(producer, "pump", [{"a": 0}])  # makes the topic
    return producer, broker.port


def send(producer, topic: str, rows: list, start: int = 0) -> None:
    for i, row in enumerate(rows, start):
        payload = row if isinstance(row, bytes) else json.dumps(row).encode()
        producer.produce(topic, payload, partition=0, timestamp=1_000_000_000_000 + 1000 * i)
    assert producer.flush(10) == 0


def test_kafka_rows_go_on_where_the_store_says_with_their_context(kafka) -> None:
    producer, port = kafka
    uri = f"kafka://127.0.0.1:{port}/pump"
    source = open_source(uri, SCHEMA, lambda _: False, {})
    until(lambda: not source.poll(1).trouble)
    send(producer, "pump", [{"a": i, "b": 2 * i, "name": "x"} for i in range(4)] + [b"{broken"], start=0)
    polls = []

    def both() -> bool:
        polls.append(source.poll(100))
        return sum(len(p.records) for p in polls) >= 2 and any(p.rejected for p in polls)

    until(both)
    records = [r for p in polls for r in p.records]
    assert [r.time - 1e9 for r in records] == [2, 3]  # what was there before is not history to be made up for
    assert "pump[0]@" in next(p.rejected[0].reason for p in polls if p.rejected)
    position = next(p.position for p in reversed(polls) if p.position)
    source.close()
    send(producer, "pump", [{"a": i, "b": 2 * i} for i in range(5, 8)], start=5)  # while nobody listens
    again = open_source(uri, SCHEMA, lambda _: False, position)
    later = gather(again, 3)
    assert [r.time - 1e9 for r in later] == [5, 6, 7]  # none twice, none lost
    assert later[0].payload[-3:, 0].tolist() == [2, 3, 5]  # the context was read again
    again.close()


def test_kafka_holds_back_what_a_full_queue_has_no_room_for_and_says_when_it_is_away(kafka, monkeypatch: pytest.MonkeyPatch) -> None:
    from anomaly.edge.sources.live import kafka as module

    monkeypatch.setattr(module, "AT_ONCE", 1)
    monkeypatch.setattr(module, "CONNECT_S", 1.0)
    producer, port = kafka
    source = open_source(f"kafka://127.0.0.1:{port}/pump", SCHEMA, lambda _: False, {})
    source._most = 5  # type: ignore[attr-defined]
    until(lambda: not source.poll(1).trouble)
    send(producer, "pump", [{"a": i, "b": i} for i in range(40)])
    until(lambda: source.full)  # type: ignore[attr-defined]
    polls = []

    def all_there() -> bool:
        polls.append(source.poll(2))
        return sum(len(p.records) for p in polls) == 38

    until(all_there)
    assert sum(p.dropped for p in polls) == 0
    assert [r.time - 1e9 for p in polls for r in p.records] == list(range(2, 40))
    source.close()
    nobody = open_source(f"kafka://127.0.0.1:{free_port()}/pump", SCHEMA, lambda _: False, {})
    until(lambda: "no connection to 127.0.0.1" in nobody.poll(1).trouble)
    nobody.close()
    with pytest.raises(DataError, match="write it as kafka://HOST/TOPIC"):
        open_source(f"kafka://127.0.0.1:{port}", SCHEMA, lambda _: False, {})


# --- OPC UA, with a server ---


class OpcServer:
    def __init__(self, port: int) -> None:
        self.port = port
        self.start()

    def start(self) -> None:
        self._ready, self._stop, self._failed = threading.Event(), threading.Event(), []
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        assert self._ready.wait(30)

    async def _serve(self) -> None:
        from asyncua import Server, ua

        server = Server()
        await server.init()
        server.set_endpoint(f"opc.tcp://127.0.0.1:{self.port}/")
        pump = await server.nodes.objects.add_object(ua.NodeId("Pump", 2), ua.QualifiedName("Pump", 2))
        nodes = [await pump.add_variable(ua.NodeId(n, 2), ua.QualifiedName(n, 2), 0.0) for n in ("a", "b", "other")]
        async with server:
            self._ready.set()
            count = 0
            while not self._stop.is_set():
                count += 1
                for factor, node in enumerate(nodes, 1):
                    await node.write_value(float(factor * count % 40))
                await asyncio.sleep(0.02)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(20)


def test_opc_ua_subscription_comes_again_after_the_server_was_away() -> None:
    server = OpcServer(free_port())
    schema = SCHEMA.model_copy(update={"period_s": 0.1, "max_gap_s": 2.0})
    source = open_source(f"opc.tcp://127.0.0.1:{server.port}/?under=ns=2;s=Pump", schema, lambda _: False, {})
    try:
        records = gather(source, 10)
        assert np.allclose(np.diff([r.time for r in records]), 0.1, atol=1e-3)
        known = np.concatenate([r.payload[-1:] for r in records[5:]])
        assert np.isfinite(known).all()
        server.stop()
        until(lambda: bool(source.poll(1000).trouble), 30)
        server.start()
        until(lambda: not source.poll(1000).trouble, 40)
        assert gather(source, 3)
    finally:
        source.close()
        server.stop()
    wrong = open_source(f"opc.tcp://127.0.0.1:{server.port}/", schema, lambda _: False, {})
    until(lambda: "no connection" in wrong.poll(1).trouble, 30)
    wrong.close()


# --- pictures over HTTP ---


class Camera(BaseHTTPRequestHandler):
    frames = 0

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=f")
        self.end_headers()
        try:
            for _ in range(40):
                Camera.frames += 1
                buffer = io.BytesIO()
                Image.new("RGB", (64, 48), (200, 30, Camera.frames % 200)).save(buffer, "JPEG")
                self.wfile.write(b"--f\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(buffer.getvalue()))
                self.wfile.write(buffer.getvalue() + b"\r\n")
                time.sleep(0.02)
        except OSError:
            return

    def log_message(self, *_: object) -> None:
        return


def test_a_live_camera_gives_the_newest_pictures_and_comes_again() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Camera)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    source = open_source(f"http://127.0.0.1:{server.server_port}/v.mjpg", IMAGE, lambda _: False, {})
    try:
        record = gather(source, 1, 30)[0]
        assert record.payload.shape == (48, 64, 3)
        assert record.payload[0, 0, 0] > record.payload[0, 0, 1] + 100  # red first
        before = source.connects  # type: ignore[attr-defined]
        until(lambda: source.connects > before, 30)  # type: ignore[attr-defined]  # the stream ends after 40 pictures
        assert gather(source, 1, 30)
    finally:
        source.close()
        server.shutdown()


def test_a_full_queue_lets_the_oldest_go_and_says_how_many() -> None:
    class Burst(Feed):
        def run(self) -> None:
            self.connected()
            for i in range(100):
                self.put(Record(str(i), float(i), np.zeros(1)))
            self.stopping.wait()
            raise SourceError("gone")

    feed = Burst("burst", 10)
    until(lambda: len(feed._queue) == 10 and feed._dropped == 90)
    poll = feed.poll(100)
    assert [r.id for r in poll.records] == [str(i) for i in range(90, 100)]
    assert poll.dropped == 90
    feed.close()


def test_sources_that_do_not_fit_are_named() -> None:
    with pytest.raises(DataError, match="this bundle takes sensor rows"):
        open_source("rtsp://127.0.0.1/x", SCHEMA, lambda _: False, {})
    with pytest.raises(DataError, match="write it as mqtt://HOST/TOPIC"):
        open_source("mqtt://127.0.0.1", SCHEMA, lambda _: False, {})
    with pytest.raises(DataError, match="16-bit pictures"):
        open_source("camera:0", IMAGE.model_copy(update={"dtype": "uint16"}), lambda _: False, {})
