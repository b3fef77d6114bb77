"""The one place that turns `[extractor]` of a spec into an extractor, and the file an extractor travels in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import nn

from anomaly.atomic import replacing
from anomaly.errors import WeightsError
from anomaly.features.backbones import Source, Stages, load_backbone
from anomaly.features.encoder import SensorEncoder, SensorExtractor
from anomaly.spec import CameraSpec, SensorSpec

_META = "anomaly"  # the safetensors metadata entry that holds our JSON


def build_camera_extractor(spec: CameraSpec) -> tuple[Stages, Source]:
    """The extractor a camera spec names, frozen, with its pretrained weights."""
    return load_backbone(spec.extractor.backbone, spec.extractor.stages, spec.extractor.weights)


def build_sensor_encoder(spec: SensorSpec) -> SensorEncoder:
    """The encoder a sensor spec names, weights random from the spec's seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.seed)
        return SensorEncoder(spec.extractor.channels, spec.extractor.dilations)


def save_tensors(path: Path, tensors: Mapping[str, torch.Tensor], about: Mapping[str, Any]) -> None:
    """Write tensors and a JSON description as one safetensors file, atomically and with the same bytes every time."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with replacing(path) as part:
        safetensors.torch.save_file(plain, part, metadata={_META: json.dumps(about, sort_keys=True)})


def load_tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read what `save_tensors` wrote. Raises WeightsError when the file is missing, damaged or not ours."""
    try:
        with safetensors.safe_open(path, framework="pt") as archive:
            metadata = archive.metadata() or {}
            tensors = {name: archive.get_tensor(name) for name in archive.keys()}  # noqa: SIM118 - not a dict
    except FileNotFoundError as error:
        raise WeightsError(f"{path}: no such file; make it with: anomaly pretrain SPEC --data PATH --out {path}") from error
    except (OSError, safetensors.SafetensorError) as error:
        raise WeightsError(f"{path}: not a whole safetensors file ({error}); make it again") from error
    if _META not in metadata:
        raise WeightsError(f"{path}: safetensors, but not written by `anomaly pretrain`; make it with that command")
    return tensors, json.loads(metadata[_META])


def save_extractor(path: Path, extractor: nn.Module, about: Mapping[str, Any]) -> None:
    """Write an extractor's weights with what they are and where they came from."""
    save_tensors(path, extractor.state_dict(), about)


def load_camera_extractor(spec: CameraSpec, path: Path) -> tuple[Stages, Source, dict[str, Any]]:
    """Read an extractor file into the network the spec names. Raises WeightsError when the two do not fit."""
    tensors, about = load_tensors(path)
    wanted = {"kind": "camera", "backbone": spec.extractor.backbone, "stages": list(spec.extractor.stages)}
    _require(path, about, wanted)
    extractor, source = build_camera_extractor(spec)
    extractor.load_state_dict(tensors)
    return extractor, source, about


def load_sensor_extractor(spec: SensorSpec, path: Path) -> tuple[SensorExtractor, dict[str, Any]]:
    """Read an extractor file: with its encoder if that was kept. Raises WeightsError when it does not fit the spec."""
    tensors, about = load_tensors(path)
    _require(path, about, {"kind": "sensor"})
    if not about["adaptation"]["kept"]:
        return SensorExtractor(spec.input.window).eval(), about
    _require(path, about, {"channels": spec.extractor.channels, "dilations": list(spec.extractor.dilations)})
    encoder = build_sensor_encoder(spec)
    encoder.load_state_dict(tensors)
    return SensorExtractor(spec.input.window, encoder).requires_grad_(False).eval(), about


def describe_source(source: Source) -> dict[str, Any]:
    """A backbone's origin as the manifest records it."""
    return {key: value for key, value in asdict(source).items() if key not in ("mean", "std")}


def _require(path: Path, about: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    for key, value in wanted.items():
        if about.get(key) != value:
            raise WeightsError(
                f"{path}: made with {key} = {about.get(key)!r}, the spec asks for {value!r}; pretrain again or change the spec"
            )
