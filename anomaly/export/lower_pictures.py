"""The parts of a camera detector as ONNX graphs: preprocessing, memory banks and Gaussians."""

from __future__ import annotations

import math

from onnx import TensorProto
from torch import Tensor

from anomaly.export.lower import lower
from anomaly.export.search import PLACES, in_portions, nearest_at_once, nearest_by_integers, patches_at_once, rounded_queries
from anomaly.export.writer import GraphWriter
from anomaly.features.preprocess import ImagePreprocess
from anomaly.scorers.pictures.embedding import Roi, roi_mask
from anomaly.scorers.pictures.gaussian import PlaceGaussians, group_places, group_slots
from anomaly.scorers.pictures.memory_bank import MemoryBank
from anomaly.scorers.pictures.patches import PatchBank
from anomaly.scorers.pictures.places import PlaceBank
from anomaly.scorers.pictures.views import OUTSIDE_ROI, finest_grid, first_pools, places_pooled


@lower.register
def _preprocess(module: ImagePreprocess, write: GraphWriter, image: str) -> list[str]:
    """(N, H, W, C) integer -> (N, 3, high, wide), or (N, 1, high, wide) where gray channels are merged."""
    if module.mean.shape[1] == 1:  # one gray channel: nothing to reorder, and a large frame is not copied
        apart = write.op("Unsqueeze", write.op("Squeeze", image, [3]), [1])
    else:
        apart = write.op("Transpose", image, perm=[0, 3, 1, 2])
    x = write.op("Cast", apart, to=TensorProto.FLOAT)
    if module.full_scale != 1.0:
        x = write.op("Div", x, module.full_scale)
    if module.roi:
        x = write.op("Where", _inside_roi(write, x, module.roi), x, module.blank)
    size = write.op("Concat", write.op("Shape", x, start=0, end=2), list(module.size), axis=0)
    # As PyTorch's antialiasing: samples outside the picture are left out, and the weights of the others sum to one.
    small = write.op(
        "Resize", x, None, None, size, mode="linear", antialias=1, exclude_outside=1, coordinate_transformation_mode="half_pixel"
    )
    return [write.op("Div", write.op("Sub", small, module.mean), module.std)]


def _inside_roi(write: GraphWriter, x: str, roi: Roi) -> str:
    """Which pixels of pictures (N, C, H, W) have their middle in a rectangle: bool (H, W), as `preprocess.inside_roi` tells it."""

    def middles(axis: int) -> str:
        size = write.op("Squeeze", write.op("Shape", x, start=axis, end=axis + 1))
        places = write.op("Cast", write.op("Range", 0, size, 1), to=TensorProto.FLOAT)
        return write.op("Div", write.op("Add", places, 0.5), write.op("Cast", size, to=TensorProto.FLOAT))

    def between(values: str, low: float, high: float) -> str:
        return write.op("And", write.op("GreaterOrEqual", values, low), write.op("Less", values, high))

    y, x_ = write.op("Unsqueeze", middles(2), [1]), write.op("Unsqueeze", middles(3), [0])
    inside = ""
    for left, top, right, bottom in roi:
        one = write.op("And", between(y, top, bottom), between(x_, left, right))
        inside = write.op("Or", inside, one) if inside else one
    return inside


def _patches(write: GraphWriter, features: str, channels: int) -> str:
    """Means over 3x3 neighbourhoods of maps (N, C, h, w) as rows (N * h * w, C). Banks of one stage share them."""
    key = ("patches", features)
    if key not in write.shared:
        pooled = write.op("AveragePool", features, kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[1, 1], count_include_pad=0)
        write.shared[key] = write.op("Reshape", write.op("Transpose", pooled, perm=[0, 2, 3, 1]), [-1, channels])
    return write.shared[key]


def _embedded(write: GraphWriter, features: str, bank: PatchBank | PlaceGaussians | PlaceBank, step: float = 1.0) -> str:
    """What `embedding.embed` gives, over `step`: rows (N * h * w, C)."""
    rows = write.op("Sub", _patches(write, features, len(bank.center)), bank.center)
    if bank.metric == "raw":
        return rows if step == 1.0 else write.op("Div", rows, step)
    rows = write.op("Div", rows, bank.spread)
    length = write.op("Sqrt", write.op("Max", write.op("ReduceSumSquare", rows, [1], keepdims=1), 1e-12))
    return write.op("Div", rows, length if step == 1.0 else write.op("Mul", length, step))


