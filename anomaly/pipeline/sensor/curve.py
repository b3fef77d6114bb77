"""Learning curves of sensors: ROC-AUC of rows against how many normal windows there were to learn from, with a transfer and without."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from anomaly.data.tables.files import label_of, table_schema
from anomaly.data.tables.reader import SensorTable, read_table
from anomaly.data.tables.windows import score_table
from anomaly.errors import DataError, SpecError
from anomaly.evaluation.figures import by_row
from anomaly.evaluation.metrics import auroc
from anomaly.evaluation.transfer import ALONE
from anomaly.pipeline.line import check_transfer_given
from anomaly.pipeline.sensor.line import SensorLine
from anomaly.pipeline.sensor.transfer import SensorTransfer
from anomaly.pipeline.steps import Steps
from anomaly.progress import Progress
from anomaly.spec import Transfer

WINDOWS = (10, 20, 50, 100, 200, 500)
ALL = 1 << 30


def sensor_curve(line: SensorLine, sizes: Sequence[int], seeds: int, progress: Progress) -> pd.DataFrame:
    """ROC-AUC (`way`, `normals`, `seed`, `auroc`) of the line's labelled rows, by the target alone and by the spec's transfer.

    `normals` are windows whose rows follow each other; every seed has them begin elsewhere. Sizes beyond what there is stand for
    all rows. A size with which a way cannot be fitted has no row. Raises DataError when the line has no labelled tables, or
    the transfer can be fitted with no size, SpecError when the spec names no source.
    """
    check_transfer_given(line.spec.transfer)
    if not line.test_paths:
        raise DataError(f"{line.root}: no labelled tables to measure on; give a folder with train*.csv and test*.csv")
    SensorTransfer(line.readings, progress)  # a source that does not fit is refused before anything is fitted
    tables = _labelled_tables(line)
    every = max(1, len(line.readings.values) - line.readings.window + 1)
    found, reason = [], ""
    draws = {size: 1 if size == every else seeds for size in sorted({min(size, every) for size in sizes})}
    for way, transfer in {ALONE: Transfer(), line.spec.transfer.method: line.spec.transfer}.items():
        for size, count in draws.items():
            for seed in range(count):
                start = int(np.random.default_rng([line.spec.seed, seed, size]).integers(every - size + 1))
                try:
                    area = _row_auroc(line.subset(start, size + line.readings.window - 1, transfer), tables)
                except DataError as error:
                    reason = str(error)
                    progress(f"{way}, {size} windows: cannot be fitted; {reason}")
                    break
                found.append({"way": way, "normals": size, "seed": seed, "auroc": area})
                progress(f"{way}, {size} windows, seed {seed}: ROC-AUC {area:.4f}; runs", len(found), 2 * sum(draws.values()))
    if not found or found[-1]["way"] == ALONE:
        raise DataError(reason)
    return pd.DataFrame(found)


def _labelled_tables(line: SensorLine) -> list[tuple[SensorTable, NDArray[np.bool_]]]:
    """The line's labelled tables with which rows (n,) are faulty. Raises SpecError for one without labels."""
    found = []
    for path in line.test_paths:
        table = read_table(path, table_schema(line.input_schema()))
        label = label_of(table)
        if label is None:
            raise SpecError(f"{path}: no label column; name it in [input] labels")
        found.append((table, table.labels[label] > 0))
    return found


def _row_auroc(line: SensorLine, tables: Sequence[tuple[SensorTable, NDArray[np.bool_]]]) -> float:
    """ROC-AUC of all rows of labelled tables by a detector fitted on the line."""
    with tempfile.TemporaryDirectory() as scratch:
        run = Steps(line, Path(scratch)).detector().run
    scores = []
    for table, _ in tables:
        scored = score_table(run, table, line.readings.window)
        scores.append(by_row(scored, 0, len(table.times), 1.0)[1])
    return auroc(np.concatenate([label for _, label in tables]), np.concatenate(scores)) or 0.0
