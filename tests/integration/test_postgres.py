"""The factory on PostgreSQL, nothing mocked: the loop again, and what happens when a server, a worker or the database goes away.

The servers of test_story beside it, with the edge's part left out: it does not touch the server's database. 2 minutes of a core, and as
much again of waiting.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from filelock import FileLock

from anomaly.alarms.health.address import Address
from anomaly.alarms.health.board import Board
from anomaly.alarms.health.server import serving as answering
from anomaly.alarms.sinks.prefect_event import PrefectEvents
from anomaly.bundle.archive import read_bundle
from anomaly.bundle.release_folder import ReleaseFolder
from tests.alarms.sinks.conftest import event
from tests.integration.factory import ENDED, Factory, factory, rows, until
from tests.integration.servers import Postgres, children, postgres

AWAY_S = float(os.environ.get("ANOMALY_TEST_AWAY_S", "20"))  # how long the database is away; a longer time by this variable


@pytest.fixture(scope="module")
def database() -> Iterator[Postgres]:
    with postgres() as started:
        yield started


@pytest.fixture(scope="module")
def plant(database: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Factory]:
    root = tmp_path_factory.mktemp("plant")
    with factory(root, {"PREFECT_API_DATABASE_CONNECTION_URL": database.url}, count=10_000) as made:
        yield made


@pytest.mark.timeout(1200)
def test_the_loop_on_postgresql(plant: Factory, database: Postgres) -> None:
    plant.ask("pipeline")
    plant.done("pipeline")
    first = plant.release.pointed("champion")
    assert first is not None

    # The line is monitored, and drifts, as the box says over HTTP; the automation asks for a retrain on the days since.
    rows(20_000, 4, "2026-02-06T06:00:00Z", vibration=1.2).to_csv(plant.root / "data" / "b.csv", index=False)
    rows(600, 2, "2026-02-05T06:00:00Z").to_csv(plant.root / "feed.csv", index=False)
    once = (
        "--source",
        plant.root / "feed.csv",
        "--store",
        plant.root / "s.db",
        "--line",
        "pump",
        "--provider",
        "cpu",
        "--once",
        "--exit-zero",
    )
    plant.command("anomaly.cli", "monitor", plant.release.where, *once)
    board = Board(plant.root / "s.db")
    board.add(["pump"])
    board.lines["pump"].source, board.lines["pump"].bundle_hash, board.lines["pump"].drift = "", read_bundle(first).hash, 1.0
    board.lines["pump"].alive()
    with answering(board, Address("127.0.0.1", plant.edge)):
        plant.ask("watch")
        plant.done("watch")
    plant.done("retrain")
    second = plant.release.pointed("challenger")
    assert second is not None
    plant.approved("A. Meier")
    assert plant.release.pointed("champion") == second

    # The edge goes back by itself, and says so.
    told = {"bundle_hash": read_bundle(second).hash, "reason": "it flagged 60% of 20 records"}
    body, id_ = event("rolled_back", line="pump", at=time.time(), **told)
    sink = PrefectEvents("prefect", plant.environment["PREFECT_API_URL"], None)
    sink.send(body, id_)
    sink.close()
    plant.done("rollback")
    assert plant.release.pointed("champion") == first
    assert [entry.action for entry in plant.release.history()] == ["published", "challenger", "promoted", "rolled back"]
    assert asyncio.run(count(database, "flow_run")) >= 5
    assert asyncio.run(count(database, "artifact")) >= 3
    assert not list((plant.root / "home").rglob("*.db"))  # nothing went to SQLite


def in_run(plant: Factory) -> list[int]:
    """The processes that a run works in, by their numbers."""

    def below(pid: int) -> list[int]:
        return [found for child in children(pid) for found in (child, *below(child))]

    return below(plant.workers["factory"].pid)


def killed(pids: list[int]) -> None:
    """All at once, so that none can tell of another's end."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


@contextmanager
def paused() -> Iterator[Callable[[list[int]], None]]:
    """What is handed over to be paused goes on when the block is left."""
    held: list[int] = []

    def pause(pids: list[int]) -> None:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
            held.append(pid)

    try:
        yield pause
    finally:
        for pid in held:
            os.kill(pid, signal.SIGCONT)


