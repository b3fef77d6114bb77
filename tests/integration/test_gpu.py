"""On a real NVIDIA GPU: the graph decides as PyTorch does, runs with fixed buffers, and outlives a full memory. Skipped without one."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest

from anomaly.bundle.archive import read_bundle
from anomaly.edge.runtime.self_test import SELF_TEST_RELATIVE, self_test
from anomaly.edge.runtime.session import Session, open_session
from anomaly.errors import BundleError, ProviderError
from tests.conftest import Fitted

if "CUDAExecutionProvider" not in ort.get_available_providers():  # known before a bundle is fitted
    pytest.skip("no usable GPU: this ONNX Runtime has no CUDA", allow_module_level=True)


@pytest.fixture(scope="module")
def on_gpu(camera: Fitted) -> Session:
    try:
        return open_session(read_bundle(camera.bundle), "cuda", variant="float")
    except ProviderError as error:
        pytest.skip(f"no usable GPU: {error}")


def test_cuda_decides_as_pytorch_on_200_random_and_200_real_pictures(camera: Fitted, on_gpu: Session) -> None:
    bundle = read_bundle(camera.bundle)
    examples = camera.steps.line.examples(bundle.manifest.input, 200, np.random.default_rng(5))
    detector, p = camera.steps.detector(), bundle.manifest.threshold.p_value
    for inputs in (examples.noise, examples.real):
        ours = [detector.run(raw) for raw in inputs]
        theirs = [on_gpu.run(raw) for raw in inputs]
        score, on_card = (np.concatenate([each[0] for each in answers]) for answers in (ours, theirs))
        assert len(score) == 200
        relative = np.abs(on_card - score) / np.maximum(np.abs(score), 1.0)
        assert relative.max() < SELF_TEST_RELATIVE, f"worst {relative.max():.2e}, median {np.median(relative):.2e}"
        alarms = [np.concatenate([each[1] for each in answers]) <= p for answers in (ours, theirs)]
        assert (alarms[0] == alarms[1]).all()


def test_every_variant_passes_the_self_test_on_the_gpu(camera: Fitted, on_gpu: Session) -> None:
    bundle = read_bundle(camera.bundle)
    for variant in ("float", "fp16"):
        session = open_session(bundle, "cuda", variant=variant)
        assert session.provider == "cuda"
        assert self_test(bundle, session) > 0
    try:  # CUDA has few kernels for bytes: it may refuse, but it may not answer wrongly
        self_test(bundle, open_session(bundle, "cuda", variant="int8"))
    except (BundleError, ProviderError) as error:
        pytest.skip(f"int8 is refused: {error}")


def test_a_shape_that_comes_again_is_replayed_with_fixed_buffers(camera: Fitted, on_gpu: Session) -> None:
    session = open_session(read_bundle(camera.bundle), "cuda", variant="float")
    cpu = open_session(read_bundle(camera.bundle), "cpu", variant="float")
    rng = np.random.default_rng(0)
    for _ in range(10):
        raw = rng.integers(0, 256, (2, 90, 120, 3)).astype(np.uint8)
        np.testing.assert_allclose(session.run(raw).score, cpu.run(raw).score, rtol=1e-3)
    assert session.io_binding_refused == ""
    assert list(session._io_bindings) == [raw.shape]


def test_pinned_memory_is_given_back_with_its_session(camera: Fitted, on_gpu: Session) -> None:
    raw = np.random.default_rng(2).integers(0, 256, (8, 256, 256, 3)).astype(np.uint8)
    for _ in range(4):  # the next session's buffers may lie where the last one's lay
        session = open_session(read_bundle(camera.bundle), "cuda", variant="float")
        for _ in range(6):
            session.run(raw)
        assert session.io_binding_refused == ""
        del session


def test_a_full_gpu_memory_shrinks_the_batch_and_answers_all_the_same(camera: Fitted, on_gpu: Session) -> None:
    bundle = read_bundle(camera.bundle)
    raw = np.random.default_rng(1).integers(0, 256, (256, 128, 128, 3)).astype(np.uint8)
    session = open_session(bundle, "cuda", memory=192 << 20, variant="float")
    expected = open_session(bundle, "cpu", variant="float").run(raw)
    np.testing.assert_allclose(session.run(raw).score, expected.score, rtol=1e-3)
    assert "GPU memory ran out" in session.line()
