"""Large pictures go through a network's first layers strip by strip, so that what passes between two layers stays small.

At 1024 x 1024 the first layers of EfficientNet-Lite hold 100 MB between two of them, and all later ones together less than that. Here a
picture is cut into strips of rows. Each strip is taken with just the rows above and below that its convolutions look at, down to a
quarter of the picture's height. There the strips are put together again. What a place is computed from does not change.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import onnx
from onnx import helper, numpy_helper

LARGE = 512 * 512  # pixels up to which a picture goes through as a whole
PIXELS = 1 << 16  # of a strip
MOST = 16  # strips
DOWN = 4  # strips are put together where a picture is this many times lower
ALIKE = ("Clip", "Relu", "Add", "QuantizeLinear", "DequantizeLinear")  # layers that answer each row from that row alone
Rows = tuple[int, int]  # from, to


def in_strips(content: bytes, size: Sequence[int]) -> bytes:
    """The graph of a detector for pictures of `size` (high, wide) after the resize, its first layers in strips.

    It comes back as it is where pictures are small, or where the first layers are of other kinds than convolutions and activations.
    """
    if math.prod(size) <= LARGE:
        return content
    model = onnx.load_from_string(content)
    layers = _first_layers(model, size[0])
    if layers is None:
        return content
    total, count = layers.heights[layers.cut], min(MOST, -(-math.prod(size) // PIXELS))
    edges = [total * i // count for i in range(count + 1)]
    strips = [_Strip(layers, f"strip{i}.", rows) for i, rows in enumerate(pairwise(edges))]
    nodes = [node for strip in strips for node in strip.nodes()]
    nodes.append(helper.make_node("Concat", [strip.prefix + layers.cut for strip in strips], [layers.cut], name="strips", axis=2))
    _replace(model, layers, nodes)
    onnx.checker.check_model(model)
    changed: bytes = model.SerializeToString(deterministic=True)
    return changed


@dataclass
class _Layers:
    """A network's first layers: nodes from the value `start` to the value `cut`, and the height of each value between."""

    start: str
    shapes: dict[str, list[int]]  # of constants
    cut: str = ""
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    heights: dict[str, int] = field(default_factory=dict)
    offsets: dict[str, int] = field(default_factory=dict)  # constants that the strips need: name -> value

    def varying(self, node: onnx.NodeProto) -> list[str]:
        """The inputs of a node that are not constant."""
        return [name for name in node.input if name and name not in self.shapes]

    def number(self, value: int) -> str:
        """The name of a constant (1,) int64."""
        self.offsets[f"strips.{value}"] = value
        return f"strips.{value}"


@dataclass(frozen=True)
class _Window:
    """Which rows a convolution looks at: its height, step, and the rows of zeros above and below."""

    high: int
    step: int
    above: int
    below: int

    def rows(self, wanted: Rows) -> Rows:
        """The rows that some of its rows are computed from, those of zeros among them."""
        return wanted[0] * self.step - self.above, (wanted[1] - 1) * self.step - self.above + self.high


def _window(node: onnx.NodeProto, weights: list[int] | None) -> _Window | None:
    """Of a convolution of pictures; None where it is not known."""
    found = {item.name: helper.get_attribute_value(item) for item in node.attribute}
    if weights is None or len(weights) != 4 or found.get("auto_pad", b"NOTSET") != b"NOTSET":
        return None
    pads = found.get("pads", [0, 0, 0, 0])
    return _Window((weights[2] - 1) * found.get("dilations", [1, 1])[0] + 1, found.get("strides", [1, 1])[0], pads[0], pads[2])


def _first_layers(model: onnx.ModelProto, high: int) -> _Layers | None:
    """The layers from the first convolution, whose input is `high`, to the last narrow value of a quarter of that; None if unknown."""
    graph = model.graph
    shapes = {item.name: list(item.dims) for item in graph.initializer}
    for node in graph.node:  # weights in 8 bits are constants too
        if node.op_type == "DequantizeLinear" and all(name in shapes for name in node.input if name):
            shapes[node.output[0]] = shapes[node.input[0]]
    first = next((node for node in graph.node if node.op_type == "Conv"), None)
    if first is None or not _is_prepared(graph, first.input[0]):
        return None
    layers = _Layers(first.input[0], shapes)
    channels, layers.heights[layers.start] = {layers.start: 0}, high
    for node in graph.node:
        inputs = layers.varying(node)
        if not inputs or not all(name in layers.heights for name in inputs):
            continue
        lower, wide = layers.heights[inputs[0]], channels[inputs[0]]
        if node.op_type == "Conv":
            window = _window(node, shapes.get(node.input[1]))
            if window is None:
                continue
            lower, wide = (lower + window.above + window.below - window.high) // window.step + 1, shapes[node.input[1]][0]
        elif node.op_type not in ALIKE:
            continue
        if lower * DOWN >= high:
            layers.heights[node.output[0]], channels[node.output[0]] = lower, wide
            layers.nodes.append(node)
    return _cut(graph, layers, channels, high)


def _is_prepared(graph: onnx.GraphProto, value: str) -> bool:
    """Whether a value comes straight from the preprocessing, so that its height is known."""
    made_by = {name: node for node in graph.node for name in node.output}
    for kind in ("Div", "Sub", "Resize"):
        node = made_by.get(value)
        if node is None or node.op_type != kind:
            return False
        value = node.input[0]
    return True


