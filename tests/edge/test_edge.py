"""The edge: sources, loop, self-test, and what it must never import."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from anomaly.alarms.life import State
from anomaly.alarms.store import Store
from anomaly.bundle.archive import Bundle, read_bundle
from anomaly.data.tables.windows import stretch_lengths, windows_at
from anomaly.edge.monitor import Monitor
from anomaly.edge.runtime.batching import score
from anomaly.edge.runtime.self_test import self_test
from anomaly.edge.runtime.session import Session, open_session
from anomaly.edge.sources.csv_file import CsvSource
from anomaly.edge.sources.picture_folder import FolderSource
from anomaly.edge.sources.rows import WindowBuffer
from anomaly.edge.sources.uri import open_source
from anomaly.errors import BundleError, DataError, ProviderError, StoreError
from anomaly.schema import Channel, InputSchema
from tests.conftest import Fitted

SCHEMA = InputSchema(
    name="window", dtype="float32", channels=2, window=3, max_gap_s=10, sensors=[Channel(name="a"), Channel(name="b", high=50)]
)
IMAGE = InputSchema(name="image", dtype="uint8", channels=3)


def rows(start: int, stop: int) -> str:
    return "".join(f"{i},{i},{i * 10},x\n" for i in range(start, stop))


@pytest.fixture
def feed(tmp_path: Path) -> Path:
    path = tmp_path / "feed.csv"
    path.write_text("time,a,b,note\n" + rows(0, 4))
    return path


def test_growing_csv(feed: Path) -> None:
    source = CsvSource(feed, SCHEMA, {})
    first = source.poll(100)
    assert [r.id for r in first.records] == ["feed.csv:4", "feed.csv:5"]
    np.testing.assert_array_equal(first.records[1].payload, [[1, 10], [2, 20], [3, 30]])
    with feed.open("a") as stream:
        stream.write("4,4,40,x\n5,5,")  # half a row
        stream.flush()
        assert [r.id for r in source.poll(100).records] == ["feed.csv:6"]
        stream.write("60,x\n")
        stream.flush()
        poll = source.poll(100)
    assert [r.id for r in poll.records] == ["feed.csv:7"]
    assert np.isnan(poll.records[0].payload[2, 1])  # beyond its limit


def test_bad_rows_are_set_aside_and_the_rest_goes_on(feed: Path) -> None:
    with feed.open("a") as stream:
        stream.write("4,oops,1,x\n5,5\nnever,1,1,x\n3,1,1,x\n6,6,6,x\n\n7,7,7,x\n")
    poll = CsvSource(feed, SCHEMA, {}).poll(100)
    reasons = [r.reason for r in poll.rejected]
    assert "feed.csv:6, column 'a': 'oops' is not a number; the row: 4,oops,1,x" in reasons[0]
    assert "feed.csv:7: 2 fields instead of 4" in reasons[1]
    assert "time 'never' cannot be read" in reasons[2]
    assert "its time is not after the row before" in reasons[3]
    assert [r.id for r in poll.records] == ["feed.csv:4", "feed.csv:5", "feed.csv:10", "feed.csv:12"]


def test_no_window_spans_a_gap(feed: Path) -> None:
    with feed.open("a") as stream:
        stream.write(rows(100, 103))
    poll = CsvSource(feed, SCHEMA, {}).poll(100)
    assert [r.id for r in poll.records] == ["feed.csv:4", "feed.csv:5", "feed.csv:8"]


def test_context_is_what_there_is_before_a_window(feed: Path) -> None:
    with feed.open("a") as stream:
        stream.write(rows(100, 104))
    schema = SCHEMA.model_copy(update={"context": 5})
    records = CsvSource(feed, schema, {}).poll(100).records
    assert [r.id for r in records] == ["feed.csv:4", "feed.csv:5", "feed.csv:8", "feed.csv:9"]
    assert all(r.payload.shape == (8, 2) for r in records)
    np.testing.assert_array_equal(records[1].payload[4:, 0], [0, 1, 2, 3])
    assert np.isnan(records[1].payload[:4]).all()
    np.testing.assert_array_equal(records[3].payload[4:, 0], [100, 101, 102, 103])
    assert np.isnan(records[3].payload[:4]).all()  # nothing from before the gap


@pytest.mark.parametrize("context", [0, 5, 40])
@pytest.mark.parametrize("limit", [1, 2, 5])
def test_restart_anywhere_gives_the_same_windows(feed: Path, limit: int, context: int) -> None:
    schema = SCHEMA.model_copy(update={"context": context})
    with feed.open("a") as stream:
        stream.write(rows(4, 20) + "bad\n" + rows(20, 30) + rows(80, 86))
    whole = [(r.id, r.payload.tobytes()) for r in CsvSource(feed, schema, {}).poll(1000).records]
    found, position = [], {}
    for _ in range(60):  # a new process for every poll
        poll = CsvSource(feed, schema, position).poll(limit)
        found += [(r.id, r.payload.tobytes()) for r in poll.records]
        position = poll.position
    assert found == whole


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(1, 200), min_size=1, max_size=3), st.lists(st.integers(1, 40), min_size=1, max_size=20))
def test_windows_are_the_rows_of_their_stretch_however_they_come(sensor: Fitted, stretches: list[int], sizes: list[int]) -> None:
    """Cut in blocks of any size, with gaps anywhere, a window holds the rows of its stretch and NaN before them; scored alike."""
    bundle = read_bundle(sensor.bundle)
    times = np.cumsum(np.concatenate([[100.0] + [1.0] * (29 + length) for length in stretches]))
    values = np.random.default_rng(len(times)).standard_normal((len(times), 8)).astype(np.float32)
    session, now_and_then = open_session(bundle, "cpu"), open_session(bundle, "cpu")
    rolling, records, scores, start = WindowBuffer(bundle.manifest.input), [], [], 0
    for turn, size in enumerate([*sizes, len(times)]):
        part = slice(start, start + size)
        found = rolling.extend([str(i) for i in range(len(times))[part]], times[part], values[part])
        scores.append(score(session, found).score)
        if turn % 3:  # a second detector that has not seen all rows
            np.testing.assert_allclose(score(now_and_then, found).score, scores[-1], rtol=1e-4, atol=1e-5)
        records += found
        start += size
    known = stretch_lengths(times, np.ones(len(times), bool), 50.0)
    ends = np.flatnonzero(known >= 30)
    assert [record.id for record in records] == [str(end) for end in ends]
    windows = windows_at(values, ends, 230, known[ends])
    np.testing.assert_array_equal([record.payload for record in records], windows)
    expected = session.run(windows).score
    np.testing.assert_allclose(np.concatenate(scores), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(score(session, records).score, expected, rtol=1e-4, atol=1e-5)


def test_a_row_costs_its_own_window_alone(sensor: Fitted) -> None:
    bundle = read_bundle(sensor.bundle)
    session, rolling = open_session(bundle, "cpu"), WindowBuffer(bundle.manifest.input)
    handed: list[int] = []
    run_stream = session.run_stream
    session.run_stream = lambda rows, before: handed.append(len(rows)) or run_stream(rows, before)  # type: ignore[method-assign, func-returns-value]
    for second in range(300):
        score(session, rolling.extend([str(second)], np.array([float(second)]), np.zeros((1, 8), np.float32)))
    assert handed == [230] + [30] * 270  # the first looks at the context of all


def test_replaced_file_is_begun_anew(feed: Path) -> None:
    source = CsvSource(feed, SCHEMA, {})
    source.poll(100)
    new = feed.with_name("new.csv")
    new.write_text("time,a,b,note\n" + rows(200, 205))
    new.replace(feed)
    assert [r.time for r in source.poll(100).records] == [202, 203, 204]
    feed.write_text("time,b\n1,2\n")  # the same file, shortened, with a column gone
    poll = source.poll(100)
    assert "columns ['a'] are missing, which the bundle needs" in poll.rejected[0].reason


def test_wrong_sources_are_named(tmp_path: Path, feed: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        CsvSource(tmp_path / "none.csv", SCHEMA, {})
    feed.write_text("time,a,c\n")
    with pytest.raises(DataError, match=r"columns \['b'\] are missing, which the bundle needs"):
        CsvSource(feed, SCHEMA, {})
    with pytest.raises(DataError, match="this bundle takes pictures: give a folder"):
        open_source(str(feed), IMAGE, lambda _: False, {})
    with pytest.raises(DataError, match="no such folder to watch"):
        open_source(f"folder:{tmp_path / 'none'}", IMAGE, lambda _: False, {})


def save(path: Path, picture: np.ndarray, age: float = 10.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)
    os.utime(path, (time.time() - age, time.time() - age))


def test_folder_gives_each_picture_once_oldest_first(tmp_path: Path, picture: np.ndarray) -> None:
    source = FolderSource(tmp_path, IMAGE, lambda _: False)
    save(tmp_path / "b.png", picture, age=20)
    save(tmp_path / "shift2" / "a.png", picture, age=10)
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "bad.png").write_bytes(b"junk")
    os.utime(tmp_path / "bad.png", (1, 1))
    poll = source.poll(10)
    assert [r.id.split("@")[0] for r in poll.records] == ["b.png", "shift2/a.png"]
    assert "bad.png: not a picture" in poll.rejected[0].reason
    assert source.poll(10).records == []
    save(tmp_path / "b.png", picture, age=5)  # written again: a new record
    assert [r.id.split("@")[0] for r in source.poll(10).records] == ["b.png"]


def test_a_file_still_being_written_waits(tmp_path: Path, picture: np.ndarray) -> None:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    source = FolderSource(tmp_path, IMAGE, lambda _: False)
    path = tmp_path / "slow.png"
    path.write_bytes(buffer.getvalue()[:5000])
    assert source.poll(10).waiting
    path.write_bytes(buffer.getvalue())
    assert source.poll(10).records == []  # it grew since
    poll = source.poll(10)
    assert len(poll.records) == 1
    assert poll.rejected == []


def monitor(fitted: Fitted, tmp_path: Path, source: str, bundle: Bundle | None = None) -> Monitor:
    bundle = bundle or read_bundle(fitted.bundle)
    store = Store(tmp_path / "s.db")
    position, _, _ = store.resume("l")
    opened = open_source(source, bundle.manifest.input, lambda r: store.known("l", r), position)
    return Monitor(bundle, open_session(bundle, "cpu"), opened, store, "l", ["w"], aside=tmp_path / "aside")


def test_camera_loop_scores_alarms_and_keeps_bad_files(camera: Fitted, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    for path in sorted((camera.data / "test").glob("*/*.jpg")):
        picture = np.asarray(Image.open(path))
        save(folder / f"{path.parent.name}-{path.stem}.png", picture, age=100)
    whole = (folder / "good-000.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[:3000])
    os.utime(folder / "cut.png", (1, 1))
    loop = monitor(camera, tmp_path, str(folder))
    totals = loop.run(threading.Event(), once=True)
    assert (totals.scored, totals.rejected) == (16, 1)
    assert totals.opened >= 1
    opened = next(e for e in loop.store.events() if e["type"] == "anomaly.alarm.opened")
    assert 0 <= opened["data"]["where"]["x"] <= 1
    assert [p.name.split("@")[0] for p in (tmp_path / "aside").iterdir()] == ["cut.png"]
    again = monitor(camera, tmp_path, str(folder)).run(threading.Event(), once=True)
    assert (again.scored, again.rejected) == (0, 0)


def test_sensor_loop_equals_batch_scoring(sensor: Fitted, tmp_path: Path) -> None:
    from anomaly.pipeline.assess import score_paths

    bundle = read_bundle(sensor.bundle)
    path = sensor.data / "test.csv"
    loop = monitor(sensor, tmp_path, str(path))
    at_once: list[int] = []
    run_stream = loop.session.run_stream
    loop.session.run_stream = lambda rows, before: at_once.append(len(rows)) or run_stream(rows, before)  # type: ignore[method-assign, func-returns-value]
    totals = loop.run(threading.Event(), once=True)
    assert max(at_once) > 500  # a long file is scored in long stretches
    frame, _ = score_paths(bundle, Session(bundle.detector, "cpu"), [path])
    stored = loop.store.scores("l")
    assert totals.scored == len(frame) == len(stored)
    np.testing.assert_allclose([s.score for s in stored], frame["score"], rtol=1e-5)
    np.testing.assert_allclose([s.time for s in stored], frame["time"])
    opened = [e for e in loop.store.events() if e["type"] == "anomaly.alarm.opened"]
    assert opened
    assert len(opened[0]["data"]["top"]) == 3


def test_a_full_disk_is_waited_out(sensor: Fitted, tmp_path: Path) -> None:
    loop = monitor(sensor, tmp_path, str(sensor.data / "test.csv"))
    said: list[str] = []
    stop = threading.Event()
    real, failures = loop.store.commit, [StoreError("disk full"), StoreError("disk full")]

    def commit(*arguments) -> None:
        if failures:
            raise failures.pop()
        real(*arguments)

    loop.store.commit = commit  # type: ignore[method-assign]
    loop.say = said.append
    stop.wait = lambda _=None: False  # type: ignore[method-assign]
    poll = loop.turn(stop)
    assert said[:2] == ["disk full; trying again in 5 s"] * 2
    assert len(loop.store.scores("l")) == len(poll.records)


def test_self_test_catches_a_graph_that_computes_something_else(sensor: Fitted) -> None:
    bundle = read_bundle(sensor.bundle)
    session = Session(bundle.detector, "cpu")
    assert self_test(bundle, session) == 4
    buffer = io.BytesIO()
    with np.load(io.BytesIO(bundle.members["examples/0.npz"])) as example:
        np.savez(buffer, raw=example["raw"], score=example["score"] * 1.1, p_value=example["p_value"])
    forged = Bundle(bundle.path, bundle.manifest, bundle.hash, {**bundle.members, "examples/0.npz": buffer.getvalue()}, signed=False)
    with pytest.raises(BundleError, match=r"self-test examples/0\.npz gives"):
        self_test(forged, session)


def test_provider_is_told_and_forced(sensor: Fitted) -> None:
    model = read_bundle(sensor.bundle).detector
    session = Session(model)
    if session.provider == "cuda":
        pytest.skip("this machine has a GPU")
    assert session.line().startswith("provider: CPU, float (CUDA not used: ")
    with pytest.raises(ProviderError, match="provider 'cuda' was asked for but cannot be used"):
        Session(model, provider="cuda")
    with pytest.raises(BundleError, match="the graph cannot be loaded"):
        Session(model[: len(model) // 2], provider="cpu")


def test_store_state_survives(sensor: Fitted, tmp_path: Path) -> None:
    loop = monitor(sensor, tmp_path, str(sensor.data / "test.csv"))
    loop.run(threading.Event(), once=True)
    assert loop.store.resume("l")[1] == loop._state
    assert isinstance(loop._state, State)


BLOCKED = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in ('torch', 'torchvision', 'sklearn', 'prefect', 'timm', 'scipy', 'onnx', 'matplotlib'):
            raise ImportError('blocked: ' + name)
sys.meta_path.insert(0, Block())
from anomaly.cli.main import main
sys.argv = ['anomaly', *sys.argv[1:]]
main()
"""


def test_the_edge_runs_with_the_training_side_unimportable(sensor: Fitted, tmp_path: Path) -> None:
    arguments = ["monitor", str(sensor.bundle), "--source", str(sensor.data / "test.csv"), "--once", "--store", str(tmp_path / "s.db")]
    done = subprocess.run([sys.executable, "-c", BLOCKED, *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert len(Store(tmp_path / "s.db").scores("pump")) == len(pd.read_csv(sensor.data / "test.csv")) - 29
    checked = subprocess.run(
        [sys.executable, "-c", BLOCKED, "bundle", "verify", str(sensor.bundle)], capture_output=True, text=True, timeout=60
    )
    assert "whole" in checked.stdout
