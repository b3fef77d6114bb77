"""Stages of a network that a spec names without them."""

from __future__ import annotations

import pytest

from anomaly.errors import WeightsError
from anomaly.features.backbones import default_stages, load_backbone
from anomaly.features.backbones.defaults import stage_channels


@pytest.mark.parametrize(
    ("name", "stages"),
    [
        ("wide_resnet50_2", ("layer2", "layer3", "layer4")),
        ("untrained:resnet18", ("layer2", "layer3", "layer4")),
        ("mobilenet_v3_small", ("features.3", "features.8", "features.12")),  # torchvision's, which says nothing of its stages
        ("vit_large_patch14_reg4_dinov2", ("blocks.11", "blocks.17", "blocks.23")),
        ("oriented_filters", ("mean", "peak")),
        ("efficientnet_lite0", ("blocks.2", "blocks.4", "blocks.5")),
    ],
)
def test_default_stages(name: str, stages: tuple[str, ...]) -> None:
    assert default_stages(name) == stages


def test_default_stages_and_channels_are_those_of_the_network_that_is_loaded() -> None:
    import torch

    for name in ("untrained:resnet18", "untrained:vit_tiny_patch16_224"):
        extractor, _ = load_backbone(name, default_stages(name))
        maps = extractor(torch.zeros(1, 3, 64, 64))
        assert tuple(one.shape[1] for one in maps) == stage_channels(name, default_stages(name))


def test_a_network_that_cannot_be_looked_at_says_what_to_do() -> None:
    with pytest.raises(WeightsError, match=r"takes no pictures of 256 pixels .* name them: \[extractor\] stages"):
        default_stages("vit_b_16")
    with pytest.raises(WeightsError, match="neither packaged"):
        default_stages("resnet1800")
