"""Readings from an MQTT broker: JSON rows, one number a topic, or Sparkplug B."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from urllib.parse import parse_qs, unquote, urlsplit

from anomaly.buses.mqtt import Broker, MqttLink
from anomaly.buses.sparkplug import decode
from anomaly.edge.sources.live.row_feed import RowFeed
from anomaly.edge.sources.live.sparkplug import NAMESPACE, SparkplugReader, Who, parse_topic, rebirth_request
from anomaly.errors import DataError, RecordError, SourceError
from anomaly.schema import InputSchema

PASSWORD = "ANOMALY_MQTT_PASSWORD"  # noqa: S105 - the variable's name
CONNECT_S = 10.0
ASK_AGAIN_S = 60.0  # an edge node is asked for its births at most once in that time


class MqttFeed(RowFeed):
    """`mqtt://[USER@]HOST[:PORT]/TOPIC[?qos=1&client=NAME]`, `mqtts://` for TLS; the password comes from ANOMALY_MQTT_PASSWORD.

    A message that is a JSON object is a row: sensor name -> number, with `time` (seconds, ms, or ISO 8601; arrival when there is none).
    One that is a number is a reading of the sensor that the topic's last level names. Topics that begin with `spBv1.0/` are Sparkplug B;
    an edge node whose births were missed is asked for them (`?rebirth=no`: it is not). With `client=NAME` the broker keeps messages while
    the monitor is away. Whatever a message holds, it is read or set aside.
    """

    def __init__(self, uri: str, schema: InputSchema, clock: Callable[[], float] = time.time) -> None:
        """Raises DataError for a URI without host or topic or with an unknown option, or when paho-mqtt or protobuf is not installed."""
        where = f"--source {uri}"
        try:
            self._broker = Broker.from_uri(uri, os.environ.get(PASSWORD, ""))
            parts = urlsplit(uri)
            options = {key: values[-1] for key, values in parse_qs(parts.query).items()}
            self._topic = unquote(parts.path.lstrip("/"))
            if not self._topic:
                raise ValueError("no topic is named")
            if unknown := sorted(set(options) - {"qos", "client", "rebirth"}):
                raise ValueError(f"unknown option {unknown[0]!r}; known are qos, client and rebirth")
            self._qos = _one_of(options, "qos", ("0", "1", "2"), 1)
            self._ask = _one_of(options, "rebirth", ("no", "yes"), 1) == 1
        except ValueError as error:
            raise DataError(f"{where}: {error}; write it as mqtt://HOST/TOPIC, such as mqtt://broker/plant/pump1/%23") from error
        self._client_name = options.get("client", "")
        try:
            decode(b"")
            MqttLink(self._broker)
        except ImportError as error:
            raise DataError(f"{where}: needs {error.name}; run: pip install 'anomaly-pipeline[mqtt]'") from error
        self._asked: dict[Who, float] = {}
        self._link: MqttLink | None = None
        self._reader = SparkplugReader({sensor.name for sensor in schema.sensors}.__contains__)
        super().__init__(f"mqtt:{self._broker.host}/{self._topic}", schema, clock)

    def run(self) -> None:
        """One connection, from connect to loss."""
        self._reader.forget()  # births may have been told while we were away
        link = self._link = MqttLink(self._broker, self.take, client_id=self._client_name, keep_session=bool(self._client_name))
        try:
            link.open(CONNECT_S)
            link.subscribe(self._topic, self._qos, CONNECT_S)
            self.connected()
            while not self.stopping.is_set():
                link.step(0.2)
        except ConnectionError as error:
            raise SourceError(str(error)) from error
        finally:
            link.close()

    def take(self, topic: str, payload: bytes) -> None:
        """One message. Whatever it holds, it is read or set aside: the connection goes on."""
        now = self.clock()
        try:
            if topic.startswith(f"{NAMESPACE}/"):
                self._sparkplug(topic, payload, now)
            else:
                self.message(f"topic {topic}", topic.rsplit("/", 1)[-1], payload, now)
        except RecordError as error:
            self.reject(now, f"topic {topic}: {error}; the message: {payload[:200]!r}")
        except Exception as error:  # one message never ends the line
            self.reject(now, f"topic {topic}: {type(error).__name__}: {error}; the message: {payload[:200]!r}")

    def _sparkplug(self, topic: str, payload: bytes, now: float) -> None:
        parsed = parse_topic(topic)
        if parsed is None:
            return  # commands and states carry no readings
        kind, who = parsed
        found = self._reader.take(kind, who, decode(payload), now)
        for moment, readings in found.readings:
            self.reading(moment, readings)
        if found.problems:
            self.reject(now, f"topic {topic}: " + "; ".join(found.problems))
        if found.rebirth and self._ask:
            self._ask_for_births((*who[:2], ""), now)

    def _ask_for_births(self, node: Who, now: float) -> None:
        asked = self._asked.get(node)
        if self._link is not None and (asked is None or not 0 <= now - asked < ASK_AGAIN_S):
            self._asked[node] = now
            self._link.send(*rebirth_request(node, now))


def _one_of(options: dict[str, str], name: str, known: tuple[str, ...], default: int) -> int:
    """Where an option's value stands among those known. Raises ValueError naming them."""
    value = options.get(name, known[default])
    if value not in known:
        raise ValueError(f"{name} is one of {', '.join(known)}, not {value!r}")
    return known.index(value)
