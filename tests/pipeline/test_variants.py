"""Variants of a camera detector's graph: one that is really worse is refused, and the bundle says so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from anomaly.bundle.archive import read_bundle
from anomaly.features.weights import load_network
from anomaly.pipeline.camera.line import CameraLine
from anomaly.pipeline.camera.variants import AUROC_LOSS, SHIFT_UNCALIBRATED, VariantVerdict
from anomaly.pipeline.steps import Steps
from anomaly.spec import Bank, CameraExtractor, CameraInput, CameraSpec, MemoryBankSpec, Pretrain


def test_a_variant_that_moves_scores_is_left_out_and_the_manifest_says_so(tmp_path: Path) -> None:
    """Every channel has an offset half-way between two float16 numbers, which lie half a unit apart there: it is rounded up or down."""
    for i in range(16):
        surface = np.random.default_rng(i).normal(128, 6, size=(64, 64)).astype(np.uint8)
        Image.fromarray(surface).save(tmp_path / f"{i}.png")
    network, _ = load_network("efficientnet_lite0", None)
    weights = network.state_dict()
    weights["blocks.4.2.bn3.running_mean"][:] = 0
    weights["blocks.4.2.bn3.bias"][:] = 768.25 + 0.5 * torch.arange(112).remainder(2)
    torch.save(weights, tmp_path / "offset.pth")
    spec = CameraSpec(
        kind="camera",
        input=CameraInput(size=(64, 64)),
        pretrain=Pretrain(method="none"),
        extractor=CameraExtractor(stages=("blocks.4",), weights=tmp_path / "offset.pth"),
        scorer=MemoryBankSpec(banks=(Bank(stage="blocks.4", metric="raw", size=64),)),
    )
    bundle = read_bundle(Steps(CameraLine(spec, tmp_path), tmp_path / "w").export())
    found = bundle.manifest.parity
    assert found["fp16"]["accepted"] is False
    assert found["fp16"]["mean_difference_in_deviations"] > SHIFT_UNCALIBRATED
    assert "detector.fp16.onnx" not in bundle.members


def test_moved_scores_and_a_lost_auroc_are_each_reason_enough() -> None:
    def accepted(shift: float, loss: float) -> bool:
        return VariantVerdict(shift, SHIFT_UNCALIBRATED, 0.9 - loss, 0.9, decisions_that_differ=0, pictures=120).accepted

    assert accepted(0.9 * SHIFT_UNCALIBRATED, 0.9 * AUROC_LOSS)
    assert accepted(0.0, -0.05)  # better than the float graph
    assert not accepted(1.1 * SHIFT_UNCALIBRATED, 0.0)
    assert not accepted(0.0, 1.1 * AUROC_LOSS)
    assert not accepted(float("nan"), 0.0)