def whole(folder: ReleaseFolder) -> Path | None:
    """The champion, its hash verified; None where nothing is published. Nothing half written may bear the name of a bundle."""
    for path in folder.where.glob("*.anomaly"):
        read_bundle(path)
    champion = folder.pointed("champion")
    assert champion is None or read_bundle(champion).hash == json.loads((folder.where / "champion.json").read_text())["hash"]
    return champion


@contextmanager
def held_in_publish(plant: Factory, folder: Path, **parameters: object) -> Iterator[str]:
    """A run that has come to publish, and waits there for the lock of its release folder until the block is left."""
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):
        run = plant.ask("pipeline", release=folder, **parameters)

        def publishes() -> bool:
            asked = {"flow_runs": {"id": {"any_": [run]}}, "task_runs": {"name": {"like_": "publish"}}}
            found = plant.api.post("/task_runs/filter", json=asked).raise_for_status().json()
            assert plant.run(run)["state_type"] not in ENDED, plant.log("factory")
            return any(task["state_type"] == "RUNNING" for task in found)

        until(publishes)
        yield run


@pytest.mark.timeout(1200)
def test_a_run_outlives_a_restart_of_the_server_and_a_while_without_the_database(plant: Factory, database: Postgres) -> None:
    """20 seconds here, for the sake of the suite; ANOMALY_TEST_AWAY_S says another time."""
    folder = ReleaseFolder(plant.root / "release" / "away")
    with paused() as pause, held_in_publish(plant, folder.where) as run:
        pause(in_run(plant))  # it waits for the lock no more than a minute
        lease = plant.run(run)["state"]["state_details"]["deployment_concurrency_lease_id"]
        plant.stop("server")
        plant.start_server()
        assert plant.api.post(f"/v2/concurrency_limits/leases/{lease}/renew", json={"lease_duration": 300}).status_code == 204
        assert plant.ended(plant.ask("pipeline"))["type"] == "CANCELLED"  # one at a time, as before
        database.stop()
    time.sleep(AWAY_S)  # publishing goes on meanwhile, and nothing can be told of it
    database.start()
    assert plant.ended(run)["type"] == "COMPLETED", plant.log("factory")
    assert whole(folder) is not None
    assert plant.places_taken() == 0


@pytest.mark.timeout(1200)
def test_a_run_killed_in_fit_and_one_in_the_dark_in_publish_are_told_and_the_next_one_goes_on_from_there(plant: Factory) -> None:
    folder, work = ReleaseFolder(plant.root / "release" / "killed"), plant.root / "work-killed"
    (plant.root / "lost.toml").write_text('[[automation]]\non = "run lost"\nminutes = 1\n')
    plant.command("flows.automations", plant.root / "lost.toml")
    run = plant.ask("pipeline", release=folder.where, work=work)
    until(lambda: list(work.glob("pretrain-*")))
    killed(in_run(plant))
    assert plant.ended(run)["type"] == "CRASHED"  # as the worker tells
    assert not folder.where.exists()

    with held_in_publish(plant, folder.where, work=work) as run:
        killed([plant.workers["factory"].pid, *in_run(plant)])  # the machine loses its power
        assert plant.run(run)["state_type"] == "RUNNING"  # nobody is left to tell
    assert whole(folder) is None
    plant.stop("factory")
    plant.start_worker("factory")
    state = plant.ended(run)
    assert (state["type"], state["message"]) == ("CRASHED", "It was not heard of any more: its process or machine is gone.")
    made = {path: path.stat().st_mtime_ns for path in work.glob("[!.]*")}
    assert plant.ended(plant.ask("pipeline", release=folder.where, work=work))["type"] == "COMPLETED"
    assert whole(folder) is not None
    assert made.items() <= {path: path.stat().st_mtime_ns for path in work.glob("[!.]*")}.items()  # nothing was made again


async def count(database: Postgres, table: str) -> int:
    """Rows in a table of the server's, read beside it."""
    import asyncpg

    connection = await asyncpg.connect(database.url.replace("+asyncpg", ""))
    try:
        return int(await connection.fetchval(f'SELECT count(*) FROM "{table}"'))
    finally:
        await connection.close()
