"""A region of interest: nothing outside it reaches the network, in PyTorch and in the graph alike."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest
import torch

from anomaly.data.pictures.defects import inject_inside
from anomaly.export.lower import lower
from anomaly.export.writer import GraphWriter
from anomaly.features.preprocess import ImagePreprocess, Roi, inside_roi

ROIS: dict[str, Roi] = {
    "right half": [(0.5, 0.0, 1.0, 1.0)],
    "middle": [(0.25, 0.3, 0.7, 0.8)],
    "two": [(0.0, 0.0, 0.2, 1.0), (0.6, 0.1, 0.9, 0.5)],
    "thin": [(0.41, 0.0, 0.45, 1.0)],
    "whole": [(0.0, 0.0, 1.0, 1.0)],
}
SIZES = [(50, 70), (64, 64), (200, 150), (333, 91), (512, 700)]


def graph(module: ImagePreprocess, channels: int, dtype: type) -> ort.InferenceSession:
    write = GraphWriter()
    image = write.input("image", dtype, ["N", "H", "W", channels])
    write.output(lower(module, write, image)[0], "x", np.float32, ["N", "C", "h", "w"])
    return ort.InferenceSession(write.content(), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("name", ROIS)
@pytest.mark.parametrize(("channels", "deep"), [(1, False), (3, False), (1, True)])
def test_nothing_outside_reaches_the_network(name: str, channels: int, deep: bool) -> None:
    dtype = np.uint16 if deep else np.uint8
    module = ImagePreprocess((64, 64), (127.0, 120.0, 110.0), (128.0,) * 3, deep=deep, roi=ROIS[name])
    session = graph(module, channels, dtype)
    rng = np.random.default_rng(0)
    for high, wide in SIZES:
        first = rng.integers(np.iinfo(dtype).max, size=(2, high, wide, channels), endpoint=True).astype(dtype)
        outside = ~inside_roi(ROIS[name], high, wide).numpy()
        second = first.copy()
        second[:, outside] = rng.integers(np.iinfo(dtype).max, size=second[:, outside].shape).astype(dtype)
        expected = module(torch.from_numpy(first)).numpy()
        np.testing.assert_array_equal(module(torch.from_numpy(second)).numpy(), expected)
        for one in (first, second):
            np.testing.assert_allclose(session.run(None, {"image": one})[0], expected, atol=2e-4)


def test_the_whole_picture_as_a_region_is_no_region() -> None:
    image = torch.randint(0, 256, (1, 90, 120, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    plain, whole = (ImagePreprocess((64, 64), (127.0,) * 3, (128.0,) * 3, roi=roi)(image) for roi in ((), ROIS["whole"]))
    torch.testing.assert_close(plain, whole, rtol=0, atol=0)


@pytest.mark.parametrize("name", ROIS)
def test_synthetic_defects_lie_where_it_is_looked(name: str) -> None:
    clean = np.full((160, 160, 1), 128, np.uint8)
    rng = np.random.default_rng(3)
    for _ in range(10):
        _, mask = inject_inside(clean, rng, ROIS[name])
        assert mask[inside_roi(ROIS[name], 160, 160).numpy()].any()
