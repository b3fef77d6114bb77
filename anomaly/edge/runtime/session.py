"""ONNX Runtime around one detector: it is always said which provider runs which variant, and why not a quicker one."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from anomaly.bundle.archive import STREAM, VARIANTS, Bundle
from anomaly.cache import cache_folder
from anomaly.edge.kinds import kind_of
from anomaly.edge.runtime.io_binding import IoBinding
from anomaly.edge.runtime.variant_cache import read_variants
from anomaly.errors import BundleError, ProviderError
from anomaly.parallel import cores
from anomaly.schema import Channel

Provider = Literal["auto", "tensorrt", "cuda", "cpu"]
NAMES = {"tensorrt": "TensorrtExecutionProvider", "cuda": "CUDAExecutionProvider", "cpu": "CPUExecutionProvider"}
ORDER = ("tensorrt", "cuda", "cpu")
RUNS_BEFORE_IO_BINDING = 4  # runs of one shape after which it gets a graph with fixed buffers
MAX_IO_BINDINGS = 4  # such graphs at most
PREFERRED = {"tensorrt": ("fp16", "float"), "cuda": ("fp16", "float"), "cpu": ("int8", "float")}  # until `anomaly bench` has measured


class Answer(NamedTuple):
    """A detector's outputs for a batch: score (N,), p_value (N,), and as detail its map (N, h, w), contribution (N, C) or the like."""

    score: NDArray[np.float32]
    p_value: NDArray[np.float32]
    detail: NDArray[np.float32]


@dataclass(frozen=True)
class Device:
    """How a graph is run: threads on a CPU (None: all cores), memory on a GPU (None: what it needs), where built engines are kept."""

    threads: int | None = None
    memory: int | None = None
    cache: Path | None = None


# A place in C++ code with the function it is in, and the name of the error.
_CODE = re.compile(r"\[ONNXRuntimeError\] : \d+ : \w+ : |\S+\.(?:cc|cpp|cu|cuh|h|hpp):\d+(?:\s+[^()]{0,200}\([^()]*\)(?:\s*const)?)?\s*")


def open_session(
    bundle: Bundle, provider: Provider = "auto", threads: int | None = None, memory: int | None = None, variant: str | None = None
) -> Session:
    """A bundle's graph on a provider, in the variant that `anomaly bench` found quickest there, else in the one preferred for it.

    `memory`: bytes of GPU memory at most. Raises ProviderError and BundleError as Session does.
    """
    graphs = {name: bundle.members[member] for name, member in VARIANTS.items() if member in bundle.members}
    if variant is not None and variant not in graphs:
        raise BundleError(f"{bundle.path}: has no variant {variant!r}; it has {', '.join(graphs)}")
    chosen = dict.fromkeys(ORDER, variant) if variant is not None else read_variants(bundle.hash)
    session = Session(graphs, provider, Device(threads, memory, cache_folder() / bundle.hash[:16]), chosen, bundle.members.get(STREAM))
    session.sensors = bundle.manifest.input.sensors
    return session


