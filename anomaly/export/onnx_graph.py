"""Export of a detector to one ONNX graph, and the parity check: ONNX Runtime must decide as PyTorch does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from anomaly.errors import ExportError
from anomaly.export import lower_pictures, lower_sensors  # noqa: F401 - they register their parts with `lower`
from anomaly.export.detector import Detector, StreamDetector
from anomaly.export.lower import NotLoweredError, lower
from anomaly.export.lower_sensors import by_position
from anomaly.export.rewrite.strips import in_strips
from anomaly.export.traced import extractor_graph, trace
from anomaly.export.writer import GraphWriter, Search
from anomaly.features.preprocess import ImagePreprocess
from anomaly.features.stages import Stages
from anomaly.features.threads import one_thread
from anomaly.parallel import on_all_cores

MAX_RELATIVE = 1e-4  # largest relative difference of scores, of those below one the absolute difference


def export_onnx(detector: Detector, example: NDArray[Any], *, features: onnx.ModelProto | None = None, search: Search = "blocks") -> bytes:
    """The detector as one ONNX graph, opset 18; the same detector gives the same bytes.

    `example` is a raw batch of two: pictures (2, H, W, C) uint8 or uint16, windows (2, T, C) float32, or the like. The graph takes and
    answers what `detector.form` names. `features` is a graph to take in place of preprocessing and extractor, as `export_features` gives
    it. `search` is how memory banks are searched (`GraphWriter`). Raises ExportError when the graph is not valid ONNX.
    """
    write, raw, example_raw = _begin(detector, example, search)
    values, tensors = _features(detector, write, raw, example_raw)
    if features is not None:
        values = write.inline(features, {features.graph.input[0].name: raw})
    write.shapes |= {value: tuple(tensor.shape[1:]) for value, tensor in zip(values, tensors, strict=True)}
    (score, detail), (_, example_detail) = _part(detector.scorer, write, values, tensors, listed=True)
    (p_value,), _ = _part(detector.calibrator, write, [score], [torch.zeros(2)])
    for value, name, shape in ((score, "score", []), (p_value, "p_value", []), (detail, detector.form.detail, example_detail.shape[1:])):
        write.output(value, name, np.float32, ["N", *map(int, shape)])
    preprocess = detector.preprocess
    if search == "whole" or not isinstance(preprocess, ImagePreprocess):  # a GPU is quicker with few large layers
        return write.content()
    return in_strips(write.content(), preprocess.size)


def export_features(detector: Detector, example: NDArray[Any]) -> onnx.ModelProto:
    """Preprocessing and extractor alone, raw records in, features out: `stage0`, `stage1` … in the extractor's order."""
    write, raw, example_raw = _begin(detector, example)
    values, tensors = _features(detector, write, raw, example_raw)
    for index, (value, tensor) in enumerate(zip(values, tensors, strict=True)):
        write.output(value, f"stage{index}", np.float32, ["N", *map(int, tensor.shape[1:])])
    return onnx.load_from_string(write.content())


def export_stream(detector: StreamDetector, rows: NDArray[np.float32]) -> bytes:
    """The streaming detector as one ONNX graph; the same detector gives the same bytes.

    `rows` (R, C) float32 are an example, of which only C counts. The graph takes any R >= T and answers as `StreamDetector`. Raises
    ExportError when the graph is not valid ONNX.
    """
    write, sensors = GraphWriter(), rows.shape[1]
    own = write.input("rows", np.float32, ["R", sensors])
    (x,) = lower(detector.preprocess, write, write.op("Unsqueeze", own, [0]))
    score, contribution = lower(detector.scorer, write, *by_position(write, lower(detector.extractor, write, x)))
    (p_value,) = lower(detector.calibrator, write, score)
    for value, name in ((score, "score"), (p_value, "p_value"), (contribution, "contribution")):
        write.output(value, name, np.float32, ["P", sensors] if name == "contribution" else ["P"])
    return write.content()


def _begin(detector: Detector, example: NDArray[Any], search: Search = "blocks") -> tuple[GraphWriter, str, Tensor]:
    """A graph with the raw input alone, the input's name, and the example as a tensor."""
    detector.eval()
    write, form = GraphWriter(search=search), detector.form
    sizes: list[str | int] = [form.free[axis] if axis < len(form.free) else size for axis, size in enumerate(example.shape)]
    return write, write.input(form.input, example.dtype, sizes), torch.from_numpy(example.copy())


