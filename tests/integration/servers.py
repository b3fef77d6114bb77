"""Real servers and programs from Debian's packages: found or installed, started on loopback and a free port, ended by their pid."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

START_S = 30.0
_TURN = itertools.count(os.getpid())  # of ports
# no service is started by the installation itself, and no question asked
_QUIET = {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}


@functools.cache
def program(name: str, package: str | None = None) -> Path:
    """Where a program is. One that is missing is installed from Debian's `package`; where that cannot be, the test is skipped."""
    if (found := _found(name)) is None:
        with FileLock(Path(tempfile.gettempdir()) / "anomaly-tests-install.lock"):  # apt-get lets only one in at a time
            if (found := _found(name)) is None:
                _install(package or name)
                found = _found(name)
    if found is None:
        pytest.skip(f"{name} is not here: install Debian's package {package or name}")
    return found


def free_port() -> int:
    """A port of loopback that nothing listens on.

    Not one that the system gives to connections, and each process of pytest-xdist takes from a range of its own: nobody can come between.
    """
    first = 20_000 + 1000 * (int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 12)
    for port in _TURN:
        with socket.socket() as one, contextlib.suppress(OSError):
            one.bind(("127.0.0.1", first + port % 1000))
            return first + port % 1000
    raise AssertionError("the turn never ends")


def listening(port: int) -> bool:
    """Whether something takes connections on a port of loopback."""
    with socket.socket() as one:
        one.settimeout(1.0)
        return one.connect_ex(("127.0.0.1", port)) == 0


def children(pid: int) -> dict[int, str]:
    """The processes that a process started, by their number, with their command lines."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rsplit(")", 1)[1].split()[1])
            if parent == pid:
                found[int(stat.parent.name)] = (stat.parent / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except (OSError, IndexError):
            continue
    return found


@contextmanager
def serving(
    command: Sequence[object],
    ready: Callable[[], bool],
    log: Path,
    environment: Mapping[str, str] | None = None,
    user: str | None = None,
    starts_s: float = START_S,
) -> Iterator[subprocess.Popen[bytes]]:
    """A server while the block runs: started, waited for until it is `ready`, ended by its pid. What it prints goes to `log`.

    `user`: as whom it runs, for a server that refuses to run as root.
    """
    with log.open("ab") as out:
        words = [str(part) for part in command]
        started = subprocess.Popen(words, stdout=out, stderr=out, env={**os.environ, **(environment or {})}, user=user)
    try:
        deadline = time.monotonic() + starts_s
        while not ready():
            if started.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"{command[0]} did not start: {log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.05)
        yield started
    finally:
        started.terminate()
        try:
            started.wait(10)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait(10)


class Postgres:
    """PostgreSQL with nothing in it, on loopback. It can be stopped and started again, with what was written to it."""

    def __init__(self, root: Path) -> None:
        """`root`: a new folder for its files, which its user must be able to enter."""
        self.root, self.port = root, free_port()
        self.user = None if os.geteuid() else "postgres"  # it refuses to run as root
        initdb = [program("initdb", "postgresql"), "--pgdata", root / "data", "--username", "prefect", "--auth", "trust", "--no-sync"]
        if self.user is not None:
            shutil.chown(root, self.user)
        subprocess.run([str(word) for word in initdb], check=True, capture_output=True, user=self.user, cwd=root)
        self._running = ExitStack()
        self.start()

    @property
    def url(self) -> str:
        """As SQLAlchemy and Prefect's server take it."""
        return f"postgresql+asyncpg://prefect@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": "",
            "fsync": "off",
            "max_connections": 200,
        }
        command = [program("postgres", "postgresql"), "-D", self.root / "data", *(f"--{key}={value}" for key, value in settings.items())]
        self._process = self._running.enter_context(serving(command, self._answers, self.root / "log", user=self.user))

    def stop(self) -> None:
        """End it with all connections to it, whatever they are at."""
        self._process.send_signal(signal.SIGINT)  # SIGTERM would wait until they are closed
        self._process.wait(30)
        self._running.close()

    def _answers(self) -> bool:
        asked = [program("pg_isready", "postgresql"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(asked).returncode == 0


@contextmanager
def postgres() -> Iterator[Postgres]:
    """PostgreSQL while the block runs."""
    with tempfile.TemporaryDirectory(prefix="anomaly-postgres-") as root:
        started = Postgres(Path(root))
        try:
            yield started
        finally:
            started.stop()


class OpcUaServer:
    """asyncua's own server on a thread, with the nodes that a subclass adds and what it does while it serves."""

    def __init__(self) -> None:
        self.port = free_port()
        self.start()

    def start(self) -> None:
        """Serve on the same port, again after `stop`."""
        self._ready, self._stop = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        assert self._ready.wait(30)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(20)

    async def add_nodes(self, server: Any) -> None:
        raise NotImplementedError

    async def turn(self) -> None:
        """Once every 20 ms."""

    async def _serve(self) -> None:
        from asyncua import Server

        server = Server()
        await server.init()
        server.set_endpoint(f"opc.tcp://127.0.0.1:{self.port}/")
        await self.add_nodes(server)
        async with server:
            self._ready.set()
            while not self._stop.is_set():
                await self.turn()
                await asyncio.sleep(0.02)


def _found(name: str) -> Path | None:
    folders = [os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin", *map(str, Path("/usr/lib/postgresql").glob("*/bin"))]
    found = shutil.which(name, path=":".join(folders))
    return None if found is None else Path(found)


def _install(package: str) -> None:
    """Only root can, and only where there is apt-get. Debian's lists are fetched when the package is not known yet."""
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        return
    install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", package]
    for command in (install, ["apt-get", "update", "-qq"], install):
        done = subprocess.run(command, capture_output=True, env={**os.environ, **_QUIET}).returncode == 0
        if done and command is install:
            return
