"""Parts of transfer on known answers: alignment, boosting, adversaries."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import AdaBoostClassifier
from sklearn.tree import DecisionTreeClassifier
from torch import nn

from anomaly.features.stages import NetworkStages, blocks_from_the_end
from anomaly.features.training.adapt_domains import adapt_domains, coral_loss, reestimate_batch_norm, reversal_strength, reverse_gradient
from anomaly.features.training.alignment import coral, covariance
from anomaly.features.training.pretrain_images import pretrain_images
from anomaly.scorers.boosted import add_vote, fit_adaboost, fit_tradaboost, pooled_features, vote_tensors, with_vote
from anomaly.spec import Pretrain


def correlated(rows: int, seed: int, width: int = 4) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(width, width, generator=generator)
    return torch.randn(rows, width, generator=generator) @ mix + 5 * torch.randn(width, generator=generator)


# --- alignment ---


@given(st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_coral_gives_the_source_the_targets_moments(seed: int) -> None:
    source, target = correlated(400, seed), correlated(300, seed + 1)
    moved = coral(source, target, ridge=1e-9)(source)
    assert torch.allclose(moved.mean(0), target.mean(0), atol=1e-3)
    assert torch.allclose(covariance(moved.double()), covariance(target.double()), rtol=1e-2, atol=1e-2)


def test_coral_with_a_strong_prior_moves_only_the_mean() -> None:
    source, target = correlated(400, 0), 3 * correlated(20, 1)
    moved = coral(source, target, prior=1e9)(source)
    assert torch.allclose(moved, source - source.mean(0) + target.mean(0), atol=1e-2)


# --- boosting ---


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


# --- networks ---


def test_the_adversarys_gradient_comes_back_reversed() -> None:
    x = torch.ones(3, requires_grad=True)
    (reverse_gradient(x, 0.5) * torch.tensor([1.0, 2.0, 3.0])).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [-0.5, -1.0, -1.5]
    assert reversal_strength(0) == 0
    assert reversal_strength(1) == pytest.approx(0.9999, abs=1e-3)


def test_coral_loss_is_zero_for_the_same_rows_and_sees_mean_and_spread() -> None:
    rows = correlated(200, 0)
    assert float(coral_loss(rows, rows)) == pytest.approx(0, abs=1e-6)
    assert float(coral_loss(rows, rows + 1)) == pytest.approx(1, rel=1e-4)  # D of ones over D
    assert float(coral_loss(rows, 2 * rows - rows.mean(0))) > 0.1


def test_batch_norm_takes_the_statistics_of_what_it_is_shown() -> None:
    network = nn.Sequential()
    network.add_module("conv", nn.Conv2d(3, 4, 1))
    network.add_module("bn", nn.BatchNorm2d(4))
    stages = NetworkStages(network, ["bn"]).eval()
    batches = [torch.randn(8, 3, 5, 5, generator=torch.Generator().manual_seed(i)) * 3 + 1 for i in range(2)]
    seen = torch.cat([stages.body.conv(b) for b in batches]).transpose(0, 1).flatten(1)
    reestimate_batch_norm(stages, batches)  # 16 pictures, and what was there counts as 16: half way
    assert stages.body.bn.running_mean.tolist() == pytest.approx((seen.mean(1) / 2).tolist(), abs=0.05)
    assert stages.body.bn.running_var.tolist() == pytest.approx(((seen.var(1) + 1) / 2).tolist(), rel=0.05)
    assert not stages.training
    assert torch.equal(stages(batches[0])[0], stages(batches[0])[0])


def test_depth_counts_blocks_from_the_end_and_only_they_are_trained() -> None:
    network = nn.Sequential()
    for name in ("stem", "middle", "last"):
        network.add_module(name, nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)))
    stages = NetworkStages(network, ["last"]).eval().requires_grad_(False)
    blocks = blocks_from_the_end(stages)
    assert [len(block) for block in blocks] == [4, 4, 4]
    before = {name: p.clone() for name, p in stages.named_parameters()}
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randn(16, 3, 8, 8, generator=generator)
    ratings = iter([0.1, 0.2, 0.3])
    adapted = pretrain_images(
        stages, lambda i: pictures[list(i)], 16, Pretrain(epochs=1, batch=8, depth=1), generator, lambda _: next(ratings)
    )  # fmt: skip
    assert adapted.best > adapted.before
    moved = {name.split(".")[1] for name, p in stages.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {"last"}
    assert not any(p.requires_grad for p in stages.parameters())


def test_a_domain_is_drawn_to_the_other_while_the_source_holds() -> None:
    def network() -> NetworkStages:
        torch.manual_seed(3)
        layers = nn.Sequential()
        layers.add_module("stem", nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU()))
        layers.add_module("last", nn.Sequential(nn.Conv2d(8, 4, 3, padding=1)))
        return NetworkStages(layers, ["last"]).eval().requires_grad_(False)

    generator = torch.Generator().manual_seed(0)
    source, target = torch.randn(32, 3, 8, 8, generator=generator), 1.5 + 0.5 * torch.randn(32, 3, 8, 8, generator=generator)
    for method in ("deep-coral", "dann"):
        adapted, before = network(), network()
        seen: list[tuple[float, float]] = []
        adapt_domains(
            adapted, before, lambda i: source[list(i)], lambda i: target[list(i)], (32, 32), method,  # type: ignore[arg-type]
            Pretrain(epochs=60, batch=16, depth="all", max_minutes=1), generator, lambda _, held, apart: seen.append((held, apart)),
        )  # fmt: skip

        def apart(stages: NetworkStages) -> float:
            a, b = (stages(x)[0].transpose(0, 1).flatten(1).T.detach() for x in (source, target))
            return float(coral_loss(a, b))

        if method == "deep-coral":  # an adversary has no loss that must fall
            assert apart(adapted) < 0.9 * apart(before)
        assert apart(adapted) != apart(before)
        assert seen[-1][0] < 0.2, method  # of the source's features, in squared spreads
        assert not any(p.requires_grad for p in adapted.parameters())
