"""What the page costs the line: time a record with and without viewers, memory and start with and without the page.

    python -m benchmarks.alarms.page_viewers [--viewers 100] [--events 50] [--seconds 30] [--rounds 3] [--json FILE]

A monitor reads the sample plant from a file that grows by 50 rows a second, and shows its page. Another process writes alarm events to its
store. Viewers hold the live view open, from three addresses of this machine. Phases take turns in one run: without viewers, with them, and
with them on a page of the same store that another process serves, which tells what viewers cost the machine and not the loop. Time is that
of a turn of the loop (polled, scored, stored), as the monitor counts it for /metrics, counted once a record. A phase has few slow turns, so
the 99 % is of all phases of a kind together, and its interval by drawing phases anew. Memory is the resident size after 200 rows; start is
until `/readyz` answers, without the page until its first row is stored.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from anomaly.alarms.events import make_event
from anomaly.alarms.store import Store
from anomaly.atomic import write_text
from benchmarks.alarms.watch_polls import resident_mb

ROWS_A_SECOND, STEP_S = 50, 0.1
SOURCES = ("127.0.0.2", "127.0.0.3", "127.0.0.4")  # the page lets one address hold 50 connections
SETTLE_S = 2.0
PLANT = Path("data_samples/plant")
DRAWS = 1000
Turn = tuple[float, float, int]  # when it ended, seconds, records
# The monitor as it is, each turn of its loop kept exactly: the histogram of /metrics has steps of a factor of 2.5.
KEEPING = """
import json, sys, time
from anomaly.alarms.health.line import Durations
counted, kept = Durations.add, open(sys.argv.pop(1), "w", buffering=1)
def add(self, seconds, times=1):
    counted(self, seconds, times)
    kept.write(f"{time.time()} {seconds} {times}\\n")
Durations.add = add
from anomaly.cli.main import main
sys.exit(main())
"""
# Viewers in a process of their own: what they cost is not the line's.
VIEWING = """
import asyncio, sys
from benchmarks.alarms.page_viewers import watch
asyncio.run(watch(int(sys.argv[1]), int(sys.argv[2])))
"""


async def watch(port: int, viewers: int) -> None:
    """Hold so many live views open until the process is ended; print how many messages came, each second."""
    count = 0

    async def view(number: int) -> None:
        nonlocal count
        source = SOURCES[number % len(SOURCES)]
        reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0), limit=1 << 20)
        writer.write(f"GET /api/v1/live HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAccept: text/event-stream\r\n\r\n".encode())
        status = await reader.readline()
        if b"200" not in status:
            raise SystemExit(f"a viewer was refused: {status!r}")
        while part := await reader.read(1 << 16):  # hardly looked at: real viewers cost this machine nothing
            count += part.count(b"event:")
        raise SystemExit("a viewer was let go")

    async def tell() -> None:
        while True:
            await asyncio.sleep(1.0)
            print(count, flush=True)

    await asyncio.gather(tell(), *(view(number) for number in range(viewers)))


@contextmanager
def meanwhile(work: Callable[[threading.Event], None]) -> Iterator[None]:
    """`work` goes on beside the block, until the event that it is given is set."""
    stop = threading.Event()
    thread = threading.Thread(target=work, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def grow(path: Path, stop: threading.Event) -> None:
    """Add rows of the plant's test table, so many a second."""
    head, *rows = (PLANT / "test.csv").read_text().splitlines()
    place = head.split(",").index("time")
    began, written = time.time(), 0
    while not stop.wait(STEP_S):
        due = int((time.time() - began) * ROWS_A_SECOND)
        with path.open("a") as file:
            for number in range(written, due):
                cells = rows[number % len(rows)].split(",")
                cells[place] = str(np.datetime64(int(1000 * (1.9e9 + 5.0 * number)), "ms")) + "Z"
                file.write(",".join(cells) + "\n")
        written = due


def growing(path: Path) -> AbstractContextManager[None]:
    """The table has its head when the block begins, and grows while it runs."""
    path.write_text((PLANT / "test.csv").read_text().partition("\n")[0] + "\n")
    return meanwhile(partial(grow, path))


