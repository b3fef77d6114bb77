"""Evidence and labels in the store: bounded, erasable, told in the audit log, and rescued where people's work is."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from anomaly.alarms.events import iso, make_event
from anomaly.alarms.evidence import Evidence
from anomaly.alarms.life import State
from anomaly.alarms.store import Batch, Store
from anomaly.errors import DataError, StoreError
from anomaly.names import one_line

HOSTILE = "a\x1b[2J\n<script>alert(1)</script>'; DROP TABLE alarms; --"


def put(store: Store, alarm: str, size: int = 1000, line: str = "l", role: str = "opened") -> None:
    event = make_event("opened", line, alarm, 1.0, {"class": "process", "condition": f"process{alarm}"})
    found = Evidence(alarm, role, "picture", HOSTILE, 1.0, 0.001, {"size": [9, 9]}, b"SECRET" * (size // 6), b"")  # type: ignore[arg-type]
    batch = Batch(line, "b", {}, State(), None, events=[event], evidence=[found])
    batch.prepare = lambda batch: setattr(batch, "changes", _opened(store, line, event))
    store.commit(batch)


def _opened(store: Store, line: str, event: object) -> object:
    book = store.book(line)
    book.apply([event], 1.0)  # type: ignore[list-item]
    return book.changes


def test_the_oldest_goes_first_and_what_was_labelled_last(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.db", evidence_bytes=5000)
    for name in "abc":
        put(store, name)
    store.label("a", "real", "ada")
    for name in "defg":
        put(store, name)
    kept = [name for name in "abcdefg" if store.evidence(name)]
    assert kept == ["a", "d", "e", "f", "g"]
    assert store.evidence_size() == (5, 5 * 996)
    assert len(store.alarms(live=False)) == 7


def test_a_label_says_who_and_when_and_the_newest_counts(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.db", clock=lambda: 60.0)
    put(store, "a")
    assert store.label_of("a") is None
    store.label("a", "nuisance", HOSTILE, reason=HOSTILE)
    given = store.label("a", "real", "bob", kind="crack", boxes=[(1, 2, 3.5, 4)])
    (found,) = store.labels("l")
    assert found == given == store.label_of("a")
    assert store.labels("other") == []
    actions = store.actions(alarm="a")
    assert [each.action for each in actions] == [
        f"labelled nuisance, picture {one_line(HOSTILE)}",
        f"labelled real (crack), boxes 1,2,3.5,4, picture {one_line(HOSTILE)}",
    ]
    store.add_events([make_event("opened", "readings", "r", 1.0, {"class": "process", "top": [{"sensor": "flow", "share": 1.0}]})])
    lasted = store.label("r", "real", "bob", stretches=[(5.0, 6.0)])
    assert (lasted,) == tuple(store.labels("readings"))
    assert lasted.words == "labelled real, 1970-01-01T00:00:05Z to 1970-01-01T00:00:06Z"
    assert "\x1b" not in actions[0].who + actions[0].why
    assert store.broken_action() == ""


@pytest.mark.parametrize(
    ("stretch", "why"),
    [
        ((0.0, 9.9e5 - 86_500), "does not touch it"), ((1.0e6 + 1, 1.0e6 + 60), "does not touch it"),
        ((-6.2e10, 2.5e11), "is longer than the 52 hours"), ((9.0e5, 9.0e5 + 1e5 + 86_500), "is longer than the 52 hours"),
        ((9.9e5 - 90_000, 9.9e5 - 86_000), ""), ((9.8e5, 1.1e6), ""), ((9.99e5, 9.99e5), ""),
    ],
)  # fmt: skip
def test_a_stretch_is_of_the_alarm_and_of_its_size(tmp_path: Path, stretch: tuple[float, float], why: str) -> None:
    store = Store(tmp_path / "s.db", clock=lambda: 2e6)
    data = {"class": "process", "top": [{"sensor": "flow", "share": 1.0}], "began": iso(9.9e5)}
    store.add_events([make_event("opened", "oven", "r", 9.95e5, data), make_event("closed", "oven", "r", 1.0e6, data)])
    if not why:
        assert store.label("r", "real", "bob", stretches=[stretch]).stretches == (stretch,)
        return
    with pytest.raises(DataError, match=f"alarm r lasted from 1970-01-12 11:00:00Z to 1970-01-12 13:46:40Z; stretch .* {why}"):
        store.label("r", "real", "bob", stretches=[stretch])
    assert store.labels() == []


def test_an_alarm_of_a_sink_takes_no_label(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.db")
    store.add_events([make_event("opened", "delivery", "d", 1.0, {"class": "delivery", "condition": "sink bus", "reason": "refused"})], [])
    with pytest.raises(DataError, match=r"of a sink.*comment"):
        store.label("d", "real", "ada")
    assert store.labels() == []


@pytest.mark.parametrize(
    "marks",
    [
        {"boxes": [(0, 0, 0, 5)]}, {"boxes": [(-1, 0, 5, 5)]}, {"boxes": [(0, 0, float("nan"), 5)]}, {"stretches": [(9.0, 3.0)]},
        {"stretches": [(float("inf"), 3.0)]}, {"kind": "x" * 64}, {"reason": "x" * 2001},
    ],
)  # fmt: skip
def test_marks_that_cannot_be_are_refused_and_nothing_is_stored(tmp_path: Path, marks: dict[str, object]) -> None:
    store = Store(tmp_path / "s.db")
    put(store, "a")
    with pytest.raises(DataError):
        store.label("a", "real", "ada", **marks)  # type: ignore[arg-type]
    with pytest.raises(StoreError, match="no alarm"):
        store.label("gone", "real", "ada")
    assert store.labels() == []
    assert store.actions() == []


def test_what_is_erased_is_in_no_file_and_the_alarm_stays(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.db")
    for name in "ab":
        put(store, name, 60_000)
    before = b"".join(path.read_bytes() for path in tmp_path.iterdir()).count(b"SECRET")
    assert store.erase(store.find_alarms("a"), "ada", "a face is seen in it") == 1
    assert store.evidence("a") == []
    assert len(store.evidence("b")) == 1
    after = b"".join(path.read_bytes() for path in tmp_path.iterdir()).count(b"SECRET")
    assert after <= before / 2
    assert [each.id for each in store.alarms(live=False)] == ["a", "b"]
    assert [(each.action, each.who) for each in store.actions()] == [("erased pictures or readings", "ada")]


def test_a_store_from_before_gets_the_tables_and_one_that_is_lost_keeps_the_labels(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.db")
    store.close()
    with sqlite3.connect(tmp_path / "s.db") as db:
        db.execute("DROP TABLE evidence")
        db.execute("DROP TABLE labels")
    store = Store(tmp_path / "s.db")
    put(store, "a")
    store.label("a", "real", "ada", kind="crack")
    (tmp_path / "s.db").unlink()
    assert "deleted" in store.refresh()
    label = store.label_of("a")
    assert label is not None
    assert (label.verdict, label.kind, label.line) == ("real", "crack", "l")
    put(store, "b")
    assert len(store.evidence("b")) == 1
