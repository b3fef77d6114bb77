"""The extractor in less precise arithmetic: 8-bit for CPUs (and TensorRT), 16-bit floats for GPUs.

In 8 bits (ONNX Runtime's quantiser: static, per output channel, ranges measured on normal pictures, QDQ form) the features move so
much that a scorer calibrated on those of the float graph has to be calibrated again on these (`pipeline.variants`).
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

from anomaly.export.onnx_graph import prune_to, serialized, strip

FIRST = 3  # convolutions at the picture's end that stay in float: few channels, so bytes save nothing there and cost the most accuracy
_WITH = ("Conv", "Clip", "Add", "Relu", "MaxPool", "GlobalAveragePool")  # what lies among the convolutions and can stay in bytes


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, pictures: Sequence[NDArray[Any]]) -> None:
        self._left: Iterator[NDArray[Any]] = iter(pictures)

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        picture = next(self._left, None)
        return None if picture is None else {"image": picture}


def int8_extractor(content: bytes, pictures: Sequence[NDArray[Any]]) -> bytes | None:
    """A camera graph with its convolutions in int8, None when it has none. `pictures`: raw batches of one (1, H, W, C)."""
    model = onnx.load_from_string(content)
    inside = _inside(model, FIRST)
    if not inside:
        return None
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "int8.onnx"
        logging.disable(logging.WARNING)  # advice on preprocessing that the export has done
        try:
            quantize_static(
                model, path, _Reader(pictures), quant_format=QuantFormat.QDQ, per_channel=True,
                activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, nodes_to_quantize=inside,
            )  # fmt: skip
        finally:
            logging.disable(logging.NOTSET)
        model = onnx.load(path)
    strip(model)
    return serialized(model)


def fp16_extractor(content: bytes) -> bytes | None:
    """A camera graph with its convolutions in float16, None when it has none.

    The banks' search stays in float32: squared lengths of patches leave float16's range, and GPUs multiply float32 whole numbers of one
    byte exactly in TF32.
    """
    model = onnx.load_from_string(content)
    inside = _inside(model)
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
            if name and name not in half:
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
    prune_to(graph, nodes)  # casts back that nothing outside reads fall away
    onnx.checker.check_model(model, full_check=True)
    return serialized(model)


def _cast(source: str, target: str, to: int) -> onnx.NodeProto:
    return onnx.helper.make_node("Cast", [source], [target], name=f"cast_{target}", to=to)


def _inside(model: onnx.ModelProto, less: int = 0) -> list[str]:
    """Names of the nodes from the first convolution, or the one after `less` of them, to the last that may change their arithmetic."""
    at = [i for i, node in enumerate(model.graph.node) if node.op_type == "Conv"][less:]
    return [node.name for node in model.graph.node[at[0] : at[-1] + 1] if node.op_type in _WITH] if at else []


def feature_graph(content: bytes, stages: int) -> bytes | None:
    """The same graph, cut where the extractor ends: its outputs are `stage0` ... in the order the extractor gives them.

    Every stage is read by a 3x3 mean first, as `scorers.embedding.embed` begins; None for a network that takes such means itself.
    """
    model = onnx.load_from_string(content)
    graph = model.graph
    read: list[str] = []
    for node in graph.node:
        if node.op_type == "AveragePool" and node.input[0] not in read:
            read.append(node.input[0])
    if len(read) != stages:
        return None
    made_at = {name: index for index, node in enumerate(graph.node) for name in node.output}
    read.sort(key=lambda name: made_at[name])
    del graph.output[:]
    nodes = list(graph.node)
    for index, name in enumerate(read):
        nodes.append(onnx.helper.make_node("Identity", [name], [f"stage{index}"]))
        graph.output.append(onnx.helper.make_tensor_value_info(f"stage{index}", onnx.TensorProto.FLOAT, None))
    prune_to(graph, nodes)
    return serialized(model)
