"""Graphs with buffers of their own."""

from __future__ import annotations

import numpy as np
import pytest

from anomaly.bundle.archive import read_bundle
from anomaly.edge.runtime.session import Session
from tests.conftest import Fitted


def test_fixed_buffers_give_what_the_free_graph_gives(camera: Fitted) -> None:
    from anomaly.edge.runtime.io_binding import IoBinding
    from anomaly.edge.runtime.session import Device, open_fixed_shape

    bundle = read_bundle(camera.bundle)
    free = Session(bundle.detector, "cpu")
    rng = np.random.default_rng(0)
    raw = rng.integers(0, 256, (1, 90, 120, 3)).astype(np.uint8)
    bound = IoBinding(open_fixed_shape(bundle.detector, "cpu", "float", Device(1), raw.shape), raw, free.run(raw), "cpu")
    for _ in range(3):
        raw = rng.integers(0, 256, raw.shape).astype(np.uint8)
        for ours, theirs in zip(bound.run(raw), free.run(raw), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)
    with pytest.raises(TypeError):
        bound.run(raw.astype(np.float32))
    bound.close()
