"""A history scored by `anomaly batch`: records a second and peak memory, and that a run killed twice leaves the same files.

    python -m benchmarks.edge.batch_history --bundle PLANT.anomaly [--records 1000000] [--workers N] [--parquet]
    python -m benchmarks.edge.batch_history --bundle CAMERA.anomaly --pictures FOLDER [--records 20000] [--workers N]

Rows are made by the generator of `data_samples/plant`, as one table. Pictures are those of the folder, again and again under names of
their own. Memory is that of all processes of the command together, shared pages counted once (PSS), looked at ten times a second.
Prints JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from anomaly.batch.plan import PLAN, read_plan
from anomaly.data.files import PICTURES, find_files
from anomaly.data.samples.synthetic import plant

LOOKED_S = 0.1
COMMAND = """
import sys
from pathlib import Path
from anomaly.batch.run import run_batch
bundle, source, workers, size, out = sys.argv[1:]
run_batch(Path(bundle), [Path(source)], Path(out), int(workers), rows=int(size or 200_000), pictures=int(size or 200))
"""


def make_rows(path: Path, rows: int) -> None:
    """One table of so many rows, CSV or Parquet."""
    frame = plant(rows, np.random.default_rng(1), start="2016-01-05T06:00:00Z").drop(columns=["anomaly", "fault_kind"])
    if path.suffix == ".parquet":
        frame.to_parquet(path, index=False, row_group_size=100_000)
    else:
        frame.to_csv(path, index=False)


def link_pictures(folder: Path, of: Path, count: int) -> None:
    """So many names for the pictures of a folder, 1,000 in a subfolder."""
    files = find_files(of, PICTURES, deep=True)
    for number in range(count):
        path = folder / f"{number // 1000:03}" / f"{number:06}{files[number % len(files)].suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            path.hardlink_to(files[number % len(files)])
        except OSError:  # on another disk
            shutil.copyfile(files[number % len(files)], path)


def memory_mb(group: int) -> float:
    """What the processes of a group hold together."""
    total = 0
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            if int((folder / "stat").read_text().rpartition(")")[2].split()[2]) == group:
                told = (folder / "smaps_rollup").read_text().split("\nPss:")[1]
                total += int(told.split()[0])
    return total / 1000


def run(command: list[str], out: Path, kill_at: float | None = None) -> tuple[float, float]:
    """Run to the end, or until that share of the parts is there and it is killed. Returns seconds and the peak of memory in MB."""
    began, peak = time.monotonic(), 0.0
    process = subprocess.Popen([*command, str(out)], start_new_session=True, stdout=subprocess.DEVNULL)
    while process.poll() is None:
        time.sleep(LOOKED_S)
        peak = max(peak, memory_mb(process.pid))
        if kill_at is not None and (out / PLAN).is_file() and len(list(out.glob("scores/part-*"))) >= kill_at * len(read_plan(out).parts):
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            return time.monotonic() - began, peak
    if process.returncode:
        raise SystemExit(f"ended with exit code {process.returncode}")
    if kill_at is not None:
        raise SystemExit("ended before it was killed; take more records")
    return time.monotonic() - began, peak


def digest(out: Path) -> str:
    """SHA-256 over all files that a run leaves."""
    found = hashlib.sha256()
    for path in sorted(path for path in out.rglob("*") if path.is_file() and path.name != ".lock"):
        found.update(path.relative_to(out).as_posix().encode() + hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--pictures", type=Path, help="a folder of pictures; rows are made when not given")
    parser.add_argument("--records", type=int, help="1,000,000 rows or 20,000 pictures when not given")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--part", type=int, help="records of one part; as `anomaly batch` has it when not given")
    parser.add_argument("--parquet", action="store_true", help="rows in a Parquet file, not in a CSV")
    asked = parser.parse_args()
    records = asked.records or (20_000 if asked.pictures else 1_000_000)
    with tempfile.TemporaryDirectory() as made:
        source = Path(made) / "source"
        source.mkdir()
        if asked.pictures:
            link_pictures(source, asked.pictures, records)
        else:
            make_rows(source / f"rows.{'parquet' if asked.parquet else 'csv'}", records)
        size = str(asked.part) if asked.part else ""
        anomaly = [sys.executable, "-c", COMMAND, str(asked.bundle), str(source), str(asked.workers), size]
        seconds, peak = run(anomaly, Path(made) / "alone")
        killed = Path(made) / "killed"
        for share in (0.3, 0.6):
            run(anomaly, killed, share)
        run(anomaly, killed)
        plan = read_plan(killed)
        figures = {
            "records": records,
            "parts": len(plan.parts),
            "workers": asked.workers,
            "seconds": round(seconds, 1),
            "records_per_s": round(records / seconds),
            "peak_mb": round(peak),
            "killed_twice_same_files": digest(Path(made) / "alone") == digest(killed),
        }
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
