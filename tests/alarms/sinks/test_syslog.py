"""Syslog: what a receiver by UDP, TCP and TLS reads."""

from __future__ import annotations

import re
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from anomaly.alarms.sinks.base import Sink
from anomaly.alarms.sinks.syslog import format_message
from anomaly.errors import SinkError, SpecError
from tests.alarms.sinks.conftest import HOSTILE, event
from tests.edge.conftest import until
from tests.integration.servers import free_port, program

# RFC 5424, section 6: the header, one element of structured data with quoted values, the text
MESSAGE = re.compile(r'<(\d+)>1 (\S+) (\S+) anomaly (\d+) (\S+) (\[anomaly@32473( [a-z]+="(\\["\\\]]|[^"\\\]])*")+\]) \ufeff(.*)')


def read(raw: bytes) -> tuple[int, str, dict[str, str], str]:
    """(priority value, message id, structured data, text)"""
    found = MESSAGE.fullmatch(raw.decode())
    assert found, raw
    values = dict(re.findall(r'([a-z]+)="((?:\\["\\\]]|[^"\\\]])*)"', found[6]))
    return int(found[1]), found[5], {key: re.sub(r'\\(["\\\]])', r"\1", value) for key, value in values.items()}, found[9]


class Receiver:
    """Takes connections, and what comes on each until its end. `behave` is what is done with a connection instead."""

    def __init__(self, context: ssl.SSLContext | None = None, behave: Callable[[socket.socket], None] | None = None) -> None:
        self.got: list[bytes] = []
        self._behave = behave or self._read
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._context = context
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                stream, _ = self._socket.accept()
            except OSError:
                return
            try:
                self._behave(self._context.wrap_socket(stream, server_side=True) if self._context else stream)
            except OSError:
                stream.close()

    def _read(self, stream: socket.socket) -> None:
        with stream:
            raw = b""
            while part := stream.recv(65536):
                raw += part
            self.got.append(raw)

    def close(self) -> None:
        self._socket.close()


@contextmanager
def receiving(*settings: object) -> Iterator[Receiver]:
    one = Receiver(*settings)  # type: ignore[arg-type]
    try:
        yield one
    finally:
        one.close()


def test_a_message_by_tcp_is_counted_in_octets_and_its_text_is_escaped(sink: Callable[[str], Sink]) -> None:
    with receiving() as receiver:
        out = sink(f'kind = "syslog"\nurl = "tcp://127.0.0.1:{receiver.port}"\nfacility = "local3"')
        out.send(*event("opened", line=HOSTILE, reason='flow "8" [bar]\\'))
        out.send(*event("closed", state="normal"))
        out.send(*event("rejected", "r", reason="cut\nshort"))
        until(lambda: len(receiver.got) == 3)
    frames = [raw.partition(b" ") for raw in receiver.got]
    assert all(int(size) == len(message) for size, _, message in frames)
    (value, name, data, text), closed, rejected = [read(message) for _, _, message in frames]
    assert (value, name) == (19 * 8 + 3, "alarm.opened")
    assert data["line"] == 'press\\x0a3 "left]" \\ +#/\\x1b[31m é'
    assert data["priority"] == "high"
    assert "\n" not in text
    assert "\x1b" not in text
    assert [each[0] % 8 for each in (closed, rejected)] == [6, 5]


def test_udp_is_one_datagram_cut_to_what_receivers_take(sink: Callable[[str], Sink]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(10)
        out = sink(f'kind = "syslog"\nurl = "udp://127.0.0.1:{receiver.getsockname()[1]}"')
        out.send(*event("opened", record="é" * 5000, reason="é" * 5000))
        raw = receiver.recv(65536)
    assert 1900 < len(raw) <= 2048
    assert read(raw)[1] == "alarm.opened"


def test_a_receiver_that_breaks_off_is_a_failed_try(sink: Callable[[str], Sink]) -> None:
    def broken(stream: socket.socket) -> None:
        stream.recv(1)
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")  # closed with a reset
        stream.close()

    with receiving(None, broken) as receiver, pytest.raises(SinkError, match=r"reset|not connected"):
        sink(f'kind = "syslog"\nurl = "tcp://127.0.0.1:{receiver.port}"').send(*event("opened"))
    with pytest.raises(SinkError, match="refused"):
        sink(f'kind = "syslog"\nurl = "tcp://127.0.0.1:{free_port()}"').send(*event("opened"))


def test_tls_is_checked_and_a_bad_certificate_is_named(sink: Callable[[str], Sink], tmp_path: Path) -> None:
    command = [program("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=plant", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", f"{tmp_path}/key", "-out", f"{tmp_path}/cert"]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert", tmp_path / "key")
    with receiving(context) as receiver:
        url = f'kind = "syslog"\nurl = "tls://127.0.0.1:{receiver.port}"'
        sink(f'{url}\nca = "{tmp_path}/cert"').send(*event("opened"))
        until(lambda: len(receiver.got) == 1)
        with pytest.raises(SinkError, match="certificate was not accepted: self-signed certificate"):
            sink(url).send(*event("opened"))
    with pytest.raises(SpecError, match="key `ca`"):
        sink('kind = "syslog"\nurl = "tls://h"\nca = "nowhere.pem"')


@pytest.mark.parametrize("url", ["http://h", "udp://", "tcp://h:x", "tcp://h/path", "tls://me@h"])
def test_urls_are_looked_at_when_the_file_is_read(sink: Callable[[str], Sink], url: str) -> None:
    with pytest.raises(SpecError, match=r"sink 'it', key `url`"):
        sink(f'kind = "syslog"\nurl = "{url}"')


def test_an_event_of_an_older_version_has_a_message() -> None:
    body, _ = event("opened")
    assert read(format_message(body.replace('"priority": "high", ', ""), 16, "box"))[0] == 16 * 8 + 4