def write_events(store: Path, a_second: int, stop: threading.Event) -> None:
    """Alarms of another line open and close in the store, so many events a second."""
    with closing(Store(store)) as db:
        began, written = time.monotonic(), 0
        while not stop.wait(2 / a_second):
            while written < (time.monotonic() - began) * a_second:
                data = {"class": "process", "condition": "process", "p_value": 0.001, "threshold_p": 0.01, "reason": "made up"}
                pair = [make_event(kind, "press", f"b{written}", time.time(), data) for kind in ("opened", "closed")]
                db.add_events(pair, [])
                written += 2


@contextmanager
def monitoring(folder: Path, bundle: Path, *more: str) -> Iterator[subprocess.Popen[bytes]]:
    """A monitor of the growing table, in a process of its own."""
    command = [sys.executable, "-c", KEEPING, str(folder / "turns"), "monitor", str(bundle), "--source", str(folder / "line.csv")]
    command += ["--store", str(folder / "s.db"), "--log-level", "warning", *more]
    with (folder / "log").open("wb") as log:
        running = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield running
    finally:
        running.send_signal(signal.SIGTERM)
        running.wait(30)


def turns(folder: Path) -> list[Turn]:
    """(when, seconds, records) of each turn so far."""
    path = folder / "turns"
    lines = path.read_text().splitlines() if path.is_file() else []
    return [(float(a), float(b), int(c)) for a, b, c in (line.split() for line in lines[:-1])]


def until(said: str, true: Any, running: subprocess.Popen[bytes], for_s: float = 60.0) -> None:
    """Wait until it is so."""
    end = time.monotonic() + for_s
    while not true():
        if running.poll() is not None or time.monotonic() > end:
            raise SystemExit(f"{said}: it did not come; the monitor ended with {running.poll()}")
        time.sleep(0.01)


def ready(port: int, path: str = "/readyz") -> bool:
    """Whether the server says so."""
    with contextlib.suppress(OSError):
        return bool(urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=1).status == 200)
    return False


def free_port() -> int:
    """A port that nobody uses now."""
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        return int(asked.getsockname()[1])


def edge_alone(work: Path, bundle: Path, page: bool) -> dict[str, float]:
    """Start and memory of a monitor, with or without its page."""
    folder = work / f"alone {page} {time.monotonic_ns()}"
    folder.mkdir()
    port = free_port()
    with growing(folder / "line.csv"):
        time.sleep(SETTLE_S)  # there are rows when it starts
        began = time.monotonic()
        with monitoring(folder, bundle, *(("--listen", f"127.0.0.1:{port}") if page else ())) as running:
            until("the first rows", lambda: len(turns(folder)) > 0, running)
            first = time.monotonic() - began
            if page:
                until("/readyz", lambda: ready(port), running)
                urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/lines", timeout=10).read()
            until("200 rows", lambda: sum(n for *_, n in turns(folder)) >= 200, running)
            return {"first_row_stored_s": round(first, 2), "memory_mb": resident_mb(running.pid)}


def figures(rows: list[Turn]) -> dict[str, float]:
    """Of turns that count once a record."""
    ms = np.repeat([1000 * seconds for _, seconds, _ in rows], [n for *_, n in rows])
    return {"records": len(ms), "p50_ms": round(float(np.median(ms)), 3), "p99_ms": round(float(np.quantile(ms, 0.99)), 3)}


