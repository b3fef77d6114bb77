"""A year of one scored row a second through the store, as it is and as 0.8.0 had it: size of the file, time of a batch, alarms in a rush.

    python -m benchmarks.alarms.store_year [--days 365] [--out benchmarks/results/alarms/store.json]

The clock is simulated: a batch holds a minute of rows, and after each the store does a slice of its own work, as it does once a second
beside a line. The first minute of each day goes row by row, as it does where rows come one at a time: its batches are timed. One alarm
a day opens and closes. The store of 0.8.0 grows evenly, so that it is given ten days and the rest is multiplied.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from anomaly.alarms.events import Event, make_event
from anomaly.alarms.life import CALM
from anomaly.alarms.store import Batch, Scored, Store
from anomaly.atomic import write_text

START = 1_700_000_000.0 // 86400 * 86400
BUNDLE = "9f2c" * 16
SINKS = ("file", "pager", "board")
OLD_DAYS = 10
Commit = Callable[[Batch], None]


class OldStore:
    """The statements that 0.8.0 wrote a batch with."""

    def __init__(self, path: Path) -> None:
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.execute("PRAGMA journal_mode = WAL")
        for statement in (
            "CREATE TABLE lines (line TEXT PRIMARY KEY, position TEXT, state TEXT, alarm TEXT) WITHOUT ROWID",
            "CREATE TABLE scores (line TEXT, record TEXT, time REAL NOT NULL, score REAL NOT NULL, p_value REAL NOT NULL, "
            "bundle TEXT NOT NULL, PRIMARY KEY (line, record)) WITHOUT ROWID",
        ):
            self.db.execute(statement)

    def commit(self, batch: Batch) -> None:
        """Scores, position and conditions in one transaction."""
        self.db.execute("PRAGMA synchronous = NORMAL")
        self.db.execute("BEGIN IMMEDIATE")
        rows = [(batch.line, s.record, s.time, s.score, s.p_value, batch.bundle) for s in batch.scored]
        self.db.executemany("INSERT OR REPLACE INTO scores VALUES (?, ?, ?, ?, ?, ?)", rows)
        states = [(batch.line, json.dumps(batch.position), "{}", None)]
        states += [(f"{batch.line}\n{name}", "{}", "{}", None) for name in batch.quality]
        self.db.executemany("INSERT OR REPLACE INTO lines VALUES (?, ?, ?, ?)", states)
        self.db.execute("COMMIT")


def rows_of(day: int, rng: np.random.Generator) -> list[Scored]:
    """A day of a row a second."""
    scores = rng.gamma(2.0, 1.0, 86400).astype(np.float32).tolist()
    p_values = rng.random(86400, np.float32).tolist()
    first = day * 86400
    return [Scored(f"press.csv:{first + i}", START + first + i, scores[i], p_values[i]) for i in range(86400)]


def batch_of(rows: Sequence[Scored], events: Sequence[Event] = ()) -> Batch:
    """A batch as a monitor makes it: a file's position, and the conditions that every line has."""
    line = int(rows[-1].record.partition(":")[2])
    position = {"inode": 1234567, "offset": line * 80, "row": line, "start": line * 80 - 24000, "start_row": line - 300}
    quality = dict.fromkeys(("source", "silent", "frozen", "rubbish", "range", "provider"), (CALM, None))
    return Batch("press", BUNDLE, position, CALM, None, rows, events=events, sinks=SINKS, quality=quality)


def live_a_day(day: int, rng: np.random.Generator, commit: Commit, tidy: Callable[[], object], ms: list[float], work: list[float]) -> None:
    """One day: `ms` gets the times of batches of one row, `work` those of the store's own slices, in processor time."""
    rows = rows_of(day, rng)
    for row in rows[:60]:
        batch, begun = batch_of([row]), time.perf_counter()
        commit(batch)
        ms.append(1e3 * (time.perf_counter() - begun))
    for begin in range(60, 86400, 60):
        kind = {43200: "opened", 50400: "closed"}.get(begin)
        commit(batch_of(rows[begin : begin + 60], [alarm(day, rows[begin], kind)] if kind else []))
        begun = time.process_time()
        if tidy():
            work.append(1e3 * (time.process_time() - begun))


