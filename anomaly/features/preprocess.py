"""The first layers of every detector: raw frame or raw readings in, normalised input of the extractor out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Roi = Sequence[tuple[float, float, float, float]]  # rectangles (left, top, right, bottom) in shares; none: everything


def inside_roi(roi: Roi, high: int, wide: int) -> Tensor:
    """Which pixels of a picture, or places of a grid, have their middle in a rectangle: bool (high, wide).

    >>> inside_roi([(0.0, 0.0, 0.5, 1.0)], 1, 4).tolist()  # the left half
    [[True, True, False, False]]
    """
    y, x = ((torch.arange(high) + 0.5) / high)[:, None], ((torch.arange(wide) + 0.5) / wide)[None, :]
    inside = torch.zeros(high, wide, dtype=torch.bool)
    for left, top, right, bottom in roi:
        inside |= (x >= left) & (x < right) & (y >= top) & (y < bottom)
    return inside


class ImagePreprocess(nn.Module):
    """Raw frames (N, H, W, C) uint8 or uint16, any H and W -> normalised RGB (N, 3, high, wide) float32.

    Resizing is bilinear with antialiasing; one gray channel is resized once and then repeated to three. `mean` and `std` are in units
    of 0..255. With `deep` input is uint16 and its full scale is 65,535. `roi`: rectangles (left, top, right, bottom) in shares of the
    picture; what lies outside is blanked before anything else, so that nothing there can reach a place inside.

    >>> preprocess = ImagePreprocess((32, 32), mean=(127.5,) * 3, std=(127.5,) * 3)
    >>> preprocess(torch.full((1, 50, 70, 3), 255, dtype=torch.uint8)).shape
    torch.Size([1, 3, 32, 32])
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, size: tuple[int, int], mean: tuple[float, ...], std: tuple[float, ...], *, deep: bool = False, roi: Roi = ()
    ) -> None:
        super().__init__()
        self.roi = tuple(roi)
        self.blank = sum(mean) / len(mean)  # a gray that the backbone takes for nothing much
        self.size = size
        self.full_scale = 257.0 if deep else 1.0  # uint16 65535 -> 255
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(1, 3, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        """(N, H, W, C) integer -> (N, 3, high, wide) float32."""
        x = image.permute(0, 3, 1, 2).to(torch.float32)
        if self.full_scale != 1:
            x = x / self.full_scale
        if self.roi:
            x = torch.where(inside_roi(self.roi, x.shape[2], x.shape[3]).to(x.device), x, torch.full_like(x[:1, :1, :1, :1], self.blank))
        x = F.interpolate(x, size=self.size, mode="bilinear", antialias=True, align_corners=False)
        return (x - self.mean) / self.std  # (N, 1, h, w) spreads to three channels here


def merge_gray_channels(preprocess: ImagePreprocess, extractor: nn.Module) -> None:
    """Feed one gray channel instead of three equal ones: the first convolution's weights are summed over its input channels, in place.

    Nothing is done where the channels differ (a mean or std for each) or the extractor has no such convolution.
    """
    first = next((module for module in extractor.modules() if isinstance(module, nn.Conv2d)), None)
    same = all(bool((value == value[:, :1]).all()) for value in (preprocess.mean, preprocess.std))
    if not same or first is None or first.in_channels != 3 or first.groups != 1:
        return
    preprocess.mean, preprocess.std = preprocess.mean[:, :1], preprocess.std[:, :1]
    first.weight = nn.Parameter(first.weight.sum(dim=1, keepdim=True), requires_grad=False)
    first.in_channels = 1


MAX_Z = 1000.0  # readings are clipped to this many spreads from the median


class SensorPreprocess(nn.Module):
    """Robust standardisation: raw windows (N, T, C) float32 in engineering units, NaN = missing -> (N, 2, T, C) without NaN.

    The first plane is each sensor less its normal median, over its normal spread, clipped to 1,000 so that no reading overflows; 0
    where there is no reading. The second plane is 1 where there is a reading and 0 where there is none. `center` (C,), `scale` (C,).

    >>> preprocess = SensorPreprocess(center=torch.tensor([20.0]), scale=torch.tensor([2.0]))
    >>> values, known = preprocess(torch.tensor([[[24.0], [float("nan")]]]))[0]
    >>> values.flatten().tolist(), known.flatten().tolist()
    ([2.0, 0.0], [1.0, 0.0])
    """

    center: Tensor
    scale: Tensor

    def __init__(self, center: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("center", center.to(torch.float32))
        self.register_buffer("scale", scale.to(torch.float32))

    def forward(self, window: Tensor) -> Tensor:
        """(N, T, C) float32 with NaN -> (N, 2, T, C) float32 without."""
        # Comparisons with NaN are False, so this also drops infinities without an isnan that exporters treat unevenly.
        known = window.abs() < 1e30
        z = torch.where(known, (window - self.center) / self.scale, torch.zeros_like(window)).clamp(-MAX_Z, MAX_Z)
        return torch.stack([z, known.to(torch.float32)], dim=1)
