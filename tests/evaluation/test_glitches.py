"""A glitch never hides a fault: one wild row before, in or after a fault of another sensor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from anomaly.bundle.archive import Bundle, read_bundle
from anomaly.edge.runtime.session import Session, open_session
from anomaly.pipeline.kinds import open_line
from anomaly.pipeline.sensor.bundle import score_file
from anomaly.pipeline.steps import Steps
from anomaly.spec import read_spec

WINDOW, ONSET, OVER = 30, 300, 450
SPEC = '[pretrain]\nmethod = "none"\n[budget]\nfalse_alarm_rate = 0.01\n'


def readings(rows: int, seed: int) -> pd.DataFrame:
    values = np.random.default_rng(seed).normal(size=(rows, 4)) * [1, 2, 0.5, 3] + [20, 50, 5, 100]
    frame = pd.DataFrame(values, columns=["s1", "s2", "s3", "s4"])
    frame.insert(0, "time", pd.date_range("2026-03-01", periods=rows, freq="s", tz="UTC"))
    return frame


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    root = tmp_path_factory.mktemp("glitches")
    (root / "spec.toml").write_text(f'kind = "sensor"\nname = "g"\n{SPEC}')
    (root / "data").mkdir()
    readings(1500, 1).to_csv(root / "data" / "train.csv", index=False)
    return read_bundle(Steps(open_line(read_spec(root / "spec.toml"), root / "data"), root / "work").export())


@pytest.fixture(scope="module")
def session(bundle: Bundle) -> Session:
    return open_session(bundle, "cpu")


@pytest.fixture(scope="module")
def without(bundle: Bundle, session: Session, tmp_path_factory: pytest.TempPathFactory) -> set[int]:
    """Rows flagged where there is no glitch."""
    return flagged(bundle, session, tmp_path_factory.mktemp("without") / "a.csv", None)[0]


def flagged(bundle: Bundle, session: Session, path: Path, glitch: tuple[str, int, float] | None) -> tuple[set[int], dict[int, str]]:
    """(rows flagged, sensor named first in each row), of a table in which s3 is 4 spreads too high from 300 to 449."""
    frame = readings(700, 2)
    frame.loc[ONSET : OVER - 1, "s3"] += 2.0
    if glitch is not None:
        sensor, row, value = glitch
        frame.loc[row, sensor] = value
    frame.to_csv(path, index=False)
    scored = score_file(bundle, session, path)
    rows = np.arange(WINDOW - 1, 700)
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


def test_a_fit_leaves_what_each_sensor_does_in_the_normals_in_the_bundle(bundle: Bundle) -> None:
    values = readings(1500, 1).drop(columns="time").to_numpy(np.float32)
    middle = np.median(np.lib.stride_tricks.sliding_window_view(values, 3, axis=0), axis=2)
    known = [(s.still_rows, s.normal_low, s.normal_high) for s in bundle.manifest.input.sensors]
    assert known == [(1, float(low), float(high)) for low, high in zip(middle.min(axis=0), middle.max(axis=0), strict=True)]