class Session:
    """One detector on one provider. `sensors`: of its input, whose patterns come off readings before they are run.

    `provider` and `variant` are those in use. `refused` says why a provider that was wanted first is not, "" when the first one is.
    When a GPU's memory runs out, the batch is halved until it fits. Where not even one record fits, the session moves to the CPU for
    good. `degraded` then says so.
    """

    def __init__(
        self,
        model: bytes | Mapping[str, bytes],
        provider: Provider = "auto",
        device: Device | None = None,
        chosen: Mapping[str, str] | None = None,
        stream: bytes | None = None,
    ) -> None:
        """Load a graph, or one of several variants of it (`float`, `fp16`, `int8`).

        `chosen`: provider -> the variant to take on it. `stream`: the graph for rows that follow each other, where the bundle has one.
        "auto" tries TensorRT, CUDA, then the CPU. Naming a provider makes it mandatory.

        Raises ProviderError when the named provider cannot be used, BundleError when ONNX Runtime cannot load the bytes.
        """
        ort.set_default_logger_severity(4)  # why a GPU is not used is said by `line`, not by a page of ONNX Runtime's log
        self._graphs = dict(model) if isinstance(model, Mapping) else {"float": model}
        self._device = device or Device()
        self._chosen = chosen or {}
        wanted = list(ORDER) if provider == "auto" else [provider]
        if wanted != ["cpu"] and nvidia_driver() is not None:
            preload()
        self.sensors: Sequence[Channel] = ()
        self.refused = ""
        self.degraded = ""
        self.io_binding_refused = ""  # why a shape got no fixed buffers, "" where none was refused
        self._batch = 1 << 30  # records that are run at once
        self._seen: dict[tuple[int, ...], int] = {}
        self._io_bindings: dict[tuple[int, ...], IoBinding | None] = {}
        self._open(wanted)
        # Small matrix products over a few sensors: a GPU is no quicker there.
        self._stream = _open({"float": stream}, ["cpu"], self._device, {})[0] if stream is not None else None

    @property
    def where(self) -> str:
        """What judges a record, beside a time: "cpu, int8, 4 threads"."""
        threads = _threads(self._device)
        with_threads = f", {threads} thread{'' if threads == 1 else 's'}" if self.provider == "cpu" else ""
        return f"{self.provider}, {self.variant}{with_threads}"

    @property
    def streams(self) -> bool:
        """Whether `run_stream` can be called."""
        return self._stream is not None

    def run_stream(self, rows: NDArray[np.float32]) -> Answer:
        """Score rows (R, C) that follow each other: the answers for the windows of T rows that end at the last R - T + 1."""
        assert self._stream is not None, "ask `streams` first"
        return Answer(*self._stream.run(None, {"rows": rows}))

    @property
    def input_name(self) -> str:
        """Name of the graph's input, which is also that of its kind (`edge.kinds`)."""
        return str(self._input.name)

    def run(self, raw: NDArray[Any]) -> Answer:
        """Score one raw batch: (N, H, W, C) uint8 or uint16 pictures, or (N, T, C) float32 windows."""
        parts: list[Answer] = []
        start = 0
        while start < len(raw) or not parts:
            part = raw[start : start + self._batch]
            try:
                parts.append(Answer(*self._once(part)))
            except Exception as error:  # ONNX Runtime raises many types, without a common root
                self._shrink(len(part), error)
                continue
            start += len(part)
            if not len(part):
                break
        return parts[0] if len(parts) == 1 else Answer(*(np.concatenate(column) for column in zip(*parts, strict=True)))

    def _once(self, raw: NDArray[Any]) -> Sequence[NDArray[np.float32]]:
        """One run. On a GPU a shape that comes again and again gets a graph with fixed buffers (I/O binding)."""
        bound = self._io_bindings.get(raw.shape)
        if bound is not None:
            return bound.run(raw)
        answers: Sequence[NDArray[np.float32]] = self._session.run(None, {self._input.name: raw})
        if self.provider != "cpu" and raw.shape not in self._io_bindings:
            self._seen[raw.shape] = self._seen.get(raw.shape, 0) + 1
            if self._seen[raw.shape] >= RUNS_BEFORE_IO_BINDING and len(self._io_bindings) < MAX_IO_BINDINGS:
                self._io_bindings[raw.shape] = self._bind_io(raw, answers)
        return answers

    def _bind_io(self, raw: NDArray[Any], answers: Sequence[NDArray[np.float32]]) -> IoBinding | None:
        try:
            session = open_fixed_shape(self._graphs[self.variant], self.provider, self.variant, self._device, raw.shape)
            return IoBinding(session, raw, answers, "cuda")
        except Exception as error:  # the graph as it is goes on working
            self.io_binding_refused = str(error).splitlines()[0][:200]
            return None

    def warm(self, raw: NDArray[Any], times: int = 2) -> None:
        """Run a batch a few times, so that kernels are chosen, memory is allocated and engines are built before the first record."""
        for _ in range(times):
            self.run(raw)

    def line(self) -> str:
        """One clear line on what runs where."""
        name = {"tensorrt": "TensorRT (NVIDIA GPU)", "cuda": "CUDA (NVIDIA GPU)", "cpu": "CPU"}[self.provider]
        why = self.degraded or (f"{_first(self.refused)} not used: {self.refused.partition(': ')[2]}" if self.refused else "")
        beside = ", rows that follow each other on the CPU" if self.streams and self.provider != "cpu" else ""
        return f"provider: {name}, {self.variant}{beside}" + (f" ({why})" if why else "")

    def _open(self, wanted: Sequence[str]) -> None:
        self._session, self.provider, self.variant, refused = _open(self._graphs, wanted, self._device, self._chosen)
        self.refused = self.refused or refused
        self._input = self._session.get_inputs()[0]
        outputs = [output.name for output in self._session.get_outputs()]
        detail = kind_of(self.input_name).output
        if outputs != ["score", "p_value", detail]:
            raise BundleError(f"the graph's outputs are {outputs}; a detector of {self.input_name!r} has score, p_value and {detail}")

    def _shrink(self, size: int, error: Exception) -> None:
        """After a batch of `size` failed because GPU memory ran out: halve it, or move to the CPU. Raises any other error again."""
        if self.provider == "cpu" or not out_of_memory(error):
            raise error
        if size > 1:
            self._batch = size // 2
            self.degraded = f"GPU memory ran out: batches of {self._batch} at most"
            return
        for bound in self._io_bindings.values():
            if bound is not None:
                bound.close()
        self._io_bindings.clear()
        self._open(["cpu"])
        self._batch = 1 << 30
        self.degraded = "GPU memory ran out even for a single record: moved to the CPU; free GPU memory and start again"


