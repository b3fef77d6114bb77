"""Whether the watch of boxes stays as small as it is: memory of the process, and its file, over thousands of polls.

    python -m benchmarks.alarms.watch_polls [--polls 10000] [--json FILE]

One box answers over HTTP with three lines, one is a store on this machine. The clock of the watch goes on by 20 minutes a poll, records and
flagged ones are counted up, and an alarm comes now and then, as on a line. Each poll is what `python -m flows.watch` does, without Prefect.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from anomaly.alarms.events import make_event
from anomaly.alarms.health.address import Address
from anomaly.alarms.health.board import Board
from anomaly.alarms.health.server import serving
from anomaly.alarms.life import State
from anomaly.alarms.store import Batch, Scored, Store
from anomaly.atomic import write_text
from anomaly.operations.watch import Box, remember, watch

LINES, STEP_S = 3, 1200.0


def resident_mb(pid: int | None = None) -> float:
    """Memory of a process in MB, of this one when none is named."""
    pages = int(Path(f"/proc/{pid or 'self'}/statm").read_text().split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 2)


def measure(folder: Path, polls: int) -> dict[str, Any]:
    """Memory after a hundred polls, and on."""
    store = folder / "line.db"
    with closing(Store(store)) as db:
        db.commit(Batch("press", "b", {"offset": 1}, State(), None, [Scored(f"{i}.png", float(i), 1.0, 0.5) for i in range(100)]))
    board = Board(store)
    board.add([f"line {number}" for number in range(LINES)])
    marks, rows = {100, polls // 10, polls // 2, polls}, []
    now, began = time.time(), time.monotonic()
    with serving(board, Address("127.0.0.1", 0)) as address, closing(Store(store)) as db:
        boxes = [Box(name="hall", url=f"http://{address}"), Box(name="press", store=store)]
        for poll in range(1, polls + 1):
            now += STEP_S
            for health in board.lines.values():
                health.scored += 1200
                health.flagged += 12
                health.source, health.bundle_hash = "", "b" * 64
                health.alive()
            if poll % 50 == 0:
                data = {"class": "process", "condition": "process"}
                db.add_events(
                    [make_event("opened", "press", f"a{poll}", now, data), make_event("closed", "press", f"a{poll}", now + 60, data)], []
                )
            watched = watch(boxes, folder / "watch.json", now)
            remember(watched, folder / "watch.json")
            if poll in marks:
                rows.append({"polls": poll, "memory_mb": resident_mb(), "file_bytes": (folder / "watch.json").stat().st_size})
    return {"rows": rows, "ms_a_poll": round(1000 * (time.monotonic() - began) / polls, 2)}


def main() -> None:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.alarms.watch_polls", description=__doc__)
    parser.add_argument("--polls", type=int, default=10_000)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), asked.polls)
    text = json.dumps(found, indent=1)
    print(text)
    if asked.json is not None:
        write_text(asked.json, text + "\n")


if __name__ == "__main__":
    main()
