"""Export of a detector to one ONNX graph, and the parity check: ONNX Runtime must decide as PyTorch does."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from anomaly.errors import ExportError
from anomaly.export.detector import Detector, StreamDetector

OPSET = 18
MAX_RELATIVE = 1e-4  # largest relative difference of scores, of those below one the absolute difference


def export_onnx(detector: Detector, example: NDArray[Any]) -> bytes:
    """The detector as one ONNX graph, opset 18; the same detector gives the same bytes.

    `example` is a raw batch of two: pictures (2, H, W, C) uint8 or uint16, windows (2, T, C) float32, or the like. The graph takes and
    answers what `detector.form` names. Raises ExportError when the graph is not valid ONNX.
    """
    form = detector.form
    free = dict(enumerate(torch.export.Dim(name) for name in form.free))
    return _graph(detector, [example], [free], [form.input], ["score", "p_value", form.detail])


def export_stream(detector: StreamDetector, rows: NDArray[np.float32]) -> bytes:
    """The streaming detector as one ONNX graph; the same detector gives the same bytes.

    `rows` (R, C) float32 are those of two windows without context, or more; R is free and at least as many. The graph takes `rows` and
    `before` and answers as `StreamDetector`. Raises ExportError when the graph is not valid ONNX.
    """
    before = np.zeros(detector.scorer.context, np.float32)
    free = [{0: torch.export.Dim("R", min=len(rows))}, {}]
    return _graph(detector, [rows, before], free, ["rows", "before"], ["score", "p_value", "contribution", "bare"])


def _graph(
    module: torch.nn.Module, example: Sequence[NDArray[Any]], free: Sequence[dict[int, Any]], inputs: Sequence[str], outputs: Sequence[str]
) -> bytes:
    """The ONNX bytes of a module; `free` holds the dynamic dimensions of each input."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # the exporter warns of its own deprecations
        program = torch.onnx.export(
            module.eval(),
            tuple(torch.from_numpy(part.copy()) for part in example),
            dynamo=True,
            dynamic_shapes=tuple(free),
            input_names=list(inputs),
            output_names=list(outputs),
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    strip_metadata(model)
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"the exported graph is not valid ONNX: {error}") from error
    return serialized(model)


def serialized(model: onnx.ModelProto) -> bytes:
    """The model as bytes, deterministically."""
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def prune_to(graph: onnx.GraphProto, nodes: Sequence[onnx.NodeProto]) -> None:
    """Replace the graph's nodes by these, less dead ones (that lead to no output), with the initializers they need."""
    kept, needed = [], {output.name for output in graph.output}
    for node in reversed(nodes):
        if needed & set(node.output):
            kept.append(node)
            needed |= set(node.input)
    left = [item for item in graph.initializer if item.name in needed]
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(kept[::-1])
    graph.initializer.extend(left)


def strip_metadata(model: onnx.ModelProto) -> None:
    """Remove what describes this machine (source paths, stack traces), so that bytes depend on the detector alone."""
    del model.metadata_props[:]
    model.doc_string = ""
    graph = model.graph
    graph.doc_string = ""
    for item in [*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer, graph]:
        del item.metadata_props[:]
        item.doc_string = ""
    for function in model.functions:
        function.doc_string = ""
        del function.metadata_props[:]


@dataclass(frozen=True)
class Parity:
    """How far ONNX Runtime and PyTorch differ on the same inputs."""

    inputs: int
    max_relative_score: float
    max_absolute_p: float
    decisions_that_differ: int

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


Run = Callable[[NDArray[Any]], tuple[NDArray[np.float32], NDArray[np.float32]]]


def check_parity(detector: Detector, run: Run, inputs: Sequence[NDArray[Any]], p: float) -> Parity:
    """Compare score, p-value and decision (`p_value <= p`) on raw batches. Raises ExportError when they differ.

    `run` is the exported graph in ONNX Runtime: raw batch -> score (N,), p_value (N,), both float32. Scores must agree within 1e-4
    relative (absolute below one), and every decision must be the same.
    """
    relative = absolute = 0.0
    differ = count = 0
    for batch in inputs:
        score, p_value, _ = detector.run(batch)
        their_score, their_p = run(batch)
        relative = max(relative, float((np.abs(their_score - score) / np.maximum(np.abs(score), 1.0)).max()))
        absolute = max(absolute, float(np.abs(their_p - p_value).max()))
        differ += int(((their_p <= p) != (p_value <= p)).sum())
        count += len(batch)
    parity = Parity(count, relative, absolute, differ)
    if not relative < MAX_RELATIVE or differ:
        raise ExportError(
            f"the exported graph does not decide as the PyTorch detector: scores differ by {relative:.2e} relative "
            f"(allowed {MAX_RELATIVE:.0e}), {differ} of {count} decisions differ; nothing was written"
        )
    return parity
