"""A store that is deleted, replaced or damaged while it is in use is begun anew, with what is known."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from anomaly.alarms.events import make_event
from anomaly.alarms.life import State
from anomaly.alarms.store import Batch, Scored, Store
from anomaly.errors import StoreError

OPEN = State(active=True, opened=2.0, worst=1e-6)


def batch(number: int, **more: object) -> Batch:
    event = make_event("opened", "l", f"alarm-{number}", float(number), {})
    scored = [Scored(f"f:{number}", float(number), 1.0, 0.5)]
    kept = {"silent": (OPEN, "silence")}
    return Batch("l", "b" * 64, {"at": number}, OPEN, "alarm", scored, events=[event], sinks=["w"], quality=kept, **more)  # type: ignore[arg-type]


def delete(path: Path) -> None:
    path.unlink()


def delete_all(path: Path) -> None:
    for part in path.parent.glob(f"{path.name}*"):
        part.unlink()


def truncate(path: Path) -> None:
    os.truncate(path, 0)


def overwrite(path: Path) -> None:
    path.write_text("no store " * 9999)


def junk(path: Path) -> None:
    (path.parent / "junk").write_text("no store " * 9999)
    (path.parent / "junk").replace(path)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def other_store(path: Path) -> None:
    other = Store(path.parent / "other.db")
    other.commit(Batch("elsewhere", "c" * 64, {}, State(), None))
    other.close()


def replaced_by_a_store(path: Path) -> None:
    other_store(path)
    (path.parent / "other.db").replace(path)


def copied_over(path: Path) -> None:
    other_store(path)
    shutil.copyfile(path.parent / "other.db", path)


@pytest.mark.parametrize("harm", [delete, delete_all, truncate, overwrite, junk, folder, replaced_by_a_store, copied_over])
def test_whatever_happens_to_the_file_the_line_goes_on_with_what_it_knows(tmp_path: Path, harm: Callable[[Path], None]) -> None:
    path = tmp_path / "s.db"
    store, lane = Store(path), Store(path)
    store.register("l", ["w"])
    store.commit(batch(1))
    assert store.refresh() == lane.refresh() == ""
    harm(path)
    said = store.refresh()
    assert str(path) in said
    assert said.count("\n") == 0
    assert store.refresh() == ""
    assert "replaced by another" in lane.refresh()
    store.commit(batch(2))
    for one in (store, lane, Store(path)):
        assert one.resume("l") == ({"at": 2}, OPEN, "alarm")
        assert one.quality("l") == {"silent": (OPEN, "silence")}
        assert one.waiting("w", 1e12)[-1].alarm == "alarm-2"
    lane.add_events([make_event("closed", "l", "alarm-2", 3.0, {})])  # its sinks are known again
    assert lane.waiting("w", 1e12, whole=True)[-1].alarm == "alarm-2"
    assert store._read("PRAGMA integrity_check") == [("ok",)]


@pytest.mark.parametrize("harm", [delete, delete_all, junk, folder])
def test_events_that_no_sink_has_yet_are_taken_over_once(tmp_path: Path, harm: Callable[[Path], None]) -> None:
    path = tmp_path / "s.db"
    store, lane = Store(path), Store(path)
    for number in range(5):
        store.commit(batch(number))
    lane.settle(lane.waiting("w", 1e12)[:2], "delivered")
    taken = lane.waiting("w", 1e12)[:1]
    harm(path)
    store.refresh()
    lane.refresh()
    assert [item.alarm for item in lane.waiting("w", 1e12)] == ["alarm-2", "alarm-3", "alarm-4"]
    lane.settle(taken, "delivered")  # numbers are given again, ids are not
    assert [item.alarm for item in lane.waiting("w", 1e12)] == ["alarm-3", "alarm-4"]


def test_looking_after_the_file_leaves_the_locks_of_this_process_alone(tmp_path: Path) -> None:
    """Else another process that closes the store takes itself for the last one, and deletes the log that is written to here."""
    path = tmp_path / "s.db"
    store, lane = Store(path), Store(path)
    other = (
        "import sys, pathlib; from anomaly.alarms.store import Store\n"
        "s = Store(pathlib.Path(sys.argv[1])); print(s.counts()['events']); s.close()"
    )
    for number in range(4):
        store.commit(batch(number))
        assert store.refresh() == lane.refresh() == ""
        Store(path).close()
        said = subprocess.run([sys.executable, "-c", other, str(path)], capture_output=True, text=True, check=True).stdout
        assert said == f"{number + 1}\n"
        assert path.with_name("s.db-wal").exists()
    assert store._read("PRAGMA integrity_check") == [("ok",)]


def test_a_file_cut_in_the_middle_is_seen_and_what_is_left_lies_beside(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    store = Store(path)
    store.commit(Batch("l", "b", {"at": 1}, OPEN, "alarm", [Scored(f"f:{i}" * 20, float(i), 1.0, 0.5) for i in range(20_000)]))
    store._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    os.truncate(path, path.stat().st_size // 2)
    said = [store.refresh() for _ in range(4)]
    assert sum(bool(text) for text in said) == 1
    store.commit(batch(2))
    assert store.resume("l")[0] == {"at": 2}
    assert any(part.name.startswith("s.db.lost-") and part.stat().st_size > 100_000 for part in tmp_path.iterdir())


def test_a_store_that_another_process_filled_and_left_is_not_taken_for_cut(tmp_path: Path) -> None:
    """Right after a crash the end of the file lies in the write-ahead log only."""
    path = tmp_path / "s.db"
    store = Store(path)
    for number in range(300):
        store.commit(batch(number))
        assert store.refresh() == ""
    for part in tmp_path.glob("s.db*"):  # what a crash leaves
        shutil.copyfile(part, tmp_path / part.name.replace("s.db", "crashed.db"))
    crashed = Store(tmp_path / "crashed.db")
    assert [crashed.refresh() for _ in range(5)] == [""] * 5
    assert crashed.counts()["events"] == 300


def test_where_no_store_can_be_it_is_said_and_tried_again(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "s.db"
    store = Store(path)
    store.commit(batch(1))
    shutil.rmtree(path.parent)
    path.parent.write_text("a file where the folder was")
    with pytest.raises(StoreError, match="cannot be used as the event store"):
        store.refresh()
    with pytest.raises(StoreError, match="batch not stored"):
        store.commit(batch(2))
    path.parent.unlink()
    assert "deleted" in store.refresh() or "replaced" in store.refresh()
    store.commit(batch(2))
    assert store.resume("l")[0] == {"at": 2}


def test_every_error_of_sqlite_is_a_store_error(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.db")
    store.commit(batch(1))
    store.close()
    calls: list[Callable[[], object]] = [
        store.counts, store.events, store.lines, lambda: store.scores("l"), lambda: store.shadow("l"), lambda: store.rejections("l"),
        lambda: store.scored_by("l"), lambda: store.resume("l"), lambda: store.quality("l"), lambda: store.setting("x"),
        lambda: store.set("x", "y"), lambda: store.known("l", "r"), lambda: store.commit(batch(2)), lambda: store.add_events([]),
        lambda: store.register("l", []), lambda: store.waiting("w", 0.0), store.tidy_now, store.data_version, store.size_bytes,
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(StoreError):
            call()
    assert not store.tidy()  # what can wait is no error


def test_broken_pages_are_an_error_when_the_store_is_opened_or_read(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    store = Store(path)
    store.commit(Batch("l", "b", {"at": 1}, OPEN, "alarm", [Scored(f"f:{i}" * 20, float(i), 1.0, 0.5) for i in range(5000)]))
    store.close()
    with path.open("r+b") as stream:  # every page but the first
        stream.seek(4096)
        stream.write(b"\xa5" * (path.stat().st_size - 4096))
    with pytest.raises(StoreError):
        Store(path).scores("l")
