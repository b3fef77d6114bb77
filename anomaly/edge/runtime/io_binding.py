"""I/O binding: a graph whose input and outputs stay in the same memory, for pictures of one size on a GPU.

Frames go through pinned host memory, buffers are allocated once, and CUDA replays the whole graph as one launch (CUDA graphs).
"""

from __future__ import annotations

import contextlib
import ctypes
import threading
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

LIBRARIES = ("libcudart.so.13", "libcudart.so.12")


class IoBinding:
    """One graph for raw batches of one shape and dtype. Threads take turns."""

    def __init__(self, session: ort.InferenceSession, raw: NDArray[Any], answers: Sequence[NDArray[np.float32]], where: str) -> None:
        """`answers` are the graph's outputs for `raw`; only their shapes are used. `where`: "cuda" or "cpu"."""
        self._session = session
        self._turn = threading.Lock()
        self._host = np.ascontiguousarray(raw).copy()
        unpin = pin(self._host) if where == "cuda" else None
        # Memory that is freed while still pinned breaks whatever is allocated there next: it is unpinned with its owner at the latest.
        self._unpin = weakref.finalize(self, unpin) if unpin is not None else None
        self._input = ort.OrtValue.ortvalue_from_numpy(self._host, where, 0)
        self._outputs = [ort.OrtValue.ortvalue_from_shape_and_type(a.shape, np.float32, where, 0) for a in answers]
        self._binding = session.io_binding()
        self._binding.bind_ortvalue_input(session.get_inputs()[0].name, self._input)
        for output, value in zip(session.get_outputs(), self._outputs, strict=True):
            self._binding.bind_ortvalue_output(output.name, value)

    def run(self, raw: NDArray[Any]) -> list[NDArray[np.float32]]:
        """The outputs for a batch of the shape it was made for; the arrays are the caller's."""
        with self._turn:
            np.copyto(self._host, raw, casting="no")
            self._input.update_inplace(self._host)
            self._session.run_with_iobinding(self._binding)
            return [np.array(value.numpy()) for value in self._outputs]

    def close(self) -> None:
        """Unpin the memory."""
        if self._unpin is not None:
            self._unpin()


def pin(array: NDArray[Any]) -> Any:
    """Page-lock an array, so that copies run at full speed. Returns a function that undoes it, None where CUDA's runtime is missing."""
    for name in LIBRARIES:
        with contextlib.suppress(OSError, AttributeError):
            runtime = ctypes.CDLL(name)
            address = ctypes.c_void_p(array.ctypes.data)
            if runtime.cudaHostRegister(address, ctypes.c_size_t(array.nbytes), ctypes.c_uint(0)) == 0:
                return lambda: runtime.cudaHostUnregister(address)
    return None