def _standardised(write: GraphWriter, distances: str, usual: Tensor, features: str) -> str:
    """Distances (N * h * w,) -> standardised map (N, 1, h, w), on the grid of the features (N, C, h, w)."""
    grid = write.op("Concat", [-1, 1], write.op("Shape", features, start=2), axis=0)
    mean, std = (float(value) for value in usual)
    return write.op("Reshape", write.op("Div", write.op("Sub", distances, mean), std), grid)


@lower.register
def _patch_bank(module: PatchBank, write: GraphWriter, features: str) -> list[str]:
    """Maps (N, C, h, w) -> standardised distance (N, 1, h, w) to the nearest patch: |q|^2 + min over b of |b|^2 - 2 q.b."""
    queries = _embedded(write, features, module, float(module.step))
    if write.search == "integers":
        queries = rounded_queries(write, queries)
    length = write.op("ReduceSumSquare", queries, [1], keepdims=0)
    places, width = math.prod(write.shapes[features][1:]) if features in write.shapes else 1, len(module.center)
    block = patches_at_once(min(places, PLACES))
    if write.search == "whole":
        nearest = nearest_at_once(write, queries, module.patches)
    elif write.search == "integers":
        nearest = in_portions(write, queries, places, width, lambda some: nearest_by_integers(write, some, module.patches, block))
    else:
        nearest = in_portions(write, queries, places, width, lambda some: _nearest(write, some, module, block))
    distance = write.op("Sqrt", write.op("Max", write.op("Add", nearest, length), 0.0))
    return [_standardised(write, write.op("Mul", distance, float(module.step)), module.usual, features)]


def _nearest(write: GraphWriter, queries: str, bank: PatchBank, block: int) -> str:
    """Queries (Q, D) -> |b|^2 - 2 q.b (Q,) of the nearest patch, block by block; patches stay one byte a value in the file."""
    best = ""
    for start in range(0, len(bank.patches), block):
        patches = write.op("Cast", bank.patches[start : start + block], to=TensorProto.FLOAT)
        distances = write.op("Gemm", queries, patches, bank.squared[start : start + block], alpha=-2.0, transB=1)
        least = write.op("ReduceMin", distances, [1], keepdims=0)
        best = write.op("Min", best, least) if best else least
    return best


@lower.register
def _place_gaussians(module: PlaceGaussians, write: GraphWriter, features: str) -> list[str]:
    """Maps (N, D, h, w) -> standardised Mahalanobis distance (N, 1, h, w), by groups of places that share a covariance."""
    high, wide, width = module.mean.shape
    places = group_places(high, wide)  # (B, k)
    rows = write.op("Sub", write.op("Reshape", _embedded(write, features, module), [-1, high * wide, width]), module.mean.flatten(0, 1))
    grouped = write.op("Reshape", write.op("Gather", rows, places.flatten(), axis=1), [-1, *places.shape, width])
    flat = write.op("Reshape", write.op("Transpose", grouped, perm=[1, 0, 2, 3]), [len(places), -1, width])  # (B, N * k, D)
    white = write.op("MatMul", flat, module.whiten.transpose(1, 2).contiguous())
    apart = write.op("Reshape", write.op("Sqrt", write.op("ReduceSumSquare", white, [2], keepdims=0)), [len(places), -1, places.shape[1]])
    distance = write.op("Reshape", write.op("Transpose", apart, perm=[1, 0, 2]), [-1, places.numel()])
    return [_standardised(write, write.op("Gather", distance, group_slots(high, wide), axis=1), module.usual, features)]


