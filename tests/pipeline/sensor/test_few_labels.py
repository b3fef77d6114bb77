"""A few labelled faults of a machine of sensors: which windows they give, when they become a vote, and what the vote does in the graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from anomaly.bundle.archive import read_bundle
from anomaly.data.tables.labels.stretches import LabelledTable
from anomaly.data.tables.reader import ReadReport, SensorTable
from anomaly.edge.runtime.self_test import self_test
from anomaly.edge.runtime.session import open_session
from anomaly.errors import DataError, SpecError, WeightsError
from anomaly.features.build import load_vote
from anomaly.features.encoder import SensorExtractor
from anomaly.pipeline.sensor.few_labels.vote import Voting, _floor, _threshold, source_labels
from anomaly.pipeline.sensor.few_labels.windows import cut
from anomaly.pipeline.sensor.line import SensorLine
from anomaly.pipeline.steps import Steps
from anomaly.progress import silent
from anomaly.schema import Channel, Dialect
from anomaly.spec import Pretrain, SensorSpec, Transfer
from tests.conftest import run

SENSORS = ("flow", "force", "heat")
LONG, APART = 60, 240  # rows of a fault, and from one fault to the next


def record(path: Path, rows: int, seed: int, size: float = 0.0, gain: float = 1.0, *, labels: bool = True) -> Path:
    """Noise of three sensors, a row a second. In a fault `flow` is higher, and `heat` lower, by a small `size`."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(rows, 3))
    fault = (np.arange(rows) % APART) >= APART - LONG
    values[fault] += np.array([size, 0.0, -size])
    frame = pd.DataFrame(values * gain + 5 * gain, columns=list(SENSORS))
    frame.insert(0, "time", pd.date_range(f"2026-01-{seed + 1:02d}", periods=rows, freq="s"))
    if labels:
        frame["label"] = fault.astype(int)
    path.parent.mkdir(exist_ok=True)
    frame.to_csv(path, index=False)
    return path


def spec_of(**transfer: object) -> SensorSpec:
    return SensorSpec(kind="sensor", pretrain=Pretrain(method="none"), transfer=Transfer.model_validate(transfer))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record(tmp_path_factory.mktemp("machine") / "train.csv", 1500, 0, labels=False)


# --- windows ---


def table(faulty: NDArray[np.bool_]) -> LabelledTable:
    rows = len(faulty)
    values = np.arange(rows, dtype=np.float32)[:, None]
    parts = np.arange(rows, dtype=float), values, np.ones(rows, bool), {}, 1.0, 10.0, ReadReport(), np.arange(rows) + 2, Dialect(), values
    return LabelledTable(SensorTable(Path("t.csv"), (Channel(name="a"),), *parts), faulty, {})


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 40)), min_size=1, max_size=12), st.sampled_from([6, 12]))
@settings(max_examples=60, deadline=None)
def test_windows_end_in_a_fault_and_lie_in_it_by_half_or_hold_none_of_it(runs: list[tuple[bool, int]], rows: int) -> None:
    faulty = np.concatenate([np.full(length, fault) for fault, length in runs])
    whole = range(rows - 1, len(faulty))
    bad = [end for end in whole if faulty[end] and faulty[end + 1 - rows : end + 1].sum() >= rows / 2]
    good = [end for end in whole if not faulty[end + 1 - rows : end + 1].any()]
    if not bad:
        with pytest.raises(DataError, match=r"t.csv: no labelled fault is as long as half a window"):
            cut([table(faulty)], [], rows)
        return
    found = cut([table(faulty)], [], rows)
    ends = found.windows[:, -1, 0].astype(int)
    assert set(ends[found.fault < 0]) == set(good)
    assert set(ends[found.fault >= 0]) <= set(bad)
    assert len(found.names) + len(found.left_out) >= 1
    assert set(found.fault[found.fault >= 0]) == set(range(len(found.names)))
    for one in range(len(found.names) - 1):  # faults are further apart than a window: none of their windows share a row
        assert ends[found.fault == one + 1].min() - ends[found.fault == one].max() > rows


# --- the vote ---


def test_a_slight_fault_of_two_sensors_becomes_a_vote_in_both_graphs(plain: Path, tmp_path: Path) -> None:
    faults = record(tmp_path / "faults.csv", 1440, 1, 0.55)  # a third of a deviation of any window's level
    fresh = pd.read_csv(record(tmp_path / "fresh.csv", 1440, 2, 0.55))
    bundles = []
    for name, transfer in (("without", {}), ("with", {"faults": faults})):
        steps = Steps(SensorLine(spec_of(**transfer), plain), tmp_path / name)
        bundles.append(read_bundle(steps.export()))
    report = bundles[1].manifest.provenance["fit"]["extractor"]["transfer"]["few_labels"]
    assert report["vote"] == "adaboost"
    assert report["faults"] == 6
    assert report["over_normal_only"]["gain_ci95"][0] > 0
    assert report["threshold"]["with_vote"] <= 1.1 * report["threshold"]["alone"]
    assert {"random", "real", "stream"} <= set(bundles[1].manifest.parity)
    values = fresh[list(SENSORS)].to_numpy(np.float32) - np.array([s.offset for s in bundles[0].manifest.input.sensors], np.float32)
    ends = np.arange(29, len(fresh))
    windows = np.lib.stride_tricks.sliding_window_view(values, 30, axis=0).transpose(0, 2, 1)
    fault = fresh["label"].to_numpy()[ends] > 0
    scores, shares = [], []
    for bundle in bundles:
        session = open_session(bundle, "cpu")
        assert self_test(bundle, session) > 0
        score, _, share = session.run(np.ascontiguousarray(windows))
        scores.append(score)
        shares.append(share)
    raised = scores[1] - scores[0]
    assert raised.min() > -1e-4  # never lowered
    assert (raised[fault] > 0.1).mean() > 0.1
    assert (raised[~fault] > 0.1).mean() < 0.05
    assert shares[1].sum(axis=1) == pytest.approx(scores[1], rel=1e-3)  # a contribution is a share of the score, with a vote too
    blamed = (shares[1] - shares[0])[fault & (raised > 0.1)].argmax(axis=1)
    assert (blamed != SENSORS.index("force")).mean() > 0.9  # flow and heat are named


