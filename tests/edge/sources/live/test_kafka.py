"""Kafka, with librdkafka's own broker, which speaks the protocol on loopback."""

from __future__ import annotations

import json

import pytest

from anomaly.edge.sources.uri import open_source
from anomaly.errors import DataError
from tests.edge.conftest import until
from tests.edge.sources.conftest import SCHEMA, gather
from tests.integration.servers import free_port


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


def test_kafka_rows_go_on_where_the_store_says_with_a_whole_window(kafka) -> None:
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
    assert later[0].payload[:, 0].tolist() == [2, 3, 5]  # the rows before were read again
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
