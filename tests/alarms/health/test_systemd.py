"""What systemd hears, by a socket such as it opens."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from anomaly.alarms.health.systemd import notify, watchdog_s, watched


class Manager:
    """systemd's end of the socket."""

    def __init__(self, address: str) -> None:
        self.channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.channel.bind(address.replace("@", "\0", 1))
        self.channel.settimeout(10.0)
        self.environment = {"NOTIFY_SOCKET": address}

    def hear(self) -> str:
        return self.channel.recv(4096).decode()


@pytest.fixture(params=["file", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    found = Manager(str(tmp_path / "n") if request.param == "file" else f"@anomaly-{os.getpid()}-{id(tmp_path)}")
    yield found
    found.channel.close()


def test_ready_then_alive_then_stopping(manager: Manager) -> None:
    with watched(list, manager.environment | {"WATCHDOG_USEC": "60000", "WATCHDOG_PID": str(os.getpid())}):
        assert [manager.hear() for _ in range(4)] == ["READY=1", "WATCHDOG=1", "WATCHDOG=1", "WATCHDOG=1"]
    heard = manager.hear()
    while heard == "WATCHDOG=1":
        heard = manager.hear()
    assert heard == "STOPPING=1"


def test_the_watchdog_is_not_fed_while_a_line_hangs(manager: Manager) -> None:
    hanging = ["press-3"]
    with watched(lambda: list(hanging), manager.environment | {"WATCHDOG_USEC": "60000"}):
        assert manager.hear() == "READY=1"
        assert {manager.hear() for _ in range(3)} == {"STATUS=no turn of press-3"}
        hanging.clear()
        heard = [manager.hear() for _ in range(3)]
        assert heard[-1] == "WATCHDOG=1"


def test_an_error_in_the_block_says_stopping_too(manager: Manager) -> None:
    with pytest.raises(RuntimeError), watched(list, manager.environment):
        raise RuntimeError
    assert [manager.hear(), manager.hear()] == ["READY=1", "STOPPING=1"]


def test_a_manager_that_does_not_listen_holds_up_no_end(manager: Manager) -> None:
    while notify("WATCHDOG=1", environment=manager.environment):  # until its queue is full
        pass
    with watched(list, manager.environment | {"WATCHDOG_USEC": "60000"}):
        pass


def test_without_systemd_nothing_happens(tmp_path: Path) -> None:
    assert not notify("READY=1", environment={})
    assert not notify("READY=1", environment={"NOTIFY_SOCKET": str(tmp_path / "nobody")})


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),  # meant for another process
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
    ],
)
def test_how_often_systemd_wants_to_hear(environment: dict[str, str], expected: float | None) -> None:
    assert watchdog_s(environment) == expected
