"""The watch of boxes, against the real health server of a monitor and real stores."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from anomaly.alarms.events import alarm_id, make_event
from anomaly.alarms.health.address import Address
from anomaly.alarms.health.board import Board
from anomaly.alarms.health.server import serving
from anomaly.alarms.store import Store
from anomaly.errors import DataError
from anomaly.operations.watch import Box, Watched, remember, watch
from tests.integration.servers import free_port

DAY = 86_400.0


class Plant:
    """One box that serves two lines, with a clock that only the test moves, and the file between two looks."""

    def __init__(self, folder: Path) -> None:
        self.now = 1000.0
        self.state = folder / "watch.json"
        Store(folder / "s.db").close()
        self.board = Board(folder / "s.db", clock=lambda: self.now)
        self.board.add(["press", "pump"])
        for line in self.board.lines.values():
            line.source, line.bundle_hash = "", "ab" * 32
            line.alive()

    def pass_s(self, seconds: float) -> None:
        self.now += seconds
        for line in self.board.lines.values():
            line.took(1, 0.01, 0.1)
            line.alive()

    def look(self, *boxes: Box) -> Watched:
        found = watch(boxes, self.state, self.now)
        remember(found, self.state)
        return found


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    return Plant(tmp_path)


@pytest.fixture
def box(plant: Plant) -> Iterator[Box]:
    with serving(plant.board, Address("127.0.0.1", 0)) as address:
        yield Box(name="hall", url=f"http://{address}", false_alarms_per_week=2)


def told(found: Watched) -> list[tuple[str, str]]:
    return [(change.verdict.line, change.what) for change in found.changes]


def test_a_change_is_told_once_and_its_end_once(plant: Plant, box: Box) -> None:
    assert plant.look(box).says == "All is well with 2 lines."
    plant.board.lines["press"].drift = 1.0
    plant.pass_s(60)
    first = plant.look(box)
    assert told(first) == [("press", "drift")]
    assert first.says == "1 of 2 lines needs a look."
    plant.pass_s(60)
    assert told(plant.look(box)) == []
    plant.board.lines["press"].drift = 0.2
    plant.pass_s(60)
    assert told(plant.look(box)) == [("press", "ok")]


def test_what_was_not_remembered_is_told_again(plant: Plant, box: Box) -> None:
    plant.board.lines["pump"].source = "camera away"
    for _ in range(2):  # the run was killed between telling and remembering
        assert told(watch([box], plant.state, plant.now)) == [("pump", "data")]


def test_alarms_over_the_budget_are_told_over_restarts_of_the_box_too(plant: Plant, box: Box) -> None:
    line = plant.board.lines["press"]
    line.opened = 40  # from before the first look: not known since when
    plant.look(box)
    line.opened = 42
    plant.pass_s(7 * DAY)
    assert plant.look(box).says == "All is well with 2 lines."  # two in a week, as they may
    line.opened = 9  # it was started anew
    plant.pass_s(DAY)
    found = plant.look(box)
    assert told(found) == [("press", "budget")]
    assert found.verdicts[0].says.startswith("11 alarms in 8 days, where its budget is 2 false alarms a week")


def test_a_box_that_does_not_answer_stops_nothing_and_its_drift_is_not_told_anew(plant: Plant, box: Box, tmp_path: Path) -> None:
    away = Box(name="yard", url=f"http://127.0.0.1:{free_port()}")
    plant.board.lines["press"].drift = 1.0
    found = plant.look(away, box)
    assert [verdict.ok for verdict in found.verdicts] == [False, False, True]
    assert "does not answer" in found.verdicts[0].says
    assert told(found) == [("", "silent"), ("press", "drift")]
    moved = box.model_copy(update={"url": away.url})
    assert told(plant.look(moved)) == [("press", "silent"), ("pump", "silent")]
    assert told(plant.look(box)) == [("pump", "ok")]  # the press has drifted still, as was told


def test_a_loop_that_hangs_and_one_that_gets_nothing_are_told_apart(plant: Plant, box: Box) -> None:
    plant.look(box)
    plant.pass_s(25 * 3600)
    plant.now += 130
    plant.board.lines["pump"].alive()
    plant.board.lines["pump"].last_record = plant.now - 25 * 3600
    found = {verdict.line: verdict.says for verdict in plant.look(box).verdicts}
    assert found == {"press": "Its loop has not gone on for 2 minutes.", "pump": "No record came for 25 hours."}


def test_another_server_there_is_no_monitor(plant: Plant, tmp_path: Path) -> None:
    from functools import partial
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
    from threading import Thread

    (tmp_path / "readyz").write_text('{"lines": [1], "missing": []}')
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(tmp_path)))
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        found = plant.look(Box(name="hall", url=f"http://127.0.0.1:{server.server_address[1]}"))
    finally:
        server.shutdown()
        server.server_close()
    assert "answers, but not as a monitor does" in found.verdicts[0].says


def test_a_store_tells_of_drift_and_of_open_alarms(tmp_path: Path) -> None:
    store = Store(tmp_path / "line.db")
    store.register("press", [])
    data = {"class": "drift", "drift": "began", "reason": "flow reads 28 m3/h, normally 31"}
    store.add_events([make_event("drifted", "press", "d", 5.0, data)])
    opening = {"class": "process", "condition": "process", "began": "1970-01-01T00:00:09Z"}
    store.add_events([make_event("opened", "press", alarm_id("press", "", 9.0, "a"), 9.0, opening)])
    store.close()
    box = Box(name="press", store=tmp_path / "line.db")
    found = watch([box], tmp_path / "w.json", 20.0)
    assert told(found) == [("press", "drift")]
    assert "flow reads 28 m3/h, normally 31" in found.verdicts[0].says
    (tmp_path / "line.db").write_bytes(b"no store")
    assert "cannot be read as a store" in watch([box], tmp_path / "w.json", 20.0).verdicts[0].says


def test_what_was_asked_wrongly_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="give its url or its store"):
        Box(name="hall")
    twin = Box(name="hall", store=tmp_path / "a.db")
    with pytest.raises(DataError, match="two boxes are called 'hall'"):
        watch([twin, twin], tmp_path / "w.json", 0.0)
    (tmp_path / "w.json").write_text("[]")
    with pytest.raises(DataError, match=r"w\.json: not what a watch left"):
        watch([twin], tmp_path / "w.json", 0.0)


def test_memory_and_file_stay_flat(plant: Plant, box: Box) -> None:
    ours = [tracemalloc.Filter(True, f"*/anomaly/{part}/*", all_frames=True) for part in ("operations", "alarms/health")]

    def polls(number: int) -> tuple[int, int]:
        """(bytes that the watch and the box still hold, size of the file) after so many. Threads of other tests may still be at work."""
        for _ in range(number):
            plant.pass_s(1200)
            plant.look(box)
        gc.collect()
        held = tracemalloc.take_snapshot().filter_traces(ours)
        return sum(trace.size for trace in held.traces), plant.state.stat().st_size

    plant.look(box)
    tracemalloc.start(8)
    try:
        before, _ = polls(10)
        after, size = polls(60)
    finally:
        tracemalloc.stop()
    assert after - before < 80_000
    assert size < 100_000
