"""Writes an ONNX graph node by node: what `lower` describes each part of a detector with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper

from anomaly.errors import ExportError

OPSET = 18
IR_VERSION = 10

Search = Literal["blocks", "whole", "integers"]
Value = str | NDArray[Any] | torch.Tensor | float | int | Sequence[int]


class GraphWriter:
    """One ONNX graph under construction. The same calls in the same order give the same bytes.

    Values are named by strings. Where a value is wanted, a constant may be given instead: an array or a tensor as it is, a float as a
    float32 scalar, an int or a list of ints as int64. Equal constants are stored once.

    >>> write = GraphWriter()
    >>> x = write.input("x", np.float32, ["N", 3])
    >>> write.output(write.op("ReduceMax", write.op("Mul", x, 2.0), [1], keepdims=0), "most", np.float32, ["N"])
    >>> [node.op_type for node in onnx.load_from_string(write.content()).graph.node]
    ['Mul', 'ReduceMax', 'Identity']
    """

    def __init__(self, *, search: Search = "blocks") -> None:
        """`search`: how memory banks are searched.

        "blocks" suits the caches of a processor, "whole" a GPU (`export.search`), "integers" is int8 arithmetic
        (`export.search`).
        """
        self.search = search
        self.shared: dict[tuple[str, str], str] = {}  # values that several parts need: (what, of which value) -> name
        self.shapes: dict[str, tuple[int, ...]] = {}  # shape of a value for one record, less the batch, where the next part needs it
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._nodes: list[onnx.NodeProto] = []
        self._stored: dict[str, onnx.TensorProto] = {}
        self._known: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._inlined = 0

    def input(self, name: str, dtype: Any, shape: Sequence[str | int]) -> str:
        """An input of the graph; sizes that vary are given by a letter."""
        self._inputs.append(_value_info(name, dtype, shape))
        return name

    def output(self, value: str, name: str, dtype: Any, shape: Sequence[str | int]) -> None:
        """Answer `value` as the graph's next output, called `name`."""
        self._nodes.append(onnx.helper.make_node("Identity", [value], [name], name=name))
        self._outputs.append(_value_info(name, dtype, shape))

    def op(self, kind: str, *inputs: Value | None, **attributes: Any) -> str:
        """One node of the operator `kind` with one output, whose name is returned. None leaves an optional input out."""
        return self.ops(kind, 1, *inputs, **attributes)[0]

    def ops(self, kind: str, outputs: int, *inputs: Value | None, **attributes: Any) -> list[str]:
        """One node of the operator `kind` with several outputs, whose names are returned."""
        name = f"{kind.lower()}_{len(self._nodes)}"
        names = [name] if outputs == 1 else [f"{name}.{index}" for index in range(outputs)]
        taken = ["" if value is None else self._name_of(value) for value in inputs]
        self._nodes.append(onnx.helper.make_node(kind, taken, names, name=name, **attributes))
        return names

    def constant(self, value: Value, name: str = "") -> str:
        """A constant of the graph. Equal ones share a name: the first given, or a number."""
        array = _array(value)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._known:
            name = name if name and name not in self._stored else f"{name or 'constant'}_{len(self._stored)}"
            self._known[key] = name
            self._stored[name] = numpy_helper.from_array(array, name)
        return self._known[key]

    def inline(self, model: onnx.ModelProto, inputs: Mapping[str, str], parts: Mapping[str, NDArray[Any]] | None = None) -> list[str]:
        """All nodes of another graph of this opset, its `inputs` bound to values of this one; returns the values of its outputs.

        `parts` are initializers that the other graph leaves out, by name. Names are kept apart from this graph's own.
        """
        prefix = f"part{self._inlined}." if self._inlined else "part."
        self._inlined += 1
        bound = dict(inputs)
        for item in model.graph.initializer:
            bound[item.name] = self._store(numpy_helper.to_array(item), prefix + item.name)
        for name, value in (parts or {}).items():
            bound[name] = self._store(value, prefix + name)
        for node in model.graph.node:
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            copy.name = prefix + (node.name or node.output[0])
            for index, name in enumerate(copy.input):
                copy.input[index] = bound[name] if name else ""
            for index, name in enumerate(copy.output):
                copy.output[index] = bound[name] = prefix + name if name else ""
            self._nodes.append(copy)
        return [bound[item.name] for item in model.graph.output]

    def _store(self, array: NDArray[Any], name: str) -> str:
        self._stored[name] = numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name)
        return name

    def _name_of(self, value: Value) -> str:
        return value if isinstance(value, str) else self.constant(value)

    def content(self) -> bytes:
        """The graph as bytes. Raises ExportError when it is not valid ONNX."""
        nodes, stored = self._needed()
        graph = onnx.helper.make_graph(nodes, "detector", self._inputs, self._outputs, stored)
        model = onnx.helper.make_model(
            graph, opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="anomaly-pipeline"
        )
        try:
            onnx.checker.check_model(model, full_check=True)
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
            raise ExportError(f"the exported graph is not valid ONNX: {error}") from error
        content: bytes = model.SerializeToString(deterministic=True)
        return content

    def _needed(self) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
        """The nodes that lead to an output, and the constants that they read."""
        kept, read = live_nodes(self._nodes, [item.name for item in self._outputs])
        return kept, [item for name, item in self._stored.items() if name in read]


def live_nodes(nodes: Sequence[onnx.NodeProto], outputs: Iterable[str]) -> tuple[list[onnx.NodeProto], set[str]]:
    """The nodes that lead to an output, in their order, and all values that they or the outputs need."""
    kept, needed = [], set(outputs)
    for node in reversed(nodes):
        if needed & set(node.output):
            kept.append(node)
            needed |= set(node.input)
    return kept[::-1], needed


def _value_info(name: str, dtype: Any, shape: Sequence[str | int]) -> onnx.ValueInfoProto:
    return onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), list(shape))


def _array(value: Value) -> NDArray[Any]:
    if isinstance(value, torch.Tensor):
        array: NDArray[Any] = value.detach().cpu().contiguous().numpy()
        return array
    if isinstance(value, np.ndarray):
        return np.ascontiguousarray(value).reshape(value.shape)
    if isinstance(value, float):
        return np.array(value, np.float32)
    return np.array(value, np.int64)
