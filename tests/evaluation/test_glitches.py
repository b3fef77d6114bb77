"""A glitch never hides a fault: one wild row before, in or after a fault of another sensor."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from anomaly.bundle.archive import Bundle, read_bundle
from anomaly.edge.runtime.session import Session, open_session
from anomaly.edge.scoring.tables import score_table_file
from anomaly.pipeline.kinds import open_line
from anomaly.pipeline.steps import Steps
from anomaly.spec import read_spec

WINDOW, ONSET, OVER = 30, 300, 450
SPEC = '[pretrain]\nmethod = "none"\n[budget]\nfalse_alarm_rate = 0.01\n'


def readings(rows: int, seed: int, cycle: float = 0.0) -> pd.DataFrame:
    """Noise, with a cycle of 40 rows that is so many times as high."""
    values = np.random.default_rng(seed).normal(size=(rows, 4)) * [1, 2, 0.5, 3] + [20, 50, 5, 100]
    values += cycle * np.sin(2 * np.pi * np.arange(rows)[:, None] / 40 + np.arange(4)) * [1, 2, 0.5, 3]
    frame = pd.DataFrame(values, columns=["s1", "s2", "s3", "s4"])
    frame.insert(0, "time", pd.date_range("2026-03-01", periods=rows, freq="s", tz="UTC"))
    return frame


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return fitted(tmp_path_factory.mktemp("glitches"), readings(1500, 1))


def fitted(root: Path, normals: pd.DataFrame) -> Bundle:
    (root / "spec.toml").write_text(f'kind = "sensor"\nname = "g"\n{SPEC}')
    (root / "data").mkdir()
    normals.to_csv(root / "data" / "train.csv", index=False)
    return read_bundle(Steps(open_line(read_spec(root / "spec.toml"), root / "data"), root / "work").export())


@pytest.fixture(scope="module")
def session(bundle: Bundle) -> Session:
    return open_session(bundle, "cpu")


@pytest.fixture(scope="module")
def without(bundle: Bundle, session: Session, tmp_path_factory: pytest.TempPathFactory) -> set[int]:
    """Rows flagged where there is no glitch."""
    return flagged(bundle, session, tmp_path_factory.mktemp("without") / "a.csv", None)[0]


def flagged(
    bundle: Bundle, session: Session, path: Path, glitch: tuple[str, int, float] | None, cycle: float = 0.0
) -> tuple[set[int], dict[int, str]]:
    """(rows flagged, sensor named first in each row), of a table in which s3 is 4 spreads too high from 300 to 449."""
    frame = readings(700, 2, cycle)
    frame.loc[ONSET : OVER - 1, "s3"] += 2.0
    if glitch is not None:
        sensor, row, value = glitch
        frame.loc[row, sensor] = value
    frame.to_csv(path, index=False)
    scored = score_table_file(session.run, bundle.manifest.input, path)
    rows = np.arange(700 - len(scored), 700)
    wrong = (scored["p_value"] <= bundle.manifest.threshold.p_value).to_numpy()
    return set(rows[wrong].tolist()), dict(zip(rows.tolist(), scored["top_sensor"], strict=True))


@pytest.mark.parametrize("value", [65535.0, -127.0])
@pytest.mark.parametrize("row", [200, 280, 295, 310, 375, 440, 460, 600], ids=lambda row: f"row {row}")
@pytest.mark.parametrize("sensor", ["s1", "s2", "s3", "s4"])
def test_a_glitch_takes_nothing_from_a_fault(
    bundle: Bundle, session: Session, without: set[int], tmp_path: Path, sensor: str, row: int, value: float
) -> None:
    found, named = flagged(bundle, session, tmp_path / "b.csv", (sensor, row, value))
    assert len(without & set(range(ONSET, OVER))) >= 145
    seen = set(range(row, row + WINDOW))  # rows whose window holds the glitch
    assert found - seen == without - seen
    assert {r for r in found & seen if r < OVER} >= {r for r in without & seen if r < OVER}
    assert all(named[r] == "s3" for r in found - seen if ONSET + 5 <= r < OVER)
    assert all(named[r] == sensor for r in seen)


def test_a_glitch_takes_nothing_from_a_fault_where_the_shape_is_judged_too(tmp_path: Path) -> None:
    bundle = fitted(tmp_path, readings(1500, 1, cycle=4.0))
    assert bundle.manifest.provenance["fit"]["views"]["shape"]
    session, window = open_session(bundle, "cpu"), bundle.manifest.input.window
    assert window
    without, _ = flagged(bundle, session, tmp_path / "a.csv", None, cycle=4.0)
    assert len(without & set(range(ONSET, OVER))) >= 100
    for sensor, row, value in itertools.product(("s1", "s3"), (280, 375, 440), (65535.0, -127.0)):
        found, named = flagged(bundle, session, tmp_path / "b.csv", (sensor, row, value), cycle=4.0)
        seen = set(range(row, row + window))
        assert found - seen == without - seen
        assert found & seen >= without & seen
        assert all(named[r] == sensor for r in seen)


def test_a_fit_leaves_what_each_sensor_does_in_the_normals_in_the_bundle(bundle: Bundle) -> None:
    values = readings(1500, 1).drop(columns="time").to_numpy(np.float32)
    middle = np.median(np.lib.stride_tricks.sliding_window_view(values, 3, axis=0), axis=2)
    known = [(s.still_rows, s.normal_low, s.normal_high) for s in bundle.manifest.input.sensors]
    assert known == [(1, float(low), float(high)) for low, high in zip(middle.min(axis=0), middle.max(axis=0), strict=True)]