def test_labels_at_random_make_no_vote_and_the_bundle_is_that_of_a_fit_without(plain: Path, tmp_path: Path) -> None:
    line = SensorLine(spec_of(faults=record(tmp_path / "faults.csv", 1440, 1)), plain)
    about = line.pretrain(tmp_path / "e.safetensors", silent)
    found = about["transfer"]["few_labels"]
    assert found["vote"] == "none"
    assert found["why"].startswith("ROC-AUC")
    assert load_vote(tmp_path / "e.safetensors") == {}
    alone = SensorLine(spec_of(), plain)
    alone.pretrain(tmp_path / "a.safetensors", silent)
    with_labels, without = (one.fit(tmp_path / name, silent) for one, name in ((line, "e.safetensors"), (alone, "a.safetensors")))
    assert np.array_equal(with_labels.held_out, without.held_out)


def test_a_single_fault_cannot_be_judged_and_the_command_says_so(plain: Path, tmp_path: Path) -> None:
    one = record(tmp_path / "one.csv", APART, 1, 3.0)
    spec = tmp_path / "spec.toml"
    spec.write_text('kind = "sensor"\n[pretrain]\nmethod = "none"\n')
    said = run("fit", spec, "--data", plain, "--faults", one, "--out", tmp_path / "b.anomaly", "--work", tmp_path / "w")
    flat = " ".join(said.split())
    assert "The 1 labelled fault changes nothing in the score: " in flat
    assert "one.csv, data rows 181 to 240: a single labelled fault cannot be learnt from and judged by at once" in flat


def test_stretches_that_leave_no_normal_row_are_told(plain: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole.csv"
    whole.write_text("from,to\n2026-01-01 00:00,2026-01-02 00:00\n")
    with pytest.raises(
        DataError, match=r"train.csv: no normal row is left: all are labelled as faults.*; the labels of faults are in .*whole.csv: "
    ):
        SensorLine(spec_of(faults=whole), plain).pretrain(tmp_path / "e.safetensors", silent)


def test_another_machines_labels_are_seen_in_its_own_units(plain: Path, tmp_path: Path) -> None:
    """A machine with ten times the gain gives the same evidence, so that its labels mean the same here."""
    found = []
    for gain in (1.0, 10.0):
        normals = record(tmp_path / f"n{gain}.csv", 1500, 3, gain=gain, labels=False)
        faults = record(tmp_path / f"f{gain}.csv", 960, 4, 1.0, gain)
        asked = {"normals": normals, "source_faults": faults, "faults": faults, "method": "tradaboost"}
        line = SensorLine(spec_of(**asked), plain)
        found.append(source_labels(line.readings, SensorExtractor(30).eval()))
    assert np.array_equal(found[0].y, found[1].y)
    assert found[1].x == pytest.approx(found[0].x, abs=0.02)
    about = line.pretrain(tmp_path / "e.safetensors", silent)
    assert {"adaboost", "tradaboost"} <= set(about["transfer"]["few_labels"])
    with pytest.raises(SpecError, match=r"source_faults needs the other machine's normal record"):
        SensorLine(spec_of(faults=faults, source_faults=faults), plain).pretrain(tmp_path / "x", silent)


@given(st.integers(0, 10_000), st.sampled_from([1, 2, 20]), st.floats(0.0, 1.0))
@settings(max_examples=8, deadline=None)
def test_a_vote_moves_no_threshold_however_it_is_shared_out(seed: int, run: int, top: float) -> None:
    """Votes for normals that come in runs move a threshold most: a run is one of few independent scores."""
    rng = np.random.default_rng(seed)
    alone = np.abs(rng.normal(size=400)) + 1
    share = top * np.repeat(rng.random(400 // run), run)
    floor, both = _floor(spec_of(), alone, share, np.ones(400, bool), 300)
    assert (both >= alone).all()
    assert (both > alone).mean() <= 0.015
    assert _threshold(spec_of(), both[:300]) <= 1.05 * _threshold(spec_of(), alone[:300]) + 1e-6
    assert 0.5 <= floor <= 0.95


def test_a_vote_made_with_other_normals_is_refused() -> None:
    held_out = np.arange(5.0)
    with pytest.raises(WeightsError, match=r"e.safetensors: its vote .* 4 normal windows, here are 5"):
        Voting({"held_out": np.zeros(4)}, held_out, "e.safetensors")  # type: ignore[dict-item]
    assert Voting({}, held_out, "e.safetensors").raised(held_out) is held_out
