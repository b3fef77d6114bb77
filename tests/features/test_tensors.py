"""Files of tensors: damage and a full disk are told, never read over."""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors
import safetensors.torch
import torch

from anomaly.errors import WeightsError
from anomaly.features.tensors import load_tensors, save_tensors


def test_a_changed_value_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "fit.safetensors"
    save_tensors(path, {"bank": torch.ones(100), "count": torch.tensor(3), "none": torch.zeros(0)}, {"kind": "camera"})
    assert load_tensors(path)[1] == {"kind": "camera"}
    raw = bytearray(path.read_bytes())
    raw[-8:-4] = b"xxxx"
    path.write_bytes(raw)
    with pytest.raises(WeightsError, match="damaged"):
        load_tensors(path)


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise safetensors.SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(safetensors.torch, "save_file", full)
    with pytest.raises(WeightsError, match=r"cannot be written .*No space left"):
        save_tensors(tmp_path / "x.safetensors", {"weight": torch.ones(2)}, {})
    assert not list(tmp_path.iterdir())
