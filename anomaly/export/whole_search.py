"""Nearest-neighbour search of the memory banks for GPUs: one product and one maximum a bank, few kernels instead of many.

The patches' squared lengths join the product as a few more columns, which TF32 multiplies exactly: tensor cores keep 11 bits of each
factor, and a squared length of whole numbers is cut into digits of 11 bits. So only the queries are rounded there. The largest of the
products is looked up by its index: on an H200 cuDNN's reduction, which is what ReduceMax runs, took ten times as long as ArgMax.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto
from torch import Tensor

from anomaly.export.writer import GraphWriter

MOST = 16_384  # patches a product: 64 KB of distances a place of the picture
DIGIT = 2048  # squared lengths are written to this base


def nearest_at_once(write: GraphWriter, queries: str, patches: Tensor) -> str:
    """Queries (Q, D) in steps, patches (M, D) int8 -> |b|^2 - 2 q.b (Q,) of the nearest patch, as -2 (max over b of q.b - |b|^2 / 2)."""
    stored = np.ascontiguousarray(patches.numpy().T)  # (D, M)
    digits = _digits((stored.astype(np.int64) ** 2).sum(0))  # (K, M)
    tail = np.array([[-0.5 * DIGIT**place for place in range(len(digits))]], np.float32)  # times the digits: -|b|^2 / 2
    shape = write.op("Concat", write.op("Shape", queries, end=1), [len(digits)], axis=0)
    whole = write.op("Concat", queries, write.op("Expand", tail, shape), axis=1)
    most = ""
    for start in range(0, stored.shape[1], MOST):
        columns = (stored[:, start : start + MOST], digits[:, start : start + MOST])
        joined = write.op("Concat", *(write.op("Cast", each, to=TensorProto.FLOAT) for each in columns), axis=0)
        products = write.op("MatMul", whole, joined)
        found = write.op("GatherElements", products, write.op("ArgMax", products, axis=1, keepdims=1), axis=1)
        most = write.op("Max", most, found) if most else found
    most = write.op("Reshape", most, [-1])
    return write.op("Mul", most, -2.0)


def _digits(numbers: NDArray[np.int64]) -> NDArray[np.int16]:
    """Digits (K, M) of whole numbers (M,) to the base DIGIT, the lowest first.

    >>> _digits(np.array([5, 2049]))
    array([[5, 1],
           [0, 1]], dtype=int16)
    """
    rows = [numbers % DIGIT]
    while (numbers := numbers // DIGIT).any():
        rows.append(numbers % DIGIT)
    return np.stack(rows).astype(np.int16)
