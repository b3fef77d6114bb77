"""Many streams of pictures on this machine's processor, in a process that holds the edge alone: pictures a second, fairness, memory.

    python -m benchmarks.edge.edge_streams --bundle CAMERA.anomaly --pictures FOLDER [--lines 64] [--seconds 5]

Every stream always has the next picture ready (a JPEG file, read and decoded for each). One store, a worker a core. Memory, handles and
threads are looked at ten times, so that a long run shows whether anything grows. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anomaly.alarms.store import Store
from anomaly.bundle.archive import Bundle, read_bundle
from anomaly.data.pictures.reading import read_image
from anomaly.data.records import Record
from anomaly.edge.box import Box
from anomaly.edge.monitor import Monitor
from anomaly.edge.runtime.session import open_session
from anomaly.edge.sources.base import Poll


def read(bundle: Bundle, path: Path) -> NDArray[np.uint8]:
    """One picture as the bundle takes it."""
    return read_image(path, "gray" if bundle.manifest.input.channels == 1 else "rgb")  # type: ignore[return-value]


class Once:
    """A source that has one picture, as bytes of a file, at a time."""

    def __init__(self, bundle: Bundle, files: list[Path]) -> None:
        self.bundle, self.files, self.at = bundle, files, 0

    def poll(self, limit: int) -> Poll:
        """The next picture, decoded."""
        path = self.files[self.at % len(self.files)]
        self.at += 1
        return Poll([Record(f"{self.at}", float(self.at), read(self.bundle, path))], position={"at": self.at})

    def close(self) -> None:
        """Nothing to close."""


def jpegs(folder: Path) -> list[Path]:
    """The pictures below a folder, in order."""
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg"))


def held() -> tuple[float, int, int]:
    """Memory in MB, open handles and threads of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6, len(os.listdir("/proc/self/fd")), threading.active_count()


def main() -> None:
    """Run the streams for a while and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--pictures", type=Path, required=True)
    parser.add_argument("--lines", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=5.0)
    arguments = parser.parse_args()
    bundle, files = read_bundle(arguments.bundle), jpegs(arguments.pictures)
    session = open_session(bundle, "cpu", threads=1)
    session.warm(read(bundle, files[0])[None])
    with tempfile.TemporaryDirectory() as scratch:
        store = Path(scratch) / "s.db"
        lines = [Monitor(bundle, session, Once(bundle, files), Store(store), f"l{i}") for i in range(arguments.lines)]
        box, stop = Box(lines), threading.Event()
        work = threading.Thread(target=box.run, args=(stop,))
        started = time.perf_counter()
        work.start()
        seen = []
        for _ in range(10):
            time.sleep(arguments.seconds / 10)
            seen.append(held())
        stop.set()
        work.join()
        took = time.perf_counter() - started
        served = [line.totals.scored for line in lines]
    figures = {
        "pictures": sum(served),
        "per_s": sum(served) / took,
        "fairness": max(served) / max(1, min(served)),
        "workers": box.workers,
        "memory_mb": round(max(memory for memory, _, _ in seen), 1),  # not the peak the kernel tells: that of the parent counts in it
        "memory_mb_after_each_tenth": [round(memory, 1) for memory, _, _ in seen],
        "handles": [seen[0][1], seen[-1][1]],
        "threads": [seen[0][2], seen[-1][2]],
    }
    print(json.dumps(figures, sort_keys=True))


if __name__ == "__main__":
    main()
