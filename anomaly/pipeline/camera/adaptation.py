"""An extractor adapted to a line's own normals by dense VICReg, kept only where synthetic defects show a clear gain."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from anomaly.evaluation.transfer import compare
from anomaly.features.build import build_camera_extractor, save_extractor
from anomaly.features.stages import Stages
from anomaly.features.training.pretrain_images import pretrain_images
from anomaly.features.weights import WeightsSource
from anomaly.pipeline.camera.judging import Judging
from anomaly.pipeline.camera.pictures import PictureFolder
from anomaly.pipeline.line import Progress
from anomaly.spec import CameraSpec


def describe_extractor(spec: CameraSpec, source: WeightsSource) -> dict[str, Any]:
    """The description of the spec's extractor with weights from `source`, as it travels in the extractor's file."""
    return {
        "kind": "camera",
        "backbone": spec.extractor.backbone,
        "stages": list(spec.extractor.stages),
        "source": source.as_dict(),
        "adaptation": {"kept": False, "why": "not asked for"},
    }


def pretrain(spec: CameraSpec, pictures: PictureFolder, judging: Judging, out: Path, progress: Progress) -> dict[str, Any]:
    """Write the extractor file of a line that stands alone: adapted where the spec asks for it and it pays. Returns its description."""
    extractor, source = build_camera_extractor(spec)
    about = describe_extractor(spec, source)
    if next(extractor.parameters(), None) is None:
        about["adaptation"]["why"] = "fixed filters have nothing to adapt"
    elif spec.pretrain.method != "none":
        extractor, about["adaptation"] = _adapt(spec, pictures, judging, extractor, source, progress)
    save_extractor(out, extractor, about)
    return about


def _adapt(
    spec: CameraSpec, pictures: PictureFolder, judging: Judging, frozen: Stages, source: WeightsSource, progress: Progress
) -> tuple[Stages, dict[str, Any]]:
    """Adapt a copy. It is kept only when the half of the normals that did not choose its epoch confirms a clear gain."""
    adapted, _ = build_camera_extractor(spec)
    preprocess = pictures.preprocess(source)
    generator = torch.Generator().manual_seed(spec.seed)
    first, second = judging.halves()

    def crops(indices: Sequence[int]) -> Tensor:
        return pictures.crops([pictures.readable[i] for i in indices], preprocess, generator)

    result = pretrain_images(
        adapted,
        crops,
        len(pictures.readable),
        spec.pretrain,
        generator,
        lambda e: judging.rank(e, preprocess, first, second, seed=1).auroc(),
        lambda epoch, loss, rating: progress(f"adaptation, epoch {epoch}: loss {loss:.2f}, made-up defects AUROC {rating:.4f}"),
    )
    report: dict[str, Any] = {"method": "dense VICReg", "epochs": result.epochs, "before": result.before, "best": result.best}
    if result.best <= result.before:
        return frozen, report | {"kept": False, "why": "no epoch ranked made-up defects better than the frozen weights"}
    ours = judging.rank(adapted, preprocess, second, first, seed=2)
    theirs = judging.rank(frozen, preprocess, second, first, seed=2)
    found = compare(ours, theirs, spec.seed)
    return (adapted if found.helps else frozen), report | found.kept("defects", "on the other half of the normals")
