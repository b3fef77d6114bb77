"""Events to a syslog receiver: RFC 5424 over UDP (RFC 5426), TCP with octet counting (RFC 6587) or TLS (RFC 5425)."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import time
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from anomaly.alarms.events import iso
from anomaly.alarms.sinks.base import Sink, SinkSettings
from anomaly.alarms.sinks.parsed import ParsedEvent, parse_event, words_of
from anomaly.errors import SinkError, SpecError
from anomaly.names import one_line

PORTS = {"udp": 514, "tcp": 601, "tls": 6514}
FACILITIES = {"user": 1, "daemon": 3} | {f"local{number}": 16 + number for number in range(8)}
SEVERITY = {"critical": 2, "high": 3, "medium": 4, "low": 5}  # critical, error, warning, notice
NOTICE, INFORMATIONAL = 5, 6
# Structured data of one's own is called NAME@NUMBER with a number that IANA gives to companies; 32473 is the one kept for examples.
SD_ID = "anomaly@32473"
DATAGRAM_BYTES = 2048  # that every receiver by UDP should take
FAREWELL_S = 2.0  # how long a receiver by TCP may take to end the connection as well


def _checked(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in PORTS or not parts.hostname or parts.path.strip("/") or parts.username is not None:
        raise ValueError("write udp://HOST[:PORT], tcp://HOST[:PORT] or tls://HOST[:PORT]")
    try:
        parts.port  # noqa: B018 - read for its check
    except ValueError as error:
        raise ValueError("the port is not a number from 0 to 65535") from error
    return url


class SyslogSettings(SinkSettings):
    kind: Literal["syslog"]
    url: Annotated[str, AfterValidator(_checked)]
    facility: Literal["user", "daemon", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7"] = "local0"
    ca: Path | None = Field(None, description="PEM file of the authority that signed the receiver's certificate")

    def open(self, where: Path) -> Sink:
        try:
            return Syslog(self.name, self.url, self.facility, self.ca, self.timeout_s)
        except OSError as error:  # also ssl.SSLError
            raise SpecError(f"{where}: sink {self.name!r}, key `ca`: {self.ca}: {error}") from error


class Syslog:
    """One message an event. By TCP and TLS each goes on a connection of its own, which the receiver ends once it has read the message.

    By UDP nothing tells whether it was received; it is cut to 2,048 bytes.
    """

    def __init__(self, name: str, url: str, facility: str = "local0", ca: Path | None = None, timeout_s: float = 10.0) -> None:
        parts = urlsplit(url)
        self.name = name
        self._scheme, self._host = parts.scheme, parts.hostname or ""
        self._port = parts.port or PORTS[parts.scheme]
        self._facility = FACILITIES[facility]
        self._timeout_s = timeout_s
        self._tls = ssl.create_default_context(cafile=ca) if parts.scheme == "tls" else None
        self._hostname = "".join(c for c in socket.gethostname() if "!" <= c <= "~")[:255] or "-"

    def send(self, body: str, event_id: str) -> None:
        message = format_message(body, self._facility, self._hostname)
        try:
            if self._scheme == "udp":
                self._datagram(message)
            else:
                self._stream(b"%d %b" % (len(message), message))
        except ssl.SSLCertVerificationError as error:
            raise SinkError(f"{self.name}: TLS: the certificate was not accepted: {error.verify_message}") from error
        except (OSError, ValueError) as error:
            raise SinkError(f"{self.name}: {self._host}:{self._port}: {error or type(error).__name__}") from error

    def close(self) -> None:
        """Nothing is held between two messages."""

    def _datagram(self, message: bytes) -> None:
        family, kind, protocol, _, address = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind, protocol) as sender:
            sender.settimeout(self._timeout_s)
            sender.sendto(cut(message, DATAGRAM_BYTES), address)

    def _stream(self, framed: bytes) -> None:
        deadline = time.monotonic() + self._timeout_s
        with contextlib.ExitStack() as closing:
            stream = closing.enter_context(socket.create_connection((self._host, self._port), timeout=self._timeout_s))
            if self._tls is not None:
                stream.settimeout(max(deadline - time.monotonic(), 0.05))
                stream = closing.enter_context(self._tls.wrap_socket(stream, server_hostname=self._host))
            stream.settimeout(max(deadline - time.monotonic(), 0.05))  # of the whole message, not of each part of it
            stream.sendall(framed)
            self._farewell(stream, min(deadline, time.monotonic() + FAREWELL_S))

    def _farewell(self, stream: socket.socket, deadline: float) -> None:
        """Say that this was all, and see the receiver end the connection too: then it has read it. One that goes on listening is left.

        Raises OSError when it broke the connection off instead.
        """
        if not isinstance(stream, ssl.SSLSocket):
            stream.shutdown(socket.SHUT_WR)  # OSError when the receiver has broken it off
        stream.settimeout(max(deadline - time.monotonic(), 0.05))
        with contextlib.suppress(TimeoutError, ssl.SSLEOFError, ssl.SSLSyscallError):
            if isinstance(stream, ssl.SSLSocket):
                stream = stream.unwrap()
                return
            while stream.recv(4096) and time.monotonic() < deadline:
                pass


def format_message(body: str, facility: int, hostname: str) -> bytes:
    """An event as a message of RFC 5424: its words as the text, what can be searched for as structured data."""
    event = parse_event(body)
    head = f"<{facility * 8 + _severity(event)}>1 {iso(event.time)} {hostname} anomaly {os.getpid()} {event.kind[:32]} "
    return (head + _structured(event)).encode() + b" \xef\xbb\xbf" + words_of(body).encode()


def cut(message: bytes, most: int) -> bytes:
    """At most so many bytes, never half a letter.

    >>> cut("aé".encode(), 2)
    b'a'
    """
    return message if len(message) <= most else message[:most].decode(errors="ignore").encode()


def _severity(event: ParsedEvent) -> int:
    if event.on is False:
        return INFORMATIONAL
    if event.on is None:
        return NOTICE
    return SEVERITY.get(event.text("priority"), SEVERITY["medium"])


def _structured(event: ParsedEvent) -> str:
    values = {"id": event.id, "line": one_line(event.line), "alarm": one_line(event.alarm)}
    values |= {key: event.text(key)[:200] for key in ("class", "condition", "priority", "state", "record", "bundle")}
    return "[" + " ".join([SD_ID, *(f'{key}="{_escaped(value)}"' for key, value in values.items() if value)]) + "]"


def _escaped(value: str) -> str:
    r"""A value between quotes by RFC 5424, section 6.3.3.

    >>> print(_escaped('a"b]c\\d'))
    a\"b\]c\\d
    """
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("]", "\\]")
