"""Variants of a camera's graph: a sound one is carried, a broken one is left out and reported."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper

from anomaly.bundle.archive import read_bundle
from anomaly.export.precision import fp16_extractor
from anomaly.pipeline.camera.line import CameraLine
from anomaly.pipeline.camera.variants import SHIFT_UNCALIBRATED, VariantCandidate, VariantJudge
from tests.conftest import Fitted


def broken(content: bytes) -> bytes:
    """The graph with the weights of its middle convolution shuffled, as a faulty conversion might leave them."""
    model = onnx.load_from_string(content)
    stored = {item.name: item for item in model.graph.initializer}
    weights = [node.input[1] for node in model.graph.node if node.op_type == "Conv" and node.input[1] in stored]
    item = stored[weights[len(weights) // 2]]
    values = numpy_helper.to_array(item)
    item.CopyFrom(numpy_helper.from_array(np.random.default_rng(0).permutation(values.ravel()).reshape(values.shape), item.name))
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
