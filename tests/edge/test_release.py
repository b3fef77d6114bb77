"""Bundles that change while a line runs, many lines on one box, alarms on the data itself, and a GPU that runs out of memory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from anomaly.alarms.quality import Quality, Seen
from anomaly.alarms.store import Store
from anomaly.bundle.archive import Bundle, read_bundle, write_bundle
from anomaly.edge.box import Box, read_box
from anomaly.edge.monitor import Monitor
from anomaly.edge.release import Release
from anomaly.edge.runtime.session import Answer, Session, out_of_memory
from anomaly.edge.sources.base import Poll
from anomaly.edge.sources.uri import open_source
from anomaly.errors import BundleError, SpecError
from tests.conftest import Fitted


def other_version(source: Path, target: Path, version: str, **changes: object) -> str:
    """The same detector under another version, with parts of its manifest changed. Returns its hash."""
    bundle = read_bundle(source)
    return write_bundle(target, bundle.manifest.model_copy(update={"version": version, "members": {}, **changes}), bundle.members)


def point(folder: Path, role: str, name: str, digest: str) -> None:
    (folder / f"{role}.json").write_text(json.dumps({"bundle": name, "hash": digest, "name": "pump", "version": "x"}))


@pytest.fixture
def folder(sensor: Fitted, tmp_path: Path) -> Path:
    release = tmp_path / "release"
    release.mkdir()
    point(release, "champion", "one.anomaly", other_version(sensor.bundle, release / "one.anomaly", "1"))
    return release


def open_on_cpu(bundle: Bundle) -> Session:
    return Session(bundle.detector, "cpu")


def line(sensor: Fitted, tmp_path: Path, release: Release, rows: int = 400) -> tuple[Monitor, Path]:
    feed = tmp_path / "feed.csv"
    lines = (sensor.data / "train.csv").read_text().splitlines(keepends=True)
    feed.write_text("".join(lines[: rows + 1]))
    loaded, _ = release.first()
    store = Store(tmp_path / "s.db")
    source = open_source(str(feed), loaded.bundle.manifest.input, lambda _: False, {})
    return Monitor(loaded.bundle, loaded.session, source, store, "l", release=release), feed


def more(sensor: Fitted, feed: Path, start: int, stop: int) -> None:
    lines = (sensor.data / "train.csv").read_text().splitlines(keepends=True)
    with feed.open("a") as stream:
        stream.writelines(lines[start + 1 : stop + 1])


def kinds(store: Store) -> list[str]:
    return [e["type"].rpartition(".")[2] for e in store.events() if ".bundle." in e["type"]]


def test_a_new_champion_is_taken_between_two_records_and_a_challenger_runs_beside(sensor: Fitted, folder: Path, tmp_path: Path) -> None:
    release = Release(str(folder), tmp_path / "keep", open_on_cpu, every_s=1e9)
    loop, feed = line(sensor, tmp_path, release)
    first = loop.bundle.hash
    loop.run(threading.Event(), once=True)
    second = other_version(sensor.bundle, folder / "two.anomaly", "2")
    point(folder, "champion", "two.anomaly", second)
    third = other_version(sensor.bundle, folder / "three.anomaly", "3")
    point(folder, "challenger", "three.anomaly", third)
    release.look()
    more(sensor, feed, 400, 700)
    loop.run(threading.Event(), once=True)
    assert loop.bundle.hash == second
    assert kinds(loop.store) == ["swapped"]
    by_bundle = dict(loop.store._db.execute("SELECT bundle, count(*) FROM scores GROUP BY bundle"))
    assert by_bundle == {first: 371, second: 300}
    shadow = loop.store.shadow("l")
    assert len(shadow) == 300
    assert {row[4] for row in shadow} == {third}
    (folder / "challenger.json").unlink()
    release.look()
    more(sensor, feed, 700, 710)
    loop.run(threading.Event(), once=True)
    assert len(loop.store.shadow("l")) == 300
    assert loop._probation is None  # passed
    release.close()


def test_what_is_damaged_foreign_or_fails_its_self_test_is_refused_once_and_the_line_goes_on(
    sensor: Fitted, camera: Fitted, folder: Path, tmp_path: Path
) -> None:
    release = Release(str(folder), tmp_path / "keep", open_on_cpu, every_s=1e9)
    loop, feed = line(sensor, tmp_path, release)
    before = loop.bundle.hash
    good = read_bundle(sensor.bundle)
    reasons = []
    forged = dict(good.members) | {"detector.onnx": good.detector[: len(good.detector) // 2]}
    cases = {
        "camera.anomaly": read_bundle(camera.bundle).hash,
        "cut.anomaly": other_version(sensor.bundle, folder / "cut.anomaly", "4"),
        "graph.anomaly": write_bundle(folder / "graph.anomaly", good.manifest.model_copy(update={"version": "5", "members": {}}), forged),
        "other.anomaly": other_version(sensor.bundle, folder / "other.anomaly", "6"),
    }
    (folder / "camera.anomaly").write_bytes(camera.bundle.read_bytes())
    whole = (folder / "cut.anomaly").read_bytes()
    (folder / "cut.anomaly").write_bytes(whole[:-100])
    cases["other.anomaly"] = "0" * 64
    for name, digest in cases.items():
        point(folder, "champion", name, digest)
        release.look()
        release.look()  # told once
        more(sensor, feed, 400, 401)
        reasons += [c.refused for c in release.take()]
    assert [next(w for w in ("another input", "not a whole bundle", "cannot be loaded", "pointer says") if w in r) for r in reasons] == [
        "another input", "not a whole bundle", "cannot be loaded", "pointer says",
    ]  # fmt: skip
    (folder / "champion.json").write_text("{half")
    release.look()
    assert release.take() == []
    loop.run(threading.Event(), once=True)
    assert loop.bundle.hash == before
    release.close()


def test_a_champion_that_goes_wild_is_rolled_back_and_never_taken_again(sensor: Fitted, folder: Path, tmp_path: Path) -> None:
    release = Release(str(folder), tmp_path / "keep", open_on_cpu, every_s=1e9)
    loop, feed = line(sensor, tmp_path, release)
    good = loop.bundle.hash
    loop.run(threading.Event(), once=True)
    manifest = read_bundle(sensor.bundle).manifest
    wild = other_version(sensor.bundle, folder / "wild.anomaly", "7", threshold=manifest.threshold.model_copy(update={"p_value": 0.999}))
    point(folder, "champion", "wild.anomaly", wild)
    release.look()
    more(sensor, feed, 400, 460)
    loop.run(threading.Event(), once=True)
    assert loop.bundle.hash == good
    assert kinds(loop.store) == ["swapped", "rolled_back"]
    assert {b for (b,) in loop.store._db.execute("SELECT DISTINCT bundle FROM scores")} == {good}
    release.look()
    assert release.take() == []
    release.close()
    again = Release(str(folder), tmp_path / "keep", open_on_cpu, every_s=1e9)
    assert wild in again._refused
    again.close()


def test_a_release_by_url_and_the_last_good_one_without_the_network(sensor: Fitted, folder: Path, tmp_path: Path) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    where = f"http://127.0.0.1:{server.server_port}"
    release = Release(where, tmp_path / "keep", open_on_cpu, every_s=1e9)
    loaded, why = release.first()
    assert why == ""
    second = other_version(sensor.bundle, tmp_path / "two.anomaly", "2")
    point(folder, "champion", "two.anomaly", second)
    release.look()
    release.look()
    (change,) = release.take()  # told once
    assert change.refused.endswith("two.anomaly: not there, though the pointer names it; tried again")
    (tmp_path / "two.anomaly").rename(folder / "two.anomaly")
    release.look()
    (change,) = release.take()
    assert change.loaded is not None
    assert change.loaded.bundle.hash == second
    third = other_version(sensor.bundle, folder / "three.anomaly", "3")
    point(folder, "challenger", "three.anomaly", third)
    release.look()
    assert release.take()[0].loaded is not None
    kept = tmp_path / "keep"
    assert json.loads((kept / "last-good.json").read_text())["hash"] == loaded.bundle.hash  # the second has not proved itself yet
    release.confirm(change.loaded.bundle)
    assert [path.name for path in (kept / "fetched").iterdir()] == ["two.anomaly"]  # nothing heaps up
    release.close()
    server.shutdown()
    server.server_close()
    off = Release(where, tmp_path / "keep", open_on_cpu, every_s=1e9)
    again, why = off.first()
    assert again.bundle.hash == second  # it proved itself
    assert "cannot be fetched" in why
    off.close()
    with pytest.raises(BundleError, match="cannot be fetched"):
        Release(where, tmp_path / "empty", open_on_cpu).first()


# --- data quality ---


def test_quality_alarms_open_and_close() -> None:
    quality = Quality("l", {}, 60.0, 0.0)
    look = lambda now, **seen: [(e.kind, e.data["condition"]) for e in quality.look(Seen(**seen), now)]  # noqa: E731
    assert look(0, records=1, frozen="") == []
    assert look(30, trouble="gone") == []
    assert look(41, trouble="gone") == [("opened", "source")]
    assert look(61) == [("closed", "source"), ("opened", "silent")]
    assert look(62, records=1, frozen="the same") == [("closed", "silent"), ("opened", "frozen")]
    assert look(63) == []  # no record tells nothing of frozen
    assert look(64, records=1, frozen="") == [("closed", "frozen")]
    assert look(65, rejected=10) == []
    assert look(66, records=5, rejected=5, frozen="") == [("opened", "rubbish")]
    assert look(67, records=20, frozen="") == [("closed", "rubbish")]
    assert look(68, provider="moved to the CPU") == [("opened", "provider")]
    assert look(10) == [("closed", "provider")]  # the clock was set back: no silence is made of it
    assert look(60) == []
    assert look(71) == [("opened", "silent")]


def test_a_silent_and_a_frozen_source_are_alarms_that_survive_a_restart(sensor: Fitted, tmp_path: Path) -> None:
    bundle = read_bundle(sensor.bundle)
    feed, now = tmp_path / "feed.csv", [1000.0]
    frame = pd.read_csv(sensor.data / "train.csv").head(300)
    frame.head(250).to_csv(feed, index=False)

    def start() -> Monitor:
        store = Store(tmp_path / "s.db")
        source = open_source(str(feed), bundle.manifest.input, lambda _: False, store.resume("l")[0])
        return Monitor(bundle, open_on_cpu(bundle), source, store, "l", silent_after_s=30.0, clock=lambda: now[0])

    def data_alarms(loop: Monitor) -> list[tuple[str, str]]:
        return [
            (e["type"].rpartition(".")[2], e["data"]["condition"]) for e in loop.store.events() if e["data"].get("class") == "data quality"
        ]

    loop, stop = start(), threading.Event()
    loop.turn(stop)
    now[0] += 31
    loop.turn(stop)
    assert data_alarms(loop) == [("opened", "silent")]
    loop = start()  # killed and started again
    loop.turn(stop)
    assert data_alarms(loop) == [("opened", "silent")]
    still = frame.iloc[[250] * 40].copy()
    time_column = frame.columns[0]
    still[time_column] = frame[time_column].iloc[250:290].to_numpy()
    still.to_csv(feed, index=False, header=False, mode="a")
    loop.turn(stop)
    assert data_alarms(loop)[1:] == [("closed", "silent"), ("opened", "frozen")]
    opened, closed = (e for e in loop.store.events() if e["data"].get("condition") == "silent")
    assert opened["subject"] == closed["subject"]


# --- a GPU that runs out of memory (behind the session's own interface) ---


class Tight:
    """A session that holds `room` records at once."""

    def __init__(self, room: int) -> None:
        self.room, self.sizes = room, []

    def run(self, _: None, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        (raw,) = feeds.values()
        if len(raw) > self.room:
            raise RuntimeError("CUDA error: Failed to allocate memory for requested buffer of size 1073741824")
        self.sizes.append(len(raw))
        return [np.arange(len(raw), dtype=np.float32), np.full(len(raw), 0.5, np.float32), np.zeros((len(raw), 8), np.float32)]


def test_out_of_gpu_memory_halves_the_batch_then_goes_to_the_cpu_and_says_so(sensor: Fitted) -> None:
    bundle = read_bundle(sensor.bundle)
    session = Session(bundle.detector, "cpu")
    raw = np.random.default_rng(0).normal(size=(20, 230, 8)).astype(np.float32)
    expected = session.run(raw)
    tight = Tight(6)
    session._session, session.provider = tight, "cuda"
    answer = session.run(raw)
    assert isinstance(answer, Answer)
    assert max(tight.sizes) <= 6
    assert len(answer.score) == 20
    assert "batches of 5 at most" in session.degraded
    tight.room = 0
    np.testing.assert_allclose(session.run(raw).score, expected.score, rtol=1e-5)
    assert session.provider == "cpu"
    assert "moved to the CPU" in session.line()
    session._session = Tight(0)
    with pytest.raises(RuntimeError, match="Failed to allocate"):
        session.run(raw)  # on the CPU there is nowhere left to go
    assert not out_of_memory(ValueError("shape"))
    assert out_of_memory(RuntimeError("BFCArena: Available memory of 65138688 is smaller than requested bytes of 134217728"))


def test_fixed_buffers_give_what_the_free_graph_gives(camera: Fitted) -> None:
    from anomaly.edge.runtime.io_binding import Bound
    from anomaly.edge.runtime.session import Device, open_fixed

    bundle = read_bundle(camera.bundle)
    free = Session(bundle.detector, "cpu")
    rng = np.random.default_rng(0)
    raw = rng.integers(0, 256, (1, 90, 120, 3)).astype(np.uint8)
    bound = Bound(open_fixed(bundle.detector, "cpu", "float", Device(1), raw.shape), raw, free.run(raw), "cpu")
    for _ in range(3):
        raw = rng.integers(0, 256, raw.shape).astype(np.uint8)
        for ours, theirs in zip(bound.run(raw), free.run(raw), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)
    with pytest.raises(TypeError):
        bound.run(raw.astype(np.float32))
    bound.close()


# --- many lines ---


def test_a_box_serves_its_lines_evenly_with_one_store(sensor: Fitted, tmp_path: Path) -> None:
    bundle = read_bundle(sensor.bundle)
    session = Session(bundle.detector, "cpu")
    monitors = []
    for i in range(12):
        feed = tmp_path / f"{i}.csv"
        feed.write_bytes((sensor.data / "test.csv").read_bytes())
        store = Store(tmp_path / "s.db")
        monitors.append(Monitor(bundle, session, open_source(str(feed), bundle.manifest.input, lambda _: False, {}), store, f"line{i}"))
    box = Box(monitors, workers=3)
    box.run(threading.Event(), once=True)
    counts = {m.totals.scored for m in monitors}
    assert len(counts) == 1
    assert counts.pop() == len(pd.read_csv(sensor.data / "test.csv")) - 29
    assert {served.turns for served in box.lines} == {box.lines[0].turns}
    assert Store(tmp_path / "s.db").counts()["scores"] == 12 * monitors[0].totals.scored


def test_a_line_that_fails_stops_the_box_with_its_reason(sensor: Fitted, tmp_path: Path) -> None:
    class Broken:
        def poll(self, limit: int) -> Poll:
            raise RuntimeError("a programming error")

        def close(self) -> None:
            return

    bundle = read_bundle(sensor.bundle)
    loop = Monitor(bundle, open_on_cpu(bundle), Broken(), Store(tmp_path / "s.db"), "l")
    with pytest.raises(RuntimeError, match="a programming error"):
        Box([loop]).run(threading.Event())


def test_a_box_file_is_checked_before_any_work(tmp_path: Path) -> None:
    path = tmp_path / "box.toml"
    path.write_text('[[line]]\nname = "a"\nbundle = "b"\nsource = "c"\n' * 2)
    with pytest.raises(SpecError, match=r"lines \['a'\] are there twice"):
        read_box(path)
    path.write_text('[[line]]\nname = "a"\nbundle = "b"\nsuorce = "c"\n')
    with pytest.raises(SpecError, match=r"key `line\.0\.(source|suorce)`"):
        read_box(path)


# --- killed at random points ---


def test_killed_again_and_again_nothing_is_lost_or_told_twice(sensor: Fitted, tmp_path: Path) -> None:
    """kill -9 at random points until the whole file is through: the store is what one undisturbed run leaves."""
    feed = tmp_path / "feed.csv"
    test = (sensor.data / "test.csv").read_text().splitlines(keepends=True)
    feed.write_text("".join(test))
    worker = (
        "import sys, threading; from pathlib import Path\n"
        "import anomaly.edge.monitor as m; from anomaly.edge.kinds import KINDS; from dataclasses import replace\n"
        "KINDS['window'] = replace(KINDS['window'], records_per_poll=7)\n"
        "from anomaly.alarms.store import Store; from anomaly.bundle.archive import read_bundle\n"
        "from anomaly.edge.runtime.session import Session; from anomaly.edge.sources.uri import open_source\n"
        "bundle = read_bundle(Path(sys.argv[1])); store = Store(Path(sys.argv[3])); session = Session(bundle.detector, 'cpu', None)\n"
        "import os\n"
        "print('ready', flush=True)\n"
        "for _ in range(int(sys.argv[4])):\n"
        "    child = os.fork()\n"
        "    if child == 0:\n"
        "        store = Store(Path(sys.argv[3]))\n"
        "        source = open_source(sys.argv[2], bundle.manifest.input, lambda _: False, store.resume('l')[0])\n"
        "        loop = m.Monitor(bundle, Session(bundle.detector, 'cpu'), source, store, 'l', ['w'])\n"
        "        loop.run(threading.Event(), once=True); os._exit(7)\n"
        "    import random, time, signal\n"
        "    time.sleep(random.uniform(0.0, 0.12)); os.kill(child, signal.SIGKILL)\n"
        "    if os.waitpid(child, 0)[1] == signal.SIGKILL: print('killed', flush=True)\n"
    )
    store = tmp_path / "killed.db"
    done = subprocess.run(
        [sys.executable, "-c", worker, str(sensor.bundle), str(feed), str(store), "200"], capture_output=True, text=True, timeout=280
    )
    assert done.stdout.count("killed") > 100, done.stderr
    bundle = read_bundle(sensor.bundle)

    def finish(path: Path) -> Store:
        db = Store(path)
        source = open_source(str(feed), bundle.manifest.input, lambda _: False, db.resume("l")[0])
        Monitor(bundle, open_on_cpu(bundle), source, db, "l", ["w"]).run(threading.Event(), once=True)
        return db

    killed, whole = finish(store), finish(tmp_path / "whole.db")
    np.testing.assert_allclose([s.score for s in killed.scores("l")], [s.score for s in whole.scores("l")], rtol=1e-5)
    assert [s.record for s in killed.scores("l")] == [s.record for s in whole.scores("l")]
    assert [e["id"] for e in killed.events()] == [e["id"] for e in whole.events()]
    assert len(killed.events()) > 0
    assert killed.counts()["waiting"] == whole.counts()["waiting"] == len(whole.events())


def test_the_monitor_ends_cleanly_on_sigterm(sensor: Fitted, tmp_path: Path) -> None:
    feed = tmp_path / "feed.csv"
    feed.write_bytes((sensor.data / "test.csv").read_bytes())
    command = [
        sys.executable,
        "-m",
        "anomaly.cli.main",
        "monitor",
        str(sensor.bundle),
        "--source",
        str(feed),
        "--store",
        str(tmp_path / "s.db"),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 60
    while not (tmp_path / "s.db").exists() or not Store(tmp_path / "s.db").counts()["scores"]:
        assert time.monotonic() < end
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGTERM)
    _, told = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "scored" in told
