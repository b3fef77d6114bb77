"""Readings from Kafka: JSON rows, or one number a message with the sensor's name as its key."""

from __future__ import annotations

import os
import queue
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from anomaly.edge.sources.live.row_feed import RowFeed
from anomaly.errors import DataError, SourceError
from anomaly.schema import InputSchema

PASSWORD = "ANOMALY_KAFKA_PASSWORD"  # noqa: S105 - the variable's name
AT_ONCE, WAIT_S = 500, 0.2  # messages taken at once, and how long they are waited for
CONNECT_S = 10.0


class KafkaFeed(RowFeed):
    """`kafka://[USER@]HOST[:PORT]/TOPIC[?sasl=SCRAM-SHA-512]`, `kafkas://` for TLS; the password comes from ANOMALY_KAFKA_PASSWORD.

    Where a row has no time, the message's time stamp counts. Reading begins at the newest message. After a restart it goes on at the
    stored position, and the rows that the next window needs are read again. Kafka keeps what is not read yet, so nothing is discarded:
    while the queue is full, no messages are fetched. Rows of one line belong in one partition, since order is kept only within a partition.
    """

    def __init__(self, uri: str, schema: InputSchema, position: dict[str, Any], clock: Callable[[], float] = time.time) -> None:
        """Raises DataError for a URI without host or topic, or when confluent-kafka is not installed."""
        parts = urlsplit(uri)
        self._topic = unquote(parts.path.strip("/"))
        if not parts.hostname or not self._topic or "/" in self._topic:
            raise DataError(f"--source {uri}: write it as kafka://HOST/TOPIC, such as kafka://broker:9092/pump1")
        try:
            import confluent_kafka
        except ImportError as error:
            raise DataError(f"--source {uri}: needs confluent-kafka; run: pip install 'anomaly-pipeline[kafka]'") from error
        self._kafka = confluent_kafka
        options = {key: values[-1] for key, values in parse_qs(parts.query).items()}
        self._where = f"{parts.hostname}:{parts.port or 9092}"
        self._settings: dict[str, Any] = {
            "bootstrap.servers": self._where,
            "group.id": "anomaly",  # required by the library; partitions are assigned by hand, and nothing is committed to the broker
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",  # where the broker no longer has what the position asks for
            "log_level": 0,  # what it would print is reported as `trouble`
            "security.protocol": ("SASL_" if parts.username else "") + ("SSL" if parts.scheme == "kafkas" else "PLAINTEXT"),
        }
        if parts.username:
            mechanism = {"sasl.mechanism": options.get("sasl", "SCRAM-SHA-512"), "sasl.username": unquote(parts.username)}
            self._settings |= mechanism | {"sasl.password": os.environ.get(PASSWORD, "")}
        self._next: dict[str, int] = dict(position.get("offsets", {}))  # of each partition, all before it taken
        self._window = schema.window or 1
        super().__init__(f"kafka:{parts.hostname}/{self._topic}", schema, clock)

    def run(self) -> None:
        """One consumer, from its start until no broker can be reached."""
        lost: queue.Queue[str] = queue.Queue()
        consumer = self._kafka.Consumer(self._settings | {"error_cb": lambda error: self._failed(error, lost)})
        try:
            consumer.assign(self._partitions(consumer))
            self.forget()
            self.connected()
            while not self.stopping.is_set():
                if not lost.empty():
                    raise SourceError(lost.get())
                if self.full:
                    self.stopping.wait(WAIT_S)
                    continue
                for message in consumer.consume(AT_ONCE, timeout=WAIT_S):
                    self._message(message, lost)
        finally:
            consumer.close()

    def _partitions(self, consumer: Any) -> list[Any]:
        """All partitions, each from a window's rows before what was taken last, else from its end. Raises SourceError."""
        try:
            found = consumer.list_topics(self._topic, timeout=CONNECT_S).topics[self._topic]
            if found.error is not None:
                raise SourceError(f"topic {self._topic!r}: {found.error.str()}")
            wanted = []
            for number in found.partitions:
                partition = self._kafka.TopicPartition(self._topic, number)
                taken = self._next.get(str(number))
                if taken is None:
                    partition.offset = self._next[str(number)] = consumer.get_watermark_offsets(partition, timeout=CONNECT_S)[1]
                else:
                    partition.offset = max(0, taken - self._window)
                wanted.append(partition)
        except self._kafka.KafkaException as error:
            raise SourceError(f"no connection to {self._where} ({error.args[0].str()})") from error
        return wanted

    def _failed(self, error: Any, lost: queue.Queue[str]) -> None:
        """An error that librdkafka reports beside the messages; it copes by itself when one broker of several goes away."""
        codes = self._kafka.KafkaError
        if error.fatal() or error.code() in (codes._ALL_BROKERS_DOWN, codes._AUTHENTICATION, codes._SSL):
            lost.put(f"{self._where}: {error.str()}")

    def _message(self, message: Any, lost: queue.Queue[str]) -> None:
        if message.error() is not None:
            lost.put(f"{self._where}: {message.error().str()}")
            return
        partition, offset = str(message.partition()), message.offset()
        self.muted = offset < self._next.get(partition, 0)
        self._next[partition] = max(offset + 1, self._next.get(partition, 0))
        self.mark = {"offsets": dict(self._next)}
        kind, stamp = message.timestamp()
        moment = self.clock() if kind == self._kafka.TIMESTAMP_NOT_AVAILABLE else stamp / 1000
        key = (message.key() or b"").decode("utf-8", errors="replace")
        self.message(f"{self._topic}[{partition}]@{offset}", key, message.value() or b"", moment)
