"""A fleet fitted by `python -m flows.fleet` on Dask: wall time by workers, speed-up, peak memory, lines that fail, and a second run.

    python -m benchmarks.fit.fleet_width [--sensors 200] [--cameras 20] [--workers 1 2 4]

Lines are made by the generators of `data_samples`: sensors of 3,000 rows each, cameras of 24 pictures looked at in 128 x 128. Three
lines are poisoned: a table cut short in the middle of a row without readings, a folder without pictures, a spec with a wrong key. Each
number of workers starts with an empty work folder; the last is run again with nothing changed. Memory is that of all processes of the
command together, shared pages counted once. Prints JSON.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from anomaly.data.samples.synthetic import part_picture, plant
from benchmarks.edge.batch_history import memory_mb

ROWS, PICTURES, SIDE = 3_000, 24, 128
LOOKED_S = 0.5
SPECS = {
    "sensor.toml": 'kind = "sensor"\nname = "line"\n',
    "camera.toml": f'kind = "camera"\nname = "line"\n[input]\nsize = {SIDE}\n',
    "wrong.toml": 'kind = "sensor"\nname = "line"\nbudgt = 1\n',
}


def make_fleet(folder: Path, sensors: int, cameras: int) -> Path:
    """The table of all lines with their data, three of them poisoned. Returns its path."""
    for name, text in SPECS.items():
        (folder / name).write_text(text)
    lines: list[tuple[str, str, str]] = []
    for number in range(sensors):
        name = f"pump {number:03}"
        plant(ROWS, np.random.default_rng(number)).drop(columns=["anomaly", "fault_kind"]).to_csv(folder / f"{name}.csv", index=False)
        lines.append((name, "sensor.toml", f"{name}.csv"))
    for number in range(cameras):
        name = f"camera {number:02}"
        (folder / name).mkdir()
        rng = np.random.default_rng([9, number])
        for picture in range(PICTURES):
            Image.fromarray(part_picture(rng)[0]).save(folder / name / f"{picture:02}.png")
        lines.append((name, "camera.toml", name))
    (folder / "cut.csv").write_text("time,a\n2026-01-01,")
    (folder / "empty").mkdir()
    lines += [("cut short", "sensor.toml", "cut.csv"), ("no pictures", "camera.toml", "empty"), ("wrong key", "wrong.toml", "pump 000.csv")]
    with (folder / "lines.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("name", "spec", "data"), *lines])
    return folder / "lines.csv"


def run(lines: Path, workers: int) -> dict[str, Any]:
    """One run of the command: wall time, peak memory, and what became of the lines."""
    out = lines.parent / f"out-{workers}"
    environment = os.environ | {"PREFECT_HOME": str(lines.parent / "prefect"), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    command = [sys.executable, "-m", "flows.fleet", str(lines), "--workers", str(workers), "--out", str(out)]
    began, peak = time.monotonic(), 0.0
    with (lines.parent / f"said-{workers}.txt").open("wb") as said:
        process = subprocess.Popen(command, start_new_session=True, env=environment, stdout=said, stderr=said)
        try:
            while process.poll() is None:
                time.sleep(LOOKED_S)
                peak = max(peak, memory_mb(process.pid))
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
    if not (out / "summary.csv").exists():
        raise SystemExit(f"{' '.join(command)}\n{(lines.parent / f'said-{workers}.txt').read_text()[-3000:]}")
    found = pd.read_csv(out / "summary.csv")
    failed = found[found["state"] == "failed"]
    by_kind = found[found["state"] != "failed"].groupby(found["line"].str.split().str[0])["seconds"]
    figures = {
        "workers": workers,
        "seconds": round(time.monotonic() - began, 1),
        "peak_mb": round(peak),
        "states": found["state"].value_counts().to_dict(),
        "failed": dict(zip(failed["line"], failed["reason"], strict=True)),
        "line_seconds": {str(kind): round(float(seconds.median()), 2) for kind, seconds in by_kind},
        "exit_code": process.returncode,
    }
    print(json.dumps(figures), file=sys.stderr, flush=True)  # what was measured stays, whatever becomes of the next run
    return figures


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sensors", type=int, default=200)
    parser.add_argument("--cameras", type=int, default=20)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        lines = make_fleet(Path(made), asked.sensors, asked.cameras)
        runs = []
        for workers in asked.workers:
            for name in (".anomaly", "out"):
                if (Path(made) / name).exists():
                    (Path(made) / name).rename(Path(made) / f"{name}-before-{workers}")
            runs.append(run(lines, workers))
        again = run(lines, asked.workers[-1])
    figures = {
        "lines": {"sensors": asked.sensors, "cameras": asked.cameras, "poisoned": 3},
        "runs": [one | {"speed_up": round(runs[0]["seconds"] / one["seconds"], 2)} for one in runs],
        "again": again | {"share_of_first": round(again["seconds"] / runs[-1]["seconds"], 3)},
    }
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
