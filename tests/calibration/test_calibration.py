"""p-values keep their promise."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import lfilter
from scipy.stats import genpareto

from anomaly.calibration.budget import p_threshold, score_threshold, too_coarse, too_short
from anomaly.calibration.conformal import fit_calibrator
from anomaly.calibration.dependence import effective_size, extremal_index, independent_scores
from anomaly.calibration.tail import fit_tail
from anomaly.errors import DataError, SpecError
from anomaly.export.lower import lower
from anomaly.export.writer import GraphWriter
from anomaly.spec import Budget, Pretrain, SensorSpec
from benchmarks.protocols.processes import PROCESSES
from benchmarks.sensor.calibration import one
from tests.reference import calibration as naive


def p_values(calibrator, scores) -> np.ndarray:
    return calibrator(torch.tensor(np.asarray(scores), dtype=torch.float32)).numpy()


def test_by_hand() -> None:
    calibrator = fit_calibrator(np.arange(1.0, 10.0), 9)
    np.testing.assert_allclose(p_values(calibrator, [0.5, 1.0, 2.5, 5.0]), [1.0, 1.0, 8 / 10, 6 / 10], rtol=1e-6)
    assert 1 / 10 < p_values(calibrator, [8.5])[0] < 3 / 10  # above the fifth: the tail


@given(st.lists(st.sampled_from([0.0, 1.0, 1.5, 2.0, 3.0]), min_size=8, max_size=300), st.sampled_from([-1.0, 0.0, 1.0, 1.2, 2.0, 2.9]))
def test_every_calibration_score_at_or_above_counts(scores: list[float], score: float) -> None:
    calibrator = fit_calibrator(np.array(scores), effective=len(scores))
    if score <= float(calibrator.tail[0]):  # above it is the tail that answers
        above = sum(one >= score for one in scores)
        assert float(calibrator(torch.tensor([score]))[0]) == pytest.approx((1 + above) / (1 + len(scores)), rel=1e-5)


@given(st.integers(0, 10_000), st.integers(8, 300))
@settings(max_examples=40, deadline=None)
def test_never_rising_never_nought_continuous_into_the_tail(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    held_out = rng.gamma(3.0, size=n)
    calibrator = fit_calibrator(held_out, n)
    grid = np.linspace(0, held_out.max() * 5, 500)
    p = p_values(calibrator, grid)
    assert (np.diff(p) <= 1e-7).all()
    assert p.min() > 0
    assert p.max() <= 1
    start = calibrator.tail[0].numpy()
    just_above = p_values(calibrator, [start * (1 + 1e-6)])[0]
    assert just_above == pytest.approx((1 + (held_out.astype(np.float32) > start).sum()) / (n + 1), rel=1e-2)


@pytest.mark.parametrize("a", [0.02, 0.1, 0.3])
def test_fires_at_most_at_the_rate_promised(a: float) -> None:
    rng = np.random.default_rng(5)
    fired = [float((p_values(fit_calibrator(rng.gamma(2.0, size=99), 99), rng.gamma(2.0, size=50)) <= a).mean()) for _ in range(150)]
    assert np.mean(fired) <= 1.05 * a + 3 * np.std(fired) / 150**0.5


@pytest.mark.parametrize(("draw", "n", "a"), [("normal", 245, 0.01), ("standard_t", 245, 0.01), ("gumbel", 60, 0.02)])
def test_what_was_asked_comes_on_average_over_draws_and_one_odd_normal_costs_little(draw: str, n: int, a: float) -> None:
    rng = np.random.default_rng(6)
    scores = {"standard_t": lambda size: rng.standard_t(5, size)}.get(draw, lambda size: getattr(rng, draw)(size=size))
    fresh = np.sort(scores(200_000))[50::100]
    clean, odd = [], []
    for _ in range(40):
        held_out = scores(n)
        for rates, learnt in ((clean, held_out), (odd, np.append(held_out[1:], fresh[-1] * 2))):
            rates.append(float((p_values(fit_calibrator(learnt, n), fresh) <= a).mean()) / a)
    assert 0.5 < np.mean(clean) < 1.35
    assert np.mean(odd) > 0.4 * np.mean(clean)  # by counts alone none would come with up to 2 / a normals


@given(st.integers(0, 10_000), st.sampled_from([8, 60, 400]), st.floats(0.01, 100.0), st.floats(-50.0, 50.0))
@settings(max_examples=20, deadline=None)
def test_the_law_does_not_depend_on_the_scores_units(seed: int, n: int, factor: float, shift: float) -> None:
    held_out = np.sort(np.random.default_rng(seed).gumbel(size=n))
    one, other = fit_tail(held_out, n), fit_tail(np.sort(held_out * factor + shift), n)
    assert (other.shape, other.power, other.beyond) == pytest.approx((one.shape, one.power, one.beyond), rel=1e-5)
    assert (other.scale, other.start) == pytest.approx((one.scale * factor, one.start * factor + shift), rel=1e-5, abs=1e-6)


def test_the_tail_extrapolates_within_a_factor() -> None:
    rng = np.random.default_rng(6)
    calibrator = fit_calibrator(rng.exponential(size=2000), 2000)
    far = -np.log(1e-5)  # true p of an exponential
    assert 1e-6 < p_values(calibrator, [far])[0] < 2e-4  # held to the safe side by the shape's floor


@given(st.integers(0, 10_000), st.sampled_from([8, 60, 500]), st.sampled_from([0.0, 0.3, 1.5]))
@settings(max_examples=15, deadline=None)
def test_p_values_equal_those_by_counting_and_scipys_tail(seed: int, n: int, shape: float) -> None:
    rng = np.random.default_rng(seed)
    held_out = genpareto(shape, scale=2.0).rvs(n, random_state=rng) if shape else rng.normal(size=n)
    effective = float(rng.uniform(1, n))
    calibrator = fit_calibrator(held_out, effective)
    largest = held_out.max()
    above = max(0.1, 1e-4 * abs(largest))  # scores are float32
    scores = [*rng.uniform(held_out.min() - 1, largest, size=20), largest + above, largest + 50 * above, 3 * abs(largest) + 50]
    expected = np.maximum(naive.conformal_p_values(held_out, effective, scores), 1e-30)  # as small as float32 is told in
    np.testing.assert_allclose(p_values(calibrator, scores), expected, rtol=2e-4)


@given(st.integers(0, 10_000), st.sampled_from([8, 60, 500]), st.sampled_from([0.0, 0.3, 1.5]))
@settings(max_examples=30, deadline=None)
def test_p_values_in_time_equal_those_by_counting_and_scipys_tail(seed: int, n: int, shape: float) -> None:
    rng = np.random.default_rng(seed)
    held_out = genpareto(shape, scale=2.0).rvs(n, random_state=rng)
    effective = float(rng.uniform(1, n))
    scores = [*rng.uniform(0, held_out.max(), size=20), 2 * held_out.max(), 50 * held_out.max()]
    expected = [naive.p_value_in_time(held_out, effective, score) for score in scores]
    np.testing.assert_allclose(p_values(fit_calibrator(held_out, effective, in_time=True), scores), expected, rtol=2e-3)


@given(st.integers(0, 10_000), st.sampled_from([9, 200, 6000]), st.booleans(), st.floats(0.01, 1.0))
@settings(max_examples=40, deadline=None)
def test_in_time_never_rising_never_nought_and_ties_stay_ties(seed: int, n: int, whole: bool, worth: float) -> None:
    """Whole scores are tied; a graph may compute a tie a rounding error too high."""
    held_out = np.random.default_rng(seed).gamma(3.0, size=n)
    held_out = np.round(held_out) if whole else held_out
    calibrator = fit_calibrator(held_out, max(1.0, worth * n), in_time=True)
    grid = np.sort(np.concatenate([np.linspace(0, held_out.max() * 5 + 1, 300), held_out]))
    p = p_values(calibrator, grid)
    assert (np.diff(p) <= 1e-7).all()
    assert 0 < p.min() <= p.max() <= 1
    tied = np.unique(np.round(held_out)) if whole else held_out[:0]
    np.testing.assert_allclose(p_values(calibrator, np.float32(tied) * np.float32(1 + 2e-7)), p_values(calibrator, tied), rtol=1e-3)


def test_in_time_counts_end_where_three_independent_scores_lie_above() -> None:
    calibrator = fit_calibrator(np.arange(1000.0), 100, in_time=True)
    assert p_values(calibrator, [900.0, 970.0]).tolist() == pytest.approx([(1 + 10) / 101, (1 + 3) / 101])
    assert calibrator.counted == pytest.approx((1 + 2.9) / 101)
    assert p_values(calibrator, [999.0])[0] > 0.005  # one independent score in a hundred lies about there, and not one in a thousand


@given(st.integers(0, 10_000), st.lists(st.integers(1, 60), min_size=1, max_size=4), st.floats(-0.9, 0.99))
@settings(max_examples=60, deadline=None)
def test_effective_size_equals_the_obvious_one(seed: int, lengths: list[int], memory: float) -> None:
    noise = np.random.default_rng(seed)
    parts = [lfilter([1.0], [1.0, -memory], noise.normal(size=n)) for n in lengths]
    assert effective_size(*parts) == pytest.approx(naive.effective_size(parts), rel=1e-6)


@given(st.lists(st.sampled_from([0.0, 1.0, 2.0, 3.0]) | st.floats(0, 10), min_size=1, max_size=200), st.integers(0, 30))
def test_extremal_index_equals_the_obvious_one(scores: list[float], apart: int) -> None:
    assert extremal_index(np.array(scores), apart) == pytest.approx(naive.extremal_index(np.array(scores), apart))


def test_autocorrelation_costs_resolution() -> None:
    rng = np.random.default_rng(7)
    noise, series = rng.normal(size=20_000), np.zeros(20_000)
    for i in range(1, len(series)):
        series[i] = 0.9 * series[i - 1] + noise[i]
    assert effective_size(series) == pytest.approx(20_000 * 0.1 / 1.9, rel=0.15)  # (1 - r) / (1 + r)
    assert effective_size(noise) > 15_000
    assert p_values(fit_calibrator(series[:1000], 50.0), [series[:1000].max() * 0.999])[0] > 0.5 / 51


def test_series_at_different_levels_are_worth_little_more_than_their_number() -> None:
    noise = np.random.default_rng(8).normal(size=(4, 1000))
    assert effective_size(*noise) > 3000
    assert effective_size(*(noise + 20 * np.arange(4)[:, None])) < 12


@pytest.mark.parametrize(("memory", "rows"), [(0.8, 2000), (0.95, 1000), (0.98, 3000)])
def test_the_promise_holds_on_scores_that_follow_each_other_and_is_used_up(memory: float, rows: int) -> None:
    rng = np.random.default_rng(9)
    flagged = []
    for noise in rng.normal(size=(100, 2 * rows)):
        score = np.square(lfilter([np.sqrt(1 - memory**2)], [1, -memory], noise))
        calibrator = fit_calibrator(score[:rows], independent_scores([score[:rows]]), in_time=True)
        p = p_values(calibrator, score[rows::5])
        flagged.append([np.mean(p <= asked) / asked for asked in (0.05, 0.01)])
    came = np.mean(flagged, axis=0)
    assert (came > 0.75).all(), came
    assert (came < 1.35).all(), came


@pytest.mark.parametrize("in_time", [False, True])
@pytest.mark.parametrize("draw", ["uniform", "normal", "standard_cauchy"])  # tails lighter than exponential, about as heavy, heavier
def test_the_graph_answers_as_pytorch_does(draw: str, in_time: bool) -> None:
    rng = np.random.default_rng(9)
    held_out = rng.standard_cauchy(200) if draw == "standard_cauchy" else getattr(rng, draw)(size=200)
    calibrator = fit_calibrator(held_out, 150, in_time=in_time)
    write = GraphWriter()
    [answer] = lower(calibrator, write, write.input("score", np.float32, ["n"]))
    write.output(answer, "p", np.float32, ["n"])
    scores = np.concatenate([np.linspace(held_out.min() - 1, held_out.max() * 3, 500), held_out]).astype(np.float32)
    session = ort.InferenceSession(write.content(), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"score": scores})[0], p_values(calibrator, scores), rtol=1e-5)


def test_threshold_in_score_units_is_where_p_crosses() -> None:
    calibrator = fit_calibrator(np.random.default_rng(8).gamma(2.0, size=500), 500)
    for p in (0.3, 0.05, 0.0005):
        cut = score_threshold(calibrator, p)
        assert p_values(calibrator, [cut * 1.0001])[0] <= p < p_values(calibrator, [cut * 0.9999])[0] + 1e-9


def test_budget() -> None:
    assert p_threshold(Budget(false_alarm_rate=0.02), None) == 0.02
    assert p_threshold(Budget(false_alarms_per_day=2, records_per_day=1000), None) == 0.002
    assert p_threshold(Budget(false_alarms_per_day=2), 200) == 0.01
    with pytest.raises(SpecError, match="records_per_day"):
        p_threshold(Budget(false_alarms_per_day=2), None)


def test_too_little_or_broken_data_is_refused() -> None:
    with pytest.raises(DataError, match="at least 8"):
        fit_calibrator(np.arange(5.0), 5)
    with pytest.raises(DataError):
        fit_calibrator(np.append(np.arange(20.0), np.nan), 20)


def test_tail_of_equal_scores_is_still_a_law() -> None:
    assert fit_tail(np.full(50, 2.0), 50).scale > 0
    held = fit_tail(np.repeat([1.0, 2.0], [49, 1]), 50)  # one score stands above equal ones
    assert (held.beyond, held.scale > 0) == (0.02, True)


def test_bursts_of_high_scores_count_once() -> None:
    noise = np.random.default_rng(0).normal(size=20_000)
    assert extremal_index(noise, 0) > 0.95
    assert extremal_index(np.repeat(noise[:2000], 10), 10) == pytest.approx(0.1, rel=0.4)
    assert extremal_index(np.ones(50), 5) == 1.0


def test_a_record_too_short_for_the_rate_is_told_with_numbers() -> None:
    assert too_short(0.001, 40, "6 h") == (
        "6 h learnt count as 40 independent records: few for one in 1,000, so the rate may be off by several times; "
        "25 times as much data would settle it"
    )
    assert too_short(0.01, 99, "120 normals") is None


def test_scores_of_few_values_are_told_where_the_rate_lies_between_two_of_them() -> None:
    two_valued = np.repeat([1.0, 2.0], [980, 20])
    said = "the scores of normals take few values: 2% of them are the largest, and a rate of 1% cannot be had"
    assert too_coarse(fit_calibrator(two_valued, 100, in_time=True), 0.01) == said
    assert too_coarse(fit_calibrator(two_valued, 100, in_time=True), 0.02) is None
    assert too_coarse(fit_calibrator(np.arange(1000.0), 100, in_time=True), 0.01) is None


def test_what_was_asked_comes_on_fresh_data_of_the_same_process() -> None:
    """The parts of a pattern with two levels scale their features otherwise than the whole: by their own scores nothing was flagged."""
    spec = SensorSpec(kind="sensor", pretrain=Pretrain(method="none"))
    process = PROCESSES["weekly pattern, 6 weeks"]._replace(row_s=1.0)  # at a row a second the days are not told from the clock
    flagged = [one(spec, process, seed, fresh=3000)["0.01"] for seed in range(4)]
    assert 0.002 < np.mean(flagged) < 0.02


def test_the_threshold_of_scores_below_zero_is_found_beyond_all_of_them() -> None:
    """Few normals and a small rate: the threshold lies above the largest score, which is far below zero."""
    calibrator = fit_calibrator(np.random.default_rng(0).normal(-8.0, 1.0, 40), effective=40)
    cut = score_threshold(calibrator, 1e-4)
    assert cut > float(calibrator.scores[-1])
    assert float(calibrator(torch.tensor([cut]))) <= 1e-4 < float(calibrator(torch.tensor([cut - 0.01])))
