"""Readings from an MQTT broker: JSON rows, one number a topic, or Sparkplug B."""

from __future__ import annotations

import json
import os
import queue
import re
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pandas as pd

from anomaly.bundle.manifest import InputSchema
from anomaly.data.sensors import TIME_NAMES, time_divisor
from anomaly.edge.row_feed import RowFeed
from anomaly.edge.sparkplug import Births, decode
from anomaly.errors import DataError, RecordError, SourceError

PASSWORD = "ANOMALY_MQTT_PASSWORD"  # noqa: S105 - the variable's name
KEEPALIVE_S = 15


class MqttFeed(RowFeed):
    """`mqtt://[USER@]HOST[:PORT]/TOPIC[?qos=1&client=NAME]`, `mqtts://` for TLS; the password comes from ANOMALY_MQTT_PASSWORD.

    A message that is a JSON object is a row: sensor name -> number, with `time` (seconds, ms, or ISO 8601; arrival when there is none).
    One that is a number is a reading of the sensor that the topic's last level names. Topics that begin with `spBv1.0/` are Sparkplug B.
    With `client=NAME` the broker keeps what comes while this end is away.
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
        try:
            if topic.startswith("spBv1.0/"):
                self._sparkplug(topic, payload, now)
                return
            text = payload.decode("utf-8").strip()
            value = json.loads(text)
            if isinstance(value, dict):
                self.whole_row(*_row(value, now))
            elif isinstance(value, int | float) and not isinstance(value, bool):
                self.reading(now, {topic.rsplit("/", 1)[-1]: float(value)})
            else:
                raise RecordError("neither a JSON object nor a number")
        except (RecordError, ValueError) as error:
            self.reject(now, f"topic {topic}: {error}; the message: {payload[:200]!r}")

    def _sparkplug(self, topic: str, payload: bytes, now: float) -> None:
        _, _, kind, *who = topic.split("/")
        if not re.fullmatch(r"[ND](BIRTH|DATA)", kind):
            return  # deaths, commands and states carry no readings
        for moment, readings in self._births.readings("/".join(who), kind.endswith("BIRTH"), decode(payload), now):
            self.reading(moment, readings)


def _row(message: dict[str, Any], now: float) -> tuple[float, dict[str, float]]:
    """(time, readings) of a JSON object. Raises RecordError naming the key."""
    moment, readings = now, {}
    for key, value in message.items():
        if key.lower() in TIME_NAMES or key.lower() == "ts":
            moment = _moment(key, value)
        elif value is None:
            continue
        elif (isinstance(value, int | float) and not isinstance(value, bool)) or isinstance(value, bool):
            readings[key] = float(value)
        else:
            continue  # a text beside the readings: a name, a state
    return moment, readings


def _moment(key: str, value: Any) -> float:
    if isinstance(value, int | float):
        return float(value) / time_divisor(abs(float(value)))
    stamp = pd.to_datetime(value, errors="coerce", utc=True)
    if pd.isna(stamp):
        raise RecordError(f"key {key!r}: time {value!r} cannot be read")
    return float(stamp.timestamp())
