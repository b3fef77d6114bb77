"""kill -9 at any moment: nothing half-written is ever readable, the rerun completes, no stored alarm is lost."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from anomaly.alarms.store import Store
from anomaly.bundle.archive import read_bundle
from anomaly.errors import BundleError
from tests.conftest import Fitted

ANOMALY = [sys.executable, "-m", "anomaly.cli"]


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen([*ANOMALY, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def readable_bundles(folder: Path) -> int:
    """Every file that carries a bundle's name is whole."""
    found = list(folder.rglob("*.anomaly"))
    for path in found:
        read_bundle(path)
    return len(found)


def wait_for(path: Path, pattern: str, process: subprocess.Popen[str], seconds: float = 120) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        if any(path.glob(pattern)):
            return True
        time.sleep(0.005)
    return any(path.glob(pattern))


@pytest.mark.parametrize(("moment", "delay"), [("pretrain-*", 0.05), ("fit-*", 0.02), ("evaluate-*", 0.3), ("evaluate-*", 1.5)])
def test_fit_and_export_killed_then_run_again(sensor: Fitted, tmp_path: Path, moment: str, delay: float) -> None:
    """Killed as soon as a step has left its mark: the next one is under way; after evaluate that is export."""
    work, out = tmp_path / "work", tmp_path / "b.anomaly"
    arguments = ["fit", str(sensor.spec), "--data", str(sensor.data), "--out", str(out), "--work", str(work)]
    process = start(*arguments)
    assert wait_for(work, moment, process), process.communicate()[0]
    time.sleep(delay)  # how far into the next step the kill comes; any moment must do
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not out.exists()
    readable_bundles(tmp_path)
    kept = {p.name: p.stat().st_mtime_ns for p in work.glob("*.safetensors")}
    done = subprocess.run([*ANOMALY, *arguments], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert read_bundle(out).hash == read_bundle(sensor.bundle).hash  # the same data and spec, the same bundle
    assert all((work / name).stat().st_mtime_ns == at for name, at in kept.items() if not name.startswith("."))


def test_a_part_file_is_never_taken_for_a_bundle(sensor: Fitted, tmp_path: Path) -> None:
    """What a kill in the middle of the write leaves: a hidden .part file, which reading refuses by its content."""
    part = tmp_path / ".b.anomaly.x.part"
    part.write_bytes(sensor.bundle.read_bytes()[:-100])
    with pytest.raises(BundleError):
        read_bundle(part)
    assert readable_bundles(tmp_path) == 0


class SlowReceiver:
    """Takes alarms slowly, fails three in ten, and remembers the ids it has acknowledged."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        rng, receiver = random.Random(3), self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                time.sleep(0.01)
                failed = rng.random() < 0.3
                if not failed:
                    receiver.ids.append(body["id"])
                try:
                    self.send_response(503 if failed else 204)
                    self.end_headers()
                except OSError:
                    pass  # the sender was killed: it will send again

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def receiver() -> Iterator[SlowReceiver]:
    started = SlowReceiver()
    yield started
    started.server.shutdown()
    started.server.server_close()


def test_monitor_killed_again_and_again_loses_no_alarm(sensor: Fitted, tmp_path: Path, receiver: SlowReceiver) -> None:
    """Ten kills at random moments while rows come in and alarms go out; what was stored stays, and arrives."""
    feed, store = tmp_path / "feed.csv", tmp_path / "s.db"
    text = (sensor.data / "test.csv").read_text().splitlines(keepends=True)
    feed.write_text(text[0])
    alerts = tmp_path / "alerts.toml"
    alerts.write_text(f'[[sink]]\nname = "w"\nkind = "webhook"\nurl = "{receiver.url}"\n')
    arguments = ["monitor", str(sensor.bundle), "--source", str(feed), "--store", str(store), "--alerts", str(alerts)]
    rng, at, stored = random.Random(11), 1, set()
    for _ in range(10):
        process = start(*arguments)
        more = at + 380
        stop = time.monotonic() + 1.0 + rng.uniform(0.2, 2.0)
        while time.monotonic() < stop:
            with feed.open("a") as stream:
                stream.write("".join(text[at : min(at + 40, more)]))
            at = min(at + 40, more)
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        if store.exists():
            ids = {e["id"] for e in Store(store).events()}
            assert stored <= ids
            stored = ids
    with feed.open("a") as stream:
        stream.write("".join(text[at:]))
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        done = subprocess.run([*ANOMALY, *arguments, "--once"], capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, done.stderr
        if Store(store).counts()["waiting"] == 0:
            break
        time.sleep(1.0)
    final = Store(store)
    ids = [e["id"] for e in final.events()]
    assert stored <= set(ids)
    assert set(ids) == set(receiver.ids)  # at least once; twice is told apart by the id
    assert final.counts()["waiting"] == 0

    undisturbed = tmp_path / "u.db"
    subprocess.run([*ANOMALY, "monitor", str(sensor.bundle), "--source", str(feed), "--store", str(undisturbed), "--once"], check=True)
    calm = Store(undisturbed)
    assert [s.record for s in final.scores("pump")] == [s.record for s in calm.scores("pump")]
    assert ids == [e["id"] for e in calm.events()]
