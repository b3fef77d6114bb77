"""The edge on a CPU, one run: pictures a second and core from JPEG bytes to stored decision, latency beside three others, what the
loop adds, many streams, and sensor rows from file to store.

    python -m benchmarks.edge.edge_cpu --bundle CAMERA.anomaly --pictures FOLDER --table TABLE [--peer PEER_PYTHON] [--out FILE]

CAMERA.anomaly is fitted with the default spec; PICTURES are JPEG files of that line; TABLE is a long normal record (SKAB's
anomaly-free.csv), from which a detector is learnt here. PEER_PYTHON has anomalib, onnxruntime and openvino: its PatchCore with the same
backbone weights and a bank of 5,212 patches (1 % of 509 tiles'). What is stated a core runs on one core alone, the peer too.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pandas as pd
from numpy.typing import NDArray

from anomaly.alarms.store import Store
from anomaly.atomic import write_text
from anomaly.bundle.archive import VARIANTS, Bundle, read_bundle
from anomaly.edge.box import Box
from anomaly.edge.kinds import KINDS
from anomaly.edge.monitor import Monitor
from anomaly.edge.runtime.bench import memory_mb
from anomaly.edge.runtime.session import Session, open_session
from anomaly.edge.sources.uri import open_source
from anomaly.export.precision import prune_to
from anomaly.features.backbones.weights import packaged_weights
from anomaly.pipeline.sensor.line import SensorLine
from anomaly.pipeline.steps import Steps
from anomaly.spec import Pretrain, SensorSpec
from benchmarks.camera.camera_vs_anomalib import TIMED, peer
from benchmarks.edge.edge_streams import Once, held, jpegs, read

PICTURES, ROWS, SOAKED = 600, 100_000, 1_100_000
PEER_BANK = 5212


def line_of(bundle: Bundle, session: Session, source: str, store: Path, name: str = "line") -> Monitor:
    """A monitor on a fresh store."""
    db = Store(store)
    return Monitor(bundle, session, open_source(source, bundle.manifest.input, lambda r: db.known(name, r), {}), db, name)


def pictures(bundle: Bundle, files: list[Path], scratch: Path) -> dict[str, Any]:
    """JPEG files in a folder to decisions in the store, one thread: with a backlog, and one at a time."""
    folder = scratch / "in"
    folder.mkdir(parents=True)
    for i in range(PICTURES):
        shutil.copyfile(files[i % len(files)], folder / f"{i:04}.jpg")
    session = open_session(bundle, "cpu", threads=1)
    session.warm(np.repeat(read(bundle, files[0])[None], 8, axis=0))
    one = line_of(bundle, session, str(folder), scratch / "a.db")
    started = time.perf_counter()
    totals = one.run(threading.Event(), once=True)
    backlog = time.perf_counter() - started
    assert totals.scored == PICTURES
    KINDS["image"] = replace(KINDS["image"], records_per_poll=1)
    single = line_of(bundle, session, str(folder), scratch / "b.db")
    times = []
    for _ in range(200):
        started = time.perf_counter()
        poll = single.turn(threading.Event(), once=True)
        times.append(time.perf_counter() - started)
        assert len(poll.records) == 1
    KINDS["image"] = replace(KINDS["image"], records_per_poll=8)
    return {
        "per_s_a_core": PICTURES / backlog,
        "ms_a_picture": 1000 * backlog / PICTURES,
        "variant": session.variant,
        **quantiles(times, "turn_"),
    }


def quantiles(times: list[float], name: str = "") -> dict[str, float]:
    """p50 and p99 in ms."""
    return {f"{name}p{q}_ms": float(1000 * np.quantile(times, q / 100)) for q in (50, 99)}


def latency(bundle: Bundle, files: list[Path], scratch: Path) -> dict[str, Any]:
    """Bytes to decision of one picture, in turns: our loop with its store, the same graphs run naively, the bare backbone; one thread."""
    ours = open_session(bundle, "cpu", threads=1)
    members = {name: bundle.members[member] for name, member in VARIANTS.items() if member in bundle.members}
    naive = {name: ort.InferenceSession(graph, one_thread(), providers=["CPUExecutionProvider"]) for name, graph in members.items()}
    bare = {name: ort.InferenceSession(backbone(members[name]), one_thread()) for name in ("float", "int8") if name in naive}
    loop = Monitor(bundle, ours, Once(bundle, files), Store(scratch / "c.db"), "line")
    inside: list[float] = []
    plain_run = ours.run

    def timed(raw: NDArray[Any]) -> Any:
        started = time.perf_counter()
        answer = plain_run(raw)
        inside.append(time.perf_counter() - started)
        return answer

    ours.run = timed  # type: ignore[method-assign]
    times: dict[str, list[float]] = {}
    decode: list[float] = []

    def took(name: str, run: Callable[[], object]) -> None:
        started = time.perf_counter()
        run()
        times.setdefault(name, []).append(time.perf_counter() - started)

    for i in range(300):
        path = files[i % len(files)]
        took("our loop, to the store", lambda: loop.turn(threading.Event(), once=True))
        for name, session in naive.items():
            took(f"naive, {name}", lambda session=session, path=path: session.run(None, {"image": read(bundle, path)[None]}))
        for name, session in bare.items():
            took(f"bare backbone, {name}", lambda session=session, path=path: session.run(None, {"image": read(bundle, path)[None]}))
        started = time.perf_counter()
        read(bundle, path)
        decode.append(time.perf_counter() - started)
    total, run, decoding = (float(np.median(part)) for part in (times["our loop, to the store"], inside, decode))
    added = total - run - decoding
    return {
        "one_thread": {name: quantiles(found) for name, found in times.items()},
        "session_run_p50_ms": 1000 * run,
        "decode_p50_ms": 1000 * decoding,
        "loop_adds_ms": 1000 * added,
        "loop_adds_share_of_run": added / run,
    }


@contextlib.contextmanager
def one_core() -> Iterator[None]:
    """Everything within, threads and child processes too, on one core."""
    every = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(every)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, every)


def inferencers(python: str, files: list[Path]) -> dict[str, float]:
    """Milliseconds from file bytes to score of anomalib's inferencers: PyTorch, ONNX Runtime, OpenVINO."""
    job = {"train": [], "test": [str(p.resolve()) for p in files], "timed": TIMED, "bank_rows": PEER_BANK}
    job |= {"backbone": "tf_efficientnet_lite0", "layers": ["blocks.2", "blocks.4"], "weights": str(packaged_weights("efficientnet_lite0"))}
    return peer(python, job)[0]


