"""MQTT, with a broker."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from anomaly.buses.mqtt import Broker as Address
from anomaly.buses.mqtt import MqttLink
from anomaly.buses.sparkplug import decode
from anomaly.edge.sources.live.mqtt import MqttFeed
from anomaly.edge.sources.uri import open_source
from anomaly.errors import DataError
from anomaly.schema import Channel
from tests.buses.test_sparkplug import BIRTH, DATA, text, varint, whole
from tests.edge.conftest import until
from tests.edge.sources.conftest import SCHEMA, gather
from tests.integration.servers import free_port, listening, program, serving


class Broker:
    def __init__(self, port: int) -> None:
        self.port = port
        self.start()

    def start(self) -> None:
        command = [program("mosquitto"), "-p", str(self.port)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(lambda: listening(self.port))

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(10)


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
        until(lambda: spark.held._since.max() == 1_700_000_002.0)  # type: ignore[attr-defined]
        assert spark.held._values.tolist() == [2.5, -0.5]  # type: ignore[attr-defined]
    finally:
        feed.close()
        spark.close()


PUMP = SCHEMA.model_copy(update={"sensors": [Channel(name="pressure"), Channel(name="flow")]})


def test_no_message_ends_the_line(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """On 0.8.0 a Sparkplug float of one byte ended the client's thread: no word, and no reading for ever."""
    source = open_source(f"mqtt://127.0.0.1:{broker.port}/spBv1.0/%23", PUMP, lambda _: False, {})
    assert isinstance(source, MqttFeed)
    read = source.message
    monkeypatch.setattr(source, "message", lambda *told: 1 / 0 if told[0] == "topic spBv1.0" else read(*told))
    try:
        until(lambda: not source.poll(0).trouble)
        one_byte = text(2, text(1, b"flow") + whole(4, 9) + text(12, b"\x00"))
        cut = text(2, text(1, b"flow") + whole(4, 9) + varint(12 << 3 | 5) + b"\x00")
        topics = ["spBv1.0/g/NDATA/n"] * 3 + ["spBv1.0/nothing", "spBv1.0"]
        publish(broker.port, list(zip(topics, (one_byte, cut, b"\xff" * 9, BIRTH, b"1"), strict=True)))
        publish(broker.port, [("spBv1.0/g/NBIRTH/n", BIRTH)])
        until(lambda: source.held._since.max() == 1_700_000_000.5)
        poll = source.poll(100)
        reasons = [
            "holds no value",
            "not a Sparkplug B payload",
            "not a Sparkplug B payload",
            "not a topic of Sparkplug B",
            "ZeroDivisionError",
        ]
        assert len(poll.rejected) == len(reasons)
        assert all(reason in one.reason for one, reason in zip(poll.rejected, reasons, strict=True))
        assert source.connects == 1
    finally:
        source.close()


def test_a_node_whose_birth_was_missed_is_asked_for_it(broker: Broker) -> None:
    asked: list[tuple[str, list[str]]] = []

    def node(topic: str, payload: bytes) -> None:
        asked.append((topic, [metric.name for metric in decode(payload).metrics]))
        link.send("spBv1.0/g/NBIRTH/n", BIRTH)

    link = MqttLink(Address.from_uri(f"mqtt://127.0.0.1:{broker.port}"), node)
    source = open_source(f"mqtt://127.0.0.1:{broker.port}/spBv1.0/%23", PUMP, lambda _: False, {})
    assert isinstance(source, MqttFeed)
    try:
        link.open(5.0)
        link.subscribe("spBv1.0/g/NCMD/n", 0, 5.0)
        until(lambda: not source.poll(0).trouble)
        link.publish("spBv1.0/g/NDATA/n", DATA, qos=0, timeout_s=5.0)
        link.publish("spBv1.0/g/NDATA/n", DATA, qos=0, timeout_s=5.0)  # asked once in a while, not at each message

        def answered() -> bool:
            link.step(0.02)
            return source.held._since.max() == 1_700_000_000.5

        until(answered)
        assert asked == [("spBv1.0/g/NCMD/n", ["Node Control/Rebirth"])]
        publish(broker.port, [("spBv1.0/g/NDATA/n", DATA)])
        until(lambda: source.held._values[0] == 2.5)
    finally:
        source.close()
        link.close()


def test_a_broker_that_refuses_is_trouble_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port, passwords, settings = free_port(), tmp_path / "passwords", tmp_path / "conf"
    subprocess.run([program("mosquitto_passwd", "mosquitto"), "-b", "-c", passwords, "anna", "right"], check=True, capture_output=True)
    settings.write_text(f"listener {port} 127.0.0.1\npassword_file {passwords}\nuser root\n")
    with serving([program("mosquitto"), "-c", settings], lambda: listening(port), tmp_path / "log"):
        for password, trouble in (("wrong", "the broker refused the connection (Not authorized); check user and password"), ("right", "")):
            monkeypatch.setenv("ANOMALY_MQTT_PASSWORD", password)
            source = open_source(f"mqtt://anna@127.0.0.1:{port}/plant/pump", SCHEMA, lambda _: False, {})
            try:
                until(lambda: source.poll(0).trouble.endswith(trouble) and (trouble or not source.poll(0).trouble))
            finally:
                source.close()


def test_options_that_cannot_be_met_are_named() -> None:
    for uri, words in (
        ("mqtt://h/t?qos=3", "qos is one of 0, 1, 2, not '3'"),
        ("mqtt://h/t?rebirth=maybe", "rebirth is one of"),
        ("mqtt://h/t?retain=1", "unknown option 'retain'"),
        ("mqtt://h:x/t", "the port is not a number"),
        ("mqtt://[::1/t", "Invalid IPv6 URL"),
        ("mqtt://anna:secret@h/t", "a password does not belong in the URL"),
    ):
        with pytest.raises(DataError, match=re.escape(words)):
            open_source(uri, SCHEMA, lambda _: False, {})
