"""What this machine can run detectors on, and what is missing for more."""

from __future__ import annotations

import ctypes
import importlib.metadata
import platform
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import onnxruntime as ort
from PIL import features

from anomaly.bundle.archive import Bundle
from anomaly.cache import cache_folder
from anomaly.edge.runtime.session import NAMES, ORDER, nvidia_driver, open_session, preload
from anomaly.edge.runtime.variant_cache import read_variants
from anomaly.errors import AnomalyError
from anomaly.parallel import cores

State = Literal["ok", "note", "missing"]
# What ONNX Runtime's CUDA provider loads, by CUDA's major version, and the pip package each comes in.
LIBRARIES = {
    13: {
        "libcublasLt.so.13": "nvidia-cublas",
        "libcublas.so.13": "nvidia-cublas",
        "libcurand.so.10": "nvidia-curand",
        "libcudart.so.13": "nvidia-cuda-runtime",
        "libcufft.so.12": "nvidia-cufft",
        "libcudnn.so.9": "nvidia-cudnn-cu13",
    },
    12: {
        "libcublasLt.so.12": "nvidia-cublas-cu12",
        "libcublas.so.12": "nvidia-cublas-cu12",
        "libcurand.so.10": "nvidia-curand-cu12",
        "libcudart.so.12": "nvidia-cuda-runtime-cu12",
        "libcufft.so.11": "nvidia-cufft-cu12",
        "libcudnn.so.9": "nvidia-cudnn-cu12",
    },
}
TENSORRT = "libnvinfer.so.10"
LOW_DISK = 1 << 30
CONTAINER = "in a container, start it with --gpus all"


@dataclass(frozen=True)
class Finding:
    """One thing looked at. `text` says what was found and, where something is missing, what to do."""

    what: str
    state: State
    text: str


def examine(store: Path, bundle: Bundle | None = None, load: Callable[[str], object] = ctypes.CDLL) -> list[Finding]:
    """Look at the runtime, the GPU, the libraries, the processor and the disk; with a bundle, run it on every provider.

    `load` loads a shared library by name and raises OSError when it is not there.
    """
    found = [_runtime(), *_gpu(load), _processor(), _decoder(), _disk(store)]
    if bundle is not None:
        found += _providers(bundle)
    return found


def verdict(findings: Sequence[Finding]) -> str:
    """Whether detectors can run here, in a sentence.

    >>> verdict([Finding("disk", "ok", ""), Finding("NVIDIA GPU", "note", "")])
    'Detectors can run here, on the CPU; what is marked "note" below would make it quicker or surer.'
    >>> verdict([Finding("disk", "missing", "")])
    'Not ready: disk. What to do is said below.'
    """
    missing = [found.what for found in findings if found.state == "missing"]
    if missing:
        return f"Not ready: {', '.join(missing)}. What to do is said below."
    there = {found.what for found in findings if found.state == "ok"}
    where = "GPU" if {"NVIDIA GPU", "CUDA"} <= there else "CPU"
    notes = any(found.state == "note" for found in findings)
    return f"Detectors can run here, on the {where}" + ('; what is marked "note" below would make it quicker or surer.' if notes else ".")


def _runtime() -> Finding:
    installed = {name: _version(name) for name in ("onnxruntime", "onnxruntime-gpu")}
    there = [f"{name} {version}" for name, version in installed.items() if version]
    if len(there) == 2:
        text = f"{' and '.join(there)} are both installed and overwrite one another; uninstall both, then install onnxruntime-gpu"
        return Finding("ONNX Runtime", "missing", text)
    return Finding("ONNX Runtime", "ok", f"{there[0] if there else ort.__version__} on Python {platform.python_version()}")


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _gpu(load: Callable[[str], object]) -> list[Finding]:
    if NAMES["cuda"] not in ort.get_available_providers():
        return [Finding("NVIDIA GPU", "note", "this ONNX Runtime is built without CUDA; for a GPU install onnxruntime-gpu in its place")]
    driver = nvidia_driver(load)
    if driver is None:
        text = "no NVIDIA driver (libcuda.so.1): detectors run on the CPU. With a GPU in the machine, install its driver; " + CONTAINER
        return [Finding("NVIDIA GPU", "note", text)]
    preload()
    return [_device(driver), *_libraries(load)]


