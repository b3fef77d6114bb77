"""What a bundle of sensors can be asked: figures on labelled tables, the scores of a file, the series of a report."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from anomaly.bundle.archive import Bundle
from anomaly.data.files import TABLES, find_files
from anomaly.data.tables.files import find_tables, label_of, table_schema, window_of
from anomaly.data.tables.reader import SensorTable, read_table
from anomaly.edge.runtime.session import Session
from anomaly.errors import DataError
from anomaly.evaluation.figures import Evaluation, evaluate_tables, score_table
from anomaly.evaluation.ranges import nab_probation
from anomaly.evaluation.report.page import Plot
from anomaly.evaluation.report.series import plot_events, plot_series

LAYOUTS = ("table", "skab", "nab")
SKAB_TRAINING_ROWS = 400


def evaluate(bundle: Bundle, session: Session, data: Path, layout: str | None) -> Evaluation:
    """Figures of a sensor bundle on labelled tables. Raises DataError when there are none, or they have no labels.

    Layouts: table (labelled CSV or Parquet), skab (rows after the first 400), nab (rows after the first 15 %, at most 750, windows.json
    beside the CSV); found when None.
    """
    layout = layout or ("nab" if data.is_dir() and (data / "windows.json").is_file() else "table")
    p, score = bundle.manifest.threshold.p_value, bundle.manifest.threshold.score
    tables, label, first = _labelled_tables(bundle, data, layout)
    return evaluate_tables(session.run, tables, label, *window_of(bundle.manifest.input), p, score, first)


def _labelled_tables(bundle: Bundle, data: Path, layout: str) -> tuple[list[SensorTable], str, int]:
    schema = table_schema(bundle.manifest.input)
    if layout == "nab":
        tables = [read_table(path, schema) for path in _tables_under(data)]
        for table in tables:
            table.labels["anomaly"] = _nab_labels(table)
        return tables, "anomaly", min(nab_probation(len(t.times)) for t in tables)
    if layout == "skab":
        return [read_table(path, schema) for path in _tables_under(data)], "anomaly", SKAB_TRAINING_ROWS
    train, test = find_tables(data)
    tables = [read_table(path, schema) for path in (test or train)]
    label = label_of(tables[0])
    if label is None:
        raise DataError(f"{tables[0].path}: no label column ({', '.join(bundle.manifest.input.labels)}); add one with 0 and 1")
    return tables, label, 0


def _tables_under(data: Path) -> list[Path]:
    if data.is_file():
        return [data]
    found = find_files(data, TABLES, deep=True)
    if not found:
        raise DataError(f"{data}: no table in it")
    return found


def nab_windows(table: SensorTable) -> list[tuple[float, float]]:
    """A NAB series' label windows (first, last), seconds since 1970 UTC, from windows.json beside it, which must be there."""
    path = table.path.parent / "windows.json"
    if not path.is_file():
        raise DataError(f"{path}: not there; NAB's label windows are expected beside the CSV")
    windows = json.loads(path.read_text(encoding="utf-8"))
    spans = windows if isinstance(windows, list) else next((v for k, v in windows.items() if Path(k).name == table.path.name), None)
    if spans is None:
        raise DataError(f"{path}: has no windows for {table.path.name}")
    return [(pd.Timestamp(start, tz="UTC").timestamp(), pd.Timestamp(stop, tz="UTC").timestamp()) for start, stop in spans]


def _nab_labels(table: SensorTable) -> NDArray[np.float64]:
    labels = np.zeros(len(table.times))
    for low, high in nab_windows(table):
        labels[(table.times >= low) & (table.times <= high)] = 1.0
    return labels


def score_file(bundle: Bundle, session: Session, path: Path) -> pd.DataFrame:
    """One row a window: record, time, score, p_value, top_sensor. Raises DataError when the table cannot be read."""
    table = read_table(path, table_schema(bundle.manifest.input))
    scored: pd.DataFrame = score_table(session.run, table, *window_of(bundle.manifest.input))
    shares = scored.filter(like="share:")
    scored.insert(0, "record", [f"{path.name}:{row + 2}" for row in scored["row"]])
    scored["top_sensor"] = [str(name).removeprefix("share:") for name in shares.idxmax(axis=1)]
    return scored.drop(columns=["row", *shares.columns])


def report_plots(bundle: Bundle, evaluation: Evaluation, data: Path) -> list[Plot]:
    """The series of up to four tables, and their events, for the report."""
    train, test = find_tables(data)
    tables = [read_table(p, table_schema(bundle.manifest.input)) for p in (test or train)[:4]]
    return [plot_series(evaluation, table) for table in tables] + plot_events(evaluation, tables)
