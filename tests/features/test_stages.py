"""Folding batch normalisation."""

from __future__ import annotations

import pytest
import torch

from anomaly.features.backbones import load_backbone
from anomaly.features.stages import fold_batch_norm


@pytest.mark.parametrize(
    ("name", "stages"), [("efficientnet_lite0", ("blocks.4", "blocks.5")), ("untrained:resnet18", ("layer2", "layer3"))]
)
def test_folded_batch_norm_answers_the_same_and_leaves_the_network_alone(name: str, stages: tuple[str, ...]) -> None:
    network, _ = load_backbone(name, stages)
    generator = torch.Generator().manual_seed(0)
    norms = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for norm in norms:  # other statistics than the network came with
        norm.running_mean += 0.1 * torch.randn(norm.running_mean.shape, generator=generator)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    x = torch.randn(2, 3, 64, 96, generator=generator)
    quick = fold_batch_norm(network)
    for ours, theirs in zip(quick(x), network(x), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4 * float(theirs.abs().max()))
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in quick.modules())
    assert fold_batch_norm(quick) is quick
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
