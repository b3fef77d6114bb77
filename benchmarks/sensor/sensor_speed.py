"""Speed of sensor detectors from raw rows to p-value, one thread: windows a second, one row at a time, and by number
of sensors, without the shape view (SKAB) and with it (made-up strokes).

    python -m benchmarks.sensor.sensor_speed --table TABLE [--peer PEER_PYTHON] [--out FILE.json]

TABLE is a long normal record (SKAB's anomaly-free.csv). PEER_PYTHON has PyOD and Merlion: PyOD's KNN, PCA and MCD are fitted on the
same windows, flattened, as its users do, and score the same ones in the same run; Merlion's isolation forest takes their rows. Ours
is the bundle in ONNX Runtime by the graph for rows that follow each other; beside it every window as a whole.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from anomaly.atomic import write_text
from anomaly.bundle.archive import read_bundle
from anomaly.data.tables.files import table_schema
from anomaly.data.tables.reader import read_table
from anomaly.data.tables.windows import stretch_lengths, windows_at
from anomaly.edge.runtime.session import Session, open_session
from anomaly.pipeline.sensor.line import SensorLine
from anomaly.pipeline.steps import Steps
from anomaly.spec import Pretrain, SensorSpec
from benchmarks.fit.first_bundle import readings

LEARNT, SCORED, BATCH = 2000, 6000, 1024


def bundle_of(frame: pd.DataFrame) -> tuple[Session, SensorSpec, int]:
    """A detector learnt from the first rows, on one thread; its spec, and the rows of its window."""
    spec = SensorSpec(kind="sensor", pretrain=Pretrain(method="none"))
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "train.csv"
        frame.head(LEARNT).to_csv(path, index=False)
        bundle = read_bundle(Steps(SensorLine(spec, path), Path(scratch) / "work").export())
    return open_session(bundle, "cpu", threads=1), spec, bundle.manifest.input.window or 1


def windows_of(frame: pd.DataFrame, spec: SensorSpec, rows: int) -> NDArray[np.float32]:
    """The windows that end at the rows to be scored, from one row to the next."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "all.csv"
        frame.to_csv(path, index=False)
        table = read_table(path, table_schema(spec.input))
    known = stretch_lengths(table.times, table.usable, table.max_gap_s)
    last = len(known) - int(np.argmax(known[::-1] >= rows))  # the end of the last stretch
    ends = np.arange(max(last - SCORED, last - int(known[last - 1]) + rows - 1), last)
    return windows_at(table.values, ends, rows)


def portions(session: Session, windows: NDArray[np.float32], count: int) -> NDArray[np.float64]:
    """Seconds (n,) that each portion of `count` rows takes, one after the other, as the edge hands them over."""
    rows = np.concatenate([windows[0], windows[1:, -1]])
    begins, taken = windows.shape[1] - 1, []
    for end in range(begins, len(rows), count):
        started = time.perf_counter()
        session.run_stream(rows[end - begins : end + count])
        taken.append(time.perf_counter() - started)
    return np.array(taken)


def rate(session: Session, windows: NDArray[np.float32], rounds: int = 3) -> float:
    """Windows a second of a long stretch, best of a few rounds."""
    return float(len(windows) / min(portions(session, windows, BATCH).sum() for _ in range(1 + rounds)))


def one_by_one(session: Session, windows: NDArray[np.float32]) -> dict[str, float]:
    """Milliseconds a row when rows come one at a time: by the graph for rows that follow each other, and by that for windows."""
    windows, whole = windows[:2000], []
    for window in windows:
        started = time.perf_counter()
        session.run(window[None])
        whole.append(time.perf_counter() - started)
    taken = 1000 * portions(session, windows, 1)
    return {
        "p50_ms": float(np.median(taken)),
        "p99_ms": float(np.quantile(taken, 0.99)),
        "whole_window_p50_ms": 1000 * float(np.median(whole)),
    }


def wide(frame: pd.DataFrame, sensors: int) -> pd.DataFrame:
    """The record's sensors repeated with fresh noise, to any number of them."""
    rng = np.random.default_rng(sensors)
    values = frame.drop(columns="datetime").to_numpy(float)
    copies = -(-sensors // values.shape[1])
    noise = rng.normal(0, 0.3, (len(values), copies * values.shape[1])) * np.tile(values.std(0), copies)
    result = pd.DataFrame((np.tile(values, (1, copies)) + noise)[:, :sensors], columns=[f"s{i}" for i in range(sensors)])
    result.insert(0, "datetime", frame["datetime"].to_numpy())
    return result


def peers(python: str, windows: NDArray[np.float32], learnt: NDArray[np.float32]) -> dict[str, float]:
    """Windows a second of PyOD's detectors on flattened windows, rows a second of Merlion's isolation forest; one thread."""
    with tempfile.TemporaryDirectory() as scratch:
        np.savez(
            Path(scratch) / "in.npz",
            learnt=learnt.reshape(len(learnt), -1),
            scored=windows.reshape(len(windows), -1),
            learnt_rows=learnt[:, -1],
            scored_rows=windows[:, -1],
        )
        script = Path(__file__).with_name("peer_pyod.py")
        one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        command = [python, str(script), scratch]
        subprocess.run(command, check=True, env={"PATH": "/usr/bin:/bin", **one}, stdout=subprocess.DEVNULL)
        result: dict[str, float] = json.loads((Path(scratch) / "out.json").read_text())
        return result


def main() -> None:
    """Run all and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, required=True)
    parser.add_argument("--peer")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/sensor/sensor_speed.json"))
    arguments = parser.parse_args()
    frame = pd.read_csv(arguments.table, sep=None, engine="python")
    figures: dict[str, Any] = {"cores": os.cpu_count(), "batch": BATCH, "windows": SCORED, "by_sensors": {}, "with_shape": {}}
    session, spec, rows = bundle_of(frame)
    windows = windows_of(frame, spec, rows)
    figures["ours"] = {"windows_per_s": rate(session, windows), **one_by_one(session, windows)}
    if arguments.peer:
        learnt = windows_of(frame.head(LEARNT + rows), spec, rows)
        figures["peers"] = peers(arguments.peer, windows, learnt)
        figures["ratios"] = {name: figures["ours"]["windows_per_s"] / value for name, value in figures["peers"].items()}
    cases = [("by_sensors", sensors, wide(frame, sensors)) for sensors in (8, 32, 128, 512)]
    cases += [("with_shape", sensors, readings(LEARNT + SCORED, "strokes", sensors)) for sensors in (8, 32, 128)]
    for group, sensors, many in cases:
        session, spec, rows = bundle_of(many)
        windows = windows_of(many, spec, rows)[: 2 * BATCH]
        value, alone = rate(session, windows), one_by_one(session, windows)
        figures[group][str(sensors)] = {"windows_per_s": value, "microseconds_a_row_and_sensor": 1e6 / value / sensors, **alone}
    write_text(arguments.out, json.dumps(figures, indent=1, sort_keys=True) + "\n")
    print(json.dumps(figures, indent=1, sort_keys=True))


if __name__ == "__main__":
    main()
