"""kill -9 at any moment: nothing half-written is ever readable, the rerun completes, no stored alarm is lost."""

from __future__ import annotations

import contextlib
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
from anomaly.bundle.release_folder import ReleaseFolder
from anomaly.errors import BundleError
from tests.conftest import Fitted
from tests.edge.monitor.test_monitor_killed import by_the_data

ANOMALY = [sys.executable, "-m", "anomaly.cli"]


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen([*ANOMALY, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def whole_bundles(folder: Path) -> list[str]:
    """The names of all files in a folder, hidden ones included, that are read as a bundle; all others must be refused."""
    found = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        with contextlib.suppress(BundleError):
            read_bundle(path)
            found.append(path.name)
    return found


def wait_for(path: Path, pattern: str, process: subprocess.Popen[str], seconds: float = 120) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        if any(path.glob(pattern)):
            return True
        time.sleep(0.005)
    return any(path.glob(pattern))


def test_fit_and_export_killed_at_each_step_then_run_to_the_end(sensor: Fitted, tmp_path: Path) -> None:
    """Killed as soon as a step has left its mark: the next one is under way. Each run goes on where the one before was killed."""
    work, out = tmp_path / "work", tmp_path / "b.anomaly"
    arguments = ["fit", str(sensor.spec), "--data", str(sensor.data), "--out", str(out), "--work", str(work)]
    kept: dict[str, int] = {}
    for moment, delay in (("pretrain-*", 0.05), ("fit-*", 0.02), ("evaluate-*", 0.05), ("parity-*", 0.0)):
        assert not any(work.glob(moment)), "the run before was killed too late: the test shows nothing"
        process = start(*arguments)
        assert wait_for(work, moment, process), process.communicate()[0]
        time.sleep(delay)  # how far into the next step the kill comes; any moment must do
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not out.exists()
        assert whole_bundles(out.parent) == []
        assert all((work / name).stat().st_mtime_ns == at for name, at in kept.items())  # none was made again
        kept = {p.name: p.stat().st_mtime_ns for p in work.glob("*.safetensors") if not p.name.startswith(".")}
    done = subprocess.run([*ANOMALY, *arguments], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert read_bundle(out).hash == read_bundle(sensor.bundle).hash  # the same data and spec, the same bundle
    assert all((work / name).stat().st_mtime_ns == at for name, at in kept.items())


WRITE = """
import sys
from pathlib import Path
from anomaly.bundle.archive import read_bundle, write_bundle
bundle = read_bundle(Path(sys.argv[1]))
large = {f"examples/{i}.npz": bytes(8 << 20) for i in range(100, 132)}
print("writing", flush=True)
write_bundle(Path(sys.argv[2]), bundle.manifest.model_copy(update={"members": {}, "version": "2"}), {**bundle.members, **large})
"""


def test_a_bundle_killed_in_the_middle_of_its_write_leaves_the_old_one_whole(sensor: Fitted, tmp_path: Path) -> None:
    """Killed while the new version is written beside the old one: the old one is as it was, and the half is never read as a bundle."""
    out = tmp_path / "b.anomaly"
    out.write_bytes(sensor.bundle.read_bytes())
    process = subprocess.Popen([sys.executable, "-c", WRITE, str(sensor.bundle), str(out)], stdout=subprocess.PIPE, text=True)

    def begun() -> bool:
        return any(part.stat().st_size > 1 << 20 for part in tmp_path.glob(".b.anomaly.*.part"))

    deadline = time.monotonic() + 120
    while not begun():
        assert time.monotonic() < deadline
        assert process.poll() is None, "it was written before it could be killed"
    process.send_signal(signal.SIGKILL)
    process.wait()
    (part,) = tmp_path.glob(".b.anomaly.*.part")
    with pytest.raises(BundleError):
        read_bundle(part)
    assert read_bundle(out).hash == read_bundle(sensor.bundle).hash
    assert whole_bundles(tmp_path) == ["b.anomaly"]
    subprocess.run([sys.executable, "-c", WRITE, str(sensor.bundle), str(out)], check=True, capture_output=True)
    assert read_bundle(out).manifest.version == "2"


PUBLISH = """
import sys
from pathlib import Path
from anomaly.bundle.release_folder import ReleaseFolder
ReleaseFolder(Path(sys.argv[1])).publish(Path(sys.argv[2]), by="the night")
"""


def test_publish_killed_in_the_middle_of_its_copy_leaves_the_champion_before(sensor: Fitted, tmp_path: Path) -> None:
    """A large bundle, so that there is time to kill it: the champion is the one before, and what was copied bears no bundle's name."""
    folder, large = ReleaseFolder(tmp_path / "release"), tmp_path / "large.anomaly"
    before = folder.publish(sensor.bundle)
    subprocess.run([sys.executable, "-c", WRITE, str(sensor.bundle), str(large)], check=True, capture_output=True)
    command = [sys.executable, "-c", PUBLISH, str(folder.where), str(large)]
    process = subprocess.Popen(command)

    def begun() -> bool:
        return any(part.stat().st_size > 1 << 20 for part in folder.where.glob(".*.part"))

    deadline = time.monotonic() + 120
    while not begun():
        assert time.monotonic() < deadline
        assert process.poll() is None, "it was published before it could be killed"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert folder.pointed("champion") == before
    assert set(whole_bundles(folder.where)) - {path.name for path in folder.where.glob(".*.part")} == {before.name}
    subprocess.run(command, check=True)
    champion = folder.pointed("champion")
    assert champion is not None
    assert read_bundle(champion).manifest.version == "2"
    assert [entry.action for entry in folder.history()] == ["published", "published"]


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


def scores_in(path: Path) -> int:
    store = Store(path)
    count = store.counts()["scores"]
    store.close()
    return count


def test_monitor_killed_again_and_again_loses_no_alarm(sensor: Fitted, tmp_path: Path, receiver: SlowReceiver) -> None:
    """Ten kills at random moments while rows come in and alarms go out; what was stored stays, and arrives."""
    feed, store = tmp_path / "feed.csv", tmp_path / "s.db"
    text = (sensor.data / "test.csv").read_text().splitlines(keepends=True)
    feed.write_text(text[0])
    alerts = tmp_path / "alerts.toml"
    alerts.write_text(f'[[sink]]\nname = "w"\nkind = "webhook"\nurl = "{receiver.url}"\n')
    arguments = ["monitor", str(sensor.bundle), "--source", str(feed), "--store", str(store), "--alerts", str(alerts)]
    rng, at, stored, scored = random.Random(11), 1, set(), 0
    for _ in range(10):
        process = start(*arguments)
        more, kill_at = at + 380, None
        deadline = time.monotonic() + 120
        while kill_at is None or time.monotonic() < kill_at:  # any moment must do, once it has come to score new rows
            assert time.monotonic() < deadline
            assert process.poll() is None, process.communicate()[0]
            with feed.open("a") as stream:
                stream.write("".join(text[at : min(at + 40, more)]))
            at = min(at + 40, more)
            if kill_at is None and store.exists() and scores_in(store) > scored:
                kill_at = time.monotonic() + rng.uniform(0.0, 1.0)
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        scored, ids = scores_in(store), {e["id"] for e in Store(store).events()}
        assert stored <= ids
        stored = ids
    assert stored, "no alarm was stored before the last kill: the test shows nothing"
    with feed.open("a") as stream:
        stream.write("".join(text[at:]))
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        done = subprocess.run([*ANOMALY, *arguments, "--once", "--exit-zero"], capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, done.stderr
        if Store(store).counts()["waiting"] == 0:
            break
        time.sleep(1.0)
    final = Store(store)
    ids = [e["id"] for e in final.events()]
    assert stored <= set(ids)
    assert sum(e["type"] == "anomaly.alarm.opened" for e in final.events()) > 1
    assert set(ids) == set(receiver.ids)  # at least once; twice is told apart by the id
    assert final.counts()["waiting"] == 0

    undisturbed = tmp_path / "u.db"
    subprocess.run(
        [*ANOMALY, "monitor", str(sensor.bundle), "--source", str(feed), "--store", str(undisturbed), "--once", "--exit-zero"], check=True
    )
    calm = Store(undisturbed)
    assert [s.record for s in final.scores("pump")] == [s.record for s in calm.scores("pump")]
    assert by_the_data(final) == by_the_data(calm)