def one_thread() -> ort.SessionOptions:
    """As anyone would set it."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return options


def backbone(graph: bytes) -> bytes:
    """The detector's graph cut behind its last convolution."""
    model = onnx.load_from_string(graph)
    last = [node for node in model.graph.node if node.op_type == "Conv"][-1].output[0]
    del model.graph.output[:]
    model.graph.output.append(onnx.helper.make_tensor_value_info(last, onnx.TensorProto.FLOAT, None))
    prune_to(model.graph, list(model.graph.node))
    return bytes(model.SerializeToString())


def streams(bundle: Path, pictures: Path) -> dict[str, Any]:
    """1 to 64 streams of pictures that are always ready, five seconds each, and 64 for two minutes, each in a process of its own."""
    found = {}
    for name, count, seconds in (("1", 1, 5), ("4", 4, 5), ("16", 16, 5), ("64", 64, 5), ("64 for two minutes", 64, 120)):
        script = Path(__file__).with_name("edge_streams.py")
        command = [sys.executable, str(script), "--bundle", str(bundle), "--pictures", str(pictures)]
        said = subprocess.run([*command, "--lines", str(count), "--seconds", str(seconds)], check=True, capture_output=True, text=True)
        found[name] = json.loads(said.stdout)
    per_core = found["64"]["per_s"] / found["64"]["workers"]
    return found | {"cores_for_64_streams_at_5_a_second": 320 / per_core}


