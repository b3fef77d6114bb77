"""Raw frames and readings as the extractor takes them."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly.features.preprocess import ImagePreprocess, SensorPreprocess


def test_gray_and_16_bit_are_seen_as_the_same_picture() -> None:
    gray = np.random.default_rng(0).integers(256, size=(1, 50, 70, 1), dtype=np.uint8)
    mean, std = (127.0,) * 3, (128.0,) * 3
    one = ImagePreprocess((32, 32), mean, std)(torch.from_numpy(gray))
    three = ImagePreprocess((32, 32), mean, std)(torch.from_numpy(np.repeat(gray, 3, axis=3)))
    deep = ImagePreprocess((32, 32), mean, std, deep=True)(torch.from_numpy(gray.astype(np.uint16) * 257))
    assert one.shape == (1, 3, 32, 32)
    torch.testing.assert_close(one, three)
    torch.testing.assert_close(one, deep)


@given(st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_no_nan_and_no_infinity_comes_out_of_preprocessing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    window = rng.normal(size=(3, 10, 4)).astype(np.float32)
    window[rng.random(window.shape) < 0.4] = np.nan
    window[0, :, 0] = np.nan
    window[1, 0, 1] = rng.choice([np.inf, -np.inf, 3e38])
    out = SensorPreprocess(torch.zeros(4), torch.ones(4))(torch.from_numpy(window))
    assert torch.isfinite(out).all()
    assert (out[0, :, :, 0] == 0).all()


def test_missing_readings_take_the_mean_of_the_others_and_are_marked() -> None:
    window = torch.tensor([[[1.0], [3.0], [float("nan")]]])
    out = SensorPreprocess(torch.zeros(1), torch.ones(1))(window)
    np.testing.assert_allclose(out[0, :, :, 0].numpy(), [[1.0, 3.0, 0.0], [1.0, 1.0, 0.0]])
