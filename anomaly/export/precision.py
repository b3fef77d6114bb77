"""Reduced precision of the extractor: post-training int8 quantisation for CPUs (and TensorRT), float16 for GPUs.

int8 is ONNX Runtime's static quantisation: per output channel, ranges measured on normal pictures, QDQ format. It moves the features so
much that the scorer has to be recalibrated on them (`pipeline.camera.variants`).
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from anomaly.export.traced import strip_metadata
from anomaly.export.writer import live_nodes

FLOAT_CONVOLUTIONS = 3  # the first ones stay in float: they have few channels, so int8 saves nothing there and costs the most accuracy
_IN_BLOCKS = (
    "MatMul", "Gemm", "Add", "Mul", "Div", "Erf", "Gelu", "Sigmoid", "Softmax", "Reshape", "Transpose", "Squeeze", "Slice", "Split",
    "Concat", "Neg",
)  # fmt: skip # nodes of a transformer's blocks that can; layer normalisations sum squares and stay in float32
_REDUCIBLE = ("Conv", "Clip", "Add", "Relu", "MaxPool", "GlobalAveragePool")  # nodes among the convolutions that can change precision


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, pictures: Sequence[NDArray[Any]]) -> None:
        self._left: Iterator[NDArray[Any]] = iter(pictures)

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        picture = next(self._left, None)
        return None if picture is None else {"image": picture}


def int8_extractor(features: onnx.ModelProto, pictures: Sequence[NDArray[Any]]) -> onnx.ModelProto | None:
    """Static int8 quantisation of the convolutions of a camera's preprocessing and extractor; None when there are none to quantise.

    `features` is as `onnx_graph.export_features` gives it. `pictures`: raw batches (1, H, W, C) of normals.
    """
    inside = _between_convolutions(features, FLOAT_CONVOLUTIONS)
    if not inside:
        return None
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "int8.onnx"
        logging.disable(logging.WARNING)  # advice on preprocessing that the export has done
        try:
            quantize_static(
                features, path, _Reader(pictures), quant_format=QuantFormat.QDQ, per_channel=True,
                activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, nodes_to_quantize=inside,
            )  # fmt: skip
        finally:
            logging.disable(logging.NOTSET)
        model = onnx.load(path)
    strip_metadata(model)
    return model


def fp16_extractor(content: bytes) -> bytes | None:
    """A camera graph with its convolutions, or a transformer's products, in float16; None when it has neither.

    The search of the memory banks stays in float32: squared lengths of patches overflow float16, and TF32 multiplies the banks' int8
    values exactly.
    """
    model = onnx.load_from_string(content)
    floats = _floats(model) if _is_transformer(model) else None
    inside = _between_convolutions(model) if floats is None else _in_blocks(model, floats)
    if not inside:
        return None
    graph = model.graph
    stored = {item.name: item for item in graph.initializer}
    half: dict[str, str] = {}  # float32 name -> its float16 twin
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.name not in inside:
            nodes.append(node)
            continue
        for index, name in enumerate(node.input):
            if name and name not in half and (floats is None or name in floats):  # the rest are shapes and positions
                half[name] = f"{name}_half"
                if name in stored:
                    values = numpy_helper.to_array(stored[name]).astype(np.float16)
                    graph.initializer.append(numpy_helper.from_array(values, half[name]))
                else:
                    nodes.append(_cast(name, half[name], onnx.TensorProto.FLOAT16))
            node.input[index] = half.get(name, name)
        for index, name in enumerate(node.output):
            node.output[index] = half[name] = f"{name}_half"
        nodes.append(node)
        nodes += [_cast(name, name.removesuffix("_half"), onnx.TensorProto.FLOAT) for name in node.output]
    prune_to(graph, nodes)  # casts back that nothing reads are dropped
    onnx.checker.check_model(model, full_check=True)
    half_content: bytes = model.SerializeToString(deterministic=True)
    return half_content


def _cast(source: str, target: str, to: int) -> onnx.NodeProto:
    return onnx.helper.make_node("Cast", [source], [target], name=f"cast_{target}", to=to)


def _between_convolutions(model: onnx.ModelProto, less: int = 0) -> list[str]:
    """Names of the reducible nodes from the first convolution, or from the one after `less` of them, to the last convolution."""
    at = [i for i, node in enumerate(model.graph.node) if node.op_type == "Conv"][less:]
    return [node.name for node in model.graph.node[at[0] : at[-1] + 1] if node.op_type in _REDUCIBLE] if at else []


def _is_transformer(model: onnx.ModelProto) -> bool:
    """Whether a graph's network is a vision transformer: one convolution makes patches, blocks with normalisations follow."""
    kinds = [node.op_type for node in model.graph.node]
    return kinds.count("Conv") == 1 and kinds.count("LayerNormalization") > 1


def _in_blocks(model: onnx.ModelProto, floats: set[str]) -> list[str]:
    """Names of a transformer's nodes that can change precision, from its patches to its last normalisation."""
    nodes = list(model.graph.node)
    kinds = [node.op_type for node in nodes]
    first, last = kinds.index("Conv"), len(kinds) - kinds[::-1].index("LayerNormalization")
    found = [node for node in nodes[first + 1 : last] if node.op_type in _IN_BLOCKS and floats.issuperset(node.output)]
    return [nodes[first].name, *(node.name for node in found)]


def _floats(model: onnx.ModelProto) -> set[str]:
    """Names of the float32 values of a graph."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    typed = [(value.name, value.type.tensor_type.elem_type) for value in [*graph.input, *graph.value_info, *graph.output]]
    typed += [(item.name, item.data_type) for item in graph.initializer]
    return {name for name, kind in typed if kind == onnx.TensorProto.FLOAT}


def prune_to(graph: onnx.GraphProto, nodes: Sequence[onnx.NodeProto]) -> None:
    """Replace the graph's nodes by these, less dead ones (that lead to no output), with the initializers they need."""
    kept, needed = live_nodes(nodes, [output.name for output in graph.output])
    left = [item for item in graph.initializer if item.name in needed]
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(kept)
    graph.initializer.extend(left)
