"""The parts of a sensor detector as nodes of a graph: standardisation, features, scorers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomaly.export.lower import lower, lower_evidence
from anomaly.export.writer import GraphWriter
from anomaly.features.encoder import LEVEL_PART, STD_FLOOR, SensorEncoder, SensorExtractor
from anomaly.features.preprocess import MAX_Z, SensorPreprocess
from anomaly.scorers.sensors.deviation import Deviation
from anomaly.scorers.sensors.windows import ENOUGH

END = int(np.iinfo(np.int64).max)  # a slice up to the last one
FLOAT, BOOL = 1, 9  # element types of a Cast


@lower.register
def _preprocess(module: SensorPreprocess, write: GraphWriter, window: str) -> list[str]:
    """Windows (N, T, C) with NaN -> standardised values and 1 where known (N, 2, T, C)."""
    raw = write.op("Unsqueeze", window, [1])
    known = write.op("Less", write.op("Abs", raw), 1e30)  # False for NaN
    z = write.op("Clip", write.op("Div", write.op("Sub", raw, module.center), module.scale), -MAX_Z, MAX_Z)
    return [write.op("Concat", write.op("Where", known, z, 0.0), write.op("Cast", known, to=FLOAT), axis=1)]


# --- features ---


@lower.register
def _extractor(module: SensorExtractor, write: GraphWriter, x: str) -> list[str]:
    """Values and what is known (N, 2, T, C) -> level (N, C, P), spread (N, C, P), learnt (N, C * k, P) with an encoder, known (N, C, P)."""
    step = module.step
    if module.every_row:  # a chunk begins at each row
        firsts = _count_up(write, write.op("Sub", write.op("Shape", x, start=2, end=3), step - 1))
        chunks = write.op("Gather", x, write.op("Add", firsts, np.arange(step)[:, None]), axis=2)  # (N, 2, step, K, C)
        axis = 2
    else:  # side by side
        shape = write.op("Concat", [0, 2, -1, step], write.op("Shape", x, start=3), axis=0)
        chunks = write.op("Reshape", x, shape)  # (N, 2, K, step, C)
        axis = 3
    sums = _sum_over(write, chunks, axis, step)  # (N, 2, K, C)
    mean = write.op("Div", *_planes(write, sums))
    z, known = write.ops("Split", 2, chunks, axis=1, num_outputs=2)
    apart = write.op("Mul", write.op("Sub", z, write.op("Unsqueeze", mean, [axis])), known)
    squares = _sum_over(write, write.op("Mul", apart, apart), axis, step)  # (N, 1, K, C)
    level, spread, share = _moments(module, write, sums, mean, squares)
    maps = [write.op("Transpose", m, perm=[0, 2, 1]) for m in (level, spread, share)]
    if module.encoder is not None:
        (learnt,) = lower(module.encoder, write, _fill_missing(write, x))
        maps.insert(2, write.op("ReduceMean", learnt, [2], keepdims=1))
    return maps


def _sum_over(write: GraphWriter, value: str, axis: int, size: int) -> str:
    """The sum over an axis of `size`, which is not kept: one by one where they are few, as ONNX Runtime is slow on a middle axis."""
    if size > 16:
        return write.op("ReduceSum", value, [axis], keepdims=0)
    parts = write.ops("Split", size, value, axis=axis, num_outputs=size) if size > 1 else [value]
    return write.op("Squeeze", write.op("Sum", *parts), [axis])


def _planes(write: GraphWriter, sums: str) -> tuple[str, str]:
    """Sums and counts (N, 2, …) -> sums, and counts that are one at least, (N, 1, …) each."""
    total, counted = write.ops("Split", 2, sums, axis=1, num_outputs=2)
    return total, write.op("Max", counted, 1.0)


def _moments(module: SensorExtractor, write: GraphWriter, sums: str, mean: str, squares: str) -> tuple[str, str, str]:
    """Of K chunks: sum and count (N, 2, K, C), mean and sum of squares (N, 1, K, C) -> level, spread, share known (N, P, C)."""
    parts, hop = module.parts, module.hop
    level_parts = parts // LEVEL_PART

    def at(chunks: str, part: int) -> str:
        return write.op("Slice", chunks, [part * hop], [(part + 1 - parts) * hop or END], [2])

    each = [at(sums, part) for part in range(parts)]
    total, divisor = _planes(write, write.op("Sum", *each))
    overall = write.op("Div", total, divisor)
    recent_total, recent_divisor = _planes(write, write.op("Sum", *each[-level_parts:]))
    counts = [write.op("Slice", pair, [1], [2], [1]) for pair in each]
    squared = [at(squares, part) for part in range(parts)]
    for part, counted in enumerate(counts):
        apart = write.op("Sub", at(mean, part), overall)
        squared.append(write.op("Mul", write.op("Mul", apart, apart), counted))
    variance = write.op("Div", write.op("Sum", *squared), divisor)
    known = write.op("Greater", write.op("Sum", *counts[-level_parts:]), 0.0)
    level = write.op("Where", known, write.op("Div", recent_total, recent_divisor), overall)
    spread = write.op("Log", write.op("Add", write.op("Sqrt", variance), STD_FLOOR))
    share = write.op("Div", write.op("Sum", *counts), float(module.rows))
    level, spread, share = (write.op("Squeeze", m, [1]) for m in (level, spread, share))
    return level, spread, share


def _count_up(write: GraphWriter, end: str) -> str:
    """0, 1, 2, … below `end` (1,): int64."""
    return write.op("Range", 0, write.op("Squeeze", end, [0]), 1)


def _fill_missing(write: GraphWriter, x: str) -> str:
    """Mean imputation (`encoder.fill_missing`): values and what is known (N, 2, T, C) -> (N, C, T)."""
    z, known = write.ops("Split", 2, x, axis=1, num_outputs=2)
    z = write.op("Mul", z, known)
    counted = write.op("Max", write.op("ReduceSum", known, [2], keepdims=1), 1.0)
    mean = write.op("Div", write.op("ReduceSum", z, [2], keepdims=1), counted)
    filled = write.op("Add", z, write.op("Mul", mean, write.op("Sub", 1.0, known)))
    return write.op("Transpose", write.op("Squeeze", filled, [1]), perm=[0, 2, 1])


@lower.register
def _encoder(module: SensorEncoder, write: GraphWriter, z: str) -> list[str]:
    """(N, C, T) -> (N, C * channels, T). Causal: the padding before each series is the convolution's own."""
    x = write.op("Unsqueeze", write.op("Flatten", z, axis=2), [1])  # (N * C, 1, T)
    for index, (layer, dilation) in enumerate(zip(module.layers, module.dilations, strict=True)):
        x = write.op("Conv", x, _floats(layer.weight), _floats(layer.bias), dilations=[dilation], pads=[2 * dilation, 0])
        x = x if index == len(module.layers) - 1 else _gelu(write, x)
    width = write.op("Mul", write.op("Shape", z, start=1, end=2), module.channels)
    return [write.op("Reshape", write.op("Tanh", x), write.op("Concat", [-1], width, write.op("Shape", z, start=2), axis=0))]


