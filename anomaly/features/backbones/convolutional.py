"""Networks cut open at named modules by tracing: convolutional ones."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from anomaly.errors import WeightsError
from anomaly.features.backbones.timm_import import import_timm
from anomaly.features.stages import Stages


class NetworkStages(Stages):
    """A network cut open at named modules; what lies behind the last of them is left out.

    Raises WeightsError when the network has no module of a name asked for.

    >>> import torch
    >>> from torch import nn
    >>> network = nn.Sequential()
    >>> network.add_module("stem", nn.Conv2d(3, 8, 3, stride=2, padding=1))
    >>> network.add_module("last", nn.Conv2d(8, 16, 3, stride=2, padding=1))
    >>> [tuple(maps.shape) for maps in NetworkStages(network, ["stem", "last"])(torch.zeros(1, 3, 32, 32))]
    [(1, 8, 16, 16), (1, 16, 8, 8)]
    """

    def __init__(self, network: nn.Module, stages: Sequence[str]) -> None:
        # Imported here: it takes seconds, and detectors of sensors need none of it. It is torchvision's, taught what of timm not to trace.
        create_feature_extractor = import_timm().models.create_feature_extractor
        super().__init__(stages)
        if _is_channels_last(network):
            raise WeightsError(
                f"{type(network).__name__} gives maps with channels last, which is not supported; take a convolutional network, or a plain "
                "vision transformer of timm, such as vit_small_patch14_dinov2"
            )
        try:
            self.body = create_feature_extractor(network, return_nodes={name: name for name in stages})
        except ValueError as error:
            known = [name for name, _ in network.named_modules() if name and name.count(".") <= 1]
            raise WeightsError(f"extractor.stages {list(stages)}: {error}; modules of this network: {known[:40]}") from error

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, 3, H, W) -> one map (N, C_s, h_s, w_s) a stage, in the order asked for."""
        maps = self.body(x)
        return [maps[name] for name in self.stages]


def _is_channels_last(network: nn.Module) -> bool:
    """Whether maps are (N, h, w, C): Swin and its like, of timm or of torchvision. They would be misread."""
    return getattr(network, "output_fmt", "NCHW") != "NCHW" or type(network).__name__ == "SwinTransformer"
