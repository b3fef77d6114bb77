"""Variants of a camera detector's graph: one that is really worse is refused, and the bundle says so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from PIL import Image

from anomaly.bundle.archive import read_bundle
from anomaly.export.precision import fp16_extractor
from anomaly.features.backbones.weights import load_network
from anomaly.pipeline.camera.line import CameraLine
from anomaly.pipeline.camera.variants import AUROC_LOSS, SHIFT_UNCALIBRATED, VariantCandidate, VariantJudge, VariantVerdict
from anomaly.pipeline.steps import Steps
from anomaly.spec import Bank, CameraExtractor, CameraInput, CameraSpec, MemoryBankSpec, Pretrain
from tests.conftest import Fitted


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


def broken(content: bytes, factor: float = 1.0) -> bytes:
    """The graph with the weights of its middle convolution shuffled, as a faulty conversion might leave them, and times a factor."""
    model = onnx.load_from_string(content)
    stored = {item.name: item for item in model.graph.initializer}
    weights = [node.input[1] for node in model.graph.node if node.op_type == "Conv" and node.input[1] in stored]
    item = stored[weights[len(weights) // 2]]
    values = numpy_helper.to_array(item)
    with np.errstate(invalid="ignore"):  # 0 times infinity is no number: as wanted
        shuffled = np.random.default_rng(0).permutation(values.ravel()).reshape(values.shape) * values.dtype.type(factor)
    item.CopyFrom(numpy_helper.from_array(shuffled, item.name))
    return model.SerializeToString()


def test_a_broken_graph_is_refused_and_a_sound_one_is_not(camera: Fitted) -> None:
    line, steps = camera.steps.line, camera.steps
    assert isinstance(line, CameraLine)
    model, held_out, p = read_bundle(camera.bundle).detector, steps.fitted.held_out, steps.threshold().p_value
    judge = VariantJudge(line.spec, line.pictures, model, held_out, p)

    same = judge.verdict(VariantCandidate("fp16", "fp16", model, held_out, SHIFT_UNCALIBRATED))
    assert (same.shift, same.decisions_that_differ, same.accepted) == (0.0, 0, True)
    half = fp16_extractor(model)
    assert half is not None
    assert judge.verdict(VariantCandidate("fp16", "fp16", half, held_out, SHIFT_UNCALIBRATED)).accepted
    wrong = judge.verdict(VariantCandidate("fp16", "fp16", broken(half), held_out, SHIFT_UNCALIBRATED))
    assert not wrong.accepted
    assert wrong.shift > SHIFT_UNCALIBRATED
    overflowing = judge.verdict(VariantCandidate("fp16", "fp16", broken(half, np.inf), held_out, SHIFT_UNCALIBRATED))
    assert not overflowing.accepted
    assert np.isfinite(overflowing.shift)  # as the manifest needs it
