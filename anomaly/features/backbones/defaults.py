"""What is looked at of a network that a spec names without stages.

All of it is read off the network without its weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, cast

import torch
from torch import Tensor, nn

from anomaly.errors import WeightsError
from anomaly.features.backbones.transformer import is_transformer
from anomaly.features.backbones.weights import LITE_STAGES, PACKAGED, UNTRAINED, blank_network
from anomaly.features.filters import STAGES
from anomaly.spec import ORIENTED_FILTERS

REDUCTIONS = (8, 16, 32)  # pixels a side of a place, for convolutional networks: fine, middle, coarse
DEPTHS = (1 / 2, 3 / 4, 1)  # of a transformer's blocks: earlier ones see little but position and brightness
SIDE = 256  # pixels of the picture that tells what size a stage's map has
NAME_THEM = "name them: [extractor] stages, and [[scorer.banks]]; or take a network of timm"


@lru_cache(maxsize=16)
def default_stages(backbone: str) -> tuple[str, ...]:
    """The stages of a network that names none: as `[extractor] stages` of a spec takes them.

    One for each of the reductions 8, 16 and 32 of a convolutional network, the last of that size; three blocks of a transformer in its
    second half, the last one included. Raises WeightsError for a name that is not known.

    >>> default_stages("resnet18")
    ('layer2', 'layer3', 'layer4')
    >>> default_stages("vit_small_patch14_dinov2")
    ('blocks.5', 'blocks.8', 'blocks.11')
    """
    if backbone == ORIENTED_FILTERS:
        return STAGES
    if backbone.removeprefix(UNTRAINED) in PACKAGED:
        return LITE_STAGES
    network = _blank(backbone)
    if is_transformer(network):
        count = len(cast("Any", network).blocks)
        return tuple(dict.fromkeys(f"blocks.{max(0, round(count * share) - 1)}" for share in DEPTHS))
    info = getattr(network, "feature_info", None)
    if isinstance(info, list) and all(isinstance(row, dict) and "module" in row for row in info):
        sizes = {str(row["module"]): int(row["reduction"]) for row in info}
    else:
        maps = _maps(network)
        sizes = {name: SIDE // high for name, (_, high) in maps.items() if not _holds_several(name, maps)}
    last = {reduction: name for name, reduction in sizes.items()}
    found = tuple(last[reduction] for reduction in REDUCTIONS if reduction in last) or tuple(sizes)[-2:]
    if not found:
        raise WeightsError(f"extractor.backbone {backbone!r}: no stages were found in it; {NAME_THEM}")
    return found


@lru_cache(maxsize=16)
def stage_channels(backbone: str, stages: tuple[str, ...]) -> tuple[int, ...]:
    """Channels of each stage's map; 0 for one that does not exist, which is an error when the network is loaded."""
    if backbone == ORIENTED_FILTERS:
        return tuple({"mean": 36, "peak": 32}.get(stage, 0) for stage in stages)
    network = _blank(backbone)
    if is_transformer(network):
        return tuple(int(cast("Any", network).embed_dim) for _ in stages)
    maps = _maps(network, stages)
    return tuple(maps[stage][0] if stage in maps else 0 for stage in stages)


def _blank(backbone: str) -> nn.Module:
    """The network without numbers in it, where its constructor allows that; that takes no time and no memory."""
    try:
        with torch.device("meta"):
            return blank_network(backbone).eval()
    except (RuntimeError, NotImplementedError):
        return blank_network(backbone).eval()


def _holds_several(name: str, maps: Mapping[str, tuple[int, int]]) -> bool:
    """Whether a module is a container of modules with maps of several sizes, such as all features of a network."""
    return any(other.startswith(f"{name}.") and high != maps[name][1] for other, (_, high) in maps.items())


def _maps(network: nn.Module, names: Sequence[str] = ()) -> dict[str, tuple[int, int]]:
    """Channels and height of what modules answer with, by name, in the order in which they are done: of all outer ones without `names`.

    Raises WeightsError for a network that takes no pictures of 256 pixels a side.
    """
    found: dict[str, tuple[int, int]] = {}

    def noted(name: str) -> Callable[..., None]:
        def note(_module: nn.Module, _inputs: object, answer: object) -> None:
            if isinstance(answer, Tensor) and answer.ndim == 4 and answer.shape[2] > 1:
                found.pop(name, None)
                found[name] = (int(answer.shape[1]), int(answer.shape[2]))

        return note

    modules = {name: module for name, module in network.named_modules() if name in names or (not names and name and name.count(".") < 2)}
    hooks = [module.register_forward_hook(noted(name)) for name, module in modules.items()]
    try:
        with torch.no_grad():
            network(torch.zeros(1, 3, SIDE, SIDE, device=next(network.parameters()).device))
    except (AssertionError, RuntimeError, ValueError) as error:
        why = f"{type(network).__name__} takes no pictures of {SIDE} pixels a side ({str(error).splitlines()[0]})"
        raise WeightsError(f"no stages were found: {why}; {NAME_THEM}") from error
    finally:
        for hook in hooks:
            hook.remove()
    return found