def out_of_memory(error: Exception) -> bool:
    """Whether a provider's error means that memory ran out."""
    text = str(error).lower()
    signs = ("failed to allocate memory", "out of memory", "cuda failure 2", "outofmemory", "is smaller than requested bytes")
    return any(sign in text for sign in signs)


def in_plain_words(message: str) -> str:
    """What ONNX Runtime says, without the places in its own code that it says it from.

    >>> in_plain_words("[ONNXRuntimeError] : 1 : FAIL : /src/a/b_state.cc:729 void onnxruntime::R(P&, const O&) Please install\\nTensorRT ")
    'Please install TensorRT'
    """
    return " ".join(_CODE.sub("", " ".join(message.split())).split()) or "no reason is given"


def _first(refused: str) -> str:
    return {"tensorrt": "TensorRT", "cuda": "CUDA"}.get(refused.partition(": ")[0], "GPU")


def _open(
    graphs: Mapping[str, bytes], wanted: Sequence[str], device: Device, chosen: Mapping[str, str]
) -> tuple[ort.InferenceSession, str, str, str]:
    """(session, provider, variant, why the providers before it were not taken)."""
    refused = ""
    for name in wanted:
        if NAMES[name] not in ort.get_available_providers():
            refused = f"{name}: this onnxruntime is built without it"
            continue
        if name != "cpu" and nvidia_driver() is None:
            refused = f"{name}: there is no NVIDIA driver"
            continue
        variant = next(v for v in (chosen.get(name), *PREFERRED[name], *graphs) if v in graphs)
        assert variant is not None
        try:
            session = ort.InferenceSession(
                graphs[variant], _options(device), providers=_providers(name, variant, device), enable_fallback=0
            )
        except Exception as error:  # ONNX Runtime raises many types, without a common root
            if name == "cpu":
                raise BundleError(f"the graph cannot be loaded: {in_plain_words(str(error))[:300]}") from error
            refused = f"{name}: {in_plain_words(str(error))[:200]}"
            continue
        # ONNX Runtime may fall back to the CPU silently: only what it reports afterwards counts.
        if session.get_providers()[0] == NAMES[name]:
            return session, name, variant, refused
        refused = f"{name}: no usable NVIDIA GPU, driver or library was found"
    raise ProviderError(
        f"provider {wanted[-1]!r} was asked for but cannot be used: {refused.partition(': ')[2]}; `anomaly doctor` tells what is missing; "
        "use --provider auto or cpu to go on without"
    )


