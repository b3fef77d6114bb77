"""Alarms in the store: without a monitor, and with several processes at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from anomaly.alarms.book import Hold
from anomaly.alarms.events import make_event
from anomaly.alarms.store import Store

HOUR = 3600.0
PERSON = """
import sys, time
from pathlib import Path
from anomaly.alarms.book import Hold
from anomaly.alarms.store import Store

store = Store(Path(sys.argv[1]))
for number in range(10):
    hold = Hold("shelved", f"sensor:{number}", time.time(), None, sys.argv[2])
    store.act("press", "shelved", sys.argv[2], "", lambda book: book.hold(hold))
    store.act("press", "end of shelved", sys.argv[2], "", lambda book: book.release(book.holds[hold.key], "x", "", time.time()) if hold.key in book.holds else [])
"""  # noqa: E501


def test_an_alarm_of_no_line_is_kept_repeated_and_held_back_without_a_monitor(tmp_path: Path) -> None:
    now = 1000.0
    store = Store(tmp_path / "s.db", clock=lambda: now)
    store.register("delivery", ["w"])
    data = {"class": "delivery", "condition": "sink pager", "sink": "pager", "priority": "high"}
    store.add_events([make_event("opened", "delivery", "d1", now, data)], ["w"])
    assert [(alarm.condition, alarm.state, alarm.priority) for alarm in store.alarms()] == [("sink pager", "unacknowledged", "high")]
    assert store.pass_time("delivery") == []
    now += 8 * HOUR
    assert [(event.kind, event.data["priority"]) for event in store.pass_time("delivery")] == [
        ("escalated", "critical"), ("reminded", "critical"),
    ]  # fmt: skip
    store.act("delivery", "shelved", "ada", "", lambda book: book.hold(Hold("shelved", "sink pager", now, now + 60, "ada")))
    store.add_events([make_event("closed", "delivery", "d1", now + 1, data)], ["w"])
    now += 61
    assert [event.kind for event in store.pass_time("delivery")] == ["unshelved", "closed"]
    sent = store._read("SELECT e.kind FROM outbox o JOIN events e USING (seq) ORDER BY seq")
    assert [kind for (kind,) in sent] == ["opened", "escalated", "reminded", "shelved", "unshelved", "closed"]


def test_people_in_several_processes_leave_one_whole_audit_log(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    Store(path).register("press", ["w"])
    people = [subprocess.Popen([sys.executable, "-c", PERSON, str(path), name]) for name in ("ada", "bob", "eve")]
    assert [person.wait(120) for person in people] == [0, 0, 0]
    store = Store(path)
    actions = store.actions()
    assert [action.seq for action in actions] == list(range(1, 61))
    assert {action.who for action in actions} == {"ada", "bob", "eve"}
    assert store.broken_action() == ""
    assert store.holds() == []


def test_looking_at_the_file_gives_up_no_lock_so_that_another_process_leaves_the_log_alone(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    store = Store(path)
    store.register("press", ["w"])
    assert store.refresh() == ""
    visit = "import sys\nfrom pathlib import Path\nfrom anomaly.alarms.store import Store\nStore(Path(sys.argv[1])).close()"
    subprocess.run([sys.executable, "-c", visit, str(path)], check=True)
    assert path.with_name("s.db-wal").exists()  # SQLite removes it only when the last connection is closed
    store.register("oven", ["w"])
    assert Store(path).lines() == ["oven", "press"]
