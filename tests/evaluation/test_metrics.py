"""Figures of merit against their obvious twins and known answers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from anomaly.evaluation import metrics, ranges
from anomaly.evaluation.injected import Ranking, gain_interval
from anomaly.evaluation.vus import vus
from tests.reference import metrics as naive


@given(st.lists(st.tuples(st.booleans(), st.integers(-4, 4)), min_size=1, max_size=40))
@settings(max_examples=60, deadline=None)
def test_auroc_equals_scikit_learns_with_ties(drawn: list[tuple[bool, int]]) -> None:
    labels, scores = np.array([a for a, _ in drawn]), np.array([b / 3 for _, b in drawn])
    found = metrics.auroc(labels, scores)
    assert found is None if labels.all() or not labels.any() else found == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)


@given(st.lists(st.tuples(st.booleans(), st.integers(-5, 5)), min_size=2, max_size=40))
def test_average_precision_and_best_f1_equal_scikit_learns_with_ties(drawn: list[tuple[bool, int]]) -> None:
    labels, scores = np.array([d[0] for d in drawn]), np.array([d[1] for d in drawn], dtype=np.float64)
    if not labels.any() or labels.all():
        assert metrics.average_precision(labels, scores) is None
        assert metrics.best_f1(labels, scores) is None
        return
    assert metrics.average_precision(labels, scores) == pytest.approx(average_precision_score(labels, scores), abs=1e-12)
    precision, recall, _ = precision_recall_curve(labels, scores)
    assert metrics.best_f1(labels, scores) == pytest.approx(
        (2 * precision * recall / np.maximum(precision + recall, 1e-12)).max(), abs=1e-12
    )


def test_auroc_of_scores_that_are_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        metrics.auroc(np.array([True, False]), np.array([1.0, np.nan]))


@given(st.integers(0, 10_000), st.sampled_from([0.1, 0.3, 1.0]), st.booleans())
@settings(max_examples=30, deadline=None)
def test_aupro_equals_the_obvious_one(seed: int, limit: float, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    masks = [rng.random((7, 6)) < 0.2 for _ in range(3)] + [np.zeros((7, 6), bool)]
    masks[0][0, 0] = True
    maps = [rng.random((7, 6)).astype(np.float32) + m * 0.3 for m in masks]
    maps = [np.round(m, 1).astype(np.float32) if ties else m.astype(np.float32) for m in maps]
    assert metrics.aupro(masks, maps, limit) == pytest.approx(naive.aupro(masks, maps, limit), abs=1e-9)


def test_aupro_of_a_perfect_map_is_one() -> None:
    mask = np.zeros((8, 8), bool)
    mask[2:4, 2:4] = True
    assert metrics.aupro([mask], [mask.astype(np.float32)]) == pytest.approx(1.0)
    assert metrics.aupro([np.zeros((4, 4), bool)], [np.zeros((4, 4), np.float32)]) is None


@given(st.integers(0, 10_000))
@settings(max_examples=10, deadline=None)
def test_vus_equals_the_obvious_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.zeros(60, bool)
    labels[rng.integers(5, 20) : rng.integers(22, 30)] = True
    labels[rng.integers(40, 45) : rng.integers(46, 55)] = True
    scores = rng.normal(size=60) + labels
    assert vus(labels, scores, 8, 20) == pytest.approx(naive.vus(labels, scores, 8, 20), abs=1e-9)


def test_decisions_by_hand() -> None:
    labels = np.array([1, 1, 1, 0, 0, 0, 0], bool)
    flagged = np.array([1, 1, 0, 1, 0, 0, 0], bool)
    figures = metrics.decisions(labels, flagged)
    assert figures["precision"] == pytest.approx(2 / 3)
    assert figures["recall"] == pytest.approx(2 / 3)
    assert figures["f1"] == pytest.approx(2 / 3)
    assert figures["false_alarm_rate"] == pytest.approx(1 / 4)
    assert figures["missed_alarm_rate"] == pytest.approx(1 / 3)
    assert "precision" not in metrics.decisions(np.zeros(3, bool), np.zeros(3, bool))


def test_delay_and_false_alarms_by_hand() -> None:
    times = np.arange(10) * 60.0
    labels = np.array([0, 0, 1, 1, 1, 0, 0, 0, 1, 1], bool)
    flagged = np.array([1, 0, 0, 1, 1, 1, 0, 1, 0, 0], bool)
    assert metrics.detection_delay(times, labels, flagged) == (60.0, 1, 2)
    # two stretches of flags touch no fault, in 5 minutes of normal running
    assert metrics.false_alarms_per_day(times, labels, flagged, 60.0) == pytest.approx(2 / (5 / 1440))


def test_interval_covers_the_true_area() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(200) < 60
    covered = 0
    for _ in range(40):
        scores = rng.normal(size=200) + labels * 1.0
        groups = [np.array([i]) for i in range(200)]
        low, high = metrics.interval(lambda rows, s=scores: metrics.auroc(labels[rows], s[rows]), groups, rng, 100)
        covered += low <= 0.7602 <= high  # Phi(1 / sqrt 2)
    assert covered >= 33


def test_gain_is_paired() -> None:
    rng = np.random.default_rng(1)
    clean, faulty = rng.normal(size=60), rng.normal(size=(60, 2)) + 0.5
    same = Ranking(clean, faulty)
    assert gain_interval(same, same, rng) == (0.0, 0.0, 0.0)
    gain, low, _ = gain_interval(Ranking(clean, faulty + 2), same, rng)
    assert gain > low > 0


FAULTS = np.array([0] * 5 + [1] * 4 + [0] * 8 + [1] * 3 + [0] * 4, dtype=bool)
FLAGS = np.array([0] * 3 + [1] * 3 + [0] * 9 + [1] + [0] * 7 + [1], dtype=bool)


def test_affiliation_equals_the_authors_figures() -> None:
    """Computed with the authors' own package (Huet et al. 2022) on the same labels and flags."""
    assert ranges.affiliation(FAULTS, FLAGS) == pytest.approx((0.48251748251748244, 0.6937645687645688))
    one = FAULTS.copy()
    one[10:] = False
    assert ranges.affiliation(one, FLAGS) == pytest.approx((0.575, 0.90625))
    assert ranges.affiliation(FAULTS, np.zeros(24, bool)) == (None, 0.0)
    assert ranges.affiliation(np.zeros(24, bool), FLAGS) is None
    assert ranges.affiliation(FAULTS, FAULTS) == pytest.approx((1.0, 1.0))


