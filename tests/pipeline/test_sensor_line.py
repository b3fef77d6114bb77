"""A line of sensors: its readings, the parts of them it may know, and what its spec may ask for."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from anomaly.data.samples.synthetic import plant
from anomaly.data.tables.faults import KINDS, SHAPES
from anomaly.evaluation.injected import share_found
from anomaly.pipeline.sensor.held_out import held_out_scores
from anomaly.pipeline.sensor.line import SensorLine
from anomaly.pipeline.sensor.record import pseudo_runs
from anomaly.pipeline.sensor.transfer import own_encoder
from anomaly.spec import Pretrain, SensorInput, SensorSpec, Transfer
from tests.conftest import Fitted


@pytest.fixture
def two_tables(tmp_path: Path) -> Path:
    root = tmp_path / "line"
    root.mkdir()
    for index, rows in enumerate((120, 90)):
        frame = plant(rows, np.random.default_rng(index)).drop(columns=["anomaly", "fault_kind"])
        frame.to_csv(root / f"train{index}.csv", index=False)
    return root


def test_a_subset_counts_rows_over_all_tables(two_tables: Path) -> None:
    line = SensorLine(SensorSpec(kind="sensor"), two_tables)
    whole = line.readings.values
    part = line.subset(100, 60, Transfer())
    assert [int(table.usable.sum()) for table in part.readings.tables] == [20, 40]
    np.testing.assert_array_equal(part.readings.values, whole[100:160])
    np.testing.assert_array_equal(line.readings.values, whole)  # the line itself still knows all
    assert part.readings.spec is part.spec


def test_windows_that_follow_each_other_are_moved_on_by_one_row(two_tables: Path) -> None:
    readings = SensorLine(SensorSpec(kind="sensor"), two_tables).readings
    windows = readings.successive_windows(50)
    assert len(windows) == 50
    np.testing.assert_array_equal(windows[1:, -2], windows[:-1, -1])
    first = pd.read_csv(readings.paths[0]).iloc[:, 1:].to_numpy(np.float32)
    np.testing.assert_allclose(windows[:, -1], first[readings.window - 1 :][:50], rtol=1e-6)


def test_pseudo_runs_lie_apart_and_leave_rows_to_lend(two_tables: Path) -> None:
    tables = SensorLine(SensorSpec(kind="sensor"), two_tables).readings.tables
    runs = pseudo_runs(tables, 20, 4, lent=False)
    assert runs
    for index, table in enumerate(tables):
        parts = [part for of, part in runs if of == index]
        assert all(a.stop <= b.start for a, b in itertools.pairwise(parts))
        assert all(part.stop <= len(table.times) for part in parts)
    assert pseudo_runs(tables, 80, 4, lent=True) == []  # 210 rows less twice 80 are fewer than 80: nothing would be left to lend


def test_made_up_faults_are_counted_by_their_kind_where_there_is_one(tmp_path: Path) -> None:
    """Noise has no shape to lose, and a constant sensor can neither be stuck nor mirrored."""
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(2000, 3)), columns=["a", "b", "c"])
    frame["constant"] = 5.0
    frame.insert(0, "time", pd.date_range("2026-01-01", periods=len(frame), freq="1s"))
    frame.to_csv(tmp_path / "train.csv", index=False)
    line = SensorLine(SensorSpec(kind="sensor", pretrain=Pretrain(method="none")), tmp_path)
    extractor = line.readings.extractor()
    normals = line.readings.normals
    held_out = held_out_scores(line.spec, normals, extractor, normals.features(extractor))
    found = share_found(held_out.faulty_scores(), float(np.quantile(held_out.scores, 0.99)))
    assert list(found) == [*KINDS, *SHAPES]
    assert all(found[kind] < 0.1 for kind in SHAPES)
    assert found["step"] > 0.5
    assert found["stuck"] > 0.75  # of three sensors that move; counted over four it would be less
    counts = {kind: len(scores) for kind, scores in held_out.faulty.items()}
    assert sum(counts[kind] for kind in KINDS) < held_out.ranking.faulty.size
    assert all(counts[kind] < 0.95 * held_out.ranking.faulty.size / len(SHAPES) for kind in SHAPES)


def encoder_verdict(folder: Path, readings: np.ndarray, *, full: bool = False) -> dict[str, Any]:
    """What comes of trying an encoder on a machine's readings (n, C)."""
    frame = pd.DataFrame(readings, columns=[f"s{i}" for i in range(readings.shape[1])])
    frame.insert(0, "time", pd.date_range("2026-01-01", periods=len(frame), freq="1s"))
    frame.to_csv(folder / "train.csv", index=False)
    spec = SensorSpec(kind="sensor", input=SensorInput(window=24), pretrain=Pretrain(epochs=1, batch=64))
    encoder, about = own_encoder(SensorLine(spec, folder).readings, full=full)
    verdict: dict[str, Any] = about["adaptation"]
    assert (encoder is not None) == verdict["kept"]
    return verdict


def test_an_encoder_is_not_tried_where_there_is_no_shape(tmp_path: Path) -> None:
    verdict = encoder_verdict(tmp_path, np.random.default_rng(0).normal(size=(900, 2)))
    assert verdict == {"kept": False, "why": "there is no shape in these readings for an encoder to see"}


def test_an_encoder_is_kept_where_made_up_faults_of_shape_rank_better_with_it(tmp_path: Path) -> None:
    """A slow and noisy cycle: single readings say little, and how many of them lie so much."""
    rng, at = np.random.default_rng(0), 2 * np.pi * np.arange(1500) / 150
    noisy = np.stack([np.sin(at), np.cos(at)], axis=1) + rng.normal(0, 0.15, (1500, 2))
    verdict = encoder_verdict(tmp_path, noisy)
    assert verdict["kept"] is True
    assert verdict["gain"] > 0
    whole = encoder_verdict(tmp_path, noisy, full=True)
    assert "over the kernels as they were" in whole.pop("trained")["why"]
    assert whole["gain"] == verdict["gain"]


def test_an_alarm_opens_when_a_sixth_of_a_window_is_flagged(sensor: Fitted) -> None:
    """A spec that is silent: faults much shorter than a window are alarms too."""
    line = sensor.steps.line
    assert line.readings.plan.level == 30
    assert tuple(line.delays())[:2] == (4 * line.readings.tables[0].period_s, 90 * line.readings.tables[0].period_s)