def alarm(day: int, row: Scored, kind: str) -> Event:
    """An event of the size that alarms have."""
    data = {
        "class": "process", "record": row.record, "p_value": row.p_value, "score": row.score, "threshold_p": 1e-5,
        "bundle": "press-1", "bundle_hash": BUNDLE, "top": [{"sensor": "flow", "share": 0.5}] * 3,
    }  # fmt: skip
    return make_event(kind, "press", f"alarm-{day}", row.time, data)  # type: ignore[arg-type]


def year(folder: Path, days: int) -> dict[str, object]:
    """The store as it is, through so many days."""
    now, ms, work, sizes = [START], [], [], {}
    store = Store(folder / "year.db", clock=lambda: now[0])
    store.register("press", SINKS)
    rng, begun, unthinned = np.random.default_rng(0), time.process_time(), 0.0
    for day in range(days):
        now[0] = START + day * 86400
        live_a_day(day, rng, store.commit, store.tidy_now, ms, work)
        for sink in SINKS:
            store.settle(store.waiting(sink, now[0], whole=True), "delivered")
        if day == 6:
            unthinned = round(store.size_bytes() / (7 * 86400), 1)
        if day + 1 in {1, 8, 30, 90, 180, days}:
            sizes[day + 1] = round(store.path.stat().st_size / 1e6, 1)
    spent = time.process_time() - begun
    counts = store.counts()
    store.close()
    return {
        "days": days, "file_mb": sizes, "rows_kept": counts["scores"], "events_kept": counts["events"],
        "row_by_row_ms": percentiles(ms), "own_work_processor_ms": percentiles(work),
        "bytes_a_row_unthinned": unthinned, "processor_s": round(spent),
    }  # fmt: skip


def before(folder: Path) -> dict[str, object]:
    """The store of 0.8.0."""
    store, ms = OldStore(folder / "old.db"), []
    rng = np.random.default_rng(0)
    for day in range(OLD_DAYS):
        live_a_day(day, rng, store.commit, lambda: False, ms, [])
    store.db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    size = (folder / "old.db").stat().st_size
    a_row = size / (OLD_DAYS * 86400)
    return {
        "days": OLD_DAYS,
        "bytes_a_row": round(a_row, 1),
        "year_gb": round(a_row * 365 * 86400 / 1e9, 2),
        "row_by_row_ms": percentiles(ms),
    }


def rush(folder: Path, count: int = 1000) -> dict[str, float]:
    """So many alarms, each a batch of its own with a row for each of three sinks, every one on the disk before the next."""
    store = Store(folder / "rush.db")
    rows, ms = rows_of(0, np.random.default_rng(0)), []
    begun = time.perf_counter()
    for i in range(count):
        batch, at = batch_of([rows[i]], [alarm(i, rows[i], "opened")]), time.perf_counter()
        store.commit(batch)
        ms.append(1e3 * (time.perf_counter() - at))
    spent = time.perf_counter() - begun
    waiting = store.counts()["waiting"]
    store.close()
    return {"alarms": count, "waiting": waiting, "seconds": round(spent, 2)} | {f"batch_ms_{k}": v for k, v in percentiles(ms).items()}


def percentiles(ms: list[float]) -> dict[str, float]:
    """Median, p99 and the longest."""
    return {"p50": round(float(np.median(ms)), 3), "p99": round(float(np.quantile(ms, 0.99)), 3), "most": round(max(ms), 1)} if ms else {}


def main() -> None:
    """Run all of it, print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/alarms/store.json"))
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        figures = {"before": before(folder), "rush": rush(folder), "after": year(folder, asked.days)}
    text = json.dumps(figures, indent=1) + "\n"
    write_text(asked.out, text)
    print(text)


if __name__ == "__main__":
    main()
