"""A small run of the soak: kills, a receiver that fails 30 % of its calls, one that never answers."""

from __future__ import annotations

from pathlib import Path

from benchmarks.alarms.delivery_soak import run


def test_nothing_is_lost_by_kills_and_the_healthy_sink_is_not_held_up(tmp_path: Path) -> None:
    counted = run(alarms=100, kills=3, rate=50.0, folder=tmp_path)
    assert (counted["alarms"], counted["kills"]) == (100, 3)
    assert counted["lost"] == {"healthy": 0, "fails": 0}
    assert counted["calls"]["fails"] > 100  # it did fail
    assert counted["calls"]["hangs"] > 0
    assert counted["twice"]["healthy"] < 50