def _features(detector: Detector, write: GraphWriter, raw: str, example: Tensor) -> tuple[list[str], list[Tensor]]:
    """Preprocessing and extractor: names of the features, and the features of the example."""
    free = dict(enumerate(detector.form.free))
    prepared, examples = _part(detector.preprocess, write, [raw], [example], free)
    extractor = detector.extractor
    if not isinstance(extractor, Stages):
        return _part(extractor, write, prepared, examples)
    with torch.inference_mode():
        features = extractor(examples[0])
    model, weights = extractor_graph(extractor, examples[0])
    return write.inline(model, {model.graph.input[0].name: prepared[0]}, weights), features


def _part(
    module: nn.Module,
    write: GraphWriter,
    inputs: list[str],
    examples: list[Tensor],
    free: Mapping[int, str] | None = None,
    *,
    listed: bool = False,
) -> tuple[list[str], list[Tensor]]:
    """One part of a detector: names of its outputs, and its outputs on the example. `listed`: its `forward` takes a list.

    A part without a graph of its own is traced; `free` names the dimensions of its inputs that vary, the first alone when None.
    """
    with torch.inference_mode():
        answers = module(examples) if listed else module(*examples)
    answers = [answers] if isinstance(answers, Tensor) else list(answers)
    try:
        return lower(module, write, *inputs), answers
    except NotLoweredError:
        model = trace(module, examples, free or {0: "N"}, listed=listed)
        return write.inline(model, dict(zip((item.name for item in model.graph.input), inputs, strict=True))), answers


@dataclass(frozen=True)
class Parity:
    """How far ONNX Runtime and PyTorch differ on the same inputs."""

    inputs: int
    max_relative_score: float
    max_absolute_p: float
    decisions_that_differ: int

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


class ParityError(ExportError):
    """The exported graph does not decide as the PyTorch detector: `record` is the worst input, raw (1, ...), at place `index`."""

    def __init__(self, parity: Parity, index: int, record: NDArray[Any], name: str) -> None:
        self.parity, self.index, self.record = parity, index, record
        super().__init__(
            f"the exported graph does not decide as the PyTorch detector: scores differ by {parity.max_relative_score:.2e} relative "
            f"(allowed {MAX_RELATIVE:.0e}), {parity.decisions_that_differ} of {parity.inputs} decisions differ; the worst is {name}"
        )


Run = Callable[[NDArray[Any]], tuple[NDArray[np.float32], NDArray[np.float32]]]


def check_parity(
    detector: Detector,
    run: Run,
    inputs: Sequence[NDArray[Any]],
    p: float,
    names: Sequence[str] = (),
    on_batch: Callable[[int], None] | None = None,
) -> Parity:
    """Compare score, p-value and decision (`p_value <= p`) on raw batches. Raises ParityError when they differ.

    `run` is the exported graph in ONNX Runtime: raw batch -> score (N,), p_value (N,), both float32. Scores must agree within 1e-4
    relative (absolute below one), and every decision must be the same. `run` is called from several threads.
    `names`, one for each record, are for the error.
    `on_batch(done)` is called after every batch, in PyTorch and then in ONNX Runtime: `done` goes up to twice the number of batches.
    """
    relative = absolute = worst = -1.0
    differ = count = at = 0
    record = np.empty(0)
    ours, theirs = [], []
    with one_thread():  # all in PyTorch first: in turns, each library's threads wait busily while the other computes
        for done, (score, p_value, _) in enumerate(on_all_cores(detector.run, inputs), 1):
            ours.append((score, p_value))
            if on_batch is not None:
                on_batch(done)
    for done, answer in enumerate(on_all_cores(run, inputs), len(inputs) + 1):
        theirs.append(answer)
        if on_batch is not None:
            on_batch(done)
    for batch, (score, p_value), (their_score, their_p) in zip(inputs, ours, theirs, strict=True):
        apart = np.abs(their_score - score) / np.maximum(np.abs(score), 1.0)
        otherwise = (their_p <= p) != (p_value <= p)
        badness = np.nan_to_num(apart + otherwise, nan=np.inf)  # a decision that differs is worse than any score that does
        if badness.max() > worst:
            worst, at = float(badness.max()), count + int(badness.argmax())
            record = batch[int(badness.argmax())][None]
        relative = max(relative, float(np.nan_to_num(apart, nan=np.inf).max()))
        absolute = max(absolute, float(np.abs(their_p - p_value).max()))
        differ += int(otherwise.sum())
        count += len(batch)
    parity = Parity(count, relative, absolute, differ)
    if not relative < MAX_RELATIVE or differ:
        raise ParityError(parity, at, record, names[at] if at < len(names) else f"record {at + 1}")
    return parity
