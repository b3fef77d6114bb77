"""Stages and banks of a network that a spec names without them."""

from __future__ import annotations

from typing import Any

import pytest

from anomaly.errors import WeightsError
from anomaly.features.backbones import default_banks, default_stages, load_backbone
from anomaly.features.backbones.defaults import default_step, stage_channels, with_default_stages
from anomaly.spec import CameraSpec


def spec(**extractor: Any) -> CameraSpec:
    return CameraSpec.model_validate({"kind": "camera", "extractor": extractor})


@pytest.mark.parametrize(
    ("name", "stages"),
    [
        ("wide_resnet50_2", ("layer2", "layer3", "layer4")),
        ("untrained:resnet18", ("layer2", "layer3", "layer4")),
        ("mobilenet_v3_small", ("features.3", "features.8", "features.12")),  # torchvision's, which says nothing of its stages
        ("vit_large_patch14_reg4_dinov2", ("blocks.11", "blocks.17", "blocks.23")),
        ("oriented_filters", ("mean", "peak")),
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


def test_a_network_without_stages_or_banks_is_a_whole_spec() -> None:
    found = with_default_stages(spec(backbone="wide_resnet50_2", weights="w.pth"))
    assert found.extractor.stages == ("layer2", "layer3", "layer4")
    assert {bank.stage for bank in found.scorer.banks} == set(found.extractor.stages)
    assert CameraSpec.model_validate(found.model_dump()) == found
    gaussians = [bank.stage for bank in default_banks("resnet18", ("layer2", "layer4")) if bank.model == "gaussian"]
    assert gaussians == ["layer2"]  # 512 channels would need 512 x 512 numbers a place


def test_a_size_that_nobody_told_fits_the_patches_and_one_that_was_told_stays() -> None:
    assert with_default_stages(spec(backbone="vit_small_patch14_dinov2")).input.size == (252, 252)
    told = CameraSpec.model_validate({"kind": "camera", "input": {"size": 256}, "extractor": {"backbone": "vit_small_patch14_dinov2"}})
    assert with_default_stages(told).input.size == (256, 256)  # refused when the network is opened
    assert [default_step(name) for name in ("efficientnet_lite0", "untrained:resnet18", "oriented_filters")] == [32, 32, 128]


def test_the_packaged_network_and_what_a_spec_names_stay_as_they_are() -> None:
    assert with_default_stages(spec()) == spec()
    named = CameraSpec.model_validate(
        {
            "kind": "camera",
            "extractor": {"backbone": "resnet18", "stages": ["layer1"]},
            "scorer": {"banks": [{"stage": "layer1", "metric": "raw"}]},
        }
    )
    assert with_default_stages(named) == named


def test_a_network_that_cannot_be_looked_at_says_what_to_do() -> None:
    with pytest.raises(WeightsError, match=r"takes no pictures of 256 pixels .* name them: \[extractor\] stages"):
        default_stages("vit_b_16")
    with pytest.raises(WeightsError, match="neither packaged"):
        default_stages("resnet1800")