def _device(driver: object) -> Finding:
    count = ctypes.c_int()
    failed = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))  # type: ignore[attr-defined]
    if failed or not count.value:
        text = f"the driver is there but shows no GPU (CUDA error {failed}); nvidia-smi tells more; " + CONTAINER
        return Finding("NVIDIA GPU", "missing", text)
    name = ctypes.create_string_buffer(100)
    driver.cuDeviceGetName(name, 100, 0)  # type: ignore[attr-defined]
    return Finding("NVIDIA GPU", "ok", f"{count.value}: {name.value.decode(errors='replace')}")


def _libraries(load: Callable[[str], object]) -> list[Finding]:
    from onnxruntime.capi import build_and_package_info

    version = str(getattr(build_and_package_info, "cuda_version", "") or "13")
    wanted = LIBRARIES.get(int(version.split(".", maxsplit=1)[0]), LIBRARIES[13])
    missing = [name for name in wanted if not _there(name, load)]
    packages = sorted({wanted[name] for name in missing})
    text = f"CUDA {version} libraries: " + (
        f"{', '.join(missing)} not found; run: pip install {' '.join(packages)}" if missing else "all there"
    )
    found = [Finding("CUDA", "missing" if missing else "ok", text)]
    if _there(TENSORRT, load):
        return [*found, Finding("TensorRT", "ok", f"{TENSORRT} is there")]
    return [*found, Finding("TensorRT", "note", f"{TENSORRT} not found; CUDA is used without it; for more speed install TensorRT 10")]


def _there(name: str, load: Callable[[str], object]) -> bool:
    try:
        load(name)
    except OSError:
        return False
    return True


def _processor() -> Finding:
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        flags = ""
    quick = [name for name in ("amx_int8", "avx512_vnni", "avx_vnni", "asimddp") if name in flags]
    how = f"by {quick[0]}" if quick else "without instructions of its own: floats may be quicker, `anomaly bench` measures"
    return Finding("processor", "ok" if quick else "note", f"{cores()} cores, {platform.machine()}; 8-bit arithmetic {how}")


def _decoder() -> Finding:
    quick = bool(features.check_feature("libjpeg_turbo"))
    return Finding(
        "JPEG decoder", "ok" if quick else "note", "libjpeg-turbo" if quick else "Pillow without libjpeg-turbo; decoding is slower"
    )


def _disk(store: Path) -> Finding:
    folder = next(p for p in (store.absolute().parent, *store.absolute().parents) if p.exists())
    wrong = _no_store(store, folder)
    if wrong:
        return Finding("store", "missing", wrong)
    free = shutil.disk_usage(folder).free
    text = f"{free / 1e9:.1f} GB free where the event store lies ({folder}); cache: {cache_folder()}"
    return (
        Finding("disk", "ok", text)
        if free > LOW_DISK
        else Finding("disk", "missing", f"{text}; make room before a full disk stops the store")
    )


def _no_store(store: Path, folder: Path) -> str:
    """Why no event store can be there, "" when one can."""
    if store.is_dir():
        return f"{store} is a folder; name a file in it: --store {store / 'anomaly.db'}"
    if store.exists() and not store.is_file():
        return f"{store} is not a plain file; name another"
    if not folder.is_dir():
        return f"{folder} is a file, so it cannot be a folder for {store.name}; name another place"
    if store.is_file() and store.stat().st_size:
        with store.open("rb") as stream:
            if stream.read(16) != b"SQLite format 3\0":
                return f"{store} is no event store (not SQLite); name another file"
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        return f"nothing can be written in {folder} ({error.strerror}); name another place"
    return ""


def _providers(bundle: Bundle) -> list[Finding]:
    from anomaly.edge.runtime.self_test import self_test

    found = []
    chosen = read_variants(bundle.hash)
    for provider in ORDER:
        try:
            session = open_session(bundle, provider)  # type: ignore[arg-type]
            tested = self_test(bundle, session)
            text = f"{session.variant} runs and gives the right answers on {tested} examples"
            text += "" if provider in chosen else "; not measured yet: anomaly bench BUNDLE --choose"
            found.append(Finding(f"bundle on {provider}", "ok", text))
        except AnomalyError as error:
            why = str(error).rpartition("cannot be used: ")[2].partition("; `anomaly doctor`")[0]  # this is the doctor
            found.append(Finding(f"bundle on {provider}", "missing" if provider == "cpu" else "note", why))
    return found
