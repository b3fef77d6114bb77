"""Latency and throughput of a bundle on this machine: each variant by batch size, several streams, and the machine's own limits."""

from __future__ import annotations

import base64
import io
import resource
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from anomaly.bundle.archive import VARIANTS, Bundle
from anomaly.edge.runtime.session import NAMES, Device, Provider, Session, open_session, provider_options
from anomaly.errors import BundleError
from anomaly.parallel import cores

# Graphs of one matrix product, a (n, k) times b (k, m), made once with onnx.helper: the edge has no package that writes graphs.
PRODUCTS = {
    "float": "CAkSADpbChEKAWEKAWISAWMiBk1hdE11bBIBZ1oVCgFhEhAKDggBEgoKAxIBbgoDEgFrWh"
    "UKAWISEAoOCAESCgoDEgFrCgMSAW1iFQoBYxIQCg4IARIKCgMSAW4KAxIBbUIECgAQEg==",
    "fp16": "CAkSADpbChEKAWEKAWISAWMiBk1hdE11bBIBZ1oVCgFhEhAKDggKEgoKAxIBbgoDEgFrWh"
    "UKAWISEAoOCAoSCgoDEgFrCgMSAW1iFQoBYxIQCg4IChIKCgMSAW4KAxIBbUIECgAQEg==",
    "int8": "CAkSADpiChgKAWEKAWISAWMiDU1hdE11bEludGVnZXISAWdaFQoBYRIQCg4IAhIKCgMSAW4KAx"
    "IBa1oVCgFiEhAKDggDEgoKAxIBawoDEgFtYhUKAWMSEAoOCAYSCgoDEgFuCgMSAW1CBAoAEBI=",
}  # fmt: skip
TYPES = {"float": (np.float32, np.float32), "fp16": (np.float16, np.float16), "int8": (np.uint8, np.int8)}
SIDE = 1024
ROUND = 10  # runs in a row before the next variant's: a machine that slows down then slows all variants alike


def measure(bundle: Bundle, provider: Provider, batches: Sequence[int], streams: Sequence[int], seconds: float) -> dict[str, Any]:
    """Figures of every variant by batch size, of the quickest in several streams, and the machine's limits."""
    raw = example(bundle)
    names = [name for name, member in VARIANTS.items() if member in bundle.members]
    sessions = {name: open_session(bundle, provider, variant=name) for name in names}
    used = next(iter(sessions.values())).provider
    work = bundle.manifest.provenance.get("multiply_adds")
    limits = {name: product_rate(name, used, seconds / 4) for name in names}
    found: dict[str, dict[str, dict[str, float]]] = {name: {} for name in names}
    for size in batches:
        group = np.repeat(raw, size, axis=0)
        for name, times in _in_turn(sessions, group, seconds).items():
            row = {f"p{q}_ms": float(1000 * np.quantile(times, q / 100)) for q in (50, 95, 99)} | {"per_s": float(size / times.mean())}
            if work and limits[name]:
                row["share_of_limit"] = row["per_s"] * work / (limits[name] * 1e9)
            found[name][str(size)] = row
    first = str(batches[0])
    quickest = min(names, key=lambda name: found[name][first]["p50_ms"])
    return {
        "bundle": bundle.hash,
        "provider": used,
        "cores": cores(),
        "variants": found,
        "quickest": quickest,
        "streams": {str(count): in_streams(bundle, provider, quickest, raw, count, seconds) for count in streams},
        "limits": {f"{name}_gmac_per_s": value for name, value in limits.items()} | {"copy_gb_per_s": copy_rate(used)},
        "memory_mb": memory_mb(),
    }


def describe_figures(figures: dict[str, Any]) -> list[str]:
    """What `measure` found, in lines for people: the verdict, and the figures under it."""
    lines = [_verdict(figures)]
    for variant, rows in figures["variants"].items():
        for size, row in rows.items():
            share = f"; {row['share_of_limit']:.0%} of what the machine multiplies at most" if "share_of_limit" in row else ""
            lines.append(
                f"  {figures['provider']} {variant:6} {size:>4} at a time: {row['p50_ms']:.2f} ms (1 in 100 above {row['p99_ms']:.2f} ms), "
                f"{row['per_s']:.0f} records a second{share}"
            )
    for count, row in figures["streams"].items():
        streams = "1 stream" if count == "1" else f"{count} streams"
        fair = "" if count == "1" else f"; the one served most had {row['fairness']:.2f} times what the one served least had"
        lines.append(f"  {streams}: {row['per_s']:.0f} records a second in all{fair}")
    limits = figures["limits"]
    rates = [f"{name} {limits[f'{name}_gmac_per_s']:.3g}" for name in PRODUCTS if f"{name}_gmac_per_s" in limits]
    return [
        *lines,
        f"  the machine's limits: {', '.join(rates)} thousand million multiplications a second; copies {limits['copy_gb_per_s']:.3g} GB/s",
        f"  memory: {figures['memory_mb']:.0f} MB",
    ]


