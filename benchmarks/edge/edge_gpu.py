"""The edge on a GPU, one command: raw 256x256 frame in host memory to decision in host memory.

    python -m benchmarks.edge.edge_gpu --data FOLDER [--work FOLDER] [--providers tensorrt,cuda] [--batches 1,8,32] [--seconds 3] [--out F]

FOLDER holds good parts (and labelled defects, for AUROC): the default camera spec is fitted on it (kept in --work). Every variant on every
provider: latency, throughput, share of the measured matrix products and of what the copies allow; and, in the same run, PyTorch on
the same GPU, plain and compiled, in float32 and float16. `--providers cpu` runs the same script where there is no GPU.

Expected: one JSON with `ours` by provider, variant and batch (p50_ms, p99_ms, per_s, share_of_limit, share_of_copy), `pytorch` by way and
batch, `auroc` by provider and variant, `fixed` (whether a graph with fixed shapes was used, or why not), `device`.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from anomaly.atomic import write_text
from anomaly.bundle.archive import VARIANTS, Bundle, read_bundle
from anomaly.data.pictures.reading import read_image
from anomaly.edge.runtime.bench import copy_rate, product_rate
from anomaly.edge.runtime.self_test import self_test
from anomaly.edge.runtime.session import Session, open_session
from anomaly.errors import AnomalyError
from anomaly.evaluation.metrics import auroc
from anomaly.export.detector import Detector
from anomaly.parallel import cores
from anomaly.pipeline.kinds import open_line
from anomaly.pipeline.steps import Steps
from anomaly.spec import CameraSpec, Pretrain

SIZE = 256


def latencies(run: Any, seconds: float, sync: Any = lambda: None) -> NDArray[np.float64]:
    """Seconds a call (n,), after a warm-up that compiles, binds and captures."""
    for _ in range(12):
        run()
    sync()
    times, until = [], time.perf_counter() + seconds
    while time.perf_counter() < until or len(times) < 20:
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return np.array(times)


def row(times: NDArray[np.float64], size: int) -> dict[str, float]:
    """Figures of one batch size."""
    return {"p50_ms": float(1000 * np.median(times)), "p99_ms": float(1000 * np.quantile(times, 0.99)), "per_s": float(size / times.mean())}


def ours(bundle: Bundle, provider: str, batches: list[int], seconds: float) -> tuple[dict[str, Any], dict[str, str], dict[str, Session]]:
    """Every variant on a provider, with its shares of the machine's limits; what became of fixed shapes; the sessions."""
    channels = bundle.manifest.input.channels
    work = bundle.manifest.provenance["multiply_adds"]
    found, fixed, sessions = {}, {}, {}
    for variant in (name for name, member in VARIANTS.items() if member in bundle.members):
        session = open_session(bundle, provider, variant=variant)  # type: ignore[arg-type]
        self_test(bundle, session)
        copy = copy_rate(provider)
        limit = product_rate(variant, provider, 0.5, side=4096 if provider != "cpu" else 1024)
        found[variant] = {}
        for size in batches:
            raw = np.random.default_rng(size).integers(0, 256, (size, SIZE, SIZE, channels)).astype(np.uint8)
            figures = row(latencies(lambda raw=raw, session=session: session.run(raw), seconds), size)
            figures["share_of_copy"] = figures["per_s"] * SIZE * SIZE * channels / (copy * 1e9)
            if limit:
                figures["share_of_limit"] = figures["per_s"] * work / (limit * 1e9)
            found[variant][str(size)] = figures
        fixed[variant] = session.io_binding_refused or f"{len(session._io_bindings)} shapes bound"
        sessions[variant] = session
    return found, fixed, sessions


def pytorch(detector: Detector, channels: int, batches: list[int], seconds: float, device: str) -> dict[str, Any]:
    """The peer: the same detector in PyTorch, frame to decision, plain and compiled, float32 and float16."""
    found: dict[str, Any] = {}
    torch.set_float32_matmul_precision("high")
    sync = torch.cuda.synchronize if device == "cuda" else lambda: None
    for half in (False, True):
        model = detector.to(device).eval()
        for compiled in (False, True) if device == "cuda" else (False,):  # compiling for a CPU takes minutes and is not the question
            name = f"{'float16' if half else 'float32'}{', compiled' if compiled else ''}"
            run = torch.compile(model, mode="reduce-overhead") if compiled else model
            found[name] = {}
            for size in batches:
                host = torch.randint(0, 256, (size, SIZE, SIZE, channels), dtype=torch.uint8)
                host = host.pin_memory() if device == "cuda" else host

                def once(host: torch.Tensor = host, run: Any = run, half: bool = half) -> None:
                    with (
                        torch.inference_mode(),
                        torch.autocast(device, torch.float16 if device == "cuda" else torch.bfloat16, enabled=half),
                    ):
                        for part in run(host.to(device, non_blocking=True)):
                            part.cpu()

                try:
                    found[name][str(size)] = row(latencies(once, seconds, sync), size)
                except Exception as error:  # a peer that fails is stated, not hidden
                    found[name][str(size)] = {"failed": str(error).splitlines()[0][:200]}
    return found


def areas(bundle: Bundle, steps: Steps, session: Session) -> float | None:
    """Image AUROC of a session on the labelled part of the data."""
    pictures = steps.line.pictures.test  # type: ignore[attr-defined]
    color = "gray" if bundle.manifest.input.channels == 1 else "rgb"
    scores = np.array([float(session.run(read_image(p.path, color)[None]).score[0]) for p in pictures])
    return auroc(np.array([p.defect is not None for p in pictures]), scores) if len(pictures) else None


def main() -> None:
    """Fit, run all, write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path(".anomaly"))
    parser.add_argument("--providers", default="tensorrt,cuda")
    parser.add_argument("--batches", default="1,8,32")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/edge/edge_gpu.json"))
    arguments = parser.parse_args()
    batches = [int(part) for part in arguments.batches.split(",")]
    steps = Steps(open_line(CameraSpec(kind="camera", pretrain=Pretrain(method="none")), arguments.data), arguments.work, progress=print)
    bundle = read_bundle(steps.export())
    device = "cuda" if torch.cuda.is_available() else "cpu"
    figures: dict[str, Any] = {
        "device": torch.cuda.get_device_name() if device == "cuda" else f"{platform.machine()}, {cores()} cores",
        "ours": {}, "fixed": {}, "auroc": {}, "refused": {},
    }  # fmt: skip
    for provider in arguments.providers.split(","):
        try:
            figures["ours"][provider], figures["fixed"][provider], sessions = ours(bundle, provider, batches, arguments.seconds)
            figures["auroc"][provider] = {variant: areas(bundle, steps, session) for variant, session in sessions.items()}
        except AnomalyError as error:
            figures["refused"][provider] = str(error)
    write_text(arguments.out, json.dumps(figures, indent=1, sort_keys=True) + "\n")  # a peer that is stopped takes nothing with it
    figures["pytorch"] = pytorch(steps.detector(), bundle.manifest.input.channels, batches, arguments.seconds, device)
    write_text(arguments.out, json.dumps(figures, indent=1, sort_keys=True) + "\n")
    print(json.dumps(figures, indent=1, sort_keys=True))


if __name__ == "__main__":
    main()