def open_fixed_shape(graph: bytes, provider: str, variant: str, device: Device, shape: Sequence[int]) -> ort.InferenceSession:
    """The graph for raw batches of one shape, wholly on the provider: a node that cannot run there is an error, not a copy to the CPU.

    (With free sizes ONNX Runtime computes shapes on the CPU, which has to be allowed.)
    """
    options = _options(device)
    for name, size in zip("NHW", shape, strict=False):
        options.add_free_dimension_override_by_name(name, size)
    if provider != "cpu":
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    providers = _providers(provider, variant, device)
    if provider == "cuda":
        providers[0][1]["enable_cuda_graph"] = "1"
    return ort.InferenceSession(graph, options, providers=providers)


def _providers(name: str, variant: str, device: Device) -> list[tuple[str, dict[str, str]]]:
    """The provider's name and options; for TensorRT also CUDA, which runs the nodes that TensorRT cannot."""
    named = [name, "cuda"] if name == "tensorrt" else [name]
    return [(NAMES[each], provider_options(each, device, variant)) for each in named]


def _threads(device: Device) -> int:
    return device.threads if device.threads is not None else cores()


def _options(device: Device) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = _threads(device)
    options.log_severity_level = 4
    return options


def provider_options(name: str, device: Device, variant: str = "float") -> dict[str, str]:
    """A provider's options: a memory limit, the quickest kernels by one measurement, engines kept between starts."""
    if name == "cpu":
        return {}
    if name == "cuda":
        # TF32 keeps 11 bits of a factor, as float16 does: on an H200 it moved scores of the float graph by up to 1.3 %, past the self-test.
        tf32 = str(int(variant == "fp16"))
        found = {"cudnn_conv_algo_search": "EXHAUSTIVE", "arena_extend_strategy": "kSameAsRequested", "use_tf32": tf32}
        if variant == "fp16":  # tensor cores want channels last; bias and activation ride along with the convolution
            found |= {"prefer_nhwc": "1", "fuse_conv_bias": "1"}
        return found | ({"gpu_mem_limit": str(device.memory)} if device.memory else {})
    found = {f"trt_{kind}_enable": str(int(kind == variant)) for kind in ("fp16", "int8")}  # only what was checked at export
    if device.cache is not None:
        device.cache.mkdir(parents=True, exist_ok=True)
        where = {"trt_engine_cache_path": str(device.cache), "trt_timing_cache_path": str(device.cache)}
        found |= {"trt_engine_cache_enable": "1", "trt_timing_cache_enable": "1"} | where
    return found | ({"trt_max_workspace_size": str(device.memory)} if device.memory else {})


def nvidia_driver(load: Callable[[str], object] = ctypes.CDLL) -> object | None:
    """NVIDIA's driver, None without it: then CUDA's libraries are not loaded, which take 100 MB of memory and a second."""
    try:
        return load("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")
    except OSError:
        return None


def preload(load: Callable[..., None] | None = None) -> str:
    """Load the CUDA and cuDNN libraries that were installed by pip; returns what went wrong, "" for nothing."""
    load = load or getattr(ort, "preload_dlls", None)
    if load is None:
        return "this onnxruntime cannot load CUDA libraries from pip packages"
    try:
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):  # noqa: PTH123 - it prints what is missing
            load()
    except Exception as error:
        return str(error)
    return ""