def _gelu(write: GraphWriter, x: str) -> str:
    """The exact one, in the form that ONNX Runtime fuses to one kernel."""
    both = write.op("Add", write.op("Erf", write.op("Div", x, 2.0**0.5)), 1.0)
    return write.op("Mul", write.op("Mul", x, both), 0.5)


# --- scorers ---


def _deviation_by_feature(write: GraphWriter, features: tuple[str, ...], center: NDArray[Any]) -> tuple[str, str]:
    """(features less their centre (C, F), 0 for sensors that do not count, as (N, F, C); which count (N, 1, C)).

    `features` are level, spread, learnt if there is one, and known; their elements in the order (N, C * k), whatever their shape.
    """
    sensors, width = center.shape
    learnt = width - (len(features) - 2)  # features a sensor of the last map, the others have one
    maps = [write.op("Reshape", m, [-1, 1, sensors]) for m in features[:-2]]
    if learnt == 1:
        maps.append(write.op("Reshape", features[-2], [-1, 1, sensors]))
    else:
        maps.append(write.op("Transpose", write.op("Reshape", features[-2], [-1, sensors, learnt]), perm=[0, 2, 1]))
    counts = write.op("Cast", write.op("GreaterOrEqual", write.op("Reshape", features[-1], [-1, 1, sensors]), ENOUGH), to=FLOAT)
    apart = write.op("Sub", write.op("Concat", *maps, axis=1) if len(maps) > 1 else maps[0], center.T)
    return write.op("Mul", apart, counts), counts


def _floats(tensor: Any) -> NDArray[Any]:
    found: NDArray[Any] = tensor.detach().cpu().numpy()
    return found


def _z_scores(module: Deviation, write: GraphWriter, features: tuple[str, ...]) -> str:
    """[(N, C * k, 1)] -> signed z-scores (N, F + 1, C), which the score and a vote beside it share."""
    key = ("z-scores", " ".join(features))
    if key in write.shared:
        return write.shared[key]
    deviation, counts = _deviation_by_feature(write, features, _floats(module.center))
    level = write.op("Slice", deviation, [0], [1], [1])
    predicted = write.op("Sub", write.op("MatMul", level, module.mix), module.mix_center)
    residual = write.op("Mul", write.op("Div", predicted, module.mix_scale), counts)
    scaled = write.op("Div", deviation, _floats(module.scale).T)
    write.shared[key] = write.op("Concat", scaled, residual, axis=1)
    return write.shared[key]


@lower_evidence.register
def _deviation_evidence(scorer: Deviation, write: GraphWriter, *features: str) -> str:
    """[(N, C * k, 1)] -> signed z-scores (N, (F + 1) * C)."""
    sensors, width = scorer.center.shape
    return write.op("Reshape", _z_scores(scorer, write, features), [-1, (width + 1) * sensors])


@lower.register
def _deviation(module: Deviation, write: GraphWriter, *features: str) -> list[str]:
    """[(N, C * k, 1)] -> score (N,), contribution (N, C)."""
    z = write.op("Abs", _z_scores(module, write, features))
    largest = write.op("Max", write.op("ReduceMax", z, [1, 2], keepdims=1), 1e-6)
    ratio = write.op("Div", z, largest)
    square = write.op("Mul", ratio, ratio)
    parts = write.op("ReduceSumSquare", square, [1], keepdims=0)
    score = write.op("Squeeze", largest, [2])
    total = write.op("Max", write.op("ReduceSum", parts, [1], keepdims=1), 1e-12)
    return [write.op("Squeeze", score, [1]), write.op("Mul", write.op("Div", parts, total), score)]


def by_position(write: GraphWriter, features: list[str]) -> list[str]:
    """[(N, K, P)] -> [(N, P, K)]: as the scorers read it, every position a window of its own."""
    return [write.op("Transpose", m, perm=[0, 2, 1]) for m in features]
