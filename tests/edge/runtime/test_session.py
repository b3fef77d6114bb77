"""Which provider and variant run, and a GPU that runs out of memory."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from anomaly.bundle.archive import read_bundle
from anomaly.edge.runtime.session import Answer, Session, nvidia_driver, out_of_memory
from anomaly.errors import BundleError, ProviderError
from tests.conftest import Fitted


def test_provider_is_told_and_forced(sensor: Fitted) -> None:
    model = read_bundle(sensor.bundle).detector
    session = Session(model)
    if session.provider == "cuda":
        pytest.skip("this machine has a GPU")
    assert session.line().startswith("provider: CPU, float (CUDA not used: ")
    with pytest.raises(ProviderError, match="provider 'cuda' was asked for but cannot be used"):
        Session(model, provider="cuda")
    with pytest.raises(BundleError, match="the graph cannot be loaded"):
        Session(model[: len(model) // 2], provider="cpu")


class Tight:
    """A session that holds `room` records at once."""

    def __init__(self, room: int) -> None:
        self.room, self.sizes = room, []

    def run(self, _: None, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        (raw,) = feeds.values()
        if len(raw) > self.room:
            raise RuntimeError("CUDA error: Failed to allocate memory for requested buffer of size 1073741824")
        self.sizes.append(len(raw))
        return [np.arange(len(raw), dtype=np.float32), np.full(len(raw), 0.5, np.float32), np.zeros((len(raw), 8), np.float32)]


def test_out_of_gpu_memory_halves_the_batch_then_goes_to_the_cpu_and_says_so(sensor: Fitted) -> None:
    bundle = read_bundle(sensor.bundle)
    session = Session(bundle.detector, "cpu")
    raw = np.random.default_rng(0).normal(size=(20, 30, 8)).astype(np.float32)
    expected = session.run(raw)
    tight = Tight(6)
    session._session, session.provider = tight, "cuda"
    answer = session.run(raw)
    assert isinstance(answer, Answer)
    assert max(tight.sizes) <= 6
    assert len(answer.score) == 20
    assert "batches of 5 at most" in session.degraded
    tight.room = 0
    np.testing.assert_allclose(session.run(raw).score, expected.score, rtol=1e-5)
    assert session.provider == "cpu"
    assert "moved to the CPU" in session.line()
    session._session = Tight(0)
    with pytest.raises(RuntimeError, match="Failed to allocate"):
        session.run(raw)  # on the CPU there is nowhere left to go
    assert not out_of_memory(ValueError("shape"))
    assert out_of_memory(RuntimeError("BFCArena: Available memory of 65138688 is smaller than requested bytes of 134217728"))


def test_without_a_driver_no_library_of_cuda_is_loaded(sensor: Fitted) -> None:
    if nvidia_driver() is not None:
        pytest.skip("this machine has an NVIDIA driver")
    code = """import sys
from pathlib import Path
from anomaly.bundle.archive import read_bundle
from anomaly.edge.runtime.session import open_session
print(open_session(read_bundle(Path(sys.argv[1])), "auto").line())
print([line.split("/")[-1] for line in open("/proc/self/maps") if "libcu" in line or "libnv" in line] if sys.platform == "linux" else [])"""
    done = subprocess.run([sys.executable, "-c", code, str(sensor.bundle)], capture_output=True, text=True, timeout=60, check=True)
    line, loaded = done.stdout.splitlines()
    assert "there is no NVIDIA driver" in line
    assert loaded == "[]"
