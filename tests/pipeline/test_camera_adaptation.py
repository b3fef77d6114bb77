"""Adaptation of a camera line's extractor: a first short stretch decides whether to go on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from anomaly.features.tensors import load_tensors
from anomaly.pipeline.camera import adaptation
from anomaly.pipeline.camera.line import CameraLine
from anomaly.progress import silent
from anomaly.spec import Bank, CameraExtractor, CameraInput, CameraSpec, MemoryBankSpec, Pretrain

SPEC = CameraSpec(
    kind="camera",
    name="parts",
    input=CameraInput(size=(64, 64)),
    extractor=CameraExtractor(stages=("blocks.2",)),
    scorer=MemoryBankSpec(banks=(Bank(stage="blocks.2", metric="raw", size=100),)),
    pretrain=Pretrain(epochs=1, batch=8),
)


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> CameraLine:
    root = tmp_path_factory.mktemp("parts")
    for i in range(16):
        surface = np.random.default_rng(i).normal(128, 6, size=(64, 64))
        Image.fromarray(surface.clip(0, 255).astype(np.uint8)).save(root / f"{i:02}.png")
    return CameraLine(SPEC, root)


def adapted(line: CameraLine, out: Path, *, full: bool) -> tuple[dict[str, Any], bytes]:
    about = line.pretrain(out, silent, full=full)
    tensors, described = load_tensors(out)
    assert described["adaptation"] == about["adaptation"]
    return about["adaptation"], b"".join(tensors[name].numpy().tobytes() for name in sorted(tensors))


def test_what_promises_no_gain_is_stopped_after_a_number_of_steps_and_says_so(
    line: CameraLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adaptation, "PROMISE", 1.0)  # no change counts as a promise
    found, weights = adapted(line, tmp_path / "a", full=False)
    assert found["kept"] is False
    assert "epochs" not in found
    assert found["first_stretch"]["steps"] == adaptation.PROBE_STEPS
    assert found["first_stretch"]["gains"][-1] < adaptation.PROMISE
    assert found["why"].startswith(f"stopped after a first stretch of {adaptation.PROBE_STEPS} steps")
    assert "`anomaly pretrain` trains in full" in found["why"]
    assert adapted(line, tmp_path / "b", full=False) == (found, weights)


def test_what_promises_a_gain_goes_on_as_training_in_full_does(line: CameraLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, weights = adapted(line, tmp_path / "a", full=True)
    assert whole["epochs"] == 1
    assert "first_stretch" not in whole
    monkeypatch.setattr(adaptation, "PROMISE", -1.0)  # any change counts as a promise
    found, same = adapted(line, tmp_path / "b", full=False)
    assert len(found.pop("first_stretch")["gains"]) == 2  # it had to promise on two sets of normals
    assert (found, same) == (whole, weights)
