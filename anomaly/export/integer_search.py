"""Nearest-neighbour search of the memory banks in int8, for processors that multiply bytes faster than floats.

Banks hold int8 patches as they are. Here the queries are quantised to the same step, and each float product becomes MatMulInteger:
about two and a half times as fast on x86 with VNNI. The patches' squared lengths join the product as a few more columns, so that the
search is one product and one maximum, without a pass over all distances in between.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from anomaly.export.onnx_graph import prune_to, serialized
from anomaly.scorers.pictures.patches import LEVELS

ZERO = 128  # unsigned queries with this zero point: signed times signed is many times slower in ONNX Runtime


@dataclass(frozen=True)
class _Search:
    """One block of one bank in the float graph: product, times two, squared lengths less that, minimum."""

    query: str
    patches: NDArray[np.int8]  # (D, M)
    inner: tuple[str, str, str]  # outputs of the nodes that are replaced
    least: str  # output (Q,): |b|^2 - 2 q.b of the nearest patch


def integer_search(content: bytes) -> bytes | None:
    """A camera graph with its bank searches in int8, None when it has none. The same graph gives the same bytes."""
    model = onnx.load_from_string(content)
    graph = model.graph
    searches = _searches(graph)
    if not searches:
        return None
    _constants(graph, {"int8_zero": np.array(ZERO, dtype=np.uint8), "int8_axis": np.array([1], dtype=np.int64)})
    _constants(graph, {f"int8_{name}": np.array(value, dtype=np.float32) for name, value in (("low", -LEVELS), ("high", LEVELS))})
    _constants(graph, {"int8_offset": np.array(ZERO, dtype=np.float32), "int8_factor": np.array(-2.0, dtype=np.float32)})
    widths = _add_length_columns(graph, searches)
    away = {name for search in searches for name in search.inner}
    by_least = {search.least: search for search in searches}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if away & set(node.output):
            continue
        search = by_least.get(node.output[0])
        if search is not None:
            nodes += _integer_search(graph, search, widths[search.query])
            continue
        for index, name in enumerate(node.input):
            if name in widths:
                node.input[index] = f"{name}_whole"
        nodes.append(node)
        for name in node.output:
            if name in widths:
                nodes += _quantised(name)
    prune_to(graph, nodes)
    onnx.checker.check_model(model, full_check=True)
    return serialized(model)


def _searches(graph: onnx.GraphProto) -> list[_Search]:
    """All blocks whose patches come from an int8 initializer, as `PatchBank.distance` exports them."""
    made_by = {name: node for node in graph.node for name in node.output}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    stored = {item.name: item for item in graph.initializer}
    found = []
    for node in graph.node:
        patches = _constant(node.input[1], made_by, stored) if node.op_type == "MatMul" else None
        if patches is None:
            continue
        chain = [node]
        for op in ("Mul", "Sub", "ReduceMin"):
            after = readers.get(chain[-1].output[0], [])
            assert len(after) == 1 and after[0].op_type == op, f"a bank's search goes on with {op}"  # noqa: PT018
            chain.append(after[0])
        product, doubled, taken, least = (one.output[0] for one in chain)
        found.append(_Search(node.input[0], np.ascontiguousarray(patches), (product, doubled, taken), least))
    return found


def _constant(name: str, made_by: Mapping[str, onnx.NodeProto], stored: Mapping[str, onnx.TensorProto]) -> NDArray[np.int8] | None:
    """The value of `name` when it is an int8 initializer, or a slice, cast or transpose of one; else None."""
    if name in stored:
        return numpy_helper.to_array(stored[name]) if stored[name].data_type == onnx.TensorProto.INT8 else None
    node = made_by.get(name)
    if node is None or node.op_type not in ("Slice", "Cast", "Transpose"):
        return None
    inner = _constant(node.input[0], made_by, stored)
    if inner is None or node.op_type == "Cast":
        return inner
    if node.op_type == "Transpose":
        return inner.T
    starts, stops, axes = (numpy_helper.to_array(stored[part]).tolist() for part in node.input[1:4])
    for start, stop, axis in zip(starts, stops, axes, strict=True):
        inner = np.take(inner, np.arange(*slice(start, stop).indices(inner.shape[axis])), axis=axis)
    return inner


def _half_squared_lengths(patches: NDArray[np.int8]) -> NDArray[np.int64]:
    """Half the squared length of each patch (M,), rounded: the term subtracted from the product."""
    return np.asarray((patches.astype(np.int64) ** 2).sum(0) // 2, dtype=np.int64)


def _add_length_columns(graph: onnx.GraphProto, searches: list[_Search]) -> dict[str, int]:
    """How many constant columns each query needs for its bank's squared lengths: the last of value 1, the others of LEVELS."""
    widths: dict[str, int] = {}
    for search in searches:
        halves = _half_squared_lengths(search.patches)
        reach = (int(halves.max()) - int(halves.min())) // 2 + 1
        widths[search.query] = max(widths.get(search.query, 0), 1 + -(-reach // (LEVELS * LEVELS)))
    for query, width in widths.items():
        tail = np.full((1, width), ZERO + LEVELS, dtype=np.uint8)
        tail[0, -1] = ZERO + 1
        _constants(graph, {f"{query}_tail": tail, f"{query}_width": np.array([width], dtype=np.int64)})
    return widths


def _digits(values: NDArray[np.int64], width: int) -> NDArray[np.int8]:
    """Integers (M,) as int8 digits (width, M): LEVELS times the sum of all rows but the last, plus the last."""
    coarse = np.clip(np.rint(values / LEVELS).astype(np.int64), -(width - 1) * LEVELS, (width - 1) * LEVELS)
    rows, left = [], coarse
    for _ in range(width - 1):
        rows.append(np.clip(left, -LEVELS, LEVELS))
        left = left - rows[-1]
    return np.stack([*rows, np.clip(values - coarse * LEVELS, -LEVELS, LEVELS)]).astype(np.int8)


def _quantised(name: str) -> list[onnx.NodeProto]:
    """Nodes that round and clip the queries `name` to int8 steps and append their constant columns."""
    make = onnx.helper.make_node
    return [
        make("Round", [name], [f"{name}_round"]),
        make("Clip", [f"{name}_round", "int8_low", "int8_high"], [f"{name}_whole"]),
        make("Add", [f"{name}_whole", "int8_offset"], [f"{name}_raised"]),
        make("Cast", [f"{name}_raised"], [f"{name}_own"], to=onnx.TensorProto.UINT8),
        make("Shape", [f"{name}_own"], [f"{name}_count"], end=1),
        make("Concat", [f"{name}_count", f"{name}_width"], [f"{name}_shape"], axis=0),
        make("Expand", [f"{name}_tail", f"{name}_shape"], [f"{name}_tails"]),
        make("Concat", [f"{name}_own", f"{name}_tails"], [f"{name}_bytes"], axis=1),
    ]


def _integer_search(graph: onnx.GraphProto, search: _Search, width: int) -> list[onnx.NodeProto]:
    """|b|^2 - 2 q.b of the nearest = -2 (max over b of q.b - (|b|^2 / 2 - middle) - middle)."""
    halves = _half_squared_lengths(search.patches)
    middle = (int(halves.max()) + int(halves.min())) // 2
    out = search.least
    joined = np.concatenate([search.patches, _digits(middle - halves, width)])
    _constants(graph, {f"{out}_patches": joined, f"{out}_middle": np.array(-middle, dtype=np.float32)})
    make = onnx.helper.make_node
    return [
        make("MatMulInteger", [f"{search.query}_bytes", f"{out}_patches", "int8_zero"], [f"{out}_sums"]),
        make("ReduceMax", [f"{out}_sums", "int8_axis"], [f"{out}_most"], keepdims=0),
        make("Cast", [f"{out}_most"], [f"{out}_float"], to=onnx.TensorProto.FLOAT),
        make("Add", [f"{out}_float", f"{out}_middle"], [f"{out}_lowered"]),
        make("Mul", [f"{out}_lowered", "int8_factor"], [out]),
    ]


def _constants(graph: onnx.GraphProto, values: Mapping[str, NDArray[np.generic]]) -> None:
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in values.items())
