"""History through a bundle, and what proposed alarm settings would have made of it; labels tell what is missed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomaly.alarms.replay import Run, replay
from anomaly.bundle.archive import Bundle
from anomaly.data.files import TABLES, find_files
from anomaly.data.tables.files import label_of, table_schema, window_of
from anomaly.data.tables.reader import SensorTable, read_table
from anomaly.data.tables.windows import stretch_lengths, windows_at
from anomaly.edge.kinds import rules_of
from anomaly.edge.runtime.session import Session
from anomaly.errors import DataError
from anomaly.schema import AlarmSettings

BATCH = 256  # windows that go through the graph together


def score_history(bundle: Bundle, session: Session, paths: Sequence[Path], *, faults: bool = False) -> list[Run]:
    """The scored records of tables, or of folders of them. Raises DataError when there are none, or a table cannot be read.

    `faults`: the tables are of faults; one without a label column counts as faulty throughout.
    """
    schema = bundle.manifest.input
    if schema.name != "window":
        raise DataError(f"{bundle.path.name}: alarms are simulated on tables of readings; this bundle takes {schema.name!r}")
    files = [file for path in paths for file in (find_files(path, TABLES, deep=True) if path.is_dir() else [path])]
    if not files:
        raise DataError(f"{', '.join(map(str, paths))}: no tables there; give CSV or Parquet files, or a folder of them")
    return [_scored(bundle, session, read_table(file, table_schema(schema)), faults) for file in files]


def _scored(bundle: Bundle, session: Session, table: SensorTable, faults: bool) -> Run:
    rows, context = window_of(bundle.manifest.input)
    known = stretch_lengths(table.times, table.usable, table.max_gap_s)
    ends = np.flatnonzero(known >= rows)
    if not len(ends):
        raise DataError(f"{table.path}: no stretch of {rows} rows without a gap, so no record to score")
    parts = []
    for chunk in np.array_split(ends, -(-len(ends) // BATCH)):
        answer = session.run(windows_at(table.values, chunk, rows + context, np.minimum(known[chunk], rows + context)))
        parts.append((answer[0], answer[1], np.stack(list(answer[2]))))
    score, p_value, shares = (np.concatenate(column) for column in zip(*parts, strict=True))
    label = label_of(table)
    faulty: NDArray[np.bool_] = table.labels[label][ends] > 0 if label else np.full(len(ends), faults)
    return Run(table.times[ends], p_value, score, shares, faulty)


def simulate(bundle: Bundle, runs: Sequence[Run], proposed: AlarmSettings) -> dict[str, Any]:
    """Figures of `replay` by the bundle's own settings and by the proposed ones, with the settings of each."""
    return {
        name: {"settings": settings.model_dump(mode="json"), **replay(rules_of(bundle.manifest, bundle.hash, settings), runs)}
        for name, settings in (("bundle", bundle.manifest.alarm), ("proposed", proposed))
    }
