"""A store of version 0.8.0, or older, is taken over whole."""

from __future__ import annotations

import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from anomaly.alarms.life import State
from anomaly.alarms.store import Store
from tests.alarms.store.version2 import GOOD, NEW, write_old_store


@pytest.mark.parametrize("schema", [1, 2])
def test_a_store_of_080_is_taken_over_with_open_alarms_waiting_events_and_what_was_handled(tmp_path: Path, schema: int) -> None:
    path = tmp_path / "s.db"
    ids = write_old_store(path, schema)
    store = Store(path)
    assert store.resume("Press") == ({"offset": 99}, State(active=True, opened=2.0, worst=1e-6), "alarm-of-Press")
    assert store.resume("press") == ({"offset": 7}, State(), None)
    assert store.quality("Press") == {"silent": (State(), None)}
    assert store.quality("press") == {"silent": (State(active=True, opened=2.0, worst=1e-6), "silence-of-press")}
    assert store.lines() == ["Press", "cam", "press"]
    assert [e["id"] for e in store.events()] == ids
    assert store.counts() == {"scores": 1020, "rejected": 1, "events": 3, "waiting": 4, "delivered": 1, "dead": 1}
    assert [item.id for item in store.waiting("pager", 1e12)] == ids[1:]
    assert store.scored_by("press") == {GOOD: 250, NEW: 250}
    scored = store.scores("Press")
    assert [s.record for s in scored] == [f"p.csv:{i}" for i in range(500)]
    assert (scored[7].time, scored[7].score, scored[7].p_value) == (7.0, 1.0, 0.125)
    assert store.shadow("Press") == ([("p.csv:7", 7.0, 2.5, 0.25, NEW)] if schema == 2 else [])
    assert store.rejections("cam") == [("cut.png@9", 9.0, "cut short")]
    assert store.known("cam", "3.png@3")
    assert store.known("cam", "cut.png@9")
    assert not store.known("cam", "3.png@4")
    assert store.setting("provider Press") == "cuda"
    alarms = {alarm.id: (alarm.line, alarm.condition, alarm.state, alarm.priority) for alarm in store.alarms()}
    assert alarms == {
        "alarm-of-Press": ("Press", "process", "unacknowledged", "medium"),
        "silence-of-press": ("press", "silent", "unacknowledged", "medium"),
    }
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert db.execute("PRAGMA foreign_key_check").fetchall() == []
        assert {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE name LIKE 'old_%'")} == set()
        assert db.execute("PRAGMA freelist_count").fetchone()[0] < 10  # the room of the old tables was given back


def test_killed_while_a_store_is_taken_over_it_is_the_old_one_or_the_new_one(tmp_path: Path) -> None:
    path, rng = tmp_path / "s.db", random.Random(5)
    ids = write_old_store(path, rows=60_000)
    worker = (
        "import sys\nfrom pathlib import Path\nfrom anomaly.alarms.store import Store\nprint('go', flush=True)\nStore(Path(sys.argv[1]))"
    )
    killed = 0
    for _ in range(6):
        process = subprocess.Popen([sys.executable, "-c", worker, str(path)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(rng.uniform(0.0, 0.25))
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
        process.stdout.close()
    assert killed > 0
    store = Store(path)
    assert store.counts() == {"scores": 120_020, "rejected": 1, "events": 3, "waiting": 4, "delivered": 1, "dead": 1}
    assert [e["id"] for e in store.events()] == ids
    assert store.resume("Press")[2] == "alarm-of-Press"
