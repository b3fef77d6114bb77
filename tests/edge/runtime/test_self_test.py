"""The self-test of a bundle."""

from __future__ import annotations

import io

import numpy as np
import pytest

from anomaly.bundle.archive import Bundle, read_bundle
from anomaly.edge.runtime.self_test import self_test
from anomaly.edge.runtime.session import Session
from anomaly.errors import BundleError
from tests.conftest import Fitted


def test_self_test_catches_a_graph_that_computes_something_else(sensor: Fitted) -> None:
    bundle = read_bundle(sensor.bundle)
    session = Session(bundle.detector, "cpu")
    assert self_test(bundle, session) == 4
    buffer = io.BytesIO()
    with np.load(io.BytesIO(bundle.members["examples/0.npz"])) as example:
        np.savez(buffer, raw=example["raw"], score=example["score"] * 1.1, p_value=example["p_value"])
    forged = Bundle(bundle.path, bundle.manifest, bundle.hash, {**bundle.members, "examples/0.npz": buffer.getvalue()}, signed=False)
    with pytest.raises(BundleError, match=r"self-test examples/0\.npz gives"):
        self_test(forged, session)
