"""What is seen of sensors, and the scorers of it: exact figures on known answers, and what they promise."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from anomaly.features.encoder import STD_FLOOR, SensorEncoder, SensorExtractor, fill_missing
from anomaly.features.preprocess import SensorPreprocess
from anomaly.scorers.build import fit_sensor_scorer, load_sensor_scorer
from anomaly.scorers.sensors.deviation import HORIZON, Deviation, _relation_trust, drift_inflation, fit_deviation
from anomaly.scorers.sensors.neighbour import fit_nearest_neighbour
from anomaly.scorers.sensors.quadratic import fit_gaussian, fit_pca, spe_limit
from anomaly.scorers.sensors.windows import RecoveryDamping, RecoveryDampingStream

ROWS, STEP = 12, 2
METHODS = ("deviation", "gaussian", "pca", "memory_bank")


def seen(z: torch.Tensor, known: torch.Tensor | None = None, encoder: SensorEncoder | None = None) -> list[torch.Tensor]:
    """Features of windows (N, C, T)."""
    with torch.inference_mode():
        extractor = SensorExtractor(ROWS, encoder).eval()
        return extractor(torch.stack([z, torch.ones_like(z) if known is None else known], dim=1).transpose(2, 3))


def learnt(channels: int) -> SensorEncoder:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return SensorEncoder(channels).eval()


def noise(count: int, sensors: int, seed: int = 0, rows: int = ROWS) -> torch.Tensor:
    return torch.randn(count, sensors, rows, generator=torch.Generator().manual_seed(seed))


def fitted(method: str, z: torch.Tensor) -> torch.nn.Module:
    return fit_sensor_scorer(method, seen(z), z.shape[1], np.arange(len(z)) * ROWS, ROWS, seed=0)  # type: ignore[arg-type]


# --- features ---


def test_level_and_spread_by_hand() -> None:
    z = noise(5, 3) + 40.0
    level, spread, known = seen(z)
    torch.testing.assert_close(level[:, :, 0], z[:, :, -ROWS // 3 :].mean(dim=2))
    torch.testing.assert_close(spread[:, :, 0], torch.log(z.std(dim=2, correction=0) + STD_FLOOR), rtol=1e-4, atol=1e-4)
    assert (known == 1).all()


def test_a_longer_window_is_seen_at_every_position_as_by_itself() -> None:
    z = noise(2, 3, rows=ROWS + 4 * STEP)
    encoder = learnt(2)
    for maps in (seen(z), seen(z, encoder=encoder)[:2]):
        for position in range(5):
            alone = seen(z[:, :, position * STEP : position * STEP + ROWS])
            for one, other in zip(maps[:2], alone[:2], strict=True):
                torch.testing.assert_close(one[:, :, position], other[:, :, 0], rtol=1e-4, atol=1e-5)


def test_only_known_readings_count() -> None:
    z, known = noise(4, 2), torch.ones(4, 2, ROWS)
    known[:, 0, ::2] = 0.0
    level, spread, share = seen(z * known, known)
    kept = z[:, 0, 1::2]
    torch.testing.assert_close(level[:, 0, 0], kept[:, -2:].mean(dim=1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(spread[:, 0, 0], torch.log(kept.std(dim=1, correction=0) + STD_FLOOR), rtol=1e-4, atol=1e-4)
    assert (share[:, 0] == 0.5).all()


@given(st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_no_nan_and_no_infinity_comes_out_of_preprocessing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    window = rng.normal(size=(3, 10, 4)).astype(np.float32)
    window[rng.random(window.shape) < 0.4] = np.nan
    window[0, :, 0] = np.nan
    window[1, 0, 1] = rng.choice([np.inf, -np.inf, 3e38])
    out = SensorPreprocess(torch.zeros(4), torch.ones(4))(torch.from_numpy(window))
    assert torch.isfinite(out).all()
    assert (out[0, :, :, 0] == 0).all()


def test_missing_readings_take_the_mean_of_the_others_and_are_marked() -> None:
    window = torch.tensor([[[1.0], [3.0], [float("nan")]]])
    out = SensorPreprocess(torch.zeros(1), torch.ones(1))(window)
    np.testing.assert_allclose(out[0, :, :, 0].numpy(), [[1.0, 3.0, 0.0], [1.0, 1.0, 0.0]])
    np.testing.assert_allclose(fill_missing(out)[0, 0].numpy(), [1.0, 3.0, 2.0])


# --- scorers ---


@pytest.mark.parametrize("method", METHODS)
def test_contributions_are_shares_of_the_score(method: str) -> None:
    z = noise(300, 4)
    score, share = fitted(method, z)(seen(noise(50, 4, seed=1)))
    np.testing.assert_allclose(share.sum(1).numpy(), score.numpy(), rtol=1e-4)
    assert float(share.min()) >= 0
    assert score.shape == (50,)


@pytest.mark.parametrize("method", METHODS)
def test_a_saved_scorer_is_the_same_again(method: str) -> None:
    scorer = fitted(method, noise(200, 3))
    again = load_sensor_scorer(method, {k: v.clone() for k, v in scorer.state_dict().items()})
    assert type(again) is type(scorer)
    torch.testing.assert_close(again(seen(noise(9, 3, 1)))[0], scorer(seen(noise(9, 3, 1)))[0])


def test_gaussian_equals_mahalanobis_by_hand() -> None:
    features = seen(noise(300, 4), encoder=learnt(3))
    scorer = fit_gaussian(features, 4)
    rows = torch.cat([m.reshape(300, 4, -1) for m in features[:-1]], dim=2).reshape(300, -1).double().numpy()
    matrix = scorer.root.double().numpy() @ scorer.root.double().numpy().T
    difference = rows - scorer.mean.double().reshape(-1).numpy()
    expected = np.sqrt(np.einsum("ni,ij,nj->n", difference, matrix, difference))
    score, _ = scorer(features)
    np.testing.assert_allclose(score.numpy(), expected, rtol=1e-3)
    assert float((score**2).mean()) == pytest.approx(1.0, rel=0.2)  # per degree of freedom


def test_pca_is_t2_and_spe_each_over_its_limit() -> None:
    generator = torch.Generator().manual_seed(0)
    z = torch.einsum("nkt,kc->nct", torch.randn(500, 2, ROWS, generator=generator), torch.randn(2, 6, generator=generator))
    features = seen(z + 0.1 * noise(500, 6, 3))
    rows = torch.cat(features[:-1], dim=2).reshape(500, -1).double().numpy()
    mean, spread = rows.mean(0), rows.std(0)
    standard = (rows - mean) / spread
    variances, vectors = np.linalg.eigh(np.cov(standard.T))
    variances, vectors = variances[::-1], vectors[:, ::-1]
    kept = int(np.searchsorted(np.cumsum(variances) / variances.sum(), 0.9)) + 1
    scores = standard @ vectors
    t2 = (scores[:, :kept] ** 2 / variances[:kept]).sum(1)
    spe = (scores[:, kept:] ** 2).sum(1)
    limit = kept * 499 * 501 / (500 * (500 - kept)) * stats.f.ppf(0.99, kept, 500 - kept)
    expected = np.sqrt(t2 / limit + spe / spe_limit(variances[kept:]))
    np.testing.assert_allclose(fit_pca(features, 6)(features)[0].numpy(), expected, rtol=2e-3)


def test_spe_limit_holds_for_gaussian_residuals() -> None:
    variances = np.array([0.5, 0.3, 0.1, 0.1])
    spe = (np.random.default_rng(0).normal(size=(200_000, 4)) ** 2 * variances).sum(1)
    assert float((spe > spe_limit(variances)).mean()) == pytest.approx(0.01, rel=0.25)  # the law is an approximation: 0.0082


def test_memory_bank_is_the_nearest_normal_window() -> None:
    z = noise(80, 3)
    scorer = fit_nearest_neighbour(seen(z), 3, torch.Generator().manual_seed(0))
    assert float(scorer(seen(z))[0].max()) < 1e-3
    values = torch.cat(seen(noise(5, 3, 1))[:2], dim=2)
    rows = ((values - scorer.center) / scorer.scale).reshape(5, -1)
    expected = torch.cdist(rows, scorer.bank).amin(dim=1) / 6**0.5
    torch.testing.assert_close(scorer(seen(noise(5, 3, 1)))[0], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("method", ["deviation", "gaussian", "pca"])
@given(order=st.permutations(range(5)), seed=st.integers(0, 100))
@settings(max_examples=8, deadline=None)
def test_permuting_sensors_permutes_contributions(method: str, order: list[int], seed: int) -> None:
    z = noise(200, 5, seed)
    score, share = fitted(method, z)(seen(z))
    score2, share2 = fitted(method, z[:, order])(seen(z[:, order]))
    np.testing.assert_allclose(score.numpy(), score2.numpy(), rtol=2e-3)
    np.testing.assert_allclose(share[:, order].numpy(), share2.numpy(), rtol=2e-2, atol=1e-3)


@given(seed=st.integers(0, 100), factor=st.floats(0.001, 1000), offset=st.floats(-100, 100))
@settings(max_examples=10, deadline=None)
def test_scaling_a_unit_changes_nothing(seed: int, factor: float, offset: float) -> None:
    raw = noise(200, 3, seed).transpose(1, 2).double()  # (N, T, C)

    def scores(values: torch.Tensor) -> np.ndarray:
        flat = values.reshape(-1, 3)
        center = flat.median(dim=0).values
        preprocess = SensorPreprocess(center, (flat - center).abs().median(dim=0).values * 1.4826)
        features = SensorExtractor(ROWS)(preprocess(values.float()))
        return fit_deviation(features, 3, np.arange(200) * ROWS, ROWS)(features)[0].numpy()

    changed = raw.clone()
    changed[:, :, 1] = changed[:, :, 1] * factor + offset * factor
    np.testing.assert_allclose(scores(changed), scores(raw), rtol=2e-2)


@pytest.mark.parametrize("method", METHODS)
def test_a_large_fault_on_one_sensor_is_laid_at_its_door(method: str) -> None:
    z = noise(400, 6, 2)
    z[:, 1] = 0.9 * z[:, 0] + 0.3 * z[:, 1]  # two that hang together
    scorer = fitted(method, z)
    for sensor in range(6):
        faulty = z[:20].clone()
        faulty[:, sensor] += 6.0
        _, share = scorer(seen(faulty))
        assert (share.argmax(1) == sensor).float().mean() >= 0.95


def test_a_sensor_without_readings_is_left_out_and_the_rest_is_scored() -> None:
    z = noise(300, 4)
    for method in METHODS:
        scorer = fitted(method, z)
        known = torch.ones(20, 4, ROWS)
        known[:, 2] = 0.0
        gone = z[:20].clone()
        gone[:, 2] = 0.0
        score, share = scorer(seen(gone, known))
        assert torch.isfinite(score).all()
        if isinstance(scorer, Deviation):
            assert (share[:, 2] == 0).all()
        gone[:, 0] += 8.0
        worse, share = scorer(seen(gone, known))
        assert (worse > 1.5 * score).all()
        assert (share.argmax(1) == 0).all()


# --- deviation ---


def test_a_fifth_of_faulty_windows_hardly_moves_the_fit() -> None:
    z = noise(400, 3)
    clean = fitted("deviation", z)
    z[:60, 0] += 25.0
    dirty = fitted("deviation", z)
    probe = noise(100, 3, 5)
    assert float(dirty(seen(probe))[0].mean()) == pytest.approx(float(clean(seen(probe))[0].mean()), rel=0.2)
    assert float(dirty(seen(z[:60]))[0].min()) > 3 * float(dirty(seen(probe))[0].max())


@pytest.mark.parametrize(
    ("series", "low", "high"),
    [
        (lambda rng: rng.normal(size=1000), 1.0, 1.1),
        (lambda rng: np.cumsum(rng.normal(size=1000)) / 15, HORIZON**0.3, HORIZON**0.75),
        (lambda rng: np.linspace(-1.5, 1.5, 1000) + 0.01 * rng.normal(size=1000), HORIZON**0.9, HORIZON),
    ],
    ids=["stationary", "random walk", "trend"],
)
def test_wandering_tells_noise_from_drift(series: Callable[[np.random.Generator], np.ndarray], low: float, high: float) -> None:
    found = [float(drift_inflation(series(np.random.default_rng(seed))[:, None], np.arange(1000), 10)[0]) for seed in range(20)]
    assert low <= np.mean(found) <= high


def test_wandering_leaves_out_pairs_across_a_gap_and_short_records() -> None:
    assert (drift_inflation(np.zeros((10, 2)), np.arange(10), 30) == 1).all()
    rng = np.random.default_rng(0)
    steps = np.concatenate([rng.normal(size=400), rng.normal(size=400) + 2.0])
    places = np.concatenate([np.arange(400), np.arange(400) + 10_000])
    assert float(drift_inflation(steps[:, None], places, 10)[0]) < float(drift_inflation(steps[:, None], np.arange(800), 10)[0])


@pytest.mark.parametrize(
    ("signs", "least", "most"), [((1, 1, 1), 0.8, 1.0), ((1, 1, -1), 0.0, 0.0), ((1, 1, 0), 0.0, 0.2)], ids=["lasts", "turns round", "ends"]
)
def test_what_sensors_tell_of_each_other_is_trusted_only_where_it_holds_in_every_block(
    signs: tuple[int, int, int], least: float, most: float
) -> None:
    rng = np.random.default_rng(3)
    common = rng.normal(size=900)
    level = np.stack([common, np.repeat(signs, 300) * common + 0.3 * rng.normal(size=900), rng.normal(size=900)], axis=1)
    trusted = _relation_trust(level, np.arange(900) * 10, 10)
    assert (trusted[:2] >= least).all()
    assert (trusted[:2] <= most).all()
    assert trusted[2] < 0.5
    assert (_relation_trust(level[:5], np.arange(5) * 10, 10) == 0).all()  # too few to see


def test_the_score_is_the_largest_deviation_shared_out_by_fourth_powers() -> None:
    eye, ones, none = torch.eye(2), torch.ones(2), torch.zeros(2)
    scorer = Deviation(torch.zeros(2, 2), torch.tensor([[1.0, 1.0], [1.0, 2.0]]), eye, none, 10 * ones)
    level, spread, known = torch.tensor([[3.0, -1.0]]), torch.tensor([[0.0, 4.0]]), torch.ones(1, 2)
    score, share = scorer([m.unsqueeze(2) for m in (level, spread, known)])
    assert float(score[0]) == pytest.approx(3.0)
    first, second = 3**4 + 0.3**4, 1 + 2**4 + 0.1**4
    assert share[0].tolist() == pytest.approx([3 * first / (first + second), 3 * second / (first + second)])


def test_faulty_windows_among_the_normals_do_not_bend_what_sensors_tell_of_each_other() -> None:
    common, own = noise(400, 1), noise(400, 2, 1)
    z = torch.cat([common + 0.2 * own, noise(400, 1, 2)], dim=1)
    dirty = z.clone()
    dirty[100:140, 0] += 6.0
    dirty[100:140, 1] -= 6.0
    clean, bent = (fitted("deviation", windows).mix for windows in (z, dirty))
    assert float(clean[1, 0]) < -0.6 * float(clean[0, 0])
    torch.testing.assert_close(bent, clean, rtol=0.05, atol=0.1)


# --- recovering ---


class Level(torch.nn.Module):
    """A scorer that answers the level of its first sensor."""

    def forward(self, features: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        return features[0][:, 0, 0].abs(), features[0][:, :, 0].abs()


def along(levels: list[float], whole: list[float]) -> tuple[float, float]:
    features = [torch.tensor([[levels]]), torch.zeros(1, 1, len(levels)), torch.tensor([[whole]])]
    score, share = RecoveryDamping(Level())(features)
    return float(score[0]), float(share[0, 0])


def test_a_score_that_comes_back_from_a_peak_is_lowered_and_never_raised() -> None:
    ones = [1.0] * 4
    assert along([1.0, 1.0, 1.0, 9.0], ones) == pytest.approx((9.0, 9.0))
    assert along([1.0, 20.0, 20.0, 11.0], ones) == pytest.approx((11.0, 11.0))  # still above half of the peak
    assert along([1.0, 20.0, 20.0, 5.0], ones) == pytest.approx((2.5, 2.5))  # 5 * 5 / 10
    assert along([1.0, 20.0, 1.0, 5.0], [1.0, 0.5, 1.0, 1.0]) == pytest.approx((5.0, 5.0))  # half of the peak's rows are missing
    assert along([5.0], [1.0]) == pytest.approx((5.0, 5.0))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(METHODS), st.sampled_from([0, 1, 5, 2 * STEP, 9 * STEP + 1]), st.sampled_from([9, 12]))
def test_all_rows_of_a_stretch_at_once_answer_as_each_window_alone(seed: int, method: str, context: int, rows: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    scorer = fit_sensor_scorer(
        method,  # type: ignore[arg-type]
        SensorExtractor(rows)(torch.stack([noise(60, 3, rows=rows), torch.ones(60, 3, rows)], dim=1).transpose(2, 3)),
        3,
        np.arange(60) * rows,
        rows,
        seed=0,
    )
    series = torch.randn(80, 3, generator=generator) * (1 + 6 * (torch.rand(80, 1, generator=generator) < 0.05))
    series[torch.rand(80, 3, generator=generator) < 0.1] = torch.nan
    series[30 : 30 + rows, 1] = torch.nan
    preprocess = SensorPreprocess(torch.zeros(3), torch.ones(3))
    windows = series.unfold(0, rows + context, 1).transpose(1, 2)  # (n, T, C)
    alone = RecoveryDamping(scorer)(SensorExtractor(rows)(preprocess(windows)))
    every = SensorExtractor(rows, every_row=True)
    stream = RecoveryDampingStream(scorer, context, every.step)
    *together, bare = stream(every(preprocess(series[None])), torch.zeros(context))
    for ours, theirs in zip(together, alone, strict=True):
        torch.testing.assert_close(ours[context:], theirs, rtol=1e-5, atol=1e-6)
    last = series[None, len(series) - rows :]
    for ours, theirs in zip(stream(every(preprocess(last)), bare[len(bare) - 1 - context : -1]), alone, strict=False):
        torch.testing.assert_close(ours, theirs[-1:], rtol=1e-5, atol=1e-6)  # the last row alone, told of those before
