"""The sample data that is shipped: made by the generator, and hard enough to be worth looking at."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.lib.stride_tricks import sliding_window_view

from anomaly.data.samples.press import PRESS_FAULTS, PRESS_SENSORS
from anomaly.data.samples.synthetic import write_samples


def test_shipped_samples_are_what_the_generator_makes(tmp_path: Path) -> None:
    write_samples(tmp_path)
    shipped = Path("data_samples")
    made = sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*") if p.is_file())
    assert made == sorted(p.relative_to(shipped) for p in shipped.rglob("*") if p.is_file() and p.suffix in (".jpg", ".png", ".csv"))
    assert sum((shipped / p).stat().st_size for p in made) < 3_000_000
    for name in ("plant/train.csv", "plant/test.csv"):
        pd.testing.assert_frame_equal(pd.read_csv(tmp_path / name), pd.read_csv(shipped / name), rtol=1e-6)
    for name in ("press/train.csv", "press/test.csv"):  # made without a function that rounds in another way elsewhere
        assert (tmp_path / name).read_bytes() == (shipped / name).read_bytes()


def test_a_trivial_threshold_fails_on_the_sample_plant() -> None:
    """The faults hide inside the load changes: an alarm on the largest deviation, set on normals, misses most of them."""
    train, test = (pd.read_csv(f"data_samples/plant/{name}.csv") for name in ("train", "test"))
    sensors = list(train.columns[1:])
    seen, new = (((d[sensors] - train[sensors].mean()) / train[sensors].std()).abs().max(axis=1).fillna(0) for d in (train, test))
    flagged = new > seen.quantile(0.99)
    assert flagged[test["anomaly"] == 1].mean() < 0.3
    by_kind = flagged.groupby(test["fault_kind"]).mean()
    assert (by_kind > 0.5).sum() <= 1  # of five faults


def test_faults_of_the_sample_press_are_seen_in_a_strokes_shape_alone() -> None:
    """At 1 % of false alarms a value, or mean and spread over a stroke, find few faulty rows; the nearest normal stretch finds most."""
    train, test = (pd.read_csv(f"data_samples/press/{name}.csv", skiprows=[1]) for name in ("train", "test"))
    sensors, rows = list(PRESS_SENSORS), 50  # a stroke and its pause
    z, new = (((d[sensors].ffill() - train[sensors].mean()) / train[sensors].std()).to_numpy() for d in (train, test))
    seen, met = (sliding_window_view(values, rows, axis=0) for values in (z, new))  # (n, C, rows)
    label = test["anomaly"].to_numpy() > 0
    faulty, calm = label[rows - 1 :], ~sliding_window_view(label, rows).any(axis=1)

    def share_found(score: np.ndarray) -> float:
        return float((score > np.quantile(score[calm], 0.99))[faulty].mean())

    def deviation(look: Callable[..., np.ndarray]) -> np.ndarray:
        own = look(seen, axis=2)
        return np.abs((look(met, axis=2) - own.mean(axis=0)) / own.std(axis=0)).max(axis=1)

    assert share_found(np.abs(new[rows - 1 :]).max(axis=1)) < 0.1
    assert share_found(deviation(np.mean)) < 0.1
    assert share_found(deviation(np.std)) < 0.25
    bank, shape = ((w - w.mean(axis=2, keepdims=True)).reshape(len(w), -1) for w in (seen[::3], met))
    distance = np.square(shape).sum(axis=1) + (np.square(bank).sum(axis=1)[:, None] - 2 * bank @ shape.T).min(axis=0)
    assert share_found(distance) > 0.7
    kinds = test["fault_kind"].to_numpy()[rows - 1 :]
    assert all(distance[kinds == kind].max() > distance[calm].max() for kind in PRESS_FAULTS)
