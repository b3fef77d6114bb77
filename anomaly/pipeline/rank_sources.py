"""Which of several other lines to start from: ranked before any training, by their features or by how far their data lies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from anomaly.errors import DataError
from anomaly.pipeline.kinds import rank_source
from anomaly.pipeline.line import Line
from anomaly.progress import Progress, counted


def rank_sources(line: Line, sources: Sequence[Path], progress: Progress) -> list[dict[str, Any]]:
    """Sources of a line, the most promising first, with the figures they were ranked by.

    A source is another line's detector (a bundle or an extractor) or its normal data. Nothing is trained. Detectors come before data.

    Detectors are ranked by `logme` (You et al. 2021): the evidence that their features separate synthetic defects from this line's
    normals. Pictures are ranked by `nearest_ratio`: how far their patches lie from this line's, as the spec's own extractor sees them.
    Sensor records are ranked by `lent_auroc`: the AUROC of synthetic faults against this line's rows when the record is lent by CORAL.
    Where this line has too few rows for that, they are ranked by `proxy_a_distance` (Ben-David et al. 2007) of how the sensors correlate.

    Raises DataError when there are no sources, or one cannot be ranked.
    """
    if not sources:
        raise DataError("no sources given; name bundles, extractors or folders of normal data of other lines")
    rows = [rank_source(line, path) for path in counted(sources, progress, "sources")]
    for path, row in zip(sources, rows, strict=True):
        progress(f"{path}: " + ", ".join(f"{k} {v:.4f}" for k, v in row.items() if isinstance(v, float)))
    best, nearest = ("logme", "lent_auroc"), ("nearest_ratio", "proxy_a_distance")
    return sorted(rows, key=lambda row: (*(-row.get(f, -np.inf) for f in best), *(row.get(f, 0.0) for f in nearest)))
