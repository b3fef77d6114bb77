"""Drift of a line: the martingale's bound and delay, MAPIE as the check, and what is told."""

from __future__ import annotations

import io
import json
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly.alarms.drift import BLOCK_AT_LEAST_S, BLOCKS_A_MONTH, LIMIT, DriftMonitor, Martingale, Reference, read_reference
from anomaly.alarms.events import Event
from anomaly.schema import Channel

PERIOD_S = 100.0
CHANNELS = (Channel(name="flow", unit="m3/h", offset=20.0), Channel(name="heat"))


def reference(block: int = 4, normals: int = 400, seed: int = 0) -> Reference:
    """Normal scores and two sensors, as a bundle has them."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(rng.normal(size=(normals, 5)), columns=["score", "share:flow", "share:heat", "level:flow", "level:heat"])
    return parsed(frame, {"block": block})


def parsed(frame: pd.DataFrame, calibration: dict[str, object]) -> Reference:
    buffer = io.BytesIO()
    frame.to_parquet(buffer)
    return read_reference(buffer.getvalue(), calibration)


def run(drift: DriftMonitor, scores: np.ndarray, start: float = 0.0, counts: np.ndarray | None = None, **moved: float) -> list[Event]:
    rng = np.random.default_rng(len(scores))
    followed = rng.normal(size=(len(scores), 4)) + [moved.get(key, 0.0) for key in ("share_flow", "share_heat", "flow", "heat")]
    times, events = start + PERIOD_S * np.arange(len(scores)), []
    counts = np.ones(len(scores), bool) if counts is None else counts
    for part in np.array_split(np.arange(len(scores)), len(scores) // 100 + 1):
        events += drift.take(times[part], scores[part], counts[part], followed[part])
    return events


def normal(count: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=count)


# --- the martingale ---


def test_p_values_are_those_of_mapie() -> None:
    """MAPIE breaks ties by chance; ours count them against drift, and are its p-value for the worst draw."""
    from mapie.exchangeability_testing import OnlineMartingaleTest

    peer = OnlineMartingaleTest(random_state=0)
    rng = np.random.default_rng(3)
    ranks = rng.integers(0, 30, 200) / 100
    martingale = Martingale(np.zeros(1001, np.int64))
    for number, rank in enumerate(ranks):
        ours, equal = martingale.p_value(rank), int((ranks[:number] == rank).sum())
        theirs = peer.compute_p_value(rank, ranks[:number]) if number else ours
        assert ours - (equal + 1) / (number + 1) - 1e-12 <= theirs <= ours + 1e-12
        martingale.take(rank, float(number))


def test_mapie_sees_drift_and_none_where_we_do() -> None:
    from mapie.exchangeability_testing import OnlineMartingaleTest

    for shift in (0.0, 0.3):
        peer, ours = OnlineMartingaleTest(random_state=0), Martingale(np.zeros(1001, np.int64))
        ranks = np.random.default_rng(5).random(600) * 0.7
        ranks[300:] += shift
        found = False
        for rank in ranks:
            peer.update_simple_jumper_martingale(ours.p_value(rank))
            found = ours.take(rank, 0.0) or found
        assert found == (shift > 0)
        assert (max(peer.martingale_value_history) > 100) == (shift > 0)


@pytest.mark.parametrize("distinct", [1000, 7])
def test_false_detections_stay_within_the_bound(distinct: int) -> None:
    """P(R >= c within n blocks) <= n / c, also where ranks are tied; here n / c = 0.1, over 400 runs."""
    blocks, runs = 150, 400
    rng, over = np.random.default_rng(0), 0
    for _ in range(runs):
        martingale = Martingale(np.bincount((rng.integers(0, distinct, 20) * 1000) // distinct, minlength=1001))
        highest = 0.0
        for _ in range(blocks):
            martingale.take(rng.integers(0, distinct) / distinct, 0.0)
            highest = max(highest, martingale.evidence)
        over += highest >= 10 * blocks
    assert over <= 0.1 * runs


def test_the_limit_is_a_thousand_months() -> None:
    assert pytest.approx(1000 * 365.25 / 12 * 86_400 / BLOCK_AT_LEAST_S) == LIMIT
    assert pytest.approx(1000 * BLOCKS_A_MONTH) == LIMIT


# --- a line ---


def test_drift_is_told_once_with_its_beginning_and_is_over_when_it_is() -> None:
    drift, block_s = DriftMonitor("press", "b", reference(), CHANNELS), 4 * PERIOD_S
    assert run(drift, normal(4000)) == []
    assert drift.level < 0.9
    (told,) = run(drift, normal(4000, 2) + 1.0, 400_000.0)
    assert (told.kind, told.line, told.data["drift"], told.data["class"]) == ("drifted", "press", "began", "drift")
    assert told.time < 400_000.0 + 60 * block_s
    assert drift.since is not None
    assert abs(drift.since - 400_000.0) < 15 * block_s
    assert drift.level == 1.0
    assert "records are stranger than those learnt from" in told.data["reason"]
    (over,) = run(drift, normal(4000, 3), 800_000.0)
    assert (over.data["drift"], over.alarm, over.data["since"]) == ("over", told.alarm, told.data["since"])
    assert drift.since is None
    (again,) = run(drift, normal(2000, 4) + 1.0, 1_200_000.0)
    assert again.alarm != told.alarm


def test_records_that_score_lower_than_the_normals_are_no_drift() -> None:
    drift = DriftMonitor("press", "b", reference(), CHANNELS)
    assert run(drift, normal(8000) - 1.0) == []


def test_records_of_an_alarm_do_not_count() -> None:
    drift, scores = DriftMonitor("press", "b", reference(), CHANNELS), normal(4000)
    counts = np.arange(4000) % 5 > 1
    scores[~counts] += 5.0
    assert run(drift, scores, counts=counts) == []
    assert run(DriftMonitor("press", "b", reference(), CHANNELS), scores)


def test_slow_drift_is_found() -> None:
    drift = DriftMonitor("press", "b", reference(), CHANNELS)
    (told,) = run(drift, normal(20_000) + np.linspace(0, 1.5, 20_000))
    assert told.time < 0.7 * 20_000 * PERIOD_S


def test_what_has_moved_is_named_in_spreads_and_words() -> None:
    drift = DriftMonitor("press", "b", reference(), CHANNELS)
    run(drift, normal(2000))
    (told,) = run(drift, normal(2000, 2) + 2.0, 200_000.0, flow=-4.0, share_heat=3.0)
    first, second = told.data["sensors"]
    assert (first["sensor"], second["sensor"]) == ("flow", "heat")
    assert first["level_spreads"] < -2
    assert second["share_spreads"] > 2
    assert " m3/h, normally 19.9" in first["words"]  # its offset of 20 is added again
    assert first["words"].endswith("spreads lower)")
    assert second["words"].startswith("heat no longer goes with the others as it did")
    assert first["words"] in told.data["reason"]


def test_a_restart_goes_on_and_another_bundle_begins_anew() -> None:
    scores = np.concatenate([normal(2000), normal(400, 2) + 1.0])
    whole = DriftMonitor("press", "b", reference(), CHANNELS)
    expected = run(whole, scores)
    parts = DriftMonitor("press", "b", reference(), CHANNELS)
    events: list[Event] = []
    rng = np.random.default_rng(len(scores))
    followed, times = rng.normal(size=(len(scores), 4)), PERIOD_S * np.arange(len(scores))
    for at in range(0, len(scores), 8):
        parts = DriftMonitor("press", "b", reference(), CHANNELS, parts.kept)
        events += parts.take(times[at : at + 8], scores[at : at + 8], np.ones(8, bool), followed[at : at + 8])
    assert [event.id for event in events] == [event.id for event in expected]
    assert len(expected) == 1
    assert json.loads(parts.kept)["drifted"] is not None
    assert DriftMonitor("press", "other", reference(), CHANNELS, parts.kept).since is None


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 70), max_size=20))
def test_how_records_come_in_batches_makes_no_difference(sizes: list[int]) -> None:
    scores = normal(300) + np.repeat([0.0, 3.0], 150)
    whole, parts = (DriftMonitor("press", "b", reference(), CHANNELS) for _ in range(2))
    expected = whole.take(PERIOD_S * np.arange(300), scores, np.ones(300, bool))
    cuts = [0, *np.minimum(np.cumsum(sizes), 300).tolist(), 300]
    events = []
    for low, high in pairwise(cuts):
        events += parts.take(PERIOD_S * np.arange(low, high), scores[low:high], np.ones(high - low, bool))
    assert [event.id for event in events] == [event.id for event in expected]


def test_blocks_begin_no_nearer_than_five_minutes() -> None:
    """A picture a second: the others in the five minutes tell nothing new, and would make the bound another one."""
    drift = DriftMonitor("press", "b", reference(block=1))
    drift.take(np.arange(3000.0), normal(3000), np.ones(3000, bool))
    assert json.loads(drift.kept)["blocks"] == 10
    drift.take(np.arange(0.0, 3000.0), normal(3000), np.ones(3000, bool))  # a clock set back
    assert json.loads(drift.kept)["blocks"] == 20


def test_sensors_without_a_reading_do_not_stop_it() -> None:
    drift = DriftMonitor("press", "b", reference(), CHANNELS)
    followed = np.full((2000, 4), np.nan)
    (told,) = drift.take(PERIOD_S * np.arange(2000), normal(2000) + 2.0, np.ones(2000, bool), followed)
    assert told.data["sensors"] == []


# --- the reference of a bundle ---


def test_references_of_older_bundles_are_read() -> None:
    frame = pd.DataFrame({"score": normal(100), "share:flow": normal(100, 2), "map_mean": normal(100, 3)})
    found = parsed(frame, {"independent_scores": 50.0, "scores": 100})
    assert (found.block, found.names, len(found.ranks)) == (8, ("share:flow",), 13)
    assert parsed(frame[["score"]], {}).names == ()


def test_a_thinned_record_and_a_sensor_without_readings() -> None:
    places = np.arange(0, 1000, 10)
    frame = pd.DataFrame({"score": normal(100), "place": places, "level:dead": np.full(100, np.nan), "level:flow": normal(100, 2)})
    found = parsed(frame, {"block": 50})
    assert len(found.ranks) == 20
    assert found.mean[0] == found.spread[0] == 0.0
    assert found.spread[1] == pytest.approx(1 / np.sqrt(5), rel=0.5)
