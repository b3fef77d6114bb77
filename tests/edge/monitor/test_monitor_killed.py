"""kill -9 at random points of the loop."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np

from anomaly.alarms.store import Store
from anomaly.bundle.archive import Bundle, read_bundle
from anomaly.edge.monitor import Monitor
from anomaly.edge.runtime.session import Session
from anomaly.edge.sources.uri import open_source
from tests.conftest import Fitted


def open_on_cpu(bundle: Bundle) -> Session:
    return Session(bundle.detector, "cpu")


def by_the_data(db: Store) -> list[str]:
    """The ids of all events but those on priority: a priority rises when a turn ends, and the turns of the two runs differ in length.

    Sorted: of one turn the alarms of the process come before those of data quality, whatever their times.
    """
    return sorted(event["id"] for event in db.events() if not event["type"].endswith(".escalated"))


def test_killed_again_and_again_nothing_is_lost_or_told_twice(sensor: Fitted, tmp_path: Path) -> None:
    """kill -9 at random points until the whole file is through: the store is what one undisturbed run leaves."""
    feed = tmp_path / "feed.csv"
    test = (sensor.data / "test.csv").read_text().splitlines(keepends=True)
    feed.write_text("".join(test))
    worker = (
        "import sys, threading; from pathlib import Path\n"
        "import anomaly.edge.monitor as m; from anomaly.edge.kinds import KINDS; from dataclasses import replace\n"
        "KINDS['window'] = replace(KINDS['window'], records_per_poll=7)\n"
        "from anomaly.alarms.store import Store; from anomaly.bundle.archive import read_bundle\n"
        "from anomaly.edge.runtime.session import Session; from anomaly.edge.sources.uri import open_source\n"
        "bundle = read_bundle(Path(sys.argv[1])); store = Store(Path(sys.argv[3])); session = Session(bundle.detector, 'cpu', None)\n"
        "import os\n"
        "print('ready', flush=True)\n"
        "for _ in range(int(sys.argv[4])):\n"
        "    child = os.fork()\n"
        "    if child == 0:\n"
        "        store = Store(Path(sys.argv[3]))\n"
        "        source = open_source(sys.argv[2], bundle.manifest.input, lambda _: False, store.resume('l')[0])\n"
        "        loop = m.Monitor(bundle, Session(bundle.detector, 'cpu'), source, store, 'l', ['w'])\n"
        "        loop.run(threading.Event(), once=True); os._exit(7)\n"
        "    import random, time, signal\n"
        "    time.sleep(random.uniform(0.0, 0.12)); os.kill(child, signal.SIGKILL)\n"
        "    if os.waitpid(child, 0)[1] == signal.SIGKILL: print('killed', flush=True)\n"
    )
    store = tmp_path / "killed.db"
    done = subprocess.run(
        [sys.executable, "-c", worker, str(sensor.bundle), str(feed), str(store), "200"], capture_output=True, text=True, timeout=280
    )
    assert done.stdout.count("killed") > 100, done.stderr
    bundle = read_bundle(sensor.bundle)

    def finish(path: Path) -> Store:
        db = Store(path)
        source = open_source(str(feed), bundle.manifest.input, lambda _: False, db.resume("l")[0])
        Monitor(bundle, open_on_cpu(bundle), source, db, "l", ["w"]).run(threading.Event(), once=True)
        return db

    killed, whole = finish(store), finish(tmp_path / "whole.db")
    np.testing.assert_allclose([s.score for s in killed.scores("l")], [s.score for s in whole.scores("l")], rtol=1e-5)
    assert [s.record for s in killed.scores("l")] == [s.record for s in whole.scores("l")]
    assert by_the_data(killed) == by_the_data(whole)
    assert len(by_the_data(killed)) > 0
    alarms = [alarm.id for alarm in whole.alarms(live=False) if alarm.condition == "process"]
    kept = [[[each.record for each in db.evidence(alarm) if each.role == "opened"] for alarm in alarms] for db in (killed, whole)]
    assert kept[0] == kept[1]
    assert all(len(records) == 1 for records in kept[1])
    for db in (killed, whole):
        assert db.counts()["waiting"] == sum(not event["data"].get("held_back") for event in db.events())
