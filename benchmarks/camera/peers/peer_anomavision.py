"""The other side of camera/peers/camera_vs_anomavision.py: AnomaVision's detectors, run by a Python that has AnomaVision, never by ours.

    PEER_PYTHON benchmarks/camera/peers/peer_anomavision.py JOB.json

The job names the pictures, a state dict of a resnet18, an output folder, and what to do. "fit": fit each model and export it by its own
exporter to ONNX, and to ONNX in 8 bits; writes fit.json. "time": processor time of one core from file bytes to score of each exported
model, by its own backends; writes time.json.
"""

from __future__ import annotations

import io
import json
import logging
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

import anomavision.algorithm.common.feature_extraction as extraction
import numpy as np
import torch
from anomavision.algorithm.efficientad.efficientad import EfficientAD
from anomavision.algorithm.padim.padim import Padim
from anomavision.algorithm.patchcore.patchcore import PatchCore
from anomavision.export import ModelExporter
from anomavision.inference.model.backends.onnx_backend import OnnxBackend
from anomavision.inference.model.backends.openvino_backend import OpenVinoBackend
from anomavision.utils import create_image_transform
from PIL import Image
from torchvision.models import resnet18

SIDE = 224  # AnomaVision's own
MODELS = {"patchcore": PatchCore, "padim": Padim, "efficientad": EfficientAD}  # with the settings that each has of its own accord


def same_weights(path: str) -> None:
    """Let every extractor take a resnet18 with these weights, which else it would fetch."""

    def network(**_: Any) -> torch.nn.Module:
        made = resnet18(weights=None)
        made.load_state_dict(torch.load(path, weights_only=True))
        return made

    extraction.BACKBONES["resnet18"] = (network, None)


def tensor(content: bytes) -> torch.Tensor:
    """A picture as AnomaVision reads it."""
    return READ(Image.open(io.BytesIO(content)).convert("RGB")).unsqueeze(0)


READ = create_image_transform((SIDE, SIDE))


def fit(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Fit and export each model; what cannot be exported is told."""
    pictures = [tensor(Path(path).read_bytes())[0] for path in job["train"]]
    found: dict[str, Any] = {}
    for name, kind in MODELS.items():
        torch.manual_seed(0)
        loader = torch.utils.data.DataLoader(pictures, batch_size=8)
        started = time.process_time()
        model = kind(backbone="resnet18", device=torch.device("cpu"))
        model.fit(loader)
        found[name] = {"fit_cpu_s": time.process_time() - started}
        kept = folder / f"{name}.pt"
        torch.save(model, kept)
        exporter = ModelExporter(kept, folder, logging.getLogger("peer"), "cpu")
        calibration = {"calib_samples": 40, "calib_dir": str(Path(job["train"][0]).parent)}
        shape = (1, 3, SIDE, SIDE)
        exporter.export_onnx(shape, f"{name}.onnx", dynamic_batch=False, quantize_static_flag=True, **calibration)
        found[name]["exported"] = sorted(path.name for path in folder.glob(f"{name}*.onnx"))
    found["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return found


def timed(job: dict[str, Any], folder: Path) -> dict[str, float]:
    """Median milliseconds of one core a picture, from file bytes to score, of each exported model in each runtime."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    contents = [Path(path).read_bytes() for path in job["test"][: job["timed"]]]
    found = {}
    for path in sorted(folder.glob("*.onnx")):
        for runtime, kind in (("onnxruntime", OnnxBackend), ("openvino", OpenVinoBackend)):
            try:
                backend = kind(str(path), "cpu")
            except (ImportError, RuntimeError) as error:
                print(f"{path.name}, {runtime}: {error}", file=sys.stderr)
                continue
            times = []
            for content in contents[:1] + contents:
                started = time.process_time()
                backend.predict(tensor(content))
                times.append(time.process_time() - started)
            found[f"{path.stem}, {runtime}"] = 1000 * float(np.median(times[1:]))
    return found


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text())
    same_weights(job["weights"])
    folder = Path(job["out"])
    done = fit(job, folder) if job["do"] == "fit" else timed(job, folder)
    (folder / f"{job['do']}.json").write_text(json.dumps(done))


if __name__ == "__main__":
    main()
