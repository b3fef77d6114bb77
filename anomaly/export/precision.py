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

from anomaly.export.onnx_graph import prune_to, serialized, strip_metadata

FLOAT_CONVOLUTIONS = 3  # the first ones stay in float: they have few channels, so int8 saves nothing there and costs the most accuracy
_REDUCIBLE = ("Conv", "Clip", "Add", "Relu", "MaxPool", "GlobalAveragePool")  # nodes among the convolutions that can change precision


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, pictures: Sequence[NDArray[Any]]) -> None:
        self._left: Iterator[NDArray[Any]] = iter(pictures)

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        picture = next(self._left, None)
        return None if picture is None else {"image": picture}


def int8_extractor(content: bytes, pictures: Sequence[NDArray[Any]]) -> bytes | None:
    """Static int8 quantisation of a camera graph's convolutions, None when it has none. `pictures`: raw batches (1, H, W, C)."""
    model = onnx.load_from_string(content)
    inside = _between_convolutions(model, FLOAT_CONVOLUTIONS)
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
    strip_metadata(model)
    return serialized(model)


def fp16_extractor(content: bytes) -> bytes | None:
    """A camera graph with its convolutions in float16, None when it has none.

    The search of the memory banks stays in float32: squared lengths of patches overflow float16, and TF32 multiplies the banks' int8
    values exactly.
    """
    model = onnx.load_from_string(content)
    inside = _between_convolutions(model)
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
    prune_to(graph, nodes)  # casts back that nothing reads are dropped
    onnx.checker.check_model(model, full_check=True)
    return serialized(model)


def _cast(source: str, target: str, to: int) -> onnx.NodeProto:
    return onnx.helper.make_node("Cast", [source], [target], name=f"cast_{target}", to=to)


def _between_convolutions(model: onnx.ModelProto, less: int = 0) -> list[str]:
    """Names of the reducible nodes from the first convolution, or from the one after `less` of them, to the last convolution."""
    at = [i for i, node in enumerate(model.graph.node) if node.op_type == "Conv"][less:]
    return [node.name for node in model.graph.node[at[0] : at[-1] + 1] if node.op_type in _REDUCIBLE] if at else []


def feature_graph(content: bytes, stages: int) -> bytes | None:
    """A camera graph cut where the extractor ends: its outputs are `stage0`, `stage1` ... in the extractor's order.

    The end of the extractor is found by the 3x3 mean that `scorers.pictures.embedding.embed` begins with. None for a network that has such
    means itself.
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
