"""What every image extractor is: a network that answers with the feature maps of its named stages."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Literal

from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


class Stages(nn.Module):
    """Base of image extractors: pictures (N, 3, H, W) float32 -> one feature map (N, C_s, h_s, w_s) a stage."""

    def __init__(self, stages: Sequence[str]) -> None:
        super().__init__()
        self.stages = tuple(stages)
        self.backbone = ""  # the network's name, where `backbones.load_backbone` made it
        self.step = 32  # pixels by which the sides of a picture may grow: what the coarsest maps of most networks stand for
        self.any_size = False  # whether its graph is the same for all pictures whose sides are multiples of 32

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, 3, H, W) -> one map (N, C_s, h_s, w_s) a stage, in the order asked for."""
        raise NotImplementedError

    def check_size(self, size: tuple[int, int]) -> None:
        """Raise WeightsError when pictures of this size (high, wide) do not fit the network: convolutions take every size."""


def size_step(extractor: Stages) -> int:
    """By how many pixels the sides of an extractor's pictures may grow; sizes to choose from are multiples of it.

    32 for convolutional networks, the patch size for vision transformers, 128 for `oriented_filters`.
    """
    return extractor.step


def blocks_from_the_end(extractor: nn.Module, depth: int | Literal["all"] = "all") -> list[list[nn.Parameter]]:
    """The parameters of an extractor's last `depth` blocks, block by block, the last one first.

    A block is a child of `blocks` (timm) or of the network itself (torchvision's `layer3`). A transformer's last normalisation belongs to
    its last block.
    """
    found: dict[str, list[nn.Parameter]] = {}
    for name, parameter in extractor.named_parameters():
        parts = name.split(".")  # body.blocks.5.2.conv_pw.weight -> body.blocks.5; body.layer3.0.conv1.weight -> body.layer3
        inside = len(parts) > 3 and parts[2].isdigit() and (len(parts) > 4 or parts[1] == "blocks")
        block = next(reversed(found)) if found and parts[1] == "norm" else ".".join(parts[: 3 if inside else 2])
        found.setdefault(block, []).append(parameter)
    return list(found.values())[::-1][: None if depth == "all" else depth]


def fold_batch_norm(extractor: Stages) -> Stages:
    """A copy for inference with each batch normalisation folded into the convolution before it: a third quicker on a CPU.

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