def _verdict(figures: dict[str, Any]) -> str:
    """How long one record takes with the quickest variant, in a sentence."""
    found, quickest = figures["variants"], figures["quickest"]
    row = next(iter(found[quickest].values()))
    first = next(iter(found[quickest]))
    others = ", ".join(f"{name} {next(iter(rows.values()))['p50_ms']:.3g} ms" for name, rows in found.items() if name != quickest)
    many = "A record takes" if first == "1" else f"{first} records take"
    compared = f"; {quickest} is the quickest variant here ({others})" if others else ""
    return f"{many} {row['p50_ms']:.3g} ms on the {figures['provider'].upper()}{compared}."


def example(bundle: Bundle) -> NDArray[Any]:
    """The bundle's first example, a raw batch of one. Raises BundleError when it has none."""
    member = bundle.members.get("examples/0.npz")
    if member is None:
        raise BundleError(f"{bundle.path}: has no examples to measure with; export it again")
    with np.load(io.BytesIO(member), allow_pickle=False) as content:
        return np.asarray(content["raw"])


def _in_turn(sessions: dict[str, Session], raw: NDArray[Any], seconds: float) -> dict[str, NDArray[np.float64]]:
    """Seconds a run (n,) of each session, a few runs each in turn."""
    times: dict[str, list[float]] = {name: [] for name in sessions}
    for session in sessions.values():
        session.warm(raw, 6)
    until = time.perf_counter() + seconds * len(sessions)
    while time.perf_counter() < until or any(len(found) < ROUND for found in times.values()):
        for name, session in sessions.items():
            for _ in range(ROUND):
                started = time.perf_counter()
                session.run(raw)
                times[name].append(time.perf_counter() - started)
    return {name: np.array(found) for name, found in times.items()}


def in_streams(bundle: Bundle, provider: Provider, variant: str, raw: NDArray[Any], count: int, seconds: float) -> dict[str, float]:
    """`count` threads that run batches of one as fast as they can: runs a second of all together, and the most over the least of one."""
    session = open_session(bundle, provider, threads=1, variant=variant)
    session.warm(raw)
    served = [0] * count
    until = time.perf_counter() + seconds

    def stream(index: int) -> None:
        while time.perf_counter() < until:
            session.run(raw)
            served[index] += 1

    threads = [threading.Thread(target=stream, args=(index,)) for index in range(count)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"per_s": sum(served) / (time.perf_counter() - started), "fairness": max(served) / max(1, min(served))}


def product_rate(kind: str, provider: str, seconds: float, side: int = SIDE) -> float:
    """10^9 multiply-adds a second of a large matrix product on a provider, 0 where it has no kernel for it."""
    where = "cpu" if provider == "cpu" else "cuda"
    name = "cpu" if provider == "cpu" else "cuda"  # TensorRT multiplies with the same units
    try:
        options = ort.SessionOptions()
        options.intra_op_num_threads = cores()
        options.log_severity_level = 4
        session = ort.InferenceSession(
            base64.b64decode(PRODUCTS[kind]), options, providers=[(NAMES[name], provider_options(name, Device()))], enable_fallback=0
        )
        left, right = TYPES[kind]
        binding = session.io_binding()
        for key, dtype in (("a", left), ("b", right)):
            binding.bind_ortvalue_input(key, ort.OrtValue.ortvalue_from_numpy(np.ones((side, side), dtype), where, 0))
        binding.bind_output("c", where)
        session.run_with_iobinding(binding)
    except Exception:  # no such kernel here
        return 0.0
    return side**3 / _best(lambda: session.run_with_iobinding(binding), seconds) / 1e9


def copy_rate(provider: str, size: int = 1 << 26) -> float:
    """GB a second from host memory to where the graph runs."""
    host = np.ones(size, np.uint8)
    if provider == "cpu":
        other = np.empty_like(host)
        return size / _best(lambda: np.copyto(other, host), 0.3) / 1e9
    value = ort.OrtValue.ortvalue_from_numpy(host, "cuda", 0)
    return size / _best(lambda: value.update_inplace(host), 0.3) / 1e9


def _best(run: Callable[[], object], seconds: float) -> float:
    """Seconds of the quickest of some runs."""
    best, until = np.inf, time.perf_counter() + seconds
    while time.perf_counter() < until or best == np.inf:
        started = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - started)
    return best


def memory_mb() -> float:
    """Most memory this process has held."""
    unit = 1e6 if sys.platform == "darwin" else 1e3  # bytes there, kB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
