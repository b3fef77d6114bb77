"""Dense VICReg."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from anomaly.features.backbones.convolutional import NetworkStages
from anomaly.features.stages import blocks_from_the_end
from anomaly.features.training.pretrain_images import augment, pretrain_images, vicreg_loss
from anomaly.spec import Pretrain


def test_vicreg_by_hand() -> None:
    x = torch.tensor([[2.0, 0.0], [-2.0, 0.0], [0.0, 2.0], [0.0, -2.0]])
    assert float(vicreg_loss(x, x)) == pytest.approx(0.0, abs=1e-6)  # agrees, spread wide enough, uncorrelated
    assert float(vicreg_loss(torch.zeros(4, 2), torch.zeros(4, 2))) == pytest.approx(25 * 0.99, rel=1e-3)  # collapsed


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


@pytest.mark.parametrize("size", [(32, 32), (40, 16), (16, 40)])
def test_a_view_keeps_the_shape_of_long_pictures_and_its_light_runs_both_ways(size: tuple[int, int]) -> None:
    x = torch.ones(64, 3, *size)
    view = augment(x, torch.Generator().manual_seed(0))
    assert view.shape == x.shape
    across, down = view.mean(dim=(1, 2)).std(dim=1), view.mean(dim=(1, 3)).std(dim=1)  # of the light along either side
    assert float(across.mean()) > 0.02
    assert float(down.mean()) > 0.02
