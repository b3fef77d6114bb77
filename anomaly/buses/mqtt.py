"""One MQTT 3.1.1 connection, for sources and sinks. The thread that uses it drives it, so there is no other thread that could end."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

KEEPALIVE_S = 15
REFUSED = 128  # what the broker grants instead of a quality of service, from here on


@dataclass(frozen=True, slots=True)
class Broker:
    """Where a broker is, and who we are to it. `ca`: a PEM file of the authority that signed its certificate, None for the system's own."""

    host: str
    port: int
    tls: bool = False
    user: str = ""
    password: str = field(default="", repr=False)
    ca: Path | None = None

    @classmethod
    def from_uri(cls, uri: str, password: str = "", ca: Path | None = None) -> Broker:
        """`mqtt://[USER@]HOST[:PORT]`, `mqtts://` for TLS. Raises ValueError saying what is wrong, without repeating the URI.

        >>> Broker.from_uri("mqtts://anna@broker").port
        8883
        """
        parts = urlsplit(uri)
        if parts.scheme not in ("mqtt", "mqtts"):
            raise ValueError("write a URL that begins with mqtt:// or mqtts://")
        if not parts.hostname:
            raise ValueError("the URL names no host")
        if parts.password is not None:
            raise ValueError("a password does not belong in the URL: it is read from the environment")
        try:
            port = parts.port
        except ValueError as error:
            raise ValueError("the port is not a number from 0 to 65535") from error
        tls = parts.scheme == "mqtts"
        return cls(parts.hostname, port or (8883 if tls else 1883), tls, unquote(parts.username or ""), password, ca)


class MqttLink:
    """A connection from `open` to `close`. All its methods belong to one thread at a time.

    `on_message(topic, payload)` is called inside `step` and inside everything that waits for the broker; what it raises comes out there.
    """

    def __init__(
        self,
        broker: Broker,
        on_message: Callable[[str, bytes], None] | None = None,
        *,
        client_id: str = "",
        keep_session: bool = False,
        will: tuple[str, bytes] | None = None,
    ) -> None:
        """`will`: topic and payload that the broker sends (QoS 1) when we are lost. Raises ImportError without paho-mqtt,
        ssl.SSLError and OSError for a bad `ca`.
        """
        import paho.mqtt.client as mqtt

        self._mqtt: Any = mqtt
        self._broker = broker
        self._where = f"{broker.host}:{broker.port}"
        client = self._mqtt.Client(self._mqtt.CallbackAPIVersion.VERSION2, client_id=client_id, clean_session=not keep_session)
        if broker.user:
            client.username_pw_set(broker.user, broker.password or None)
        if broker.tls:
            client.tls_set_context(ssl.create_default_context(cafile=broker.ca))
        if will is not None:
            client.will_set(*will, qos=1)
        self._answer: Any = None  # of the broker to our connecting
        self._granted: dict[int, int] = {}
        client.on_connect = lambda _c, _u, _f, code, _p: setattr(self, "_answer", code)
        client.on_subscribe = lambda _c, _u, mid, codes, _p: self._granted.update({mid: int(codes[0].value)})
        if on_message is not None:
            client.on_message = lambda _c, _u, message: on_message(message.topic, bytes(message.payload))
        self._client = client

    def open(self, timeout_s: float) -> None:
        """Connect, and wait for the broker's word. Raises ConnectionError naming the reason."""
        self._client.connect_timeout = timeout_s
        deadline = time.monotonic() + timeout_s
        try:
            self._client.connect(self._broker.host, self._broker.port, keepalive=KEEPALIVE_S)
        except ssl.SSLCertVerificationError as error:
            raise ConnectionError(f"{self._where}: the certificate was not accepted: {error.verify_message}") from error
        except (OSError, ValueError) as error:
            raise ConnectionError(f"no connection to {self._where} ({error})") from error
        self._client.socket().setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # two small packets in a row wait 40 ms without it
        try:
            self._wait(lambda: self._answer is not None, deadline, "no answer to our connecting")
        except ConnectionError:  # a refusal is followed by the end of the connection
            if self._answer is None:
                raise
        if self._answer.is_failure:
            raise ConnectionError(f"{self._where}: the broker refused the connection ({self._answer}); check user and password")

    def step(self, timeout_s: float) -> None:
        """Wait up to `timeout_s` for something to read or write, and do it. Raises ConnectionError when the connection is lost."""
        code = self._client.loop(timeout_s)
        if code != self._mqtt.MQTT_ERR_SUCCESS:
            raise ConnectionError(f"{self._where}: connection lost ({self._mqtt.error_string(code)})")

    def subscribe(self, topic: str, qos: int, timeout_s: float) -> None:
        """Returns when the broker has granted it: by then it has also taken all that was published before. Raises ConnectionError."""
        code, mid = self._client.subscribe(topic, qos)
        if code != self._mqtt.MQTT_ERR_SUCCESS or mid is None:
            raise ConnectionError(f"{self._where}: not subscribed ({self._mqtt.error_string(code)})")
        self._wait(lambda: mid in self._granted, time.monotonic() + timeout_s, f"no answer to the subscription to {topic}")
        if self._granted.pop(mid) >= REFUSED:
            raise ConnectionError(f"{self._where}: the broker refused the subscription to {topic}; check the user's rights")

    def publish(self, topic: str, payload: bytes, *, qos: int, retain: bool = False, timeout_s: float) -> None:
        """Returns when the broker has confirmed it (QoS 1), or when it is on its way (QoS 0). Raises ConnectionError, and ValueError for a
        topic or payload that MQTT cannot carry.
        """
        sent = self._client.publish(topic, payload, qos, retain)
        if sent.rc != self._mqtt.MQTT_ERR_SUCCESS:
            raise ConnectionError(f"{self._where}: not published ({self._mqtt.error_string(sent.rc)})")
        self._wait(sent.is_published, time.monotonic() + timeout_s, "the message was not confirmed")

    def send(self, topic: str, payload: bytes) -> None:
        """Hand a message over without waiting (QoS 0): it goes out with the next `step`. The one method for use inside `on_message`."""
        self._client.publish(topic, payload, 0)

    def close(self, *, cleanly: bool = True) -> None:
        """End the connection; with `cleanly=False` without a farewell, so that the broker sends the will."""
        with contextlib.suppress(Exception):  # nothing depends on how it ends
            if cleanly:
                self._client.disconnect()
                self._client.loop(0)
        sock = self._client.socket()
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.close()

    def _wait(self, done: Callable[[], bool], deadline: float, words: str) -> None:
        while not done():
            left = deadline - time.monotonic()
            if left <= 0:
                raise ConnectionError(f"{self._where}: {words} in time")
            self.step(min(left, 0.2))
