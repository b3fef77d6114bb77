"""Readings from an MQTT broker: JSON rows, one number a topic, or Sparkplug B."""

from __future__ import annotations

import os
import queue
import re
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from anomaly.edge.sources.live.row_feed import RowFeed
from anomaly.edge.sources.live.sparkplug import Births, decode
from anomaly.errors import DataError, RecordError, SourceError
from anomaly.schema import InputSchema

PASSWORD = "ANOMALY_MQTT_PASSWORD"  # noqa: S105 - the variable's name
KEEPALIVE_S = 15


class MqttFeed(RowFeed):
    """`mqtt://[USER@]HOST[:PORT]/TOPIC[?qos=1&client=NAME]`, `mqtts://` for TLS; the password comes from ANOMALY_MQTT_PASSWORD.

    A message that is a JSON object is a row: sensor name -> number, with `time` (seconds, ms, or ISO 8601; arrival when there is none).
    One that is a number is a reading of the sensor that the topic's last level names. Topics that begin with `spBv1.0/` are Sparkplug B.
    With `client=NAME` the broker keeps messages while the monitor is away.
    """

    def __init__(self, uri: str, schema: InputSchema, clock: Callable[[], float] = time.time) -> None:
        """Raises DataError for a URI without host or topic, or when paho-mqtt is not installed."""
        parts = urlsplit(uri)
        self._topic = unquote(parts.path.lstrip("/"))
        options = {key: values[-1] for key, values in parse_qs(parts.query).items()}
        if not parts.hostname or not self._topic:
            raise DataError(f"--source {uri}: write it as mqtt://HOST/TOPIC, such as mqtt://broker/plant/pump1/#")
        try:
            import paho.mqtt.client as mqtt
        except ImportError as error:
            raise DataError(f"--source {uri}: needs paho-mqtt; run: pip install 'anomaly-pipeline[mqtt]'") from error
        self._mqtt = mqtt
        self._host, self._user = parts.hostname, parts.username
        self._tls = parts.scheme == "mqtts"
        self._port = parts.port or (8883 if self._tls else 1883)
        self._qos, self._client_name = int(options.get("qos", "1")), options.get("client", "")
        self._births = Births()
        super().__init__(f"mqtt:{parts.hostname}/{self._topic}", schema, clock)

    def run(self) -> None:
        """One connection, from connect to loss."""
        mqtt = self._mqtt
        client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=self._client_name, clean_session=not self._client_name)
        if self._user:
            client.username_pw_set(unquote(self._user), os.environ.get(PASSWORD))
        if self._tls:
            client.tls_set()
        lost: queue.Queue[str] = queue.Queue()
        client.on_connect = lambda c, _u, _f, code, _p: self._subscribe(c, code, lost)
        client.on_disconnect = lambda _c, _u, _f, code, _p: lost.put(f"connection lost ({code})")
        client.on_message = lambda _c, _u, message: self._message(message.topic, message.payload)
        try:
            client.connect(self._host, self._port, keepalive=KEEPALIVE_S)
        except OSError as error:
            raise SourceError(f"no connection to {self._host}:{self._port} ({error})") from error
        client.loop_start()
        try:
            while not self.stopping.is_set():
                try:
                    raise SourceError(lost.get(timeout=0.2))
                except queue.Empty:
                    continue
        finally:
            client.loop_stop()
            client.disconnect()

    def _subscribe(self, client: Any, code: Any, lost: queue.Queue[str]) -> None:
        if code.is_failure:
            lost.put(f"the broker refused the connection ({code}); check user and {PASSWORD}")
            return
        client.subscribe(self._topic, self._qos)
        self.connected()

    def _message(self, topic: str, payload: bytes) -> None:
        now = self.clock()
        if not topic.startswith("spBv1.0/"):
            self.message(f"topic {topic}", topic.rsplit("/", 1)[-1], payload, now)
            return
        try:
            self._sparkplug(topic, payload, now)
        except (RecordError, ValueError) as error:
            self.reject(now, f"topic {topic}: {error}; the message: {payload[:200]!r}")

    def _sparkplug(self, topic: str, payload: bytes, now: float) -> None:
        _, _, kind, *who = topic.split("/")
        if not re.fullmatch(r"[ND](BIRTH|DATA)", kind):
            return  # deaths, commands and states carry no readings
        for moment, readings in self._births.readings("/".join(who), kind.endswith("BIRTH"), decode(payload), now):
            self.reading(moment, readings)
