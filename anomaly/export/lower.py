"""How each part of a detector is written as an ONNX graph: a function for each kind of module, registered with `lower`.

A part that has no such function is traced by PyTorch's own exporter, which takes seconds instead of milliseconds (`export.traced`).
"""

from __future__ import annotations

from functools import singledispatch

from onnx import TensorProto
from torch import nn

from anomaly.calibration.conformal import BLOCK, Calibrator
from anomaly.export.writer import GraphWriter


class NotLoweredError(TypeError):
    """A module that `lower` has no function for."""


@singledispatch
def lower(module: nn.Module, write: GraphWriter, *inputs: str) -> list[str]:
    """Write `module` as nodes of a graph: names of its inputs in, names of its outputs out, as its `forward` takes and gives them.

    Raises NotLoweredError for a module without a function of its own.
    """
    raise NotLoweredError(type(module).__name__)


@lower.register
def _calibrator(module: Calibrator, write: GraphWriter, score: str) -> list[str]:
    """Score (N,) -> p-value (N,). The block of calibration scores is found by its first one, then the place within it."""
    at = write.op("Unsqueeze", score, [1])
    firsts = write.constant(module.blocks[:, :1].T)
    block = write.op("Max", write.op("Sub", _count_below(write, firsts, at), 1), 0)
    own = write.op("Gather", write.constant(module.blocks, "calibrator.blocks"), block, axis=0)
    below = write.op("Add", write.op("Mul", block, BLOCK), _count_below(write, own, at))
    share = write.op("Div", write.op("Cast", below, to=TensorProto.FLOAT), float(len(module.scores)))
    effective = float(module.effective)
    p = write.op("Div", write.op("Add", write.op("Mul", write.op("Sub", 1.0, share), effective), 1.0), effective + 1.0)
    start, scale, shape = (float(value) for value in module.tail)
    ratio = write.op("Exp", write.op("Div", write.op("Neg", _beyond(module, write, score, start, scale, shape)), shape))
    return [write.op("Max", write.op("Mul", p, ratio), 1e-30)]


def _count_below(write: GraphWriter, values: str, score: str) -> str:
    """How many of each row of `values` (N or 1, K) are below the score (N, 1): int64 (N,)."""
    return write.op("ReduceSum", write.op("Cast", write.op("Less", values, score), to=TensorProto.INT64), [1], keepdims=0)


def _beyond(module: Calibrator, write: GraphWriter, score: str, start: float, scale: float, shape: float) -> str:
    """log1p of the score's excess in the tail, less that of the largest calibration score: 0 up to that score."""
    excess = write.op("Max", write.op("Sub", score, start), 0.0)
    logarithm = _log1p(write, write.op("Div", write.op("Mul", excess, shape), scale))
    largest = (shape * (module.scores[-1] - start).clamp(min=0.0) / scale).log1p()
    return write.op("Max", write.op("Sub", logarithm, float(largest)), 0.0)


def _log1p(write: GraphWriter, x: str) -> str:
    return write.op("Log", write.op("Add", x, 1.0))
