"""deploy/backup.py: what it takes while a store is written, and what it refuses to put back."""

from __future__ import annotations

import io
import sqlite3
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "deploy" / "backup.py"


def backup(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-I", str(SCRIPT), *map(str, words)], capture_output=True, text=True, timeout=120)


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """A folder as a machine beside a line keeps it."""
    folder = tmp_path / "kept"
    (folder / "release").mkdir(parents=True)
    (folder / "release" / "champion.json").write_text("{}")
    (folder / "release" / "half.anomaly.part").write_bytes(b"half")
    (folder / "release" / "line.anomaly").write_bytes(bytes(range(256)) * 1000)
    with sqlite3.connect(folder / "anomaly.db") as store:
        store.execute("PRAGMA journal_mode = WAL")
        store.execute("CREATE TABLE pairs (a INTEGER, b INTEGER)")
    store.close()
    return folder


def put_back(file: Path, root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return backup("restore", file, "--root", root, *words)


def test_a_store_is_taken_as_of_one_moment_while_it_is_written(kept: Path, tmp_path: Path) -> None:
    written, stop = threading.Event(), threading.Event()

    def write() -> None:
        store, n = sqlite3.connect(kept / "anomaly.db", timeout=60), 0
        while not stop.is_set():
            with store:  # two rows a transaction: an odd count would be half of one
                store.execute("INSERT INTO pairs VALUES (?, ?)", (n, n))
                store.execute("INSERT INTO pairs VALUES (?, ?)", (n, -n))
            n += 1
            if n > 50:
                written.set()
        store.close()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert written.wait(60)
        done = backup("make", tmp_path / "b.tar", kept)
    finally:
        stop.set()
        writer.join()
    assert done.returncode == 0, done.stderr
    assert "3 files" in done.stdout  # neither journals nor half a file
    assert put_back(tmp_path / "b.tar", tmp_path / "other").returncode == 0
    back = tmp_path / "other" / kept.relative_to("/")
    rows, total = sqlite3.connect(back / "anomaly.db").execute("SELECT count(*), sum(b) FROM pairs").fetchone()
    assert rows > 100
    assert (rows % 2, total) == (0, 0)
    assert (back / "release" / "line.anomaly").read_bytes() == (kept / "release" / "line.anomaly").read_bytes()


def test_a_back_up_that_is_not_whole_is_refused_and_nothing_is_touched(kept: Path, tmp_path: Path) -> None:
    assert backup("make", tmp_path / "b.tar", kept).returncode == 0
    whole = (tmp_path / "b.tar").read_bytes()
    at = whole.index(bytes(range(256)))
    for name, spoilt in {"cut": whole[: len(whole) // 2], "changed": whole[:at] + b"x" + whole[at + 1 :], "empty": b""}.items():
        (tmp_path / name).write_bytes(spoilt)
        assert backup("check", tmp_path / name).returncode == 1
        done = put_back(tmp_path / name, tmp_path / "other")
        assert done.returncode == 1
        assert str(tmp_path / name) in done.stderr
        assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("name", ["/../../etc/passwd", "etc/passwd"])
def test_a_back_up_made_to_do_harm_is_refused(name: str, tmp_path: Path) -> None:
    import hashlib
    import json

    content = b"root::0:0"
    index = json.dumps({"version": 1, "files": {name: {"sha256": hashlib.sha256(content).hexdigest(), "size": 9, "mode": 420}}}).encode()
    with tarfile.open(tmp_path / "b.tar", "w") as tar:
        for member, raw in (("files" + name, content), ("index.json", index)):
            told = tarfile.TarInfo(member)
            told.size = len(raw)
            tar.addfile(told, io.BytesIO(raw))
    done = put_back(tmp_path / "b.tar", tmp_path / "a" / "b")
    assert done.returncode == 1
    assert "leads elsewhere" in done.stderr
    with tarfile.open(tmp_path / "link.tar", "w") as tar:
        told = tarfile.TarInfo("files/etc")
        told.type, told.linkname = tarfile.SYMTYPE, "/etc"
        tar.addfile(told)
    assert "no plain file" in put_back(tmp_path / "link.tar", tmp_path / "a").stderr


def test_what_is_there_is_replaced_on_request_alone_stays_beside_and_never_while_it_is_in_use(kept: Path, tmp_path: Path) -> None:
    with sqlite3.connect(kept / "anomaly.db") as store:
        store.execute("INSERT INTO pairs VALUES (1, 1)")
    store.close()
    assert backup("make", tmp_path / "b.tar", kept).returncode == 0
    done = put_back(tmp_path / "b.tar", Path("/"))
    assert done.returncode == 1
    assert "there already" in done.stderr
    running = sqlite3.connect(kept / "anomaly.db")
    running.execute("INSERT INTO pairs VALUES (2, 2)")
    running.commit()  # an open monitor, with rows in its journal
    done = put_back(tmp_path / "b.tar", Path("/"), "--replace")
    assert done.returncode == 1
    assert "in use" in done.stderr
    running.close()
    done = put_back(tmp_path / "b.tar", Path("/"), "--replace")
    assert done.returncode == 0, done.stderr
    assert sqlite3.connect(kept / "anomaly.db").execute("SELECT count(*) FROM pairs").fetchone() == (1,)
    assert sqlite3.connect(kept / "anomaly.db.before-restore").execute("SELECT count(*) FROM pairs").fetchone() == (2,)


def test_what_is_not_there_or_damaged_is_no_back_up(kept: Path, tmp_path: Path) -> None:
    done = backup("make", tmp_path / "b.tar", kept, tmp_path / "nowhere")
    assert done.returncode == 1
    assert "nowhere" in done.stderr
    raw = bytearray((kept / "anomaly.db").read_bytes())
    raw[4096:] = bytes(len(raw) - 4096)
    (kept / "anomaly.db").write_bytes(raw)
    done = backup("make", tmp_path / "b.tar", kept)
    assert done.returncode == 1
    assert "anomaly.db" in done.stderr
    assert not list(tmp_path.glob("b.tar*"))
