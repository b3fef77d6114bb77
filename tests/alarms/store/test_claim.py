"""One monitor a line and store."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from anomaly.alarms.store import Store
from anomaly.errors import StoreError

HOLDER = """
import sys, time
from pathlib import Path
from anomaly.alarms.store import Store
store = Store(Path(sys.argv[1]))
store.claim(sys.argv[2])
print("held", flush=True)
time.sleep(120)
"""


def hold(path: Path, line: str) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(path), line], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_line_is_held_by_one_process_until_it_dies_however_it_does(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    process = hold(path, "press")
    try:
        store = Store(path)
        with pytest.raises(StoreError, match=rf"line 'press' is monitored by process {process.pid} on \S+ since 20.*--line or --store"):
            store.claim("press")
        (tmp_path / "link.db").symlink_to(path)
        with pytest.raises(StoreError, match="line 'press' is monitored by"):
            Store(tmp_path / "link.db").claim("press")  # the same store by another name
        store.claim("Press")  # another line
        Store(tmp_path / "other.db").claim("press")  # another store
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
    store.claim("press")
    store.claim("press")  # and again by the same process: it starts a line anew
    store.close()


def test_a_store_that_is_closed_gives_its_lines_up(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.db")
    store.claim("a/../\nb")
    store.close()
    process = hold(tmp_path / "s.db", "a/../\nb")
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()
    assert [p.suffix for p in (tmp_path / "s.db.locks").iterdir()] == [".lock"]
