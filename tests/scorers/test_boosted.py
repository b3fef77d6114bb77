"""AdaBoost, TrAdaBoost and the vote beside a scorer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import AdaBoostClassifier
from sklearn.tree import DecisionTreeClassifier
from torch import nn

from anomaly.scorers.boosted import (
    Splits,
    Vote,
    add_vote,
    fit_adaboost,
    fit_tradaboost,
    held_out_shares,
    pooled_features,
    stratified_folds,
    vote_tensors,
    with_vote,
)
from tests.reference import boosting as naive


def toy(rows: int, seed: int, flip: float = 0.0, shift: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 6))
    y = (x[:, 0] + x[:, 1] > shift).astype(np.int64)
    return x, np.where(rng.random(rows) < flip, 1 - y, y)


NO_SOURCE = (np.empty((0, 6)), np.empty(0, np.int64))


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_adaboost_is_scikit_learns_samme_of_stumps(balanced: bool, seed: int) -> None:
    x, y = toy(200, seed, flip=0.1, shift=1.0)  # about a quarter of faults
    weights = np.where(y == 1, 1 / y.sum(), 1 / (1 - y).sum()) / 2 if balanced else np.ones(200) / 200
    ours = fit_tradaboost(*NO_SOURCE, x, y, 20, balanced=balanced)
    theirs = AdaBoostClassifier(DecisionTreeClassifier(max_depth=1, random_state=0), n_estimators=20, random_state=0).fit(x, y, weights)
    fresh, _ = toy(500, 100 + seed)
    assert np.allclose(ours.weights, theirs.estimator_weights_)
    assert np.array_equal(ours.share(fresh) >= 0.5, theirs.predict(fresh) == 1)


@given(st.integers(0, 10_000), st.integers(2, 30), st.integers(1, 4), st.integers(1, 6))
@settings(max_examples=60, deadline=None)
def test_a_stump_is_as_pure_as_scikit_learns(seed: int, rows: int, width: int, values: int) -> None:
    """With few different values many splits are equally good, so the impurity is compared and not the stump."""
    rng = np.random.default_rng(seed)
    x, y, weights = rng.integers(values, size=(rows, width)).astype(float), rng.integers(2, size=rows), rng.uniform(0.1, 1, rows)
    tree = DecisionTreeClassifier(max_depth=1, random_state=0).fit(x, y, sample_weight=weights)
    stump = Splits(x, y).best(weights)

    def impurity(low: np.ndarray) -> float:
        sides = [(weights[side].sum(), (weights * y)[side].sum()) for side in (low, ~low) if side.any()]
        return float(sum(2 * faulty * (whole - faulty) / whole for whole, faulty in sides))

    theirs = tree.apply(x) == 1 if tree.tree_.node_count > 1 else np.ones(rows, bool)
    ours = x[:, stump.feature] <= stump.threshold if stump.value[0] != stump.value[1] or len(np.unique(x)) > 1 else np.ones(rows, bool)
    if len(np.unique(y)) > 1:
        assert impurity(ours) == pytest.approx(impurity(theirs))
    assert (weights * (stump(x) != y)).sum() == pytest.approx((weights * (tree.predict(x) != y)).sum())


def test_tradaboost_without_source_rows_is_adaboost() -> None:
    x, y = toy(60, 3, flip=0.1, shift=1.0)
    assert fit_tradaboost(*NO_SOURCE, x, y, 20) == fit_adaboost(x, y, 20)
    assert len(fit_adaboost(x, y, 20).stumps) == 20  # all rounds vote, not only the second half


# The same examples each time: all rows weigh alike at first, and of two splits equally good rounding takes one (in 2 of 100 examples).
@given(st.integers(0, 10_000), st.integers(2, 9))
@settings(max_examples=10, deadline=None, derandomize=True)
def test_tradaboost_is_the_papers(seed: int, rounds: int) -> None:
    source, target = toy(30, seed, flip=0.2), toy(12, seed + 1, flip=0.1)
    fresh, _ = toy(100, seed + 2)
    share = fit_tradaboost(*source, *target, rounds, balanced=False).share(fresh)
    clear = np.abs(share - 0.5) > 1e-9  # a tie falls by rounding
    expected = np.array(naive.tradaboost(*source, *target, rounds, fresh))
    assert np.array_equal((share >= 0.5)[clear], expected[clear] == 1)


def test_cross_validated_shares_never_see_the_row_itself() -> None:
    x, y = toy(40, 5)
    fitted_on: list[np.ndarray] = []

    def fit(kept: np.ndarray) -> Vote:
        fitted_on.append(kept)
        return fit_adaboost(x[kept], y[kept], 5)

    folds = stratified_folds(y, 4, np.random.default_rng(0))
    learnt = np.arange(40) != 7
    shares = held_out_shares(fit, x, folds, learnt)
    for fold, kept in enumerate(fitted_on):
        held = np.flatnonzero(folds == fold)
        assert kept.tolist() == [i for i in range(40) if i not in held and i != 7]
        assert np.array_equal(shares[held], fit_adaboost(x[kept], y[kept], 5).share(x[held]))
        assert abs(int(y[held].sum()) - y.sum() / 4) <= 1  # both labels in proportion


def test_tradaboost_gains_from_a_source_that_fits_more_than_from_one_of_random_labels() -> None:
    fresh, fresh_y = toy(2000, 4)
    gains = []
    for seed in range(10):
        target, target_y = toy(12, 100 + seed)
        votes = [
            fit_adaboost(target, target_y),
            fit_tradaboost(*toy(400, 200 + seed), target, target_y),
            fit_tradaboost(*toy(400, 300 + seed, flip=0.5), target, target_y),
        ]
        alone, fits, random = (float(((vote.share(fresh) >= 0.5) == fresh_y).mean()) for vote in votes)
        gains.append((fits - alone, random - alone))
    fits_gain, random_gain = np.mean(gains, axis=0)
    assert fits_gain > 0.01
    assert random_gain < fits_gain


def test_tradaboost_takes_weight_from_source_records_that_are_wrong() -> None:
    """A source whose labels are all inverted says the opposite; the target must win."""
    target, target_y = toy(40, 7)
    source, source_y = toy(60, 8)
    share = fit_tradaboost(source, 1 - source_y, target, target_y, rounds=60).share(target)
    assert ((share >= 0.5) == target_y).mean() > 0.8


class Plain(nn.Module):
    def forward(self, features: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        return features[0].mean(dim=(1, 2, 3)), features[0][:, 0]


def test_a_vote_raises_scores_as_arrays_say_and_never_lowers_them() -> None:
    generator = torch.Generator().manual_seed(0)
    features = [torch.randn(50, 3, 4, 4, generator=generator), torch.randn(50, 2, 2, 2, generator=generator)]
    x = pooled_features(features).double().numpy()
    assert x.shape == (50, 10)
    y = (x[:, 1] > 0).astype(np.int64)
    vote = fit_adaboost(x, y, 5)
    boosted = with_vote(Plain(), vote_tensors(vote), 0.3)
    score, detail = boosted(features)
    plain, same = Plain()(features)
    assert torch.equal(detail, same)
    assert (score >= plain).all()
    assert (score > plain).any()
    assert score.numpy() == pytest.approx(add_vote(plain.double().numpy(), vote.share(x), float(boosted.step)), abs=1e-5)
