"""History through a bundle, and what proposed alarm settings would have made of it; labels tell what is missed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomaly.alarms.replay import History, Run, parts, promise, promise_of_parts, replay
from anomaly.bundle.archive import Bundle
from anomaly.data.files import TABLES, find_files
from anomaly.data.tables.files import label_of, table_schema
from anomaly.data.tables.reader import SensorTable, read_table
from anomaly.data.tables.windows import window_ends, windows_at
from anomaly.edge.kinds import rules_of
from anomaly.edge.runtime.session import Session
from anomaly.edge.runtime.simulate_pictures import picture_history
from anomaly.errors import DataError
from anomaly.progress import Progress, silent
from anomaly.schema import AlarmSettings

BATCH = 256  # windows that go through the graph together


def read_history(
    bundle: Bundle, session: Session, data: Sequence[Path], faults: Sequence[Path], period_s: float | None, progress: Progress = silent
) -> History:
    """The scored records of tables or pictures, or of folders of them. Raises DataError when there are none, or they cannot be read.

    `data` is of normal running, with labels or without. `faults` are of faults; a table without a label column counts as faulty
    throughout. `period_s`: the time from one picture to the next.
    """
    kind = bundle.manifest.input.name
    for path in (*data, *faults):
        if not path.exists():
            raise DataError(f"{path}: no such file or folder; --data names history, --faults that of faults")
    if kind == "image":
        return picture_history(bundle, session, data, faults, period_s, progress)
    if kind != "window":
        raise DataError(f"{bundle.path.name}: alarms are simulated on readings and on pictures; this bundle takes {kind!r}")
    if period_s is not None:
        raise DataError("--period-s is for pictures; tables have times of their own")
    return History((*_tables(bundle, session, data, False), *(_tables(bundle, session, faults, True) if faults else ())))


def _tables(bundle: Bundle, session: Session, paths: Sequence[Path], faults: bool) -> list[Run]:
    schema = bundle.manifest.input
    files = [file for path in paths for file in (find_files(path, TABLES, deep=True) if path.is_dir() else [path])]
    if not files:
        raise DataError(f"{', '.join(map(str, paths))}: no tables there; give CSV or Parquet files, or a folder of them")
    return [_scored(bundle, session, read_table(file, table_schema(schema)), faults) for file in files]


def _scored(bundle: Bundle, session: Session, table: SensorTable, faults: bool) -> Run:
    rows = bundle.manifest.input.window or 1
    ends = window_ends(table.times, table.usable, rows, table.max_gap_s)
    if not len(ends):
        raise DataError(f"{table.path}: no stretch of {rows} rows without a gap, so no record to score")
    parts = []
    for chunk in np.array_split(ends, -(-len(ends) // BATCH)):
        answer = session.run(windows_at(table.values, chunk, rows))
        parts.append((answer[0], answer[1], np.stack(list(answer[2]))))
    score, p_value, shares = (np.concatenate(column) for column in zip(*parts, strict=True))
    label = label_of(table)
    faulty: NDArray[np.bool_] = table.labels[label][ends] > 0 if label else np.full(len(ends), faults)
    return Run(table.times[ends], p_value, score, shares, faulty)


def simulate(bundle: Bundle, runs: Sequence[Run], proposed: AlarmSettings) -> dict[str, dict[str, Any]]:
    """Figures by the bundle's own settings and by the proposed ones, with the settings of each, and whether the budget held."""
    return {name: _figures(bundle, runs, settings) for name, settings in (("bundle", bundle.manifest.alarm), ("proposed", proposed))}


def _figures(bundle: Bundle, runs: Sequence[Run], settings: AlarmSettings) -> dict[str, Any]:
    rules, threshold = rules_of(bundle.manifest, bundle.hash, settings), bundle.manifest.threshold
    found = {"settings": settings.model_dump(mode="json"), **replay(rules, runs)}
    if bundle.manifest.input.name == "image":
        week = found["false_alarms_per_week"]
        found |= parts(rules, runs) | {"false_alarms_per_day": None if week is None else week / 7}
        return found | {"promise": promise_of_parts(threshold.budget, threshold.p_value, found)}
    per_day = threshold.budget.get("false_alarms_per_day")
    return found | {"promise": promise(found, None if per_day is None else 7 * per_day)}
