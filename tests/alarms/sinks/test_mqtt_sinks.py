"""MQTT and Sparkplug B with a broker: confirmed, at least once, back after the broker was away."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from anomaly.alarms.sinks.base import RecallingSink, Sink
from anomaly.buses.mqtt import Broker, MqttLink
from anomaly.buses.sparkplug import BOOLEAN, INT64, Payload, decode, encode, told
from anomaly.errors import SinkError, SpecError
from tests.alarms.sinks.conftest import HOSTILE, event
from tests.edge.conftest import until
from tests.integration.servers import free_port, listening, program, serving


class Site:
    """A broker, and all that is published on it."""

    def __init__(self, folder: Path) -> None:
        self.port, self._folder = free_port(), folder
        self.url = f"mqtt://127.0.0.1:{self.port}"
        self.got: list[tuple[str, bytes]] = []
        self.start()

    def start(self, *settings: str) -> None:
        lines = [f"listener {self.port} 127.0.0.1", "user root", "log_type all", *(settings or ("allow_anonymous true",))]
        (self._folder / "broker.conf").write_text("\n".join(lines) + "\n")
        self._running = ExitStack()
        command = [program("mosquitto"), "-c", self._folder / "broker.conf"]
        self._running.enter_context(serving(command, lambda: listening(self.port), self._folder / "broker.log"))

    def listen(self, topic: str = "#") -> None:
        self.link = MqttLink(Broker.from_uri(self.url), lambda topic, payload: self.got.append((topic, payload)))
        self.link.open(10.0)
        self.link.subscribe(topic, 1, 10.0)

    def wait(self, done: Callable[[], object]) -> None:
        def found() -> object:
            self.link.step(0.05)
            return done()

        until(found)

    def stop(self) -> None:
        self._running.close()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    one = Site(tmp_path)
    yield one
    one.stop()


def test_an_event_is_delivered_once_the_broker_has_confirmed_it(sink: Callable[[str], Sink], site: Site) -> None:
    out = sink(f'kind = "mqtt"\nurl = "{site.url}"\ntopic = "plant/{{line}}/{{kind}}"\nretain = true\ntimeout_s = 3')
    try:
        body, id_ = event("opened", line=HOSTILE)
        out.send(body, id_)
        site.listen()  # later than the event: the broker has kept it
        site.wait(lambda: site.got)
        topic, payload = site.got[0]
        assert topic.count("/") == 2
        assert topic.endswith("/alarm.opened")
        assert json.loads(payload) == json.loads(body)
        site.stop()
        with pytest.raises(SinkError, match=r"lost|no connection"):
            out.send(*event("closed"))
        site.start()
        out.send(*event("closed"))
        site.listen()
        site.wait(lambda: "plant/press-3/alarm.closed" in [topic for topic, _ in site.got])
    finally:
        out.close()


def test_the_connection_is_kept_alive_between_events(
    sink: Callable[[str], Sink], site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anomaly.buses.mqtt.KEEPALIVE_S", 1)
    out = sink(f'kind = "mqtt"\nurl = "{site.url}"')
    try:
        out.send(*event("opened"))
        link = out._kept._link  # type: ignore[attr-defined]
        until(lambda: b"Received PINGREQ" in (tmp_path / "broker.log").read_bytes())
        out.send(*event("closed"))
        assert out._kept._link is link  # type: ignore[attr-defined]
    finally:
        out.close()


def test_a_sparkplug_node_is_born_tells_and_dies(sink: Callable[[str], Sink], site: Site) -> None:
    site.listen("spBv1.0/plant/#")
    out = sink(f'kind = "sparkplug"\nurl = "{site.url}"\ngroup = "plant"\nnode = "box1"\ntimeout_s = 3')

    def told_by(kind: str) -> list[tuple[int | None, dict[str, object]]]:
        found = [decode(payload) for topic, payload in site.got if topic == f"spBv1.0/plant/{kind}/box1"]
        return [(each.seq, {metric.name: metric.value for metric in each.metrics}) for each in found]

    try:
        body, id_ = event("opened")
        out.send(body, id_)
        out.send(*event("opened", "a2"))
        out.send(*event("opened", "a3", line="oven"))  # a new line: born again, since a host must know its metrics
        out.send(*event("closed", "a1", state="normal"))
        site.wait(lambda: len(told_by("NDATA")) == 2 and len(told_by("NBIRTH")) == 3)
        (first, empty), (_, birth), (_, second) = told_by("NBIRTH")
        assert first == 0
        assert set(empty) == {"bdSeq", "Node Control/Rebirth"}
        assert birth["bdSeq"] == second["bdSeq"]
        assert birth["Node Control/Rebirth"] is False
        assert (birth["press-3/Open alarms"], birth["press-3/Last event"]) == (1, body.encode())
        assert (second["press-3/Open alarms"], second["oven/Open alarms"]) == (2, 1)
        assert [(seq, metrics["press-3/Open alarms"]) for seq, metrics in told_by("NDATA")] == [(1, 2), (1, 1)]
        site.link.send("spBv1.0/plant/NCMD/box1", encode(Payload(0.0, (told("Node Control/Rebirth", BOOLEAN, True),))))
        site.wait(lambda: len(told_by("NBIRTH")) == 4)
        site.link.send("spBv1.0/plant/NDEATH/box1", encode(Payload(None, (told("bdSeq", INT64, 77),))))  # another's, of the same name
        site.wait(lambda: len(told_by("NBIRTH")) == 5)
        site.link.send("spBv1.0/plant/NCMD/box1", b"\xff\xff")  # ends nothing
        out._kept._link.close(cleanly=False)  # type: ignore[attr-defined]  # lost: the broker tells its death, it comes again by itself
        site.wait(lambda: len(told_by("NBIRTH")) == 6)
        assert told_by("NDEATH")[-1][1] == {"bdSeq": birth["bdSeq"]}
        assert told_by("NBIRTH")[-1][1]["bdSeq"] == (birth["bdSeq"] + 1) % 256  # type: ignore[operator]
        out.close()
        site.wait(lambda: told_by("NDEATH")[-1][1] == {"bdSeq": (birth["bdSeq"] + 1) % 256})  # type: ignore[operator]
    finally:
        out.close()


def test_a_thread_that_ended_and_a_broker_that_was_away_lose_nothing(sink: Callable[[str], Sink], site: Site) -> None:
    site.listen("spBv1.0/plant/#")
    out = sink(f'kind = "sparkplug"\nurl = "{site.url}"\ngroup = "plant"\ntimeout_s = 2')
    try:
        out.send(*event("opened"))
        kept = out._kept  # type: ignore[attr-defined]
        kept._stop.set()
        kept._thread.join(5)
        assert not kept._thread.is_alive()
        kept._stop.clear()
        site.stop()
        with pytest.raises(SinkError):
            out.send(*event("opened", "a2"))
        site.start()
        site.listen("spBv1.0/plant/#")
        site.got.clear()
        out.send(*event("opened", "a2"))
        assert kept._thread.is_alive()
        site.wait(lambda: site.got)
        found = {metric.name: metric.value for metric in decode(site.got[-1][1]).metrics}
        assert found["press-3/Open alarms"] == 2
    finally:
        out.close()


def test_user_and_password_come_from_the_environment(
    sink: Callable[[str], Sink], site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passwords = tmp_path / "passwords"
    subprocess.run([program("mosquitto_passwd", "mosquitto"), "-b", "-c", passwords, "anna", "right"], check=True, capture_output=True)
    site.stop()
    site.start(f"password_file {passwords}")
    settings = f'kind = "mqtt"\nurl = "{site.url.replace("//", "//anna@")}"\npassword_env = "BROKER_PASSWORD"\ntimeout_s = 3'
    with pytest.raises(SpecError, match="BROKER_PASSWORD is not set"):
        sink(settings)
    monkeypatch.setenv("BROKER_PASSWORD", "wrong")
    with pytest.raises(SinkError, match="Not authorized"):
        sink(settings).send(*event("opened"))
    monkeypatch.setenv("BROKER_PASSWORD", "right")
    out = sink(settings)
    out.send(*event("opened"))
    out.close()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ('kind = "mqtt"\nurl = "http://h"', "key `url`"),
        ('kind = "mqtt"\nurl = "mqtt://h:x"', "key `url`: the port is not a number"),
        ('kind = "mqtt"\nurl = "mqtt://h/topic"', "key `url`: only the broker"),
        ('kind = "mqtt"\nurl = "mqtt://me:secret@h"', "key `url`: a password does not belong"),
        ('kind = "mqtt"\nurl = "mqtt://h"\ntopic = "a/#"', "key `topic`"),
        ('kind = "mqtt"\nurl = "mqtt://h"\ntopic = "a/{place}"', "key `topic`: in braces may stand line"),
        ('kind = "mqtt"\nurl = "mqtt://h"\ntopic = "a/{line.__class__}"', "key `topic`"),
        ('kind = "mqtt"\nurl = "mqtt://h"\ntopic = "a/{line:>99999999}"', "key `topic`: in braces may stand line"),
        ('kind = "mqtt"\nurl = "mqtts://h"\nca = "nowhere.pem"', "key `ca`"),
        ('kind = "sparkplug"\nurl = "mqtt://h"\ngroup = "a/b"', "key `group`"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_met_are_named(sink: Callable[[str], Sink], settings: str, words: str) -> None:
    with pytest.raises(SpecError, match="sink 'it'") as raised:
        sink(settings)
    assert words in str(raised.value)
    assert "secret" not in str(raised.value)


def test_after_a_restart_the_node_is_born_with_what_was_on(sink: Callable[[str], Sink], site: Site) -> None:
    site.listen("spBv1.0/plant/#")
    out = sink(f'kind = "sparkplug"\nurl = "{site.url}"\ngroup = "plant"')
    assert isinstance(out, RecallingSink)
    try:
        out.recall([event("opened", "a0")[0], event("opened", "a1")[0], event("closed", "a2", state="normal")[0]])
        site.wait(lambda: site.got)  # before any new event
        found = {metric.name: metric.value for metric in decode(site.got[0][1]).metrics}
        assert found["press-3/Open alarms"] == 2
        out.send(*event("closed", "a0", state="normal"))
        site.wait(lambda: len(site.got) == 2)
        assert decode(site.got[1][1]).metrics[0].value == 1
    finally:
        out.close()
