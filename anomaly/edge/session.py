"""ONNX Runtime around one detector: which provider runs it is chosen openly, never silently."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from anomaly.bundle.archive import INT8, Bundle
from anomaly.errors import BundleError, ProviderError

Provider = Literal["auto", "cuda", "cpu"]
_NAMES = {"cuda": "CUDAExecutionProvider", "cpu": "CPUExecutionProvider"}


class Answer(NamedTuple):
    """What a detector says of a batch: score (N,), p_value (N,), detail = map (N, h, w) or contribution (N, C)."""

    score: NDArray[np.float32]
    p_value: NDArray[np.float32]
    detail: NDArray[np.float32]


def open_session(bundle: Bundle, provider: Provider = "auto", threads: int | None = None) -> Session:
    """A bundle's graph on a provider, in the variant that suits it. Raises ProviderError and BundleError as Session does."""
    return Session(bundle.detector, provider, threads, bundle.members.get(INT8))


class Session:
    """One detector graph on one provider. `provider` tells which is really in use: "cuda" or "cpu"."""

    def __init__(self, model: bytes, provider: Provider = "auto", threads: int | None = None, on_cpu: bytes | None = None) -> None:
        """Load a graph; `on_cpu` is its 8-bit variant, taken instead where the CPU runs it (`variant` says "int8" then).

        "auto" tries CUDA, then the CPU; "cuda" or "cpu" is an order: ProviderError when it cannot be met.

        Raises BundleError when the bytes are not a graph that ONNX Runtime can load.
        """
        ort.set_default_logger_severity(4)  # a failed CUDA try is told by our own line, not by a page of its log
        wanted: list[str] = ["cuda", "cpu"] if provider == "auto" else [provider]
        if "cuda" in wanted and hasattr(ort, "preload_dlls"):
            _preload()
        graphs = {"cuda": model, "cpu": on_cpu or model}
        self._session, self.provider, self.refused = _open(graphs, wanted, threads)
        self.variant = "int8" if self.provider == "cpu" and on_cpu is not None else "float"
        self._input = self._session.get_inputs()[0]
        outputs = [output.name for output in self._session.get_outputs()]
        if outputs[:2] != ["score", "p_value"] or outputs[2:] not in (["map"], ["contribution"]):
            raise BundleError(f"the graph's outputs are {outputs}; a detector has score, p_value and map or contribution")

    @property
    def input_name(self) -> str:
        """ "image" or "window"."""
        return str(self._input.name)

    def run(self, raw: NDArray[Any]) -> Answer:
        """Score one raw batch: (N, H, W, C) uint8 or uint16 pictures, or (N, T, C) float32 windows."""
        score, p_value, detail = self._session.run(None, {self._input.name: raw})
        return Answer(score, p_value, detail)

    def line(self) -> str:
        """One clear line on what runs where."""
        if self.provider == "cuda":
            return "provider: CUDA (NVIDIA GPU)"
        return "provider: CPU" + (f" (CUDA not used: {self.refused})" if self.refused else "")


def _open(graphs: Mapping[str, bytes], wanted: list[str], threads: int | None) -> tuple[ort.InferenceSession, str, str]:
    refused = ""
    for name in wanted:
        if _NAMES[name] not in ort.get_available_providers():
            refused = "this onnxruntime has no CUDA build"
            continue
        try:
            session = ort.InferenceSession(graphs[name], _options(threads), providers=[_NAMES[name]])
        except Exception as error:  # ONNX Runtime raises many types, without a common root
            if name == "cpu":
                raise BundleError(f"the graph cannot be loaded: {str(error).splitlines()[0][:300]}") from error
            refused = str(error).splitlines()[0][:200]
            continue
        # ONNX Runtime falls back to the CPU without a word: what it says afterwards is what counts.
        if session.get_providers()[0] == _NAMES[name]:
            return session, name, refused
        refused = "no usable NVIDIA GPU, driver or CUDA library was found"
    raise ProviderError(f"provider {wanted[-1]!r} was asked for but cannot be used: {refused}; use --provider auto or cpu")


def _options(threads: int | None) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = (
        threads if threads is not None else len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
    )
    options.log_severity_level = 4
    return options


def _preload() -> None:
    try:
        ort.preload_dlls()  # CUDA libraries that came with pip
    except Exception:
        return
