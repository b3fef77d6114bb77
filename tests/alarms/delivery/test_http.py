"""What each answer of a receiver means, by a real one that behaves badly."""

from __future__ import annotations

import datetime
import json
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from anomaly.alarms.sinks.webhook import Webhook
from anomaly.alarms.store import Store
from anomaly.errors import SinkError
from tests.alarms.conftest import put
from tests.alarms.delivery.conftest import Noting, delivery, route, until
from tests.alarms.delivery.rude import RudeReceiver


@pytest.fixture
def rude() -> Iterator[RudeReceiver]:
    started = RudeReceiver()
    yield started
    started.close()


def refusal(url: str, timeout_s: float = 5.0) -> SinkError:
    sink = Webhook("w", url, None, timeout_s)
    try:
        with pytest.raises(SinkError) as raised:
            sink.send("{}", "id")
    finally:
        sink.close()
    return raised.value


@pytest.mark.parametrize("status", [300, 301, 307, 308, 400, 401, 403, 404, 405, 409, 410, 413, 415, 422, 451])
def test_redirects_and_refusals_are_for_good_with_the_begin_of_the_answer(rude: RudeReceiver, status: int) -> None:
    error = refusal(rude.url(str(status)))
    assert error.permanent
    assert str(error).startswith(f"w: HTTP {status}")
    assert "reason \\x1b[31mxxx" in str(error)
    assert len(str(error)) < 700
    assert rude.seen == {str(status): 1}  # a redirect is not followed


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 599])
def test_what_may_pass_is_tried_again(rude: RudeReceiver, status: int) -> None:
    error = refusal(rude.url(str(status)))
    assert (error.permanent, error.retry_after_s) == (False, None)
    assert refusal(rude.url(f"{status}-120")).retry_after_s == 120.0


@pytest.mark.parametrize("path", ["hang", "drip"])
def test_the_time_limit_is_on_the_whole_try(rude: RudeReceiver, path: str) -> None:
    """Version 0.8.0: a server that drips a byte every 3 s held the only thread for as long as it liked."""
    began = time.monotonic()
    error = refusal(rude.url(path), timeout_s=1.0)
    assert str(error) == "w: no answer within 1 s"
    assert not error.permanent
    assert time.monotonic() - began < 10


def test_a_refusal_that_drips_its_reason_is_one_with_what_has_come(rude: RudeReceiver) -> None:
    error = refusal(rude.url("drip-after-400"), timeout_s=10.0)
    assert error.permanent
    assert "no such field: a" in str(error)


@pytest.mark.parametrize("path", ["close", "garbage"])
def test_an_answer_that_is_none_is_tried_again(rude: RudeReceiver, path: str) -> None:
    assert not refusal(rude.url(path)).permanent


def test_a_name_that_is_not_there_and_a_closed_port_say_why() -> None:
    assert "Connection refused" in str(refusal("http://127.0.0.1:9/x"))
    assert "ConnectError" in str(refusal("http://no-such-host.invalid/x", timeout_s=20.0))


def test_this_machine_is_reached_past_a_proxy(rude: RudeReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    for host in ("127.0.0.1", "localhost"):
        sink = Webhook("w", rude.url("204").replace("127.0.0.1", host), None)
        sink.send("{}", "id")
        sink.close()
    assert len(rude.got) == 2
    assert "refused" in str(refusal("http://plant.example/x"))  # all others go through it


def test_many_events_share_a_connection_and_a_large_answer_does_no_harm(rude: RudeReceiver) -> None:
    sink = Webhook("w", rude.url("200"), None)
    for i in range(20):
        sink.send(json.dumps({"i": i}), str(i))
    sink.close()
    assert [json.loads(body)["i"] for _, _, body in rude.got] == list(range(20))
    assert [headers["idempotency-key"] for _, headers, _ in rude.got] == [str(i) for i in range(20)]


def certificate(folder: Path, name: str, days: int) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    who = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    begin = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=30)
    made = (
        x509.CertificateBuilder().subject_name(who).issuer_name(who).public_key(key.public_key()).serial_number(1)
        .not_valid_before(begin).not_valid_after(begin + datetime.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    pem = serialization.Encoding.PEM
    (folder / "cert.pem").write_bytes(made.public_bytes(pem))
    no_password = serialization.NoEncryption()
    (folder / "key.pem").write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, no_password))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context


@pytest.mark.parametrize(
    ("name", "days", "trusted", "words"),
    [
        ("localhost", 365, False, "self-signed certificate"),
        ("localhost", 10, True, "certificate has expired"),
        ("other.example", 365, True, "ostname mismatch"),
    ],
)
def test_a_tls_failure_names_the_problem_of_the_certificate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, days: int, trusted: bool, words: str
) -> None:
    server = RudeReceiver(certificate(tmp_path, name, days))
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
    error = refusal(server.url("200").replace("127.0.0.1", "localhost"))
    server.close()
    assert "TLS: the certificate was not accepted: " in str(error)
    assert words in str(error)
    assert not error.permanent


def test_a_certificate_that_is_trusted_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = RudeReceiver(certificate(tmp_path, "localhost", 365))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
    sink = Webhook("w", server.url("204").replace("127.0.0.1", "localhost"), None)
    sink.send("{}", "id")
    sink.close()
    server.close()
    assert len(server.got) == 1


def test_rude_receivers_hold_up_neither_a_file_nor_each_other(store: Store, rude: RudeReceiver) -> None:
    """Version 0.8.0: with one sink that drips, a healthy one had nothing after 600 s."""
    paths = ["hang", "drip", "close", "301", "400", "413", "429", "500", "204"]
    names = [f"s{path}" for path in paths]
    file = Noting("file")
    routes = [route(Webhook(name, rude.url(path), None, 2.0), 2.0) for name, path in zip(names, paths, strict=True)]
    with delivery(store.path, *routes, route(file)) as lanes:
        ids = put(store, 60, [*names, "file"])
        lanes.wake()
        until(lambda: len(file.taken) == 60 and len(rude.got) == 60, 30.0)
        until(lambda: len(store.dead_letters()) == 180)
    assert file.ids == ids
    counts = store.outbox_counts()
    assert {sink for sink, state in counts if state == "dead"} == {"s301", "s400", "s413"}
    assert {sink for sink, state in counts if state == "waiting"} == {"shang", "sdrip", "sclose", "s429", "s500"}