def with_viewers(work: Path, bundle: Path, asked: argparse.Namespace) -> dict[str, Any]:
    """Phases of three kinds in turn, events all the while."""
    folder, ports = work / "viewers", {"with": free_port(), "elsewhere": free_port()}
    folder.mkdir()
    spans: dict[str, list[tuple[float, float]]] = {kind: [] for kind in ("without", *ports)}
    told: list[float] = []
    with growing(folder / "line.csv"), monitoring(folder, bundle, "--listen", f"127.0.0.1:{ports['with']}") as running:
        until("/readyz", lambda: ready(ports["with"]) and len(turns(folder)) > 20, running)
        with page_elsewhere(folder / "s.db", ports["elsewhere"]), meanwhile(partial(write_events, folder / "s.db", asked.events)):
            for _ in range(asked.rounds):
                spans["without"].append(_phase(asked.seconds))
                for kind, port in ports.items():
                    span, count = _viewed(port, asked.viewers, asked.seconds)
                    spans[kind].append(span)
                    if kind == "with":
                        told.append(count)
        rows = turns(folder)
    phases = {kind: [[t for t in rows if a <= t[0] < b] for a, b in parts] for kind, parts in spans.items()}
    found: dict[str, Any] = {kind: figures([t for part in parts for t in part]) for kind, parts in phases.items()}
    found |= {f"p99 of {kind} to without": ratio(phases[kind], phases["without"]) for kind in ports}
    return found | {"messages_a_second_and_viewer": round(float(np.mean(told)), 1)}


def ratio(some: list[list[Turn]], others: list[list[Turn]]) -> dict[str, float]:
    """Of the 99 % of two kinds of phases, with its 95 % interval over the phases that might have been."""
    rng = np.random.default_rng(0)

    def p99(phases: list[list[Turn]], which: Iterable[int]) -> float:
        return figures([turn for place in which for turn in phases[place]])["p99_ms"]

    every = range(len(some))
    drawn = [p99(some, rng.choice(every, len(every))) / p99(others, rng.choice(every, len(every))) for _ in range(DRAWS)]
    low, high = np.quantile(drawn, (0.025, 0.975))
    return {"ratio": round(p99(some, every) / p99(others, every), 2), "low": round(float(low), 2), "high": round(float(high), 2)}


@contextmanager
def page_elsewhere(store: Path, port: int) -> Iterator[None]:
    """The page of the store, from a process that monitors nothing."""
    command = [sys.executable, "-m", "anomaly.cli", "page", "--store", str(store), "--listen", f"127.0.0.1:{port}"]
    with subprocess.Popen([*command, "--log-level", "error"]) as running:
        try:
            until("the page", lambda: ready(port, "/api/v1/lines"), running)
            yield
        finally:
            running.terminate()


def _viewed(port: int, viewers: int, seconds: float) -> tuple[tuple[float, float], float]:
    """A phase with viewers, and how many messages a second came to each."""
    command = [sys.executable, "-c", VIEWING, str(port), str(viewers)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as viewing:
        span = _phase(seconds)
        if viewing.poll() is not None:
            raise SystemExit("the viewers ended before their time")
        viewing.terminate()
        counts = [int(line) for line in viewing.communicate()[0].split()]
    return span, (counts[-1] - counts[0]) / max(len(counts) - 1, 1) / viewers


def _phase(seconds: float) -> tuple[float, float]:
    """A phase begins when what was changed has settled."""
    time.sleep(SETTLE_S)
    began = time.time()
    time.sleep(seconds)
    return began, time.time()


def main() -> None:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.alarms.page_viewers", description=__doc__)
    parser.add_argument("--viewers", type=int, default=100)
    parser.add_argument("--events", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        fit = [sys.executable, "-m", "anomaly.cli", "fit", str(PLANT / "train.csv"), "--out", str(work / "b.anomaly"), "-q"]
        subprocess.run([*fit, "--work", str(work / "w")], check=True, stdout=subprocess.DEVNULL)
        found: dict[str, Any] = {"viewers": asked.viewers, "events_a_second": asked.events, "rows_a_second": ROWS_A_SECOND}
        found |= with_viewers(work, work / "b.anomaly", asked)
        for page in (False, True):
            alone = [edge_alone(work, work / "b.anomaly", page) for _ in range(asked.rounds)]
            found["with the page" if page else "without the page"] = {k: float(np.median([r[k] for r in alone])) for k in alone[0]}
    text = json.dumps(found, indent=1)
    print(text)
    if asked.json is not None:
        write_text(asked.json, text + "\n")


if __name__ == "__main__":
    main()