@given(st.lists(st.booleans(), min_size=1, max_size=20), st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_affiliation_equals_the_obvious_one(faults: list[bool], seed: int) -> None:
    labels = np.array(faults)
    flagged = np.random.default_rng(seed).random(len(labels)) < 0.3
    ours, theirs = ranges.affiliation(labels, flagged), naive.affiliation(labels, flagged)
    assert (ours is None) == (theirs is None)
    if ours is not None and theirs is not None:
        assert (ours[0] is None) == (theirs[0] is None)
        assert [v or 0.0 for v in ours] == pytest.approx([v or 0.0 for v in theirs], abs=0.02)


def test_nab_score_equals_numentas() -> None:
    """Computed with NAB's own sweeper on the same detections and windows."""
    flagged = np.zeros(400, bool)
    flagged[[30, 70, 120, 125, 150, 390]] = True
    expected = {"standard": 39.68087896944433, "reward_low_fp": 32.655838249847186, "reward_low_fn": 43.120585979629546}
    for profile, value in expected.items():
        assert ranges.nab_score(flagged, [(100, 140), (200, 260)], profile) == pytest.approx(value, rel=1e-6)
    assert ranges.nab_score(np.zeros(400, bool), [(100, 140)]) == 0.0
    assert ranges.nab_score(flagged, [(10, 20)]) is None  # nothing but probation


def test_skab_change_points_equal_skabs_own() -> None:
    """Computed with SKAB's own chp_score, windows of 60 s to the right."""
    changes, flagged = np.zeros(400, bool), np.zeros(400, bool)
    changes[[100, 130, 300]] = True
    flagged[40:50] = flagged[110:140] = flagged[310:] = True
    for profile, value in {"standard": 60.26, "reward_low_fp": 56.32, "reward_low_fn": 62.4}.items():
        score, missed, false = ranges.skab_nab([(np.arange(400.0), changes, flagged)], profile)  # type: ignore[misc]
        assert (round(score, 2), missed, false) == (value, 1, 2)
    assert ranges.skab_nab([(np.arange(5.0), np.zeros(5, bool), np.zeros(5, bool))]) is None


def test_point_adjustment_inflates() -> None:
    adjusted = ranges.point_adjusted(FAULTS, FLAGS)
    assert adjusted["recall"] == pytest.approx(4 / 7)  # the first fault whole for one flag in it, the second not found
    assert adjusted["f1"] > metrics.decisions(FAULTS, FLAGS)["f1"]
    assert ranges.onsets(FLAGS).nonzero()[0].tolist() == [3, 15, 23]
