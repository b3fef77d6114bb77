"""Nearest-neighbour search of the memory banks, as suits processors that multiply bytes faster than floats, and as suits GPUs.

In int8, for processors: banks hold int8 patches as they are. The queries are rounded to the same step, and each float product becomes
MatMulInteger: about two and a half times as fast on x86 with VNNI.

At once, for GPUs: one product and one maximum a bank, few kernels instead of many. The largest of the products is looked up by its index:
on an H200 cuDNN's reduction, which is what ReduceMax runs, took ten times as long as ArgMax.

In both the patches' squared lengths join the product as a few more columns, so that the search is one product and one maximum, without a
pass over all distances in between. TF32 multiplies them exactly: tensor cores keep 11 bits of each factor, and a squared length of whole
numbers is cut into digits of 11 bits. So only the queries are rounded there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto
from torch import Tensor

from anomaly.export.writer import GraphWriter
from anomaly.scorers.pictures.patches import BLOCK, LEVELS

ZERO = 128  # unsigned queries with this zero point: signed times signed is many times slower in ONNX Runtime
PRODUCTS = 1 << 20  # products of places and patches in a block on a processor: 4 MB, which its caches hold
PLACES = 4096  # of a picture that are searched together on a processor, at most: no block of their products is too large
LEAST = 256  # patches a block at least: smaller products are slower than reading from memory
MOST = 16_384  # patches a product on a GPU: 64 KB of distances a place of the picture
DIGIT = 2048  # squared lengths are written to this base for a GPU


def patches_at_once(places: int) -> int:
    """Patches in one matrix product on a processor, for pictures of so many places.

    >>> patches_at_once(16 * 16), patches_at_once(64 * 64)
    (1024, 256)
    """
    return max(LEAST, min(BLOCK, PRODUCTS // places))


def in_portions(write: GraphWriter, queries: str, places: int, width: int, nearest: Callable[[str], str]) -> str:
    """What `nearest` answers (Q,) to queries (Q, width), for pictures of so many places; those of a large grid in portions."""
    if places <= PLACES:
        return nearest(queries)
    whole, found = write.op("Reshape", queries, [-1, places, width]), []
    for start in range(0, places, PLACES):
        end = min(start + PLACES, places)
        some = write.op("Reshape", write.op("Slice", whole, [start], [end], [1]), [-1, width])
        found.append(write.op("Reshape", nearest(some), [-1, end - start]))
    return write.op("Reshape", write.op("Concat", *found, axis=1), [-1])


def rounded_queries(write: GraphWriter, queries: str) -> str:
    """Queries (Q, D) in steps, rounded and clipped to whole numbers in -127..127, still as floats."""
    return write.op("Clip", write.op("Round", queries), float(-LEVELS), float(LEVELS))


def nearest_by_integers(write: GraphWriter, queries: str, patches: Tensor, block: int = BLOCK) -> str:
    """Rounded queries (Q, D), patches (M, D) int8 -> |b|^2 - 2 q.b (Q,) of the nearest patch, exact but for half a unit of |b|^2.

    |b|^2 - 2 q.b of the nearest = -2 (max over b of q.b - (|b|^2 / 2 - middle) - middle).
    """
    stored = np.ascontiguousarray(patches.numpy().T)  # (D, M)
    halves = (stored.astype(np.int64) ** 2).sum(0) // 2  # half the squared length of each patch
    middle = (int(halves.max()) + int(halves.min())) // 2
    reach = (int(halves.max()) - int(halves.min())) // 2 + 1
    width = 1 + -(-reach // (LEVELS * LEVELS))  # columns that the squared lengths need: the last of value 1, the others of LEVELS
    joined = np.concatenate([stored, _digits(middle - halves, width)])
    raised = write.op("Cast", write.op("Add", queries, float(ZERO)), to=TensorProto.UINT8)
    tail = np.full((1, width), ZERO + LEVELS, dtype=np.uint8)
    tail[0, -1] = ZERO + 1
    whole = _with_tail(write, raised, tail)
    most = ""
    for start in range(0, joined.shape[1], block):
        sums = write.op("MatMulInteger", whole, joined[:, start : start + block], np.array(ZERO, np.uint8))
        found = write.op("ReduceMax", sums, [1], keepdims=0)
        most = write.op("Max", most, found) if most else found
    lowered = write.op("Add", write.op("Cast", most, to=TensorProto.FLOAT), float(-middle))
    return write.op("Mul", lowered, -2.0)


def _digits(values: NDArray[np.int64], width: int) -> NDArray[np.int8]:
    """Integers (M,) as int8 digits (width, M): LEVELS times the sum of all rows but the last, plus the last."""
    coarse = np.clip(np.rint(values / LEVELS).astype(np.int64), -(width - 1) * LEVELS, (width - 1) * LEVELS)
    rows, left = [], coarse
    for _ in range(width - 1):
        rows.append(np.clip(left, -LEVELS, LEVELS))
        left = left - rows[-1]
    return np.stack([*rows, np.clip(values - coarse * LEVELS, -LEVELS, LEVELS)]).astype(np.int8)


def nearest_at_once(write: GraphWriter, queries: str, patches: Tensor) -> str:
    """Queries (Q, D) in steps, patches (M, D) int8 -> |b|^2 - 2 q.b (Q,) of the nearest patch, as -2 (max over b of q.b - |b|^2 / 2)."""
    stored = np.ascontiguousarray(patches.numpy().T)  # (D, M)
    digits = _to_base((stored.astype(np.int64) ** 2).sum(0))  # (K, M)
    tail = np.array([[-0.5 * DIGIT**place for place in range(len(digits))]], np.float32)  # times the digits: -|b|^2 / 2
    whole = _with_tail(write, queries, tail)
    most = ""
    for start in range(0, stored.shape[1], MOST):
        columns = (stored[:, start : start + MOST], digits[:, start : start + MOST])
        joined = write.op("Concat", *(write.op("Cast", each, to=TensorProto.FLOAT) for each in columns), axis=0)
        products = write.op("MatMul", whole, joined)
        found = write.op("GatherElements", products, write.op("ArgMax", products, axis=1, keepdims=1), axis=1)
        most = write.op("Max", most, found) if most else found
    most = write.op("Reshape", most, [-1])
    return write.op("Mul", most, -2.0)


def _with_tail(write: GraphWriter, rows: str, tail: NDArray[Any]) -> str:
    """Rows (Q, D) with the columns of `tail` (1, K) after each: (Q, D + K)."""
    shape = write.op("Concat", write.op("Shape", rows, end=1), [tail.shape[1]], axis=0)
    return write.op("Concat", rows, write.op("Expand", tail, shape), axis=1)


def _to_base(numbers: NDArray[np.int64]) -> NDArray[np.int16]:
    """Digits (K, M) of whole numbers (M,) to the base DIGIT, the lowest first.

    >>> _to_base(np.array([5, 2049]))
    array([[5, 1],
           [0, 1]], dtype=int16)
    """
    rows = [numbers % DIGIT]
    while (numbers := numbers // DIGIT).any():
        rows.append(numbers % DIGIT)
    return np.stack(rows).astype(np.int16)