@lower.register
def _place_bank(module: PlaceBank, write: GraphWriter, features: str) -> list[str]:
    """Maps (N, D, h, w) -> standardised distance (N, 1, h, w) to the nearest patch of a place, by groups of places."""
    down, across, _, width = module.patches.shape
    high, wide = write.shapes[features][1:]
    rows = write.op(
        "Reshape", _embedded(write, features, module, float(module.step)), [-1, down, high // down, across, wide // across, width]
    )
    queries = write.op("Reshape", write.op("Transpose", rows, perm=[1, 3, 0, 2, 4, 5]), [down * across, -1, width])
    patches = write.op("Cast", module.patches.flatten(0, 1).transpose(1, 2).contiguous(), to=TensorProto.FLOAT)
    products = write.op("Mul", write.op("MatMul", queries, patches), -2.0)
    nearest = write.op("ReduceMin", write.op("Add", products, module.squared.flatten(0, 1).unsqueeze(1)), [2], keepdims=0)
    squared = write.op("Max", write.op("Add", nearest, write.op("ReduceSumSquare", queries, [2], keepdims=0)), 0.0)
    distance = write.op("Mul", write.op("Sqrt", squared), float(module.step))  # (B, N * places of a group)
    apart = write.op("Reshape", distance, [down, across, -1, high // down, wide // across])
    return [_standardised(write, write.op("Transpose", apart, perm=[2, 0, 3, 1, 4]), module.usual, features)]


@lower.register
def _memory_bank(module: MemoryBank, write: GraphWriter, *features: str) -> list[str]:
    """One map (N, C_s, h_s, w_s) a stage -> score (N,), map (N, h, w), as `views.speak` tells it."""
    members: dict[str, list[tuple[tuple[int, int], str]]] = {}
    for plan, bank in zip(module.plans, module.banks, strict=True):
        high, wide = write.shapes[features[plan.stage]][1:]
        members.setdefault(plan.view, []).append(((high, wide), lower(bank, write, features[plan.stage])[0]))
    views = {view: _view_map(module, write, own) for view, own in members.items()}
    scores = []
    for pool, (center, unit) in zip(module.pools, module.laws.tolist(), strict=True):
        (high, wide), mean = views[pool.view]
        count = places_pooled(pool.share, high, wide, module.roi)
        worst, _ = write.ops("TopK", 2, write.op("Reshape", mean, [-1, high * wide]), [count], axis=1, largest=1, sorted=1)
        scores.append(_in_units(write, write.op("ReduceMean", worst, [1], keepdims=0), center, unit))
    grid = finest_grid([sides for sides, _ in views.values()])
    told = []
    for at in first_pools(module.pools):
        sides, mean = views[module.pools[at].view]
        own = _in_units(write, mean, *module.laws[at].tolist())
        told.append(own if sides == grid else write.op("Squeeze", _resized(write, write.op("Unsqueeze", own, [1]), grid), [1]))
    return [scores[0] if len(scores) == 1 else write.op("Max", *scores), told[0] if len(told) == 1 else write.op("Max", *told)]


def _view_map(module: MemoryBank, write: GraphWriter, own: list[tuple[tuple[int, int], str]]) -> tuple[tuple[int, int], str]:
    """Maps (N, 1, h_b, w_b) of the banks of a view, each with its grid -> the finest grid, their mean on it (N, h, w)."""
    grid = finest_grid([sides for sides, _ in own])
    total = ""
    for sides, value in own:
        fine = value if sides == grid else _resized(write, value, grid)
        total = write.op("Add", total, fine) if total else fine
    mean = write.op("Div", write.op("Reshape", total, [-1, *grid]), float(len(own)))
    return grid, write.op("Where", roi_mask(module.roi, *grid), mean, OUTSIDE_ROI) if module.roi else mean


def _in_units(write: GraphWriter, value: str, center: float, unit: float) -> str:
    """A value less its law's median, in its law's unit; as it is where the law changes nothing."""
    return value if (center, unit) == (0.0, 1.0) else write.op("Div", write.op("Sub", value, center), unit)


def _resized(write: GraphWriter, value: str, grid: tuple[int, ...]) -> str:
    """A map (N, 1, h, w) on another grid, bilinear."""
    size = write.op("Concat", write.op("Shape", value, start=0, end=2), list(grid), axis=0)
    return write.op("Resize", value, None, None, size, mode="linear", coordinate_transformation_mode="half_pixel")
