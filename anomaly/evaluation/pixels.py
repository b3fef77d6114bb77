"""Pixel figures over any number of pictures in a fixed amount of memory: scores are counted in bins, picture by picture.

A bin holds scores that agree in their first 20 bits as floats, so it is at most a two-thousandth of its score wide. How far a figure can be
off by that is worked out with it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from anomaly.data.pictures.reading import Picture, read_mask
from anomaly.errors import RecordError

MAP_SIDE = 256  # pixel figures are taken at this size, masks and maps alike
BITS = 20  # of a float32 score that tell its bin: sign, exponent, and 11 bits of the fraction
AUPRO_LIMIT = 0.3  # false-positive rate up to which AUPRO is taken

Map = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass
class PixelFigures:
    """Pixel AUROC and AUPRO (Bergmann et al. 2021, doi:10.1007/s11263-020-01400-4), fed one picture at a time.

    `aupro_limit` is the false-positive rate up to which AUPRO is taken. `left_out` says, for each picture whose mask cannot be used, why.

    >>> figures = PixelFigures()
    >>> mask = np.zeros((256, 256), bool)
    >>> mask[100:120, 100:120] = True
    >>> figures.add_map(mask, mask.astype(np.float32))
    >>> found = figures.result()
    >>> found["pixel_auroc"], round(found["pixel_aupro"], 9), found["pixel_binning_error"]
    (1.0, 1.0, {'pixel_auroc': 0.0, 'pixel_aupro': 0.0})
    """

    aupro_limit: float = AUPRO_LIMIT
    masks: int = 0
    good: int = 0
    regions: int = 0
    without_mask: int = 0
    left_out: list[str] = field(default_factory=list)
    _background: NDArray[np.float64] = field(default_factory=lambda: np.zeros(1 << BITS), repr=False)
    _defect: NDArray[np.float64] = field(default_factory=lambda: np.zeros(1 << BITS), repr=False)
    _overlap: NDArray[np.float64] = field(default_factory=lambda: np.zeros(1 << BITS), repr=False)  # 1 / its region's size, of each pixel

    def add(self, picture: Picture, size: tuple[int, int], scored: Map) -> None:
        """Count one picture of `size` (high, wide) with its map (h, w); it is left out, with the reason, where its mask cannot be used."""
        if picture.mask is None:
            if picture.defect is not None:
                self.without_mask += 1
                return
            self.good += 1
            self.add_map(np.zeros((MAP_SIDE, MAP_SIDE), bool), scored)
            return
        try:
            mask = usable_mask(picture, size)
        except RecordError as error:
            self.left_out.append(str(error))
            return
        self.masks += 1
        self.add_map(shrink_mask(mask), scored)

    def add_map(self, mask: Mask, scored: Map) -> None:
        """Count a mask (256, 256) and a map (h, w), which is enlarged or shrunk to that size."""
        labelled, count = ndimage.label(mask, structure=np.ones((3, 3)))
        sizes = np.bincount(labelled.ravel(), minlength=count + 1)
        bins, inside = _bin_of(resize_map(scored)).ravel(), labelled.ravel() > 0
        self.regions += count
        self._background += np.bincount(bins[~inside], minlength=1 << BITS)
        if count:
            self._defect += np.bincount(bins[inside], minlength=1 << BITS)
            self._overlap += np.bincount(bins[inside], weights=1.0 / sizes[labelled.ravel()[inside]], minlength=1 << BITS)

    def result(self) -> dict[str, Any]:
        """The figures, and what they rest on; {} when there was nothing to say of masks."""
        counts = {"masks": self.masks, "defects_without_mask": self.without_mask, "masks_left_out": len(self.left_out)}
        if not self.regions:
            return counts if self.without_mask or self.left_out else {}
        auroc, auroc_error = self._auroc()
        aupro, aupro_error = self._aupro()
        error = {"pixel_auroc": auroc_error, "pixel_aupro": aupro_error}
        return {"pixel_auroc": auroc, "pixel_aupro": aupro, "pixel_binning_error": error, **counts}

    def notes(self) -> list[str]:
        """What a person should know of the masks, a line each."""
        if not (self.masks or self.without_mask or self.left_out):
            return []
        lines = [f"{self.masks} masks used, {self.without_mask} defects without one, {len(self.left_out)} masks left out"]
        return [*lines, *self.left_out]

    def _auroc(self) -> tuple[float | None, float]:
        """ROC-AUC, and how far it can be off: the order of two scores in one bin is not known, and counts half."""
        if not self._background.any():
            return None, 0.0
        defect, background = self._defect / self._defect.sum(), self._background / self._background.sum()
        below = np.cumsum(background) - background
        return float((defect * (below + background / 2)).sum()), float((defect * background).sum() / 2)

    def _aupro(self) -> tuple[float | None, float]:
        """Area under per-region overlap over false-positive rate up to the limit, over the limit; and how far it can be off.

        Between two bins the curve rises somehow; it is taken as straight, which is off by half of the rectangle at most.
        """
        if not self._background.any():
            return None, 0.0
        limit = self.aupro_limit
        used = np.flatnonzero(self._background + self._overlap)[::-1]
        fpr = np.append(0.0, np.cumsum(self._background[used]) / self._background.sum())
        pro = np.append(0.0, np.cumsum(self._overlap[used]) / self.regions)
        at = int(np.searchsorted(fpr, limit, side="right"))
        if at < len(fpr):
            edge = pro[at - 1] + (pro[at] - pro[at - 1]) * (limit - fpr[at - 1]) / (fpr[at] - fpr[at - 1])
            fpr, pro = np.append(fpr[:at], limit), np.append(pro[:at], edge)
        off = float((np.diff(fpr) * np.diff(pro)).sum() / 2 / limit)
        return float(np.trapezoid(pro, fpr) / limit), off


def usable_mask(picture: Picture, size: tuple[int, int]) -> Mask:
    """A picture's mask (high, wide). Raises RecordError when it is not there, of another size than the picture, or says nothing."""
    assert picture.mask is not None
    if not picture.mask.is_file():
        raise RecordError(f"{picture.mask}: there is no such mask; {picture.id} is left out of the pixel figures")
    mask = read_mask(picture.mask)
    if mask.shape != size:
        (high, wide), (tall, broad) = mask.shape, size
        raise RecordError(f"{picture.mask}: the mask is {wide} x {high}, its picture {broad} x {tall}; left out of the pixel figures")
    if picture.defect is not None and not mask.any():
        raise RecordError(f"{picture.mask}: the mask is empty, though {picture.id} has a defect; left out of the pixel figures")
    if picture.defect is None and mask.any():
        raise RecordError(f"{picture.mask}: the mask marks a defect, though {picture.id} is good; left out of the pixel figures")
    return mask


