"""The alarms of each line as metrics of a Sparkplug B edge node, for SCADA systems (Eclipse Sparkplug 3.0)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from anomaly.alarms.sinks.base import Sink
from anomaly.alarms.sinks.bus.kept_link import BrokerSettings, BrokerUrl, KeptLink
from anomaly.alarms.sinks.parsed import OpenAlarms, as_level, parse_event
from anomaly.buses.mqtt import Broker, MqttLink
from anomaly.buses.sparkplug import BOOLEAN, INT32, INT64, STRING, Metric, Payload, decode, encode, told
from anomaly.errors import RecordError

NAMESPACE = "spBv1.0"
REBIRTH = "Node Control/Rebirth"


class SparkplugSettings(BrokerSettings):
    kind: Literal["sparkplug"]
    url: Annotated[str, BrokerUrl]
    group: str = Field(pattern=r"^[^+#/\x00-\x20]{1,80}$", description="the Sparkplug group")
    node: str = Field("anomaly", pattern=r"^[^+#/\x00-\x20]{1,80}$", description="the edge node's name, its own for each monitor or box")

    def open(self, where: Path) -> Sink:
        broker = self.broker(where)
        return self.made(where, lambda: SparkplugSink(self.name, broker, self.group, self.node, self.timeout_s))


class SparkplugSink:
    """An edge node with two metrics a line: `LINE/Open alarms` (Int32) and `LINE/Last event` (String, the CloudEvents JSON).

    The node is born when delivery begins, with the first event at the latest, and stays: it connects again by itself, and the broker
    tells its death when it is lost. Sparkplug sends data without confirmation (QoS 0). So each event is followed by a question that the
    broker answers, on the same connection: with the answer it has the event too.
    """

    def __init__(
        self, name: str, broker: Broker, group: str, node: str, timeout_s: float = 10.0, clock: Callable[[], float] = time.time
    ) -> None:
        self.name = name
        self._clock = clock
        self._topics = {kind: f"{NAMESPACE}/{group}/{kind}/{node}" for kind in ("NBIRTH", "NDATA", "NDEATH", "NCMD")}
        self._broker = broker
        self._session = int(clock()) % 256  # bdSeq: which birth a death belongs to; not the same again after a restart
        self._ends = False
        self._seq = 0
        self._open = OpenAlarms()
        self._last: dict[str, tuple[str, float]] = {}  # by line: the last event's text and time
        encode(Payload(None, ()))  # that protobuf is missing is seen now
        self._kept = KeptLink(name, self._connection, self._born, timeout_s, stay=True)

    def send(self, body: str, event_id: str) -> None:
        event = parse_event(body)
        with self._kept.use() as (link, left_s):  # what goes wrong in here ends the connection; the next one's birth tells all of it
            known = event.line in self._last
            count = self._open.apply(event)
            self._last[event.line] = (body, event.time)
            if known:
                self._seq = (self._seq + 1) % 256
                link.send(self._topics["NDATA"], encode(Payload(self._clock(), self._metrics(event.line, count), self._seq)))
            else:
                self._birth(link)  # a metric that no birth has named must not come
            link.subscribe(self._topics["NCMD"], 1, left_s())

    def recall(self, told: Sequence[str]) -> None:
        """What was told before is part of the birth, which comes now."""
        for body, event in zip(told, self._open.recall(told), strict=True):
            self._last[event.line] = (body, event.time)
        self._kept.begin()

    def close(self) -> None:
        self._ends = True
        self._kept.close(lambda link: link.publish(self._topics["NDEATH"], self._death(), qos=1, timeout_s=2.0))

    def _connection(self) -> MqttLink:
        self._session = (self._session + 1) % 256
        link = MqttLink(
            self._broker, lambda topic, payload: self._heard(link, topic, payload), will=(self._topics["NDEATH"], self._death())
        )
        return link

    def _born(self, link: MqttLink, timeout_s: float) -> None:
        link.subscribe(self._topics["NCMD"], 1, timeout_s)
        link.subscribe(self._topics["NDEATH"], 1, timeout_s)
        self._birth(link)

    def _birth(self, link: MqttLink) -> None:
        self._seq = 0
        node = (told("bdSeq", INT64, self._session), told(REBIRTH, BOOLEAN, False))
        counts = self._open.lines()
        lines = [metric for line in self._last for metric in self._metrics(line, counts.get(line, 0))]
        link.send(self._topics["NBIRTH"], encode(Payload(self._clock(), (*node, *lines), 0)))

    def _metrics(self, line: str, count: int) -> tuple[Metric, Metric]:
        body, moment = self._last[line]
        name = as_level(line)
        return told(f"{name}/Open alarms", INT32, count, moment), told(f"{name}/Last event", STRING, body, moment)

    def _death(self) -> bytes:
        return encode(Payload(None, (told("bdSeq", INT64, self._session),)))

    def _heard(self, link: MqttLink, topic: str, payload: bytes) -> None:
        """A host asks for our birth. Or a death is told: late of a session before this one, or of another process with our name, such as a
        test of this sink. Hosts are told that we live.
        """
        if self._ends:
            return
        try:
            metrics = {metric.name: metric.number() for metric in decode(payload).metrics if metric.name in (REBIRTH, "bdSeq")}
        except RecordError:
            return  # not for us
        if topic == self._topics["NDEATH"] or (topic == self._topics["NCMD"] and metrics.get(REBIRTH)):
            self._birth(link)
