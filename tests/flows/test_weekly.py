"""The weekly flow on two stores, one of which is not there: that one is told, and the other is reported all the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from anomaly.alarms.events import make_event
from anomaly.alarms.store import Store
from anomaly.errors import StoreError
from flows.weekly import weekly_flow


def test_a_store_that_is_missing_stops_no_other(tmp_path: Path, prefect: str) -> None:
    store = Store(tmp_path / "a" / "s.db")
    store.add_events([make_event("opened", "oven", "x", 1.0, {"condition": "process"})])
    store.close()
    with pytest.raises(StoreError, match="no such store"):
        weekly_flow([tmp_path / "gone.db", store.path], tmp_path / "out")
    assert "oven" in (tmp_path / "out" / "a-s.html").read_text()
    assert not (tmp_path / "gone.db").exists()
