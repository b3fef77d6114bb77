"""The other side of camera_vs_anomalib.py: anomalib's PatchCore, run by a Python that has anomalib, never by ours.

    PEER_PYTHON benchmarks/camera/peer_anomalib.py JOB.json

The job names the pictures, the weights, the layers, the coreset share and an output folder. Writes result.json, embeddings.npy
and bank.npy there. Latency is from file bytes to score: decode, resize, normalise, run.
"""

from __future__ import annotations

import io
import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx  # noqa: F401 - torch's export needs it: a missing one is said before the long fit, not after
import onnxruntime
import openvino
import torch
from anomalib.models.image.patchcore.torch_model import PatchcoreModel
from PIL import Image

SIZE = 256


def tensor(content: bytes) -> torch.Tensor:
    picture = Image.open(io.BytesIO(content)).convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    return torch.from_numpy((np.asarray(picture, dtype=np.float32) - 127.0) / 128.0).permute(2, 0, 1).unsqueeze(0)


def load_in_order(network: torch.nn.Module, path: str) -> None:
    """The packaged weights have timm's order and shapes, under other names."""
    values = [v for k, v in torch.load(path, map_location="cpu", weights_only=True).items() if not k.endswith("num_batches_tracked")]
    own = [k for k in network.state_dict() if not k.endswith("num_batches_tracked")]
    network.load_state_dict(dict(zip(own, values[: len(own)], strict=True)), strict=False)


def latency(run: Callable[[torch.Tensor], object], contents: list[bytes], rounds: int = 3) -> float:
    """Median milliseconds a picture."""
    run(tensor(contents[0]))
    times = []
    for content in contents * rounds:
        started = time.perf_counter()
        run(tensor(content))
        times.append(time.perf_counter() - started)
    return 1000 * float(np.median(times))


def quickest(model: PatchcoreModel, contents: list[bytes], folder: Path) -> dict[str, float]:
    """Latency of Torch, ONNX Runtime and OpenVINO on the CPU."""

    def torch_run(x: torch.Tensor) -> None:
        with torch.inference_mode():
            model(x)

    path = folder / "peer.onnx"
    with torch.inference_mode():
        torch.onnx.export(model, (tensor(contents[0]),), str(path), opset_version=18, input_names=["input"], dynamo=False)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    settings = {"PERFORMANCE_HINT": "LATENCY"}
    compiled = openvino.Core().compile_model(str(path), "CPU", settings)
    exact = openvino.Core().compile_model(str(path), "CPU", settings | {"INFERENCE_PRECISION_HINT": "f32"})
    return {
        "torch_ms": latency(torch_run, contents),
        "onnxruntime_ms": latency(lambda x: session.run(None, {"input": x.numpy()}), contents),
        "openvino_ms": latency(lambda x: compiled(x.numpy()), contents),  # in bfloat16 of its own accord where the CPU has it
        "openvino_float32_ms": latency(lambda x: exact(x.numpy()), contents),
    }


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text())
    folder = Path(job["out"])
    torch.manual_seed(0)
    model = PatchcoreModel(layers=job["layers"], backbone=job["backbone"], pre_trained=False)
    if job["weights"]:
        load_in_order(model.feature_extractor.feature_extractor, job["weights"])
    train = [Path(p).read_bytes() for p in job["train"]]
    test = [Path(p).read_bytes() for p in job["test"]]
    result: dict[str, object] = {}
    if job["bank_rows"]:  # latency alone: a bank of this many rows, its content does not matter
        with torch.inference_mode():
            model.train()
            width = model(tensor(test[0])).shape[1]
            model.eval()
        model.embedding_store.clear()
        model.memory_bank = torch.randn(job["bank_rows"], width)
    else:
        started = time.perf_counter()
        model.train()
        model.feature_extractor.eval()
        with torch.inference_mode():
            for content in train:
                model(tensor(content))
        embedding = torch.vstack(model.embedding_store)
        result["features_s"] = time.perf_counter() - started
        started = time.perf_counter()
        model.subsample_embedding(job["share"])
        result["coreset_s"] = time.perf_counter() - started
        model.eval()
        np.save(folder / "embeddings.npy", embedding.numpy())
        np.save(folder / "bank.npy", model.memory_bank.numpy())
        with torch.inference_mode():
            result["scores"] = [float(model(tensor(content)).pred_score) for content in test]
        result["bank"] = list(model.memory_bank.shape)
        result["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    result |= quickest(model.eval(), test[: job["timed"]], folder)
    (folder / "result.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main()
