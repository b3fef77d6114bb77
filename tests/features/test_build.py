"""Extractor files: what is written is read again, and what does not fit is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from anomaly.errors import WeightsError
from anomaly.features.build import build_sensor_encoder, load_sensor_encoder, save_extractor
from anomaly.spec import SensorSpec


def test_encoder_file_round_trip_and_mismatch(tmp_path: Path) -> None:
    spec = SensorSpec(kind="sensor")
    encoder = build_sensor_encoder(spec)
    about = {"kind": "sensor", "kernels": 4, "dilations": [1, 2, 4], "adaptation": {"kept": True}}
    save_extractor(tmp_path / "e.safetensors", encoder, about)
    again, _ = load_sensor_encoder(spec, tmp_path / "e.safetensors")
    z = torch.randn(2, 3, 30)
    assert again is not None
    torch.testing.assert_close(encoder(z), again(z))
    save_extractor(tmp_path / "e.safetensors", encoder, {**about, "adaptation": {"kept": False}})
    assert load_sensor_encoder(spec, tmp_path / "e.safetensors")[0] is None
    save_extractor(tmp_path / "f.safetensors", encoder, {**about, "kernels": 8})
    with pytest.raises(WeightsError, match="made with kernels = 8, the spec asks for 4"):
        load_sensor_encoder(spec, tmp_path / "f.safetensors")
    (tmp_path / "g.safetensors").write_bytes(b"123")
    with pytest.raises(WeightsError, match="not a whole safetensors file"):
        load_sensor_encoder(spec, tmp_path / "g.safetensors")
