"""How each part of a detector is written as an ONNX graph: a function for each kind of module, registered with `lower`.

A part that has no such function is traced by PyTorch's own exporter, which takes seconds instead of milliseconds (`export.traced`).
"""

from __future__ import annotations

from functools import singledispatch

from onnx import TensorProto
from torch import nn

from anomaly.calibration.conformal import BLOCK, Calibrator
from anomaly.export.writer import GraphWriter
from anomaly.scorers.boosted import Boosted


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
    start, scale, shape, beyond, power = (float(value) for value in module.tail)
    above = write.op("Max", write.op("Sub", 1.0, share), beyond)
    effective = float(module.effective)
    p = write.op("Div", write.op("Add", write.op("Mul", above, effective), 1.0), effective + 1.0)
    excess = write.op("Div", write.op("Max", write.op("Sub", score, start), 0.0), scale)
    excess = excess if power == 1 else write.op("Pow", excess, power)
    logarithm = write.op("Log", write.op("Add", write.op("Mul", excess, shape), 1.0))
    survival = write.op("Exp", write.op("Div", write.op("Neg", logarithm), shape))
    return [write.op("Max", write.op("Mul", p, survival), 1e-30)]


def _count_below(write: GraphWriter, values: str, score: str) -> str:
    """How many of each row of `values` (N or 1, K) are below the score (N, 1): int64 (N,)."""
    return write.op("ReduceSum", write.op("Cast", write.op("Less", values, score), to=TensorProto.INT64), [1], keepdims=0)


# --- the vote of labelled faults ---


@singledispatch
def lower_evidence(scorer: nn.Module, write: GraphWriter, *features: str) -> str:
    """What a vote beside `scorer` judges by, as `boosted.evidence_of` tells it: rows (N, D). Pooled maps (N, C, h, w) by default."""
    pooled = []
    for maps in features:
        pooled += [write.op("ReduceMean", maps, [2, 3], keepdims=0), write.op("ReduceMax", maps, [2, 3], keepdims=0)]
    return write.op("Concat", *pooled, axis=1)


@lower.register
def _boosted(module: Boosted, write: GraphWriter, *features: str) -> list[str]:
    """The scorer's score (N,), raised where the vote says fault, and its map (N, h, w) or contribution (N, C)."""
    score, detail = lower(module.scorer, write, *features)
    seen = write.op("Gather", lower_evidence(module.scorer, write, *features), module.feature, axis=1)  # (N, B)
    beyond = write.op("Clip", write.op("Add", write.op("Div", write.op("Sub", seen, module.threshold), module.width), 0.5), 0.0, 1.0)
    low, high = module.value[:, 0], module.value[:, 1]
    votes = write.op("Mul", write.op("Add", write.op("Mul", beyond, (high - low).contiguous()), low.contiguous()), module.say)
    share = write.op("ReduceSum", votes, [1], keepdims=1)
    above = write.op("Div", write.op("Sub", share, float(module.floor)), 1.0 - float(module.floor))
    raised = write.op("Mul", write.op("Max", above, 0.0), float(module.step))
    if module.owner.shape[1]:
        each = write.op("Div", raised, write.op("Max", share, 0.5))
        detail = write.op("Add", detail, write.op("Mul", write.op("MatMul", votes, module.owner), each))
    return [write.op("Add", score, write.op("Squeeze", raised, [1])), detail]
