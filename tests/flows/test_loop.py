"""The loop's flows on a real server of Prefect: events, the approval, automations."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from anomaly.alarms.health.address import Address
from anomaly.alarms.health.board import Board
from anomaly.alarms.health.server import serving
from anomaly.alarms.store import Store


@pytest.fixture(scope="module")
def prefect() -> Iterator[None]:
    """Prefect with a server of its own that ends with the tests."""
    import flows  # noqa: F401, I001 - first, for it sets Prefect up offline
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=120):
        yield


def test_a_look_leaves_a_table_that_says_what_is_wrong(tmp_path: Path, prefect: None) -> None:
    from prefect.artifacts import Artifact

    from anomaly.operations.watch import Box
    from flows.watch import watch_flow

    Store(tmp_path / "s.db").close()
    board = Board(tmp_path / "s.db")
    board.add(["press"])
    board.lines["press"].alive()
    with serving(board, Address("127.0.0.1", 0)) as address:
        found = watch_flow([Box(name="hall", url=f"http://{address}")], tmp_path / "watch.json")
    assert [change.what for change in found.changes] == ["data"]
    artifact = Artifact.get("watch")
    assert artifact is not None
    assert artifact.description == "1 of 1 line needs a look."
    assert "bundle: not loaded yet" in str(artifact.data)
    assert watch_flow([], tmp_path / "none.json").verdicts == []
