"""SKAB's and NAB's labelled data: what is learnt from, what is judged, and a bundle's figures on it.

    python -m benchmarks.protocols.layouts skab|nab BUNDLE --data PATH [--json FILE]

SKAB: every table's rows after the first 400. NAB: every series' rows after the first 15 %, at most 750; the label windows are read from
windows.json beside the CSV. The bundle is judged as it is; `benchmarks.protocols.sensors` fits one for every series, as the benchmarks ask.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anomaly.atomic import write_text
from anomaly.bundle.archive import Bundle, read_bundle
from anomaly.data.files import TABLES, find_files
from anomaly.data.tables.files import table_schema
from anomaly.data.tables.reader import SensorTable, read_table
from anomaly.edge.runtime.session import Session, open_session
from anomaly.errors import AnomalyError, DataError
from anomaly.evaluation.figures import Evaluation, evaluate_tables
from anomaly.evaluation.ranges import nab_probation
from benchmarks.protocols.sensors import SKAB_TRAINING_ROWS, nab_windows


def evaluate_layout(bundle: Bundle, session: Session, data: Path, layout: str) -> Evaluation:
    """Figures of a sensor bundle on a benchmark's labelled tables. Raises DataError when there are none, or they have no labels."""
    if bundle.manifest.kind != "sensor":
        raise DataError(f"{layout} does not fit a {bundle.manifest.kind} bundle")
    schema = table_schema(bundle.manifest.input)
    tables = [read_table(path, schema) for path in _tables_under(data)]
    first = SKAB_TRAINING_ROWS
    if layout == "nab":
        for table in tables:
            table.labels["anomaly"] = _nab_labels(table)
        first = min(nab_probation(len(table.times)) for table in tables)
    p, score = bundle.manifest.threshold.p_value, bundle.manifest.threshold.score
    return evaluate_tables(session.run, tables, "anomaly", bundle.manifest.input.window or 1, p, score, first)


def _tables_under(data: Path) -> list[Path]:
    if data.is_file():
        return [data]
    found = find_files(data, TABLES, deep=True)
    if not found:
        raise DataError(f"{data}: no table in it")
    return found


def _nab_labels(table: SensorTable) -> NDArray[np.float64]:
    labels = np.zeros(len(table.times))
    for low, high in nab_windows(table):
        labels[(table.times >= low) & (table.times <= high)] = 1.0
    return labels


def main(arguments: list[str] | None = None) -> None:
    """Judge a bundle and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("layout", choices=["nab", "skab"], help="whose data it is")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="a table, or a folder of them")
    parser.add_argument("--json", type=Path, help="where the figures go")
    given = parser.parse_args(arguments)
    try:
        bundle = read_bundle(given.bundle)
        figures = evaluate_layout(bundle, open_session(bundle), given.data, given.layout).figures
    except AnomalyError as error:
        parser.exit(1, f"{error}\n")
    text = json.dumps(figures, indent=1, sort_keys=True)
    if given.json:
        write_text(given.json, text + "\n")
    print(text)


if __name__ == "__main__":
    main()
