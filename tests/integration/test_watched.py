"""A monitor as systemd and Prometheus see it, and a line that hangs."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import httpx

from anomaly.alarms.health.address import Address
from anomaly.alarms.health.board import Board
from anomaly.alarms.health.server import serving as answering
from anomaly.alarms.store import Store
from anomaly.edge.box import Box
from anomaly.edge.line import Line
from anomaly.edge.monitor import Monitor
from anomaly.edge.runtime.session import open_session
from anomaly.edge.sources.base import Poll
from anomaly.edge.sources.uri import open_source
from tests.edge.conftest import until
from tests.edge.tiny import tiny_bundle
from tests.integration.servers import free_port, program, serving

DEPLOY = Path(__file__).parents[2] / "deploy" / "prometheus"


class Manager:
    """systemd's end of the socket."""

    def __init__(self, path: Path) -> None:
        self.heard: list[str] = []
        self.channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.channel.bind(str(path))
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                self.heard.append(self.channel.recv(1000).decode())


def write_feed(path: Path, rows: int) -> None:
    path.write_text("time,a,b\n" + "".join(f"{i},{9.0 if i == 5 else 0.1},{i / 1000}\n" for i in range(rows)))


def status(url: str) -> int:
    try:
        return httpx.get(url, timeout=5.0, trust_env=False).status_code
    except httpx.HTTPError:
        return 0


def test_a_monitor_as_systemd_and_prometheus_see_it(tmp_path: Path) -> None:
    tiny_bundle(tmp_path / "tiny.anomaly")
    write_feed(tmp_path / "feed.csv", 40)
    manager = Manager(tmp_path / "notify")
    port, web = free_port(), free_port()
    environment = {
        **os.environ,
        "NOTIFY_SOCKET": str(tmp_path / "notify"),
        "WATCHDOG_USEC": "300000",
        "ANOMALY_LISTEN": f"127.0.0.1:{port}",
    }
    arguments = ["monitor", "tiny.anomaly", "--source", "feed.csv", "--line", "press-3", "--provider", "cpu"]
    process = subprocess.Popen(
        [sys.executable, "-m", "anomaly.cli", *arguments], cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        until(lambda: manager.heard[:3] == ["READY=1", "WATCHDOG=1", "WATCHDOG=1"])
        until(lambda: status(f"http://127.0.0.1:{port}/readyz") == 200)
        assert status(f"http://127.0.0.1:{port}/healthz") == 200
        shutil.copy(DEPLOY / "anomaly.rules.yml", tmp_path)
        config = (DEPLOY / "prometheus.yml").read_text().replace("127.0.0.1:9464", f"127.0.0.1:{port}").replace("15s", "1s")
        (tmp_path / "prometheus.yml").write_text(config)
        command = [
            program("prometheus"), f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/tsdb",
            f"--web.listen-address=127.0.0.1:{web}",
        ]  # fmt: skip
        with serving(command, lambda: status(f"http://127.0.0.1:{web}/-/ready") == 200, tmp_path / "prometheus.log"):

            def value(query: str) -> list[str]:
                answer = httpx.get(f"http://127.0.0.1:{web}/api/v1/query", params={"query": query}, timeout=5.0, trust_env=False)
                return [found["value"][1] for found in answer.json()["data"]["result"]]

            until(lambda: value('anomaly_records_scored_total{job="anomaly", line="press-3"}') == ["39"])
            assert value('anomaly_line_ready{line="press-3"}') == ["1"]
            assert value('histogram_quantile(0.99, sum by (le) (anomaly_record_seconds_bucket{line="press-3"})) > 0') != []
            rules = httpx.get(f"http://127.0.0.1:{web}/api/v1/rules", timeout=5.0, trust_env=False).json()["data"]["groups"][0]["rules"]
            assert {rule["health"] for rule in rules} <= {"ok", "unknown"}
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        until(lambda: manager.heard[-1] == "STOPPING=1")
    finally:
        process.kill()
        process.wait(10)
        manager.channel.close()


def test_a_line_that_hangs_is_named_while_the_other_goes_on(tmp_path: Path) -> None:
    """Its driver never returns: health says so, and the rest of the box is watched on."""
    bundle, held = tiny_bundle(tmp_path / "tiny.anomaly"), threading.Event()
    board = Board(tmp_path / "s.db", stuck_s=1.0)
    board.add(["hangs", "well"])

    class Hanging:
        turns = 0

        def poll(self, limit: int) -> Poll:
            self.turns += 1
            if self.turns > 3:
                held.wait(60)
            return Poll()

        def close(self) -> None:
            return

    def opened(name: str) -> Monitor:
        write_feed(tmp_path / f"{name}.csv", 10)
        source = Hanging() if name == "hangs" else open_source(str(tmp_path / f"{name}.csv"), bundle.manifest.input, lambda _: False, {})
        return Monitor(bundle, open_session(bundle, "cpu"), source, Store(tmp_path / "s.db"), name, health=board.lines[name])

    stop = threading.Event()
    lines = [Line(name, lambda name=name: opened(name), tmp_path / "s.db", health=board.lines[name]) for name in ("hangs", "well")]
    box = threading.Thread(target=Box(lines, workers=2).run, args=(stop,))
    with answering(board, Address("127.0.0.1", 0)) as address:
        assert status(f"http://{address}/healthz") == 200
        box.start()
        until(lambda: status(f"http://{address}/healthz") == 503)
        assert httpx.get(f"http://{address}/healthz", trust_env=False).json()["stuck"] == ["hangs"]
        until(lambda: board.lines["well"].scored == 9)
        held.set()
        until(lambda: status(f"http://{address}/healthz") == 200)
        stop.set()
        box.join(10)
