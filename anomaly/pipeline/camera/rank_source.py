"""How promising another line is as a source for a camera line, by its detector's features or by its pictures. Nothing is trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anomaly.data.pictures.reading import Picture
from anomaly.evaluation.domains import logme, nearest_ratio
from anomaly.features.build import build_camera_extractor
from anomaly.features.preprocess import ImagePreprocess
from anomaly.features.stages import Stages
from anomaly.pipeline.camera.line import CameraLine
from anomaly.pipeline.camera.transfer import camera_source, source_normals
from anomaly.scorers.pictures.embedding import embed, many_patches, mean_std
from anomaly.spec import EXTRACTORS

COMPARED = 60  # pictures of the source, and as many of this line
Rows = NDArray[np.float64]


def rank_source(line: CameraLine, path: Path) -> dict[str, Any]:
    """The figures of one source: `logme` of a bundle or an extractor, `nearest_ratio` of pictures."""
    own, origin = build_camera_extractor(line.settled())
    preprocess = line.pictures.preprocess(origin)
    pictures = line.pictures.readable[:: max(1, len(line.pictures.readable) // COMPARED)][:COMPARED]
    if path.suffix in EXTRACTORS:
        extractor, _ = camera_source(line.settled(), path)
        return {"source": str(path), "logme": _evidence(line, extractor, preprocess, pictures)}
    others = source_normals(path)[:COMPARED]
    theirs, ours = (line.pictures.features_of(own, preprocess, side) for side in (others, pictures))
    return {"source": str(path), "nearest_ratio": _patches_apart(theirs[0], ours[0])}


def _patches_apart(theirs: Tensor, ours: Tensor) -> float:
    """`nearest_ratio` of the patches that a memory bank holds, of maps (n, C, h, w) of the source and of this line."""
    center, spread = mean_std(many_patches(ours))
    places = ours.shape[2] * ours.shape[3]
    owner = torch.arange(len(ours)).repeat_interleave(places)
    return nearest_ratio(embed(theirs, "raw", center, spread), embed(ours, "raw", center, spread), owner)


def _evidence(line: CameraLine, extractor: Stages, preprocess: ImagePreprocess, pictures: Sequence[Picture]) -> float:
    """LogME of the features of each place, labelled by whether a synthetic defect lies there."""
    rows, labels = line.judging.marked_places(extractor, preprocess, pictures)
    return logme(rows, labels)