def shrink_mask(mask: Mask, side: int = MAP_SIDE) -> Mask:
    """A mask (H, W) on a grid (side, side): a cell is defective when any of its pixels is, so that a thin scratch stays whole.

    A side that is smaller than the grid is enlarged by repeating pixels.

    >>> mask = np.zeros((1024, 1024), bool)
    >>> mask[333] = True  # a scratch of one pixel
    >>> bool(shrink_mask(mask)[83].all()), int(shrink_mask(mask).any(axis=1).sum())
    (True, 1)
    """
    for axis in (0, 1):
        length = mask.shape[axis]
        if length > side:
            mask = np.asarray(np.maximum.reduceat(mask, np.arange(side) * length // side, axis=axis))
        else:
            mask = np.take(mask, ((np.arange(side) + 0.5) * length / side).astype(np.int64), axis=axis)
    return mask


def resize_map(one: Map) -> Map:
    """A map (h, w) at the size that pixel figures are taken at, bilinearly."""
    return np.asarray(Image.fromarray(one).resize((MAP_SIDE, MAP_SIDE), Image.Resampling.BILINEAR))


def _bin_of(scores: Map) -> NDArray[np.int64]:
    """The bin of each float32 score; a higher score is never in a lower bin."""
    bits = np.ascontiguousarray(scores, dtype=np.float32).view(np.uint32)
    ordered = np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))  # the bits of floats, in the order of the floats
    return (ordered >> np.uint32(32 - BITS)).astype(np.int64)
