"""Vision transformers cut open at blocks, on random weights."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from torch import Tensor

from anomaly.errors import WeightsError
from anomaly.features.backbones import load_backbone
from anomaly.features.preprocess import ImagePreprocess, merge_gray_channels
from anomaly.features.stages import blocks_from_the_end, size_step
from anomaly.features.training.pretrain_images import pretrain_briefly
from anomaly.spec import Pretrain

PLAIN = "untrained:vit_tiny_patch16_224"
REGISTERS = "untrained:vit_small_patch14_reg4_dinov2"  # of DINOv2: patches of 14 pixels, four registers
ROTARY = "untrained:vit_tiny_patch16_dinov3_qkvb"  # of DINOv3: rotary positions, four registers


def pictures(*size: int) -> Tensor:
    return torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("name", "patch", "width"), [(PLAIN, 16, 192), (REGISTERS, 14, 384), (ROTARY, 16, 192)])
def test_a_stage_is_the_patch_tokens_after_its_block_in_the_order_asked_for(name: str, patch: int, width: int) -> None:
    extractor, _ = load_backbone(name, ["blocks.1", "blocks.0"])
    later, earlier = extractor(pictures(3 * patch, 5 * patch))
    assert later.shape == earlier.shape == (2, width, 3, 5)
    alone, _ = load_backbone(name, ["blocks.0"])
    torch.testing.assert_close(alone(pictures(3 * patch, 5 * patch))[0], earlier)
    assert not torch.equal(later, earlier)
    torch.testing.assert_close(earlier.mean(dim=1), torch.zeros(2, 3, 5), atol=1e-4, rtol=0)  # through the last normalisation
    assert size_step(extractor) == patch
    assert not any(key.startswith("body.blocks.2.") or "head" in key for key in extractor.state_dict())


def test_prefix_tokens_are_left_out_and_places_lie_as_in_the_picture() -> None:
    """With attention and positions switched off, a place answers to its own patch alone."""
    for name in (PLAIN, REGISTERS, ROTARY):
        extractor, _ = load_backbone(name, ["blocks.0"])
        body = cast("Any", extractor).body
        torch.nn.init.zeros_(body.blocks[0].attn.proj.weight)
        patch = size_step(extractor)
        before = pictures(3 * patch, 4 * patch)[:1]
        after = before.clone()
        after[:, :, patch : 2 * patch, 2 * patch : 3 * patch] += 1.0
        moved = (extractor(after)[0] - extractor(before)[0]).abs().amax(dim=1)[0] > 1e-5
        assert moved.nonzero().tolist() == [[1, 2]]


def test_learnt_positions_are_stretched_over_the_picture() -> None:
    """A ramp of positions from left to right stays one at another size and shape, and the pretraining size is left as it is."""
    extractor, _ = load_backbone(PLAIN, ["blocks.0"])
    body = cast("Any", extractor).body
    ramp = torch.linspace(-1, 1, 14)[None, :, None].expand(14, 14, 192).reshape(1, 196, 192)
    body.pos_embed.copy_(torch.cat([torch.zeros(1, 1, 192), ramp], dim=1))
    seen: list[Tensor] = []
    body.blocks[0].register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0][:, 1:]))
    for high, wide in ((14, 14), (8, 24)):
        extractor(torch.zeros(1, 3, 16 * high, 16 * wide))
        bias = body.patch_embed.proj.bias
        found = (seen.pop()[0] - bias).reshape(high, wide, 192)
        torch.testing.assert_close(found, torch.broadcast_to(found[:1, :, :1], found.shape), atol=1e-5, rtol=0)
        assert (found[0, 1:, 0] > found[0, :-1, 0]).all()
        assert (float(found[0, 0, 0]), float(found[0, -1, 0])) == pytest.approx((-1, 1), abs=0.06)


def test_a_size_that_patches_do_not_divide_names_the_nearest_that_they_do() -> None:
    extractor, _ = load_backbone(REGISTERS, ["blocks.0"])
    with pytest.raises(WeightsError, match=r"input\.size \[256, 140\]: vit_small.* multiples of 14; the nearest is \[252, 140\]"):
        extractor(pictures(256, 140))
    fixed, _ = load_backbone("untrained:beit_base_patch16_224", ["blocks.0"])
    with pytest.raises(WeightsError, match=r"takes \[224, 224\] only"):
        fixed.check_size((256, 256))


def test_a_stage_that_is_no_block_is_refused() -> None:
    with pytest.raises(WeightsError, match=r"\['blocks\.12'\]: this network has the stages blocks\.0 to blocks\.11"):
        load_backbone(PLAIN, ["blocks.12"])
    with pytest.raises(WeightsError, match=r"this network has the stages"):
        load_backbone(PLAIN, ["blocks.1.attn"])
    with pytest.raises(WeightsError, match="channels last"):
        load_backbone("untrained:swin_tiny_patch4_window7_224", ["layers.1"])


@pytest.mark.parametrize("name", [PLAIN, ROTARY])
def test_blocks_from_the_end_are_the_transformers_blocks(name: str) -> None:
    extractor, _ = load_backbone(name, ["blocks.2"])
    names = {id(parameter): key for key, parameter in extractor.named_parameters()}
    last, before = ([names[id(parameter)] for parameter in block] for block in blocks_from_the_end(extractor, 2))
    assert {key.rpartition(".")[0].split(".")[1] for key in last} == {"blocks", "norm"}
    assert all(key.startswith(("body.blocks.2.", "body.norm.")) for key in last)
    assert all(key.startswith("body.blocks.1.") for key in before)
    assert len(before) == len(last) - 2
    every = [parameter for block in blocks_from_the_end(extractor) for parameter in block]
    assert len(every) == len(names)


def test_adaptation_trains_the_last_block_with_the_normalisation_behind_it() -> None:
    extractor, _ = load_backbone(ROTARY, ["blocks.0", "blocks.2"])
    before = {key: value.clone() for key, value in extractor.state_dict().items()}
    x, generator = pictures(32, 48), torch.Generator().manual_seed(0)
    pretrain_briefly(extractor, lambda which: x[list(which)], len(x), Pretrain(depth=1, batch=2), generator, steps=2)
    changed = {key for key, value in extractor.state_dict().items() if not torch.equal(value, before[key])}
    assert {key.split(".")[2] for key in changed if ".blocks." in key} == {"2"}
    assert {key for key in changed if ".blocks." not in key} == {"body.norm.weight", "body.norm.bias"}


def test_a_gray_camera_feeds_one_channel_to_the_patches() -> None:
    extractor, source = load_backbone(PLAIN, ["blocks.0"])
    preprocess = ImagePreprocess((64, 96), source.mean, source.std)
    frame = torch.randint(0, 256, (2, 70, 90, 1), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    expected = extractor(preprocess(frame).expand(-1, 3, -1, -1))[0]
    merge_gray_channels(preprocess, extractor)
    assert preprocess(frame).shape[1] == 1
    torch.testing.assert_close(extractor(preprocess(frame))[0], expected, atol=1e-4, rtol=1e-4)
