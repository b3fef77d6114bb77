"""AdaBN, Deep CORAL and DANN."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from anomaly.features.backbones.convolutional import NetworkStages
from anomaly.features.training.adapt_domains import adapt_domains, coral_loss, reestimate_batch_norm, reversal_strength, reverse_gradient
from anomaly.spec import Pretrain
from tests.features.training.test_alignment import correlated


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
