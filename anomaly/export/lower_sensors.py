"""The parts of a sensor detector as nodes of a graph: standardisation, features, scorers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomaly.export.lower import lower, lower_evidence
from anomaly.export.writer import GraphWriter
from anomaly.features.encoder import LENGTH, STD_FLOOR, STILL, SensorEncoder, SensorExtractor, fill_widths, quarters
from anomaly.features.preprocess import MAX_Z, SensorPreprocess
from anomaly.scorers.sensors.deviation import Deviation
from anomaly.scorers.sensors.shape import WHOLE, ShapeBank
from anomaly.scorers.sensors.views import Views
from anomaly.scorers.sensors.windows import ENOUGH

END = int(np.iinfo(np.int64).max)  # a slice up to the last one
FLOAT, BOOL, DOUBLE = 1, 9, 11  # element types of a Cast


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
    """Values and what is known (N, 2, T, C) -> [level, spread, movement, shape and its known where there is one, known], (N, C * k, P)."""
    own = _last_rows(write, x, module.rows - module.level)
    chunks, axis = _chunks(module, write, own)
    sums = _sum_over(write, chunks, axis, module.step)  # (N, 2, K, C)
    mean = write.op("Div", *_planes(write, sums))
    z, known = write.ops("Split", 2, chunks, axis=1, num_outputs=2)
    apart = write.op("Mul", write.op("Sub", z, write.op("Unsqueeze", mean, [axis])), known)
    squares = _sum_over(write, write.op("Mul", apart, apart), axis, module.step)  # (N, 1, K, C)
    level, spread, share = _moments(module, write, sums, mean, squares)
    maps = [level, spread, _movement(module, write, own), share]
    maps = [write.op("Transpose", m, perm=[0, 2, 1]) for m in maps]
    if module.shape:
        maps[3:3] = _shapes(module, write, _last_rows(write, x, module.rows - module.shape))
    return maps


def _last_rows(write: GraphWriter, x: str, first: int) -> str:
    """Rows of (N, 2, T, C) from the `first` on."""
    return write.op("Slice", x, [first], [END], [2]) if first else x


def _chunks(module: SensorExtractor, write: GraphWriter, x: str) -> tuple[str, int]:
    """(N, 2, T, C) in chunks of `step` rows: (N, 2, step, K, C) or (N, 2, K, step, C), and the axis of the rows in a chunk."""
    step = module.step
    if module.every_row:  # a chunk begins at each row
        firsts = _count_up(write, write.op("Sub", write.op("Shape", x, start=2, end=3), step - 1))
        return write.op("Gather", x, write.op("Add", firsts, np.arange(step)[:, None]), axis=2), 2
    shape = write.op("Concat", [0, 2, -1, step], write.op("Shape", x, start=3), axis=0)  # side by side
    return write.op("Reshape", x, shape), 3


def _movement(module: SensorExtractor, write: GraphWriter, x: str) -> str:
    """Values and what is known (N, 2, T, C) -> movement (N, P, C)."""
    before, after = write.op("Slice", x, [0], [-1], [2]), write.op("Slice", x, [1], [END], [2])
    (z0, known0), (z1, known1) = (write.ops("Split", 2, part, axis=1, num_outputs=2) for part in (before, after))
    known = write.op("Mul", known0, known1)
    apart = write.op("Mul", write.op("Sub", z1, z0), known)
    pairs = write.op("Concat", write.op("Mul", apart, apart), known, axis=1)
    chunks, axis = _chunks(module, write, write.op("Pad", pairs, [0, 0, 1, 0, 0, 0, 0, 0], 0.0))
    sums, hop, parts = _sum_over(write, chunks, axis, module.step), module.hop, module.parts

    def at(value: str, part: int) -> str:
        return write.op("Slice", value, [part * hop], [(part + 1 - parts) * hop or END], [2])

    each = [at(sums, part) for part in range(1, parts)]
    if module.step > 1:  # the step into a position's first row is not its own
        rest = write.op("Slice", chunks, [1], [END], [axis])
        each.insert(0, at(_sum_over(write, rest, axis, module.step - 1), 0))
    total, counted = _planes(write, write.op("Sum", *each))
    return write.op("Squeeze", write.op("Log", write.op("Add", write.op("Sqrt", write.op("Div", total, counted)), STD_FLOOR)), [1])


def _shapes(module: SensorExtractor, write: GraphWriter, x: str) -> list[str]:
    """Values and what is known (N, 2, T, C) -> shape (N, C * E, P), and of each reading whether it is known (N, C * T, P)."""
    rows = module.shape
    z, known = (write.op("Squeeze", part, [1]) for part in write.ops("Split", 2, x, axis=1, num_outputs=2))  # (N, T, C)
    filled = _filled(module, write, z, known)
    if module.every_row:
        firsts = _count_up(write, write.op("Sub", write.op("Shape", x, start=2, end=3), rows - 1))
        places = write.op("Add", write.op("Unsqueeze", firsts, [1]), np.arange(rows))
        filled = [write.op("Transpose", write.op("Gather", v, places, axis=1), perm=[0, 1, 3, 2]) for v in filled]  # (N, P, C, T)
    else:
        filled = [write.op("Unsqueeze", write.op("Transpose", v, perm=[0, 2, 1]), [1]) for v in filled]
    before, away, after, ahead, between = filled
    follows = write.op("LessOrEqual", away, np.arange(rows, dtype=np.float32))
    leads = write.op("LessOrEqual", ahead, np.arange(rows, dtype=np.float32)[::-1].copy())
    there = write.op("Or", follows, leads)
    z = write.op("Where", follows, write.op("Where", leads, between, before), after)
    total = write.op("ReduceSum", write.op("Where", there, z, 0.0), [3], keepdims=1)
    divisor = write.op("Max", write.op("ReduceSum", write.op("Cast", there, to=FLOAT), [3], keepdims=1), 1.0)
    apart = write.op("Where", there, write.op("Sub", z, write.op("Div", total, divisor)), 0.0)
    if module.encoder is not None:
        sizes = write.op("Shape", apart, start=0, end=3)
        windows = write.op("Reshape", apart, write.op("Concat", [-1], write.op("Shape", apart, start=2), axis=0))
        apart = write.op("Reshape", _encoder(module.encoder, write, windows, rows), write.op("Concat", sizes, [-1], axis=0))
    read = write.op("Cast", write.op("LessOrEqual", away, 0.0), to=FLOAT)
    return [write.op("Transpose", write.op("Reshape", m, [0, 0, -1]), perm=[0, 2, 1]) for m in (apart, read)]


def _filled(module: SensorExtractor, write: GraphWriter, z: str, known: str) -> list[str]:
    """`features.encoder.fill_rows` of values and what is known (N, T, C)."""
    unknown = write.op("Where", write.op("Greater", known, 0.0), 0.0, float(module.shape))
    found = []
    for back in (True, False):
        value, away = z, unknown
        for width in fill_widths(module.shape):
            missing = write.op("GreaterOrEqual", away, float(module.shape))
            cut, pads = ([[0], [-width]], [0, width, 0, 0, 0, 0]) if back else ([[width], [END]], [0, 0, 0, 0, width, 0])
            near, further = (write.op("Slice", v, *cut, [1]) for v in (value, write.op("Add", away, float(width))))
            value = write.op("Where", missing, write.op("Pad", near, pads, 0.0), value)
            away = write.op("Where", missing, write.op("Pad", further, pads, float(module.shape)), away)
        found += [value, away]
    before, away, after, ahead = found
    share = write.op("Div", away, write.op("Max", write.op("Add", away, ahead), 1.0))
    return [*found, write.op("Add", before, write.op("Mul", write.op("Sub", after, before), share))]


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
    level_parts = parts // module.part

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
    share = write.op("Div", write.op("Sum", *counts), float(module.level))
    level, spread, share = (write.op("Squeeze", m, [1]) for m in (level, spread, share))
    return level, spread, share


def _count_up(write: GraphWriter, end: str) -> str:
    """0, 1, 2, … below `end` (1,): int64."""
    return write.op("Range", 0, write.op("Squeeze", end, [0]), 1)


def _encoder(module: SensorEncoder, write: GraphWriter, apart: str, rows: int) -> str:
    """(N, C, T), T = rows -> (N, C, E): the readings and the kernels' responses."""
    x = write.op("Unsqueeze", write.op("Flatten", apart, axis=2), [1])  # (N * C, 1, T)
    moves = write.op("Add", write.op("Sqrt", write.op("ReduceMean", write.op("Mul", x, x), [2], keepdims=1)), STILL)
    both = write.op("Concat", x, write.op("Div", x, moves), axis=1)
    responses = []
    for layer, dilation in zip(module.layers, module.dilations, strict=True):
        pads = [LENGTH // 2 * dilation] * 2
        found = write.op("Conv", both, _floats(layer.weight), _floats(layer.bias), dilations=[dilation], pads=pads)
        responses.append(write.op("Sigmoid", found))
    joined = write.op("Concat", *responses, axis=1) if len(responses) > 1 else responses[0]
    sizes = write.op("Concat", write.op("Shape", apart, start=0, end=2), [-1], axis=0)
    found = write.op("Reshape", write.op("MatMul", joined, quarters(rows)), sizes)
    own, learnt = (float(unit) for unit in module.unit)
    return write.op("Concat", write.op("Div", apart, own), write.op("Div", found, learnt), axis=2)


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


@lower.register
def _shape_bank(module: ShapeBank, write: GraphWriter, shape: str, known: str) -> list[str]:
    """Shape (N, C * E, 1), known (N, C * T, 1) -> score (N,), contribution (N, C)."""
    sensors = module.norms.shape[0]
    each = module.basis.shape[1] // sensors
    read = write.op("Reshape", known, [-1, sensors, int(module.rows)])  # whatever its shape: places of a stretch lie in the second axis
    counts = write.op("Cast", write.op("GreaterOrEqual", write.op("ReduceMean", read, [2], keepdims=0), WHOLE), to=FLOAT)
    wide = write.op("Unsqueeze", counts, [2])
    apart = write.op("Sub", write.op("Reshape", shape, [-1, sensors, each]), _floats(module.center).reshape(sensors, each))
    x = write.op("Mul", apart, wide)
    basis, bank = write.constant(module.basis, "shape.basis"), write.constant(module.bank, "shape.bank")
    along = write.op("Gemm", write.op("Reshape", x, [-1, sensors * each]), basis, transB=1)
    # `ShapeBank.lookup`, put together once when the graph is loaded
    norms = write.op("Transpose", write.op("Mul", write.constant(module.norms, "shape.norms"), np.full(1, -0.5)), perm=[1, 0])
    table = write.op("Concat", write.op("Cast", bank, to=DOUBLE), norms, axis=1)
    match = write.op("Gemm", write.op("Cast", write.op("Concat", along, counts, axis=1), to=DOUBLE), table, transB=1)
    nearest = write.op("Gather", bank, write.op("ArgMax", match, axis=1, keepdims=0), axis=0)
    there = write.op("Reshape", write.op("MatMul", nearest, basis), [-1, sensors, each])
    apart = write.op("Sub", x, there)
    if module.reads_rows:
        number = write.op("Max", write.op("ReduceSum", read, [2], keepdims=1), 1.0)
        mean = write.op("Div", write.op("ReduceSum", write.op("Mul", apart, read), [2], keepdims=1), number)
        wider = write.op("Sqrt", write.op("Div", float(each), number))
        apart = write.op("Mul", write.op("Mul", write.op("Sub", apart, mean), read), wider)
    squared = write.op("ReduceSumSquare", write.op("Mul", apart, wide), [2], keepdims=0)
    total = write.op("ReduceSum", squared, [1], keepdims=1)
    score = write.op("Sqrt", write.op("Div", total, float(sensors * each)))
    share = write.op("Mul", write.op("Div", squared, write.op("Max", total, 1e-12)), score)
    return [write.op("Squeeze", score, [1]), share]


@lower.register
def _views(module: Views, write: GraphWriter, *features: str) -> list[str]:
    """[(N, C * k, 1)] -> score (N,), contribution (N, C)."""
    own = list(features)
    found = []
    if module.shape is not None:
        shape, known = own[3:5]
        own[3:5] = []
        found.append(lower(module.shape, write, shape, known))
    found.insert(0, lower(module.level, write, *own))
    (score, share), *others = [[write.op("Div", v, float(unit)) for v in view] for view, unit in zip(found, module.unit, strict=True)]
    for other, part in others:
        share = write.op("Where", write.op("Unsqueeze", write.op("Greater", other, score), [1]), part, share)
        score = write.op("Max", score, other)
    return [score, share]


@lower_evidence.register
def _views_evidence(scorer: Views, write: GraphWriter, *features: str) -> str:
    """[(N, C * k, 1)] -> the level's z-scores and each sensor's part of the shape (N, D)."""
    if scorer.shape is None:
        return lower_evidence(scorer.level, write, *features)
    *own, shape, known = features[:5]
    _, share = lower(scorer.shape, write, shape, known)
    return write.op("Concat", lower_evidence(scorer.level, write, *own, *features[5:]), share, axis=1)
