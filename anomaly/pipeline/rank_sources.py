"""Which of several sources to start from: ranked before any training, by how far they are and by what their features tell."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anomaly.data.pictures.reading import Picture
from anomaly.data.tables.files import find_tables
from anomaly.errors import DataError
from anomaly.evaluation.domains import coral_distance, kernel_distance, logme, nearest_ratio, proxy_a_distance
from anomaly.features.build import build_camera_extractor
from anomaly.features.preprocess import ImagePreprocess
from anomaly.features.stages import Stages
from anomaly.pipeline.camera.line import CameraLine
from anomaly.pipeline.camera.transfer import camera_source, source_normals
from anomaly.pipeline.line import Line, Progress
from anomaly.pipeline.sensor.lending import align_rows, alignment, lend
from anomaly.pipeline.sensor.line import SensorLine
from anomaly.pipeline.sensor.transfer import SensorCandidate, candidate_ranking
from anomaly.scorers.pictures.embedding import centre_of, embed
from anomaly.spec import EXTRACTORS

LOOKED_AT = 60  # pictures a side
Rows = NDArray[np.float64]


def rank_sources(line: Line, sources: Sequence[Path], progress: Progress) -> list[dict[str, Any]]:
    """Sources of a line, the most promising first, with the figures they were ranked by.

    A source is another line's detector (a bundle or an extractor) or its normal data. Detectors are ranked by `logme`: the evidence that
    their features tell made-up faults from this line's normals. Pictures are ranked by `nearest_ratio`, how far their patches lie from
    this line's as the spec's own extractor sees them. Records of sensors are ranked by `lent_auroc`, how made-up faults are told from this
    line's rows with the record lent by CORAL, which is a closed form; where this line has too few rows for that, by `proxy_a_distance`,
    then `kernel_distance`. Detectors come before data. Nothing is trained.
    """
    if not sources:
        raise DataError("no sources given; name bundles, extractors or folders of normal data of other lines")
    rows = [_camera(line, path) if isinstance(line, CameraLine) else _sensor(line, path) for path in sources]  # type: ignore[arg-type]
    for path, row in zip(sources, rows, strict=True):
        progress(f"{path}: " + ", ".join(f"{k} {v:.4f}" for k, v in row.items() if isinstance(v, float)))
    best, nearest = ("logme", "lent_auroc"), ("nearest_ratio", "proxy_a_distance", "kernel_distance")
    return sorted(rows, key=lambda row: (*(-row.get(f, -np.inf) for f in best), *(row.get(f, 0.0) for f in nearest)))


def _camera(line: CameraLine, path: Path) -> dict[str, Any]:
    own, origin = build_camera_extractor(line.spec)
    preprocess = line.preprocess(origin)
    pictures = line.readable[:: max(1, len(line.readable) // LOOKED_AT)][:LOOKED_AT]
    if path.suffix in EXTRACTORS:
        extractor, _ = camera_source(line.spec, path)
        return {"source": str(path), "logme": _evidence(line, extractor, preprocess, pictures)}
    others = source_normals(path)[:LOOKED_AT]
    theirs, ours = (line.features_of(own, preprocess, side) for side in (others, pictures))
    return {"source": str(path), "nearest_ratio": _patches_apart(theirs[0], ours[0]), **_distances(_means(theirs), _means(ours), None)}


def _patches_apart(theirs: Tensor, ours: Tensor) -> float:
    """`nearest_ratio` of the patches that a memory bank holds, of maps (n, C, h, w) of the source and of this line."""
    center, spread = centre_of(ours)
    places = ours.shape[2] * ours.shape[3]
    owner = torch.arange(len(ours)).repeat_interleave(places)
    return nearest_ratio(embed(theirs, "raw", center, spread), embed(ours, "raw", center, spread), owner)


def _means(maps: Sequence[Tensor]) -> Rows:
    """Mean of every channel of every stage (n, C_s, h_s, w_s), a row a picture."""
    return torch.cat([m.flatten(2).mean(dim=2) for m in maps], dim=1).double().numpy()


def _evidence(line: CameraLine, extractor: Stages, preprocess: ImagePreprocess, pictures: Sequence[Picture]) -> float:
    """LogME of each place's features: is there a made-up defect at it?"""
    rows, labels = line.marked_places(extractor, preprocess, pictures)
    return logme(rows, labels)


def _sensor(line: SensorLine, path: Path) -> dict[str, Any]:
    if path.suffix in EXTRACTORS:
        raise DataError(f"{path}: sources of sensors are ranked by their normal data; give a table or a folder of them")
    tables = line.readings.of_others(find_tables(path)[0])
    source = np.concatenate([table.values[table.usable] for table in tables])
    # Levels and gains differ between machines and are brought over by any transfer: how sensors hang together is what counts.
    moved = align_rows(alignment(source, line.readings.values, "batch-norm"), source)
    a, b = (np.nan_to_num(side - np.nanmedian(side, axis=0)).astype(np.float64) for side in (moved, line.readings.values))
    step = max(1, len(a) // (4 * len(b)))
    block = max(1, len(b) // 10)
    a = a[::step]
    apart = _distances(_pairs(a), _pairs(b), (list(np.arange(len(a)) // block), list(np.arange(len(b)) // block)))
    lent = SensorCandidate(lent=lend(tables, line.readings.values, line.spec.input.window, "coral"))
    try:
        return {"source": str(path), "lent_auroc": candidate_ranking(line.readings, lent).auroc(), **apart}
    except DataError:  # too few rows of this line to hold some out
        return {"source": str(path), **apart}


def _pairs(rows: Rows) -> Rows:
    """Products of every two sensors' standardised readings: their means are the correlations."""
    z = np.clip(rows / np.maximum(rows.std(axis=0), 1e-9), -4, 4)
    first, second = np.triu_indices(z.shape[1], 1)
    return np.asarray(z[:, first] * z[:, second]) if len(first) else z


def _distances(a: Rows, b: Rows, groups: tuple[list[int], list[int]] | None) -> dict[str, float]:
    return {
        "proxy_a_distance": proxy_a_distance(a, b, groups),
        "kernel_distance": kernel_distance(a, b, np.random.default_rng(0)),
        "coral_distance": coral_distance(a, b),
    }
