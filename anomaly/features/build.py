"""The one place that turns `[extractor]` of a spec into an extractor; and the extractor file that `anomaly pretrain` writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn

from anomaly.errors import WeightsError
from anomaly.features.backbones import load_backbone
from anomaly.features.backbones.weights import UNTRAINED, WeightsSource
from anomaly.features.encoder import SensorEncoder
from anomaly.features.stages import Stages
from anomaly.features.tensors import load_tensors, save_tensors
from anomaly.spec import CameraSpec, SensorSpec

_BORROWED = "borrowed."  # prefix of the tensors in an extractor file that are another line's features or windows
_VOTE = "vote."  # prefix of the tensors in an extractor file that are the AdaBoost vote of labelled faults


def build_camera_extractor(spec: CameraSpec) -> tuple[Stages, WeightsSource]:
    """The extractor a camera spec names, frozen, with its pretrained weights.

    Raises WeightsError when weights are not to be had, a stage does not exist, or pictures of the spec's size do not fit the network.
    """
    extractor, source = load_backbone(spec.extractor.backbone, spec.extractor.stages, spec.extractor.weights)
    if spec.input.size is not None:  # one that is yet to be chosen fits
        extractor.check_size(spec.input.size)
    return extractor, source


def build_sensor_encoder(spec: SensorSpec) -> SensorEncoder:
    """The encoder a sensor spec names, before any training."""
    return SensorEncoder(spec.extractor.kernels, spec.extractor.dilations).requires_grad_(False).eval()


def save_extractor(
    path: Path,
    extractor: nn.Module | None,
    about: Mapping[str, Any],
    borrowed: Sequence[torch.Tensor] = (),
    vote: Mapping[str, torch.Tensor] | None = None,
) -> None:
    """Write an extractor file: the weights (none for None), their description `about`, and what is borrowed from another line.

    `load_borrowed` and `load_vote` read the latter two.
    """
    tensors: dict[str, torch.Tensor] = {}
    if extractor is not None:
        tensors.update(extractor.state_dict())
    tensors |= {f"{_BORROWED}{i}": tensor for i, tensor in enumerate(borrowed)}
    save_tensors(path, tensors | {f"{_VOTE}{name}": tensor for name, tensor in (vote or {}).items()}, about)


def load_camera_extractor(spec: CameraSpec, path: Path) -> tuple[Stages, WeightsSource, dict[str, Any]]:
    """Read an extractor file into the network the spec names. Raises WeightsError when the two do not fit."""
    tensors, about = load_tensors(path)
    _require(path, about, _camera_identity(spec))
    extractor, source = build_camera_extractor(spec)
    _load(path, extractor, tensors)
    return extractor, source, about


def load_borrowed(path: Path) -> list[torch.Tensor]:
    """What an extractor file holds of another line: features a stage (cameras), or windows and their rows (sensors); [] if nothing."""
    tensors, _ = load_tensors(path)
    return [tensors[f"{_BORROWED}{i}"] for i in range(sum(name.startswith(_BORROWED) for name in tensors))]


def load_plan(path: Path) -> dict[str, Any] | None:
    """How pictures are looked at, as the extractor file of a camera keeps it; None where it was made without one."""
    _, about = load_tensors(path)
    plan: dict[str, Any] | None = about.get("plan")
    return plan


def restore_camera_extractor(spec: CameraSpec, path: Path, about: Mapping[str, Any], weights: bytes | None) -> Stages:
    """The extractor of the bundle at `path`, from its description and the weights it carries (None: those that the spec names).

    Raises WeightsError when its backbone is not the spec's, or its weights end before the spec's last stage.
    """
    _require(path, about, _camera_identity(spec))
    extractor, _ = build_camera_extractor(spec)
    if weights is not None:
        _load(path, extractor, safetensors.torch.load(weights))
    return extractor


def load_vote(path: Path) -> dict[str, torch.Tensor]:
    """The AdaBoost vote of labelled faults in an extractor file, as `scorers.boosted.vote_tensors` gives it; {} when there is none."""
    tensors, _ = load_tensors(path)
    return {name.removeprefix(_VOTE): tensor for name, tensor in tensors.items() if name.startswith(_VOTE)}


def restore_sensor_encoder(spec: SensorSpec, path: Path, about: Mapping[str, Any], weights: bytes) -> SensorEncoder:
    """The encoder of the bundle at `path`, from its description and the weights it carries.

    Raises WeightsError when its kernels or dilations are not the spec's.
    """
    _require(path, about, {"kind": "sensor", "kernels": spec.extractor.kernels, "dilations": list(spec.extractor.dilations)})
    encoder = build_sensor_encoder(spec)
    _load(path, encoder, safetensors.torch.load(weights))
    return encoder.requires_grad_(False).eval()


def _camera_identity(spec: CameraSpec) -> dict[str, Any]:
    """What an extractor file must have been made with. Stages may differ from line to line: they are only where the network is read."""
    return {"kind": "camera", "backbone": spec.extractor.backbone.removeprefix(UNTRAINED)}


def is_changed(about: Mapping[str, Any]) -> bool:
    """Whether an extractor so described differs from what its package or hub delivers."""
    return bool(about["adaptation"]["kept"] or about.get("changed", False))


def carried_weights(path: Path) -> bytes | None:
    """The weights that a bundle must carry so that its extractor can be restored: None when its package or hub delivers them."""
    tensors, about = load_tensors(path)
    own = {name: tensor for name, tensor in tensors.items() if not name.startswith((_BORROWED, _VOTE))}
    return safetensors.torch.save(own) if is_changed(about) else None


def _load(path: Path, extractor: nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
    try:
        extractor.load_state_dict({name: tensor for name, tensor in tensors.items() if not name.startswith((_BORROWED, _VOTE))})
    except RuntimeError as error:
        raise WeightsError(f"{path}: its weights do not fit the extractor that the spec names: {str(error)[:300]}") from error


def load_sensor_encoder(spec: SensorSpec, path: Path) -> tuple[SensorEncoder | None, dict[str, Any]]:
    """Read an extractor file: its encoder, None where that was not kept. Raises WeightsError when it does not fit the spec."""
    tensors, about = load_tensors(path)
    _require(path, about, {"kind": "sensor"})
    if not is_changed(about):
        return None, about
    _require(path, about, {"kernels": spec.extractor.kernels, "dilations": list(spec.extractor.dilations)})
    encoder = build_sensor_encoder(spec)
    _load(path, encoder, tensors)
    return encoder.requires_grad_(False).eval(), about


def _require(path: Path, about: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    for key, value in wanted.items():
        found = about.get(key)
        if (found.removeprefix(UNTRAINED) if isinstance(found, str) else found) != value:
            raise WeightsError(
                f"{path}: made with {key} = {about.get(key)!r}, the spec asks for {value!r}; pretrain again or change the spec"
            )
