"""Vision transformers (DINOv2, DINOv3 and others of timm) cut open at blocks: the patch tokens after a block, as a map.

Learnt positions are resampled to the picture's grid of patches, rotary ones (RoPE) are computed for it: both by timm.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any, cast

from torch import Tensor, nn

from anomaly.errors import WeightsError
from anomaly.features.stages import Stages

_BLOCK = re.compile(r"blocks\.(\d+)")
_PARTS = ("patch_embed", "num_prefix_tokens", "forward_intermediates", "prune_intermediate_layers")


def is_transformer(network: nn.Module) -> bool:
    """Whether a network is a plain vision transformer of timm: patches of one size through blocks of one width."""
    return isinstance(getattr(network, "blocks", None), nn.ModuleList | nn.Sequential) and all(hasattr(network, name) for name in _PARTS)


class TransformerStages(Stages):
    """A vision transformer cut open at blocks ("blocks.5"); the blocks behind the last of them and the head are left out.

    A stage is the block's patch tokens through the network's last normalisation, as a map. Class and register tokens are left out. The
    normalisation is what DINOv2's own `get_intermediate_layers` does, and so AnomalyDINO (Damm et al. 2024, arXiv:2405.14529): without
    it a few channels of very large values decide every distance.

    Raises WeightsError for a stage that is no block of the network.

    >>> import torch, timm
    >>> network = timm.create_model("vit_tiny_patch16_224", dynamic_img_size=True, depth=3)
    >>> [tuple(maps.shape) for maps in TransformerStages(network, ["blocks.1", "blocks.2"])(torch.zeros(1, 3, 64, 96))]
    [(1, 192, 4, 6), (1, 192, 4, 6)]
    """

    def __init__(self, network: nn.Module, stages: Sequence[str]) -> None:
        super().__init__(stages)
        body = cast("Any", network)
        count = len(body.blocks)
        found = [_BLOCK.fullmatch(name) for name in stages]
        self.at = [int(match[1]) if match else count for match in found]
        if any(index >= count for index in self.at):
            raise WeightsError(f"extractor.stages {list(stages)}: this network has the stages blocks.0 to blocks.{count - 1}")
        self.taken = sorted(set(self.at))
        body.prune_intermediate_layers(self.taken, prune_norm=False, prune_head=True)
        self.body = body
        self.step = patch_size(network)
        self.only = None if getattr(body, "dynamic_img_size", False) else _own_size(network)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, 3, H, W), H and W multiples of the patch size -> one map (N, C, H / patch, W / patch) a stage, in the order asked for.

        Raises WeightsError for another size.
        """
        self.check_size((x.shape[2], x.shape[3]))
        maps = self.body.forward_intermediates(
            x, indices=self.taken, norm=True, stop_early=True, output_fmt="NCHW", intermediates_only=True
        )
        return [maps[self.taken.index(index)] for index in self.at]

    def check_size(self, size: tuple[int, int]) -> None:
        """Raise WeightsError when pictures of this size (high, wide) do not fit the network."""
        if self.only is not None and tuple(size) != self.only:
            raise WeightsError(f"input.size {list(size)}: {self.backbone or 'this network'} takes {list(self.only)} only; write that")
        if any(side % self.step or not side for side in size):
            near = [max(1, round(side / self.step)) * self.step for side in size]
            raise WeightsError(
                f"input.size {list(size)}: {self.backbone or 'this network'} cuts pictures into patches of {self.step} pixels a side, so "
                f"both sides must be multiples of {self.step}; the nearest is {near}"
            )


def patch_size(network: nn.Module) -> int:
    """Pixels a side of a transformer's patch; where sides differ, the least number that both divide."""
    embedding = cast("Any", network).patch_embed
    sides = embedding.feat_ratio(as_scalar=False) if hasattr(embedding, "feat_ratio") else embedding.patch_size
    return math.lcm(*map(int, sides))


def _own_size(network: nn.Module) -> tuple[int, int] | None:
    size = getattr(cast("Any", network).patch_embed, "img_size", None)
    return None if size is None else (int(size[0]), int(size[1]))