def _cut(graph: onnx.GraphProto, layers: _Layers, channels: dict[str, int], high: int) -> _Layers | None:
    """The layers up to the last value with the fewest channels that all later ones depend on; None where there is none."""
    answers = {item.name for item in graph.output}
    best = -1
    for index, node in enumerate(layers.nodes):
        value, inside = node.output[0], {id(one) for one in layers.nodes[: index + 1]}
        made = {layers.start} | {name for one in layers.nodes[: index + 1] for name in one.output}
        read = {name for one in graph.node if id(one) not in inside for name in one.input} | answers
        narrow = best < 0 or channels[value] <= channels[layers.nodes[best].output[0]]
        if made & read == {value} and layers.heights[value] * DOWN == high and narrow and node.op_type != "DequantizeLinear":
            best = index
    if best < 0:
        return None
    layers.nodes, layers.cut = layers.nodes[: best + 1], layers.nodes[best].output[0]
    return layers


class _Strip:
    """Some rows of the cut value, and the layers that lead to them."""

    def __init__(self, layers: _Layers, prefix: str, rows: Rows) -> None:
        self.layers, self.prefix = layers, prefix
        self.needed = {layers.cut: rows}  # of each value, the rows that this strip computes or reads
        self.wanted: dict[tuple[str, str], Rows] = {}  # (node, input) -> the rows that the node takes of it
        self.zeros: dict[str, Rows] = {}  # convolution -> rows of zeros above and below
        self.made_by = {node.output[0]: node for node in layers.nodes}
        self._nodes: list[onnx.NodeProto] = []
        self._known: set[str] = set()
        for node in reversed(layers.nodes):
            self._look_back(node)

    def _look_back(self, node: onnx.NodeProto) -> None:
        """What a node needs of its inputs."""
        own = self.needed.get(node.output[0])
        if own is None:
            return
        for name in self.layers.varying(node):
            taken, high = own, self.layers.heights[name]
            if node.op_type == "Conv":
                window = _window(node, self.layers.shapes[node.input[1]])
                assert window is not None
                low, end = window.rows(own)
                self.zeros[node.name], taken = (max(0, -low), max(0, end - high)), (max(0, low), min(high, end))
            self.wanted[node.name, name] = taken
            known = self.needed.get(name, taken)
            self.needed[name] = min(known[0], taken[0]), max(known[1], taken[1])

    def nodes(self) -> list[onnx.NodeProto]:
        """The layers once more, for these rows alone."""
        for node in self.layers.nodes:
            if node.output[0] not in self.needed or node.op_type == "DequantizeLinear":  # that is made where it is taken
                continue
            own = onnx.NodeProto()
            own.CopyFrom(node)
            own.name = self.prefix + node.name
            for index, name in enumerate(node.input):
                if name and name not in self.layers.shapes:
                    own.input[index] = self._take(name, self.wanted[node.name, name])
            own.output[0] = self.prefix + node.output[0]
            if node.op_type == "Conv":
                self._pad(own, self.zeros[node.name])
            self._nodes.append(own)
        return self._nodes

    def _take(self, value: str, rows: Rows) -> str:
        """The name of some rows of a value. They are cut out before they become floats: ONNX Runtime joins that step with the next."""
        name, made_by = f"{self.prefix}{value}.{rows[0]}.{rows[1]}", self.made_by.get(value)
        if made_by is not None and made_by.op_type == "DequantizeLinear":
            if name not in self._known:
                source = self._take(made_by.input[0], rows)
                self._nodes.append(helper.make_node("DequantizeLinear", [source, *made_by.input[1:]], [name], name=name))
                self._known.add(name)
            return name
        whole = made_by is None  # the picture itself, which all strips share
        held = (0, self.layers.heights[value]) if whole else self.needed[value]
        source = value if whole else self.prefix + value
        if held == rows:
            return source
        if name not in self._known:
            bounds = [self.layers.number(row - held[0]) for row in rows]
            self._nodes.append(helper.make_node("Slice", [source, *bounds, self.layers.number(2)], [name], name=name))
            self._known.add(name)
        return name

    @staticmethod
    def _pad(node: onnx.NodeProto, zeros: Rows) -> None:
        """Give a convolution other rows of zeros above and below."""
        found = next((item for item in node.attribute if item.name == "pads"), None)
        if found is None:
            found = helper.make_attribute("pads", [0, 0, 0, 0])
            node.attribute.append(found)
            found = node.attribute[-1]
        found.ints[0], found.ints[2] = zeros


def _replace(model: onnx.ModelProto, layers: _Layers, strips: Sequence[onnx.NodeProto]) -> None:
    """Put the strips where the layers were."""
    graph, gone = model.graph, {node.name for node in layers.nodes}
    constant = [node for node in graph.node if all(name in layers.shapes for name in node.output)]
    others = [node for node in graph.node if node.name not in gone and not all(name in layers.shapes for name in node.output)]
    after = next(index for index, node in enumerate(others) if layers.start in node.output) + 1
    ordered = [onnx.NodeProto.FromString(node.SerializeToString()) for node in (*constant, *others[:after], *strips, *others[after:])]
    del graph.node[:], graph.value_info[:]
    graph.node.extend(ordered)
    for name, value in layers.offsets.items():
        graph.initializer.append(numpy_helper.from_array(np.array([value], np.int64), name))
