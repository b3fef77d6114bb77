"""Alertmanager's own server: alerts open, go on, change their priority and end."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from anomaly.alarms.sinks.base import RecallingSink, Sink
from anomaly.errors import SinkError, SpecError
from anomaly.names import one_line
from tests.alarms.sinks.conftest import BEGAN, HOSTILE, event
from tests.edge.conftest import until
from tests.integration.servers import free_port, program, serving

FLOW = {"class": "data quality", "condition": "sensor:flow"}
SETTINGS = "route: {receiver: none}\nreceivers: [{name: none}]\n"


@contextmanager
def alertmanager(port: int, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    (folder / "am.yml").write_text(SETTINGS)
    command = [program("prometheus-alertmanager"), f"--config.file={folder}/am.yml", f"--storage.path={folder}/am"]
    command += [f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address="]

    def ready() -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/-/ready").status_code == 200
        except httpx.HTTPError:
            return False

    with serving(command, ready, folder / "am.log") as started:
        yield started


def on(port: int) -> list[dict]:
    found = httpx.get(f"http://127.0.0.1:{port}/api/v2/alerts").json()
    return sorted(found, key=lambda alert: alert["labels"]["alarm"])


def test_an_alarm_is_one_alert_from_opened_to_closed(sink: Callable[[str], Sink], tmp_path: Path) -> None:
    port = free_port()
    out = sink(f'kind = "alertmanager"\nurl = "http://127.0.0.1:{port}/"\nagain_s = 1\nlabels = {{ site = "plant 1" }}')
    try:
        with alertmanager(port, tmp_path):
            out.send(*event("opened"))
            out.send(*event("opened", "a2", line=HOSTILE, **FLOW))
            out.send(*event("opened", "a2", line=HOSTILE, **FLOW))  # at least once
            out.send(*event("rejected", "r", reason="cut short"))  # no alarm: none of its business
            first, second = on(port)
            assert first["labels"] == {
                "alertname": "ProcessAlarm", "line": "press-3", "class": "process", "condition": "process", "alarm": "a1",
                "priority": "high", "site": "plant 1",
            }  # fmt: skip
            assert second["labels"]["line"] == one_line(HOSTILE)
            assert second["labels"]["alertname"] == "DataQualityAlarm"
            assert first["startsAt"] == "2026-01-01T00:00:00.000Z"
            assert first["endsAt"] > time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time.time() + 80_000))
            assert first["annotations"]["summary"]
            assert first["annotations"]["reason"] == "flow and heat are unusual"
            out.send(*event("escalated", priority="critical"))
            assert [each["labels"]["priority"] for each in on(port)] == ["critical", "high"]  # of a1, which was high, and of a2
            out.send(*event("flood", "f", **{"class": "process", "condition": "flood", "flood": "began", "priority": "low"}))
            out.send(*event("flood", "f", **{"class": "data quality", "condition": "flood", "flood": "goes on", "priority": "high"}))
            assert [(each["labels"]["alarm"], each["labels"]["class"]) for each in on(port)][2:] == [("f", "data quality")]
            out.send(*event("flood", "f", **{"class": "process", "condition": "flood", "flood": "over", "priority": "high"}))
            out.send(*event("closed", "a2", line=HOSTILE, at=BEGAN + 60, state="normal", **FLOW))
            assert [each["labels"]["priority"] for each in on(port)] == ["critical"]
        with pytest.raises(SinkError, match="ConnectError"):
            out.send(*event("closed", at=BEGAN + 60))
        with alertmanager(port, tmp_path):  # it has forgotten its alerts, and is told again what is on
            until(lambda: [each["labels"]["priority"] for each in on(port)] == ["critical"])
            out.send(*event("closed", at=BEGAN + 60, priority="critical", state="normal"))
            assert on(port) == []
            until(lambda: out._on == {})  # type: ignore[attr-defined]
    finally:
        out.close()


def test_settings_that_cannot_be_met_are_named(sink: Callable[[str], Sink]) -> None:
    with pytest.raises(SpecError, match=r"sink 'it', key `labels`: 'my-site' is no name of a label"):
        sink('kind = "alertmanager"\nurl = "http://h"\nlabels = { my-site = "x" }')
    with pytest.raises(SpecError, match=r"sink 'it', key `url`"):
        sink('kind = "alertmanager"\nurl = "http://plant:port/x"')
    with pytest.raises(SpecError, match="AM_TOKEN is not set"):
        sink('kind = "alertmanager"\nurl = "http://h"\ntoken_env = "AM_TOKEN"')


def test_after_a_restart_what_was_on_is_sent_again(sink: Callable[[str], Sink], tmp_path: Path) -> None:
    port = free_port()
    out = sink(f'kind = "alertmanager"\nurl = "http://127.0.0.1:{port}"\nagain_s = 1')
    assert isinstance(out, RecallingSink)
    try:
        out.recall([event("opened")[0], event("closed", "a2", state="normal")[0], event("opened", "t", test=True)[0]])
        with alertmanager(port, tmp_path):  # that began after us, and knows of nothing
            until(lambda: [each["labels"]["alarm"] for each in on(port)] == ["a1"])
    finally:
        out.close()
