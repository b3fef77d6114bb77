"""How promising another machine's normal record is as a source for a line of sensors. Nothing is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomaly.data.tables.files import find_tables
from anomaly.errors import DataError
from anomaly.evaluation.domains import proxy_a_distance
from anomaly.pipeline.sensor.lending import align_rows, alignment, lend
from anomaly.pipeline.sensor.line import SensorLine
from anomaly.pipeline.sensor.transfer import SensorCandidate, candidate_ranking
from anomaly.spec import EXTRACTORS

Rows = NDArray[np.float64]


def rank_source(line: SensorLine, path: Path) -> dict[str, Any]:
    """The figures of one source: `lent_auroc`, where the line has rows enough, and the proxy A-distance of the correlations."""
    if path.suffix in EXTRACTORS:
        raise DataError(f"{path}: sources of sensors are ranked by their normal data; give a table or a folder of them")
    tables = line.readings.of_others(find_tables(path)[0])
    source = np.concatenate([table.values[table.usable] for table in tables])
    # Levels and gains differ between machines, and any transfer brings them over: what is left to compare is how sensors correlate.
    moved = align_rows(alignment(source, line.readings.values, "batch-norm"), source)
    a, b = (np.nan_to_num(side - np.nanmedian(side, axis=0)).astype(np.float64) for side in (moved, line.readings.values))
    step = max(1, len(a) // (4 * len(b)))
    block = max(1, len(b) // 10)
    a = a[::step]
    blocks = (np.arange(len(a)) // block).tolist(), (np.arange(len(b)) // block).tolist()
    apart = {"proxy_a_distance": proxy_a_distance(_pairs(a), _pairs(b), blocks)}
    lent = SensorCandidate(lent=lend(tables, line.readings.values, line.readings.window, "coral"))
    try:
        return {"source": str(path), "lent_auroc": candidate_ranking(line.readings, lent).auroc(), **apart}
    except DataError:  # too few rows of this line to hold some out
        return {"source": str(path), **apart}


def _pairs(rows: Rows) -> Rows:
    """Products of every two sensors' standardised readings: their means are the correlations."""
    z = np.clip(rows / np.maximum(rows.std(axis=0), 1e-9), -4, 4)
    first, second = np.triu_indices(z.shape[1], 1)
    return np.asarray(z[:, first] * z[:, second]) if len(first) else z
