"""Synthetic defects on pictures of good parts, for judging features where no real fault has been seen.

Kinds follow the field: cut-paste (Li et al. 2021, arXiv:2104.04015), Perlin-masked texture (DRAEM, Zavrtanik et al.
2021, arXiv:2108.07610), and the plain marks of a shop floor: scratch, crack, blob, step of illumination.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Gray = NDArray[np.float32]  # (H, W, C) in 0..255
Mask = NDArray[np.float32]  # (H, W) in 0..1
TRIES = 200  # draws of a defect, until one is inside the region of interest


def inject(
    image: NDArray[np.uint8], rng: np.random.Generator, kind: str | None = None, scale: float = 1.0
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Put one defect on a picture (H, W, C) uint8. Returns the picture and the mask (H, W) of what it changed.

    `kind` is one of KINDS, or None for a random one. The picture given is not modified. `scale`: how many of the camera's pixels the side
    of a pixel stands for, where the picture was made smaller: a thin line is then as faint as if it had been drawn before that.

    >>> marked, mask = inject(np.full((64, 64, 1), 128, np.uint8), np.random.default_rng(0), "scratch")
    >>> marked.shape, bool(0 < mask.mean() < 0.2)
    ((64, 64, 1), True)
    """
    name = kind or KINDS[int(rng.integers(len(KINDS)))]
    clean = image.astype(np.float32)
    marked = np.clip(_MAKERS[name](clean, rng, scale), 0, 255).astype(np.uint8)
    mask = np.abs(marked.astype(np.int16) - image.astype(np.int16)).max(axis=2) > 6
    return marked, mask


