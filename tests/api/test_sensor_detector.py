"""The sensors' scorers as a scikit-learn outlier detector: its conventions, and that the scores are those of `anomaly.fit`."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, TimeSeriesSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import anomaly
from anomaly import SensorDetector
from anomaly.spec import SensorSpec

pytestmark = pytest.mark.filterwarnings("ignore:.*too few for windows")


@parametrize_with_checks([SensorDetector()])
def test_conventions_of_scikit_learn(estimator: SensorDetector, check) -> None:
    check(estimator)


def correlated(rows: int, seed: int, sensors: int = 3) -> np.ndarray:
    """Normal rows that are not independent: what one row is, the next is by four fifths."""
    rng = np.random.default_rng(seed)
    noise, series = rng.normal(size=(rows, sensors)), np.zeros((rows, sensors))
    for row in range(1, rows):
        series[row] = 0.8 * series[row - 1] + noise[row]
    return series


def test_scores_are_those_of_fit(samples: Path) -> None:
    frame = pd.read_csv(samples / "plant" / "train.csv", parse_dates=["time"]).head(900).set_index("time")
    whole = anomaly.fit(frame, spec=SensorSpec.model_validate({"kind": "sensor", "input": {"window": 30}}), budget=0.02)
    mine = SensorDetector(window=30, budget=0.02).fit(frame)
    scores = whole.score(frame)
    np.testing.assert_allclose(-mine.score_samples(frame)[29:], scores["score"][29:], rtol=2e-3, atol=1e-3)
    assert -mine.offset_ == pytest.approx(whole.threshold.score, rel=0.01)
    assert list(mine.feature_names_in_) == whole.sensors


def test_a_fault_is_flagged_and_the_budget_holds() -> None:
    detector = SensorDetector(budget=0.02).fit(correlated(2000, 0))
    new = correlated(4000, 1)
    assert (detector.predict(new) == -1).mean() < 0.04
    new[1000:1100, 2] += 8.0
    assert (detector.predict(new)[1030:1100] == -1).all()
    assert (detector.decision_function(new) < 0).tolist() == (detector.predict(new) == -1).tolist()


def test_missing_readings_large_levels_and_lists() -> None:
    """A missing reading is no outlier; a level of a billion does not hide a change of one."""
    normal = correlated(1000, 2)
    plain = SensorDetector().fit(normal)
    holes = normal.copy()
    holes[np.random.default_rng(0).random(holes.shape) < 0.05] = np.nan
    assert (SensorDetector().fit(holes).predict(holes) == -1).mean() < 0.02
    assert (plain.predict(holes) == -1).mean() < 0.03
    high = SensorDetector().fit(normal + 1e9)
    np.testing.assert_allclose(high.score_samples(normal + 1e9), plain.score_samples(normal), rtol=1e-4, atol=1e-5)
    assert (plain.score_samples(normal.tolist()) == plain.score_samples(normal)).all()


def test_in_a_pipeline_and_a_grid_search() -> None:
    rows = correlated(1500, 3)
    truth = np.ones(len(rows), int)
    for start in (700, 1000, 1300):
        rows[start : start + 60, 0] += 6.0
        truth[start : start + 60] = -1
    flow = make_pipeline(StandardScaler(), SensorDetector(budget=0.05))
    search = GridSearchCV(flow, {"sensordetector__window": [6, 30]}, scoring="roc_auc", cv=TimeSeriesSplit(3, test_size=300))
    search.fit(rows, truth)
    assert search.best_score_ > 0.8
    again = pickle.loads(pickle.dumps(search.best_estimator_))
    assert (again.score_samples(rows) == search.best_estimator_.score_samples(rows)).all()
    assert clone(again).get_params()["sensordetector__budget"] == 0.05


def test_few_rows_are_judged_each_by_itself_and_it_is_said() -> None:
    rows = np.random.default_rng(4).normal(size=(30, 2))
    with pytest.warns(UserWarning, match="30 rows are too few for windows"):
        detector = SensorDetector().fit(rows)
    assert detector.window_ == 1
    assert detector.predict([[0.0, 9.0], [0.0, 0.0]]).tolist() == [-1, 1]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert SensorDetector().fit(np.random.default_rng(4).normal(size=(150, 2))).window_ == 6


@pytest.mark.parametrize(
    ("settings", "rows", "words"),
    [
        ({"window": 30}, np.zeros((60, 2)) + np.arange(60)[:, None], "at least 102 are needed"),
        ({"window": 7}, np.ones((500, 2)), "multiple of 3"),
        ({"budget": 0.9}, np.ones((500, 2)), "less than 0.5"),
        ({}, np.full((100, 2), [1.0, np.nan]), r"no readings in columns \['1'\]"),
        ({}, np.array([[np.inf, 1.0]] * 100), "infinity"),
        ({}, np.ones((5, 2)), "minimum of 8 is required"),
    ],
)
def test_what_cannot_be_learnt_from_is_a_value_error(settings: dict[str, object], rows: np.ndarray, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        SensorDetector(**settings).fit(rows)


def test_fewer_rows_than_a_window_are_refused() -> None:
    detector = SensorDetector(window=12).fit(correlated(400, 5))
    with pytest.raises(ValueError, match="X has 11 rows, a window 12"):
        detector.predict(correlated(11, 6))
    assert detector.predict(correlated(12, 6)).shape == (12,)


@settings(max_examples=10)
@given(st.integers(8, 250), st.integers(1, 3), st.integers(0, 2**31))
def test_any_number_of_rows_can_be_learnt_from(rows: int, sensors: int, seed: int) -> None:
    """Every row gets a finite score, the same by another name: twice the same fit, and any unit of measure."""
    values = np.random.default_rng(seed).normal(size=(rows, sensors))
    first, second = SensorDetector().fit(values), SensorDetector().fit(1000 * values)
    scores = first.score_samples(values)
    assert np.isfinite(scores).all()
    assert (SensorDetector().fit(values).score_samples(values) == scores).all()
    np.testing.assert_allclose(second.score_samples(1000 * values), scores, rtol=1e-3, atol=1e-4)
