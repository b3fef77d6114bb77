"""MQTT, with a broker."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator

import numpy as np
import pytest

from anomaly.edge.sources.uri import open_source
from anomaly.schema import Channel
from tests.edge.conftest import until
from tests.edge.sources.conftest import SCHEMA, gather
from tests.edge.sources.live.test_sparkplug import BIRTH, DATA
from tests.integration.servers import free_port, listening, program


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
        until(lambda: spark.held._since.max() == 1_700_000_002.0)  # type: ignore[attr-defined]
        assert spark.held._values.tolist() == [2.5, -0.5]  # type: ignore[attr-defined]
    finally:
        feed.close()
        spark.close()
