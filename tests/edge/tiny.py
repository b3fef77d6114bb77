"""A real bundle around a graph of three nodes, for tests of everything but the detector."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper

from anomaly.bundle.archive import VARIANTS, Bundle, read_bundle, write_bundle
from anomaly.bundle.manifest import Manifest, Threshold
from anomaly.schema import AlarmSettings, Channel, InputSchema

WINDOW = InputSchema(
    name="window", dtype="float32", channels=2, window=2, period_s=1.0, max_gap_s=10, sensors=(Channel(name="a"), Channel(name="b"))
)


def graph(name: str, output: str, axes: Sequence[int], batch: str | int = "N") -> bytes:
    """score = the largest value over `axes`, p_value = exp(-score), and as the third output the largest value of each column.

    A missing value counts as 0.
    """
    sizes = [batch, *("TC"[: len(axes)])]
    nodes = [
        helper.make_node("IsNaN", [name], ["missing"]),
        helper.make_node("Where", ["missing", "zero", name], ["known"]),
        helper.make_node("ReduceMax", ["known"], ["score"], axes=list(axes), keepdims=0),
        helper.make_node("Neg", ["score"], ["negative"]),
        helper.make_node("Exp", ["negative"], ["p_value"]),
        helper.make_node("ReduceMax", ["known"], [output], axes=[1], keepdims=0)
        if len(axes) > 1
        else helper.make_node("Identity", [name], [output]),
    ]
    outputs = [("score", [batch]), ("p_value", [batch]), (output, [batch, sizes[-1]])]
    made = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes)],
        [helper.make_tensor_value_info(key, TensorProto.FLOAT, shape) for key, shape in outputs],
        [helper.make_tensor("zero", TensorProto.FLOAT, [], [0.0])],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def tiny_bundle(
    path: Path,
    schema: InputSchema = WINDOW,
    output: str = "contribution",
    variants: Sequence[str] = ("float",),
    shift: float = 0.0,
    batch: str | int = "N",
    threshold: float = 0.01,
) -> Bundle:
    """A bundle for windows (N, T, C), or for rows (N, C) where the schema has no window.

    `shift`: how far its examples are wrong. `batch`: N, where the graph takes no other.
    """
    shape = (1, schema.window, schema.channels) if schema.window else (1, schema.channels)
    detector = graph(schema.name, output, range(1, len(shape)), batch)
    raw = np.linspace(0.1, 0.4, int(np.prod(shape)), dtype=np.float32).reshape(shape)
    score, p_value, _ = ort.InferenceSession(detector, providers=["CPUExecutionProvider"]).run(None, {schema.name: raw})
    answers = {"score": score + np.float32(shift), "p_value": p_value}
    answers |= {f"{key}_{variant}": value for key, value in list(answers.items()) for variant in variants if variant != "float"}
    example = io.BytesIO()
    np.savez(example, raw=raw, **answers)
    manifest = Manifest(
        name="tiny", version=path.stem, kind="tiny", input=schema, calibration={}, threshold=Threshold(p_value=threshold, budget={}),
        alarm=AlarmSettings(), provenance={}, metrics={}, parity={},
    )  # fmt: skip
    write_bundle(path, manifest, {"examples/0.npz": example.getvalue()} | {VARIANTS[variant]: detector for variant in variants})
    return read_bundle(path)
