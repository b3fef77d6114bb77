"""AdaBoost, TrAdaBoost and the vote beside a scorer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.ensemble import AdaBoostClassifier
from sklearn.tree import DecisionTreeClassifier
from torch import nn

from anomaly.scorers.boosted import add_vote, fit_adaboost, fit_tradaboost, pooled_features, vote_tensors, with_vote


def toy(rows: int, seed: int, flip: float = 0.0, shift: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 6))
    y = (x[:, 0] + x[:, 1] > shift).astype(np.int64)
    return x, np.where(rng.random(rows) < flip, 1 - y, y)


def test_adaboost_is_scikit_learns() -> None:
    x, y = toy(200, 0)
    weights = np.ones(200) / 200
    ours = fit_tradaboost(np.empty((0, 6)), np.empty(0, np.int64), x, y, 20, balanced=False)
    theirs = AdaBoostClassifier(DecisionTreeClassifier(max_depth=1, random_state=0), n_estimators=20, random_state=0).fit(x, y, weights)
    fresh, _ = toy(500, 1)
    assert np.array_equal(ours.share(fresh) >= 0.5, theirs.predict(fresh) == 1)
    assert np.allclose(ours.weights, theirs.estimator_weights_)


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
        alone, fits, rubbish = (float(((vote.share(fresh) >= 0.5) == fresh_y).mean()) for vote in votes)
        gains.append((fits - alone, rubbish - alone))
    fits_gain, rubbish_gain = np.mean(gains, axis=0)
    assert fits_gain > 0.01
    assert rubbish_gain < fits_gain


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
