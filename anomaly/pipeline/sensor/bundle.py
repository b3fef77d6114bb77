"""What a bundle of sensors can be asked: figures on labelled tables, the scores of a file, the series of a report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from anomaly.alarms.replay import Run, alarm_spans, promise, replay
from anomaly.bundle.archive import Bundle
from anomaly.data.tables.files import find_tables, label_of, table_schema
from anomaly.data.tables.reader import read_table
from anomaly.edge.kinds import rules_of
from anomaly.edge.runtime.session import Session
from anomaly.errors import DataError
from anomaly.evaluation.figures import Evaluation, evaluate_tables
from anomaly.progress import Progress, silent

if TYPE_CHECKING:
    from anomaly.evaluation.report.page import Block

LAYOUTS = ("table",)


def evaluate(bundle: Bundle, session: Session, data: Path, layout: str | None, progress: Progress = silent) -> Evaluation:
    """Figures of a sensor bundle on labelled tables (CSV or Parquet). Raises DataError when there are none, or they have no labels."""
    p, score = bundle.manifest.threshold.p_value, bundle.manifest.threshold.score
    train, test = find_tables(data)
    tables = [read_table(path, table_schema(bundle.manifest.input)) for path in (test or train)]
    label = label_of(tables[0])
    if label is None:
        raise DataError(f"{tables[0].path}: no label column ({', '.join(bundle.manifest.input.labels)}); add one with 0 and 1")
    evaluation = evaluate_tables(session.run, tables, label, bundle.manifest.input.window or 1, p, score, progress=progress)
    with_alarms(evaluation, bundle)
    evaluation.notes += [note for table in tables for note in table.report.notes]
    return evaluation


def with_alarms(evaluation: Evaluation, bundle: Bundle) -> None:
    """Add to the figures what the bundle's alarm rules make of the scores, and whether its budget held with them."""
    runs, rules = [], rules_of(bundle.manifest, bundle.hash)
    for name, run in evaluation.records.dropna(subset=["p_value"]).groupby("run", sort=False):
        p, score = run["p_value"].to_numpy(np.float32), run["score"].to_numpy(np.float32)
        shares = run.filter(like="share:").to_numpy(np.float32)
        runs.append(Run(run["time"].to_numpy(np.float64), p, score, shares, run["label"].to_numpy(bool)))
        evaluation.alarms[str(name)] = alarm_spans(rules, runs[-1])
    figures = replay(rules, runs)
    per_day = bundle.manifest.threshold.budget.get("false_alarms_per_day")
    evaluation.figures["with_alarm_rules"] = figures | {"promise": promise(figures, None if per_day is None else 7 * per_day)}


def report_plots(bundle: Bundle, evaluation: Evaluation, data: Path) -> list[Block]:
    """The series of up to four tables, and their events, for the report."""
    from anomaly.evaluation.report.page import Legend
    from anomaly.evaluation.report.series import COLORS, plot_tables  # Matplotlib, which nothing but a report needs

    tables = evaluation.tables[:4]
    label = label_of(tables[0]) or ""
    return [Legend(COLORS), *plot_tables(evaluation, tables, label, bundle.manifest.threshold.p_value, bundle.manifest.least_p)]