def inject_inside(
    image: NDArray[np.uint8], rng: np.random.Generator, roi: Sequence[tuple[float, float, float, float]], scale: float = 1.0
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """`inject` a random defect of which some is inside a rectangle (left, top, right, bottom) in shares; no rectangle is everywhere.

    What lies elsewhere is not looked at, so a defect there would say nothing.
    """
    high, wide = image.shape[:2]
    looked_at = np.zeros((high, wide), bool)
    for left, top, right, bottom in roi:
        looked_at[round(top * high) : round(bottom * high), round(left * wide) : round(right * wide)] = True
    marked, mask = inject(image, rng, scale=scale)
    for _ in range(TRIES if looked_at.any() else 0):
        if mask[looked_at].any():
            break
        marked, mask = inject(image, rng, scale=scale)
    return marked, mask


def perlin(shape: tuple[int, int], cells: int, rng: np.random.Generator) -> Gray:
    """Smooth noise (H, W), zero mean and unit deviation: random cells enlarged bicubically."""
    coarse = rng.standard_normal((cells + 1, cells + 1)).astype(np.float32)
    smooth = np.asarray(Image.fromarray(coarse).resize((shape[1], shape[0]), Image.Resampling.BICUBIC))
    noise: Gray = (smooth - smooth.mean()) / (smooth.std() + 1e-6)
    return noise


def contrast(deviation: float, rng: np.random.Generator) -> float:
    """A signed change of gray value that can be seen on a picture of this standard deviation but is not glaring."""
    size = float(rng.uniform(0.6, 2.0)) * max(8.0, deviation)
    return float(rng.choice([-1.0, 1.0])) * min(size, 90.0)


def _contrast(image: Gray, rng: np.random.Generator) -> float:
    return contrast(float(image.std()), rng)


def _drawn(shape: tuple[int, ...], draw: Callable[[ImageDraw.ImageDraw], None], blur: float) -> Mask:
    canvas = Image.new("L", (shape[1], shape[0]))
    draw(ImageDraw.Draw(canvas))
    return np.asarray(canvas.filter(ImageFilter.GaussianBlur(blur)), dtype=np.float32) / 255.0


def _stroke(image: Gray, rng: np.random.Generator, jitter: float, width: int, scale: float) -> Mask:
    """A thin path: straight for a scratch, wandering for a crack. Its `width` is in pixels of the camera."""
    height, breadth = image.shape[:2]
    span = min(height, breadth)
    heading = rng.uniform(0, 2 * np.pi)
    point = np.array([rng.uniform(0.1, 0.9) * breadth, rng.uniform(0.1, 0.9) * height])
    points, step = [tuple(point)], span * rng.uniform(0.1, 0.6) / 12
    for _ in range(12):
        heading += rng.normal(0, jitter)
        point = point + step * np.array([np.cos(heading), np.sin(heading)])
        points.append(tuple(point))
    thin = max(1, round(width / scale))
    fill = round(255 * min(1.0, width / scale / thin))
    return _drawn(image.shape, lambda d: d.line(points, fill=fill, width=thin, joint="curve"), 0.5)


def _scratch(image: Gray, rng: np.random.Generator, scale: float) -> Gray:
    mask = _stroke(image, rng, 0.03, int(rng.integers(1, 4)), scale)
    return image + mask[:, :, None] * _contrast(image, rng)


def _crack(image: Gray, rng: np.random.Generator, scale: float) -> Gray:
    mask = _stroke(image, rng, 0.55, int(rng.integers(1, 3)), scale)
    return image - mask[:, :, None] * abs(_contrast(image, rng))


def _blob(image: Gray, rng: np.random.Generator, scale: float) -> Gray:
    height, width = image.shape[:2]
    radius = min(height, width) * rng.uniform(0.015, 0.08)
    x, y = rng.uniform(radius, width - radius), rng.uniform(radius, height - radius)
    stretch = rng.uniform(0.6, 1.6)
    box = (x - radius * stretch, y - radius, x + radius * stretch, y + radius)
    mask = _drawn(image.shape, lambda d: d.ellipse(box, fill=255), radius / 4)
    return image + mask[:, :, None] * _contrast(image, rng)


def _patch_size(image: Gray, rng: np.random.Generator) -> tuple[int, int]:
    span = min(image.shape[:2])
    return min(span, max(4, int(span * rng.uniform(0.04, 0.25)))), min(span, max(4, int(span * rng.uniform(0.04, 0.25))))


def _cut_paste(image: Gray, rng: np.random.Generator, scale: float) -> Gray:
    height, width = image.shape[:2]
    tall, wide = _patch_size(image, rng)
    y0, x0 = int(rng.integers(height - tall + 1)), int(rng.integers(width - wide + 1))
    y1, x1 = int(rng.integers(height - tall + 1)), int(rng.integers(width - wide + 1))
    patch = image[y0 : y0 + tall, x0 : x0 + wide][:: int(rng.choice([-1, 1])), :: int(rng.choice([-1, 1]))]
    pasted = image.copy()
    pasted[y1 : y1 + tall, x1 : x1 + wide] = patch * rng.uniform(0.8, 1.2) + rng.uniform(-10, 10)
    return pasted


def _texture(image: Gray, rng: np.random.Generator, scale: float) -> Gray:
    height, width = image.shape[:2]
    mask = np.clip(perlin((height, width), int(rng.integers(3, 9)), rng) - rng.uniform(1.2, 1.9), 0, 0.3) / 0.3
    grain = perlin((height, width), int(rng.integers(16, 64)), rng)
    textured: Gray = image + (mask * grain)[:, :, None] * abs(_contrast(image, rng))
    return textured


def _step(image: Gray, rng: np.random.Generator, scale: float) -> Gray:
    tall, wide = _patch_size(image, rng)
    height, width = image.shape[:2]
    y, x = int(rng.integers(height - tall + 1)), int(rng.integers(width - wide + 1))
    mask = _drawn(image.shape, lambda d: d.rectangle((x, y, x + wide, y + tall), fill=255), 1.0)
    return image + mask[:, :, None] * _contrast(image, rng) * 0.6


_MAKERS: dict[str, Callable[[Gray, np.random.Generator, float], Gray]] = {
    "scratch": _scratch,
    "crack": _crack,
    "blob": _blob,
    "cut_paste": _cut_paste,
    "texture": _texture,
    "step": _step,
}  # all but the first two change a share of the picture, whatever its scale
KINDS = tuple(_MAKERS)
