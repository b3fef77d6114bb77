"""Weights from local files, as they are published and as training scripts save them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import torch
from torch import Tensor, nn

from anomaly.errors import WeightsError
from anomaly.features.backbones.checkpoint import load_weights, read_weights

State = dict[str, Tensor]


def dinov2(seed: int, **settings: Any) -> nn.Module:
    """DINOv2's small transformer with registers, two blocks deep."""
    torch.manual_seed(seed)
    found: nn.Module = timm.create_model("vit_small_patch14_reg4_dinov2", depth=2, dynamic_img_size=True, **settings)
    return found


def dinov3(seed: int, **settings: Any) -> nn.Module:
    torch.manual_seed(seed)
    found: nn.Module = timm.create_model("vit_tiny_patch16_dinov3_qkvb", depth=2, dynamic_img_size=True, num_classes=0, **settings)
    return found


def as_meta_publishes_dinov2(state: State) -> State:
    """The names of the original files: registers apart, positions with that of the class token, a token that masks."""
    width = state["cls_token"].shape[2]
    positions = torch.cat([torch.zeros(1, 1, width), state["pos_embed"]], dim=1)
    rest = {key: value for key, value in state.items() if key not in ("reg_token", "pos_embed")}
    return rest | {"register_tokens": state["reg_token"], "pos_embed": positions, "mask_token": torch.zeros(1, width)}


def as_meta_publishes_dinov3(state: State) -> State:
    names = {"reg_token": "storage_tokens", "gamma_1": "ls1.gamma", "gamma_2": "ls2.gamma"}
    found: State = {}
    for key, value in state.items():
        if key.endswith(("q_bias", "v_bias")):
            continue
        published = next((key.replace(ours, theirs) for ours, theirs in names.items() if ours in key), key)
        found[published] = value
    for block in ("blocks.0.attn.", "blocks.1.attn."):
        q, v = state[f"{block}q_bias"], state[f"{block}v_bias"]
        found[f"{block}qkv.bias"] = torch.cat([q, torch.zeros_like(q), v])
        found[f"{block}qkv.bias_mask"] = torch.ones(3 * len(q))
    return found | {"mask_token": torch.zeros(1, state["cls_token"].shape[2]), "rope_embed.periods": torch.ones(16)}


def teacher(state: State) -> Any:
    student = {f"student.backbone.{key}": torch.zeros_like(value) for key, value in state.items()}
    return {"model": student | {f"teacher.backbone.{key}": value for key, value in state.items()} | {"teacher.dino_head.w": torch.ones(3)}}


SAVED: dict[str, Callable[[State], Any]] = {
    "plain": lambda state: state,
    "other classes": lambda state: state | {"head.weight": torch.zeros(7, 384), "head.bias": torch.zeros(7)},
    "data parallel": lambda state: {"epoch": 3, "state_dict": {f"module.{key}": value for key, value in state.items()}},
    "lightning": lambda state: {"state_dict": {f"model.backbone.{key}": value for key, value in state.items()}, "loops": {"a": 1}},
    "averaged": lambda state: {"state_dict": {key: torch.zeros_like(value) for key, value in state.items()}, "state_dict_ema": state},
    "teacher": lambda state: {"teacher": {f"backbone.{key}": value for key, value in state.items()} | {"dino_head.last": torch.ones(3)}},
    "teacher beside student": teacher,
    "as published": as_meta_publishes_dinov2,
    "teacher as published": lambda state: teacher(as_meta_publishes_dinov2(state)),
    "half": lambda state: {key: value.half() for key, value in state.items()},
}


@pytest.mark.parametrize("saved", SAVED)
def test_weights_are_found_whatever_they_were_saved_under(saved: str, tmp_path: Path) -> None:
    source, network = dinov2(1, num_classes=0), dinov2(2)
    torch.save(SAVED[saved](source.state_dict()), tmp_path / "w.pth")
    load_weights(network, tmp_path / "w.pth", "vit_small_patch14_reg4_dinov2")
    x = torch.randn(1, 3, 56, 70)
    expected, found = [n.eval().forward_intermediates(x, norm=True, intermediates_only=True) for n in (source, network)]  # type: ignore[operator]
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-2 if saved == "half" else 1e-5, rtol=0)


def test_dinov3_as_published_and_as_safetensors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, network = dinov3(1), dinov3(2)
    with torch.no_grad():
        for name, parameter in source.named_parameters():
            if name.endswith("_bias"):
                parameter.normal_()
    safetensors.torch.save_file(as_meta_publishes_dinov3(source.state_dict()), tmp_path / "w.safetensors")
    load_weights(network, tmp_path / "w.safetensors", "vit_tiny_patch16_dinov3_qkvb")
    assert all(torch.equal(value, source.state_dict()[key]) for key, value in network.state_dict().items())
    assert capsys.readouterr().out == ""


def saved(tmp_path: Path, state: Any) -> Path:
    torch.save(state, tmp_path / "w.pth")
    return tmp_path / "w.pth"


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    state = dinov2(1, num_classes=0).state_dict()
    short = {key: value for key, value in state.items() if key not in ("norm.weight", "blocks.1.mlp.fc1.bias")}
    with pytest.raises(WeightsError, match=r"w\.pth: does not fit NAME: the file lacks blocks\.1\.mlp\.fc1\.bias, norm\.weight\. Check"):
        load_weights(dinov2(2), saved(tmp_path, short), "NAME")


def test_a_deeper_network_of_the_same_width_is_not_taken_for_this_one(tmp_path: Path) -> None:
    deeper = timm.create_model("vit_small_patch14_reg4_dinov2", depth=3, num_classes=0).state_dict()
    with pytest.raises(WeightsError, match=r"the network has no blocks\.2\.norm1\.weight"):
        load_weights(dinov2(2), saved(tmp_path, deeper), "NAME")


def test_a_wider_network_is_told_by_its_shapes(tmp_path: Path) -> None:
    wider = timm.create_model("vit_base_patch14_reg4_dinov2", depth=2, num_classes=0).state_dict()
    with pytest.raises(WeightsError, match=r"cls_token is \[1, 1, 768\] in the file and \[1, 1, 384\] in the network"):
        load_weights(dinov2(2), saved(tmp_path, wider), "NAME")


def test_files_of_the_library_transformers_say_where_to_look(tmp_path: Path) -> None:
    state = {"embeddings.cls_token": torch.zeros(1, 1, 384), "encoder.layer.0.norm1.weight": torch.zeros(384)}
    with pytest.raises(WeightsError, match="library transformers; fetch the same weights as timm publishes them"):
        load_weights(dinov2(2), saved(tmp_path, state), "NAME")


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("run",)


@pytest.mark.parametrize("content", [{"model": Evil()}, nn.Linear(2, 2)])
def test_a_file_with_code_in_it_is_not_run(content: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(WeightsError, match=r"holds more than tensors, or is no file of torch\.save"):
        read_weights(saved(tmp_path, content))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_a_damaged_file_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"PK\x03\x04 half a file")
    with pytest.raises(WeightsError, match=name):
        read_weights(tmp_path / name)
    with pytest.raises(WeightsError, match="no network's tensors"):
        read_weights(saved(tmp_path, {"epoch": 3}))