def sensors(table: Path, scratch: Path) -> dict[str, Any]:
    """Rows of a growing CSV to decisions in the store: a long file at once, and one row at a time; then many lines."""
    frame = pd.read_csv(table, sep=None, engine="python")
    learnt = scratch / "train.csv"
    frame.head(2000).to_csv(learnt, index=False)
    bundle = read_bundle(Steps(SensorLine(SensorSpec(kind="sensor", pretrain=Pretrain(method="none")), learnt), scratch / "work").export())
    session = open_session(bundle, "cpu", threads=1)
    long = pd.concat([frame] * (ROWS // len(frame) + 1)).head(ROWS)
    time_name = frame.columns[0]
    long[time_name] = pd.Timestamp("2026-01-01") + pd.to_timedelta(np.arange(ROWS), unit="s")
    feed = scratch / "feed.csv"
    long.to_csv(feed, index=False)
    with one_core():
        found: dict[str, Any] = {**replayed(bundle, feed, scratch), "lines": {}, "soak": soak(bundle, feed, SOAKED, scratch)}
    lines = feed.read_text().splitlines(keepends=True)
    short = scratch / "short.csv"
    short.write_text("".join(lines[:2001]))
    for count in (1, 20, 200):
        store = scratch / f"r{count}.db"
        box = Box([line_of(bundle, session, str(short), store, f"l{i}") for i in range(count)])
        started = time.perf_counter()
        box.run(threading.Event(), once=True)
        took = time.perf_counter() - started
        turns = [served.turns for served in box.lines]
        found["lines"][str(count)] = {
            "rows_per_s": 2000 * count / took,
            "fairness": max(turns) / max(1, min(turns)),
            "memory_mb": memory_mb(),
        }
    return found


def replayed(bundle: Bundle, feed: Path, scratch: Path) -> dict[str, Any]:
    """A long file to the store, and one row at a time."""
    session = open_session(bundle, "cpu", threads=1)
    one = line_of(bundle, session, str(feed), scratch / "rows.db")
    started = time.perf_counter()
    totals = one.run(threading.Event(), once=True)
    replay = time.perf_counter() - started
    live = scratch / "live.csv"
    lines = feed.read_text().splitlines(keepends=True)
    live.write_text("".join(lines[:300]))
    slow = line_of(bundle, session, str(live), scratch / "live.db")
    slow.run(threading.Event(), once=True)
    times = []
    for row in lines[300:2300]:
        with live.open("a") as stream:
            stream.write(row)
        started = time.perf_counter()
        assert len(slow.turn(threading.Event(), once=True).records) == 1
        times.append(time.perf_counter() - started)
    return {"replay_rows_per_s_one_core": totals.scored / replay, "live": quantiles(times)}


def soak(bundle: Bundle, feed: Path, rows: int, scratch: Path) -> dict[str, Any]:
    """A million rows through one monitor: what memory, handles and threads do after the first tenth."""
    lines = feed.read_text().splitlines(keepends=True)
    header, body = lines[0], lines[1:]
    session = open_session(bundle, "cpu", threads=1)
    growing = scratch / "soak.csv"
    growing.write_text(header)
    one, seen = line_of(bundle, session, str(growing), scratch / "soak.db"), []
    for part in range(rows // len(body)):
        start = pd.Timestamp("2026-01-01") + pd.Timedelta(seconds=part * len(body))
        times = (start + pd.to_timedelta(np.arange(len(body)), unit="s")).astype(str)
        with growing.open("a") as stream:
            stream.writelines(f"{moment},{row.split(',', 1)[1]}" for moment, row in zip(times, body, strict=True))
        one.run(threading.Event(), once=True)
        seen.append(held())
    return {
        "records": one.totals.scored,
        "memory_mb_after_each_tenth": [round(memory, 1) for memory, _, _ in seen],
        "growth_mb_after_warm_up": seen[-1][0] - seen[0][0],
        "handles": [seen[0][1], seen[-1][1]],
        "threads": [seen[0][2], seen[-1][2]],
    }


def main() -> None:
    """Run all and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--pictures", type=Path, required=True)
    parser.add_argument("--table", type=Path, required=True)
    parser.add_argument("--peer")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/edge/edge_cpu.json"))
    arguments = parser.parse_args()
    bundle = read_bundle(arguments.bundle)
    files = jpegs(arguments.pictures)
    figures: dict[str, Any] = {"cores": os.cpu_count(), "bundle_mb": arguments.bundle.stat().st_size / 1e6}
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        with one_core():
            figures["latency"] = latency(bundle, files, scratch)
            figures["pictures"] = pictures(bundle, files, scratch)
            if arguments.peer:
                figures["anomalib"] = inferencers(arguments.peer, files)
        figures["decoded_beside"] = pictures(bundle, files, scratch / "again")  # one line, the other core decodes ahead
        figures["streams"] = streams(arguments.bundle, arguments.pictures)
        figures["sensors"] = sensors(arguments.table, scratch)
    write_text(arguments.out, json.dumps(figures, indent=1, sort_keys=True) + "\n")
    print(json.dumps(figures, indent=1, sort_keys=True))


if __name__ == "__main__":
    main()
