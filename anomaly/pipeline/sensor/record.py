"""Normal scores to calibrate by: from the machine's own blocks, or out of time, from normal records of other machines.

Blocks of one short record do not show how a machine drifts in the hours after it was learnt. A longer record of another machine does: a
stretch of it stands for the machine (a pseudo-run), is learnt from for as many rows as the machine itself is, and the rows after these
are scored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from anomaly.calibration.dependence import independent_scores
from anomaly.data.tables.files import find_tables
from anomaly.data.tables.reader import SensorTable
from anomaly.data.tables.windows import window_ends, windows_at
from anomaly.errors import DataError
from anomaly.features.encoder import SensorExtractor
from anomaly.pipeline.sensor.few_labels.vote import Voting
from anomaly.pipeline.sensor.held_out import HeldOut, fit_scorer
from anomaly.pipeline.sensor.lending import LendingMethod, lend
from anomaly.pipeline.sensor.tables import NormalReadings, Normals, fit_preprocess
from anomaly.progress import Progress
from anomaly.scorers.sensors.choice import ViewPlan
from anomaly.spec import SensorSpec

LATER = 2  # a pseudo-run is scored for this many times as long as it was learnt,
SOON = 20  # and for this many windows at least: normal drift does not show sooner
FEWEST_LATER = 8  # windows to be scored of one, and left to lend to it, at least


@dataclass(frozen=True)
class CalibrationScores:
    """Normal scores (n,), their effective sample size, and where they came from, in words."""

    scores: NDArray[np.float64]
    independent: float
    source: str


def calibration_scores(
    readings: NormalReadings,
    record_paths: list[Path],
    network: SensorExtractor,
    held_out: HeldOut,
    about: dict[str, Any],
    progress: Progress,
    vote: Voting | None = None,
) -> CalibrationScores:
    """Scores to calibrate by: out of time where the spec names records or a record was lent, else from blocks.

    `about` is the description in the extractor's file; it names the method by which a record was lent, if one was. `held_out` has what
    the `vote` of labelled faults adds; to scores out of time it is added here.
    """
    method: LendingMethod | None = None
    spec, named = readings.spec, readings.spec.calibration.records
    tables, learnt = readings.of_others(record_paths), len(readings.values)
    if about.get("transfer", {}).get("method") in get_args(LendingMethod):
        method = about["transfer"]["method"]
        if not tables and spec.transfer.normals is not None:
            lenders = readings.of_others(find_tables(spec.transfer.normals)[0])
            if pseudo_runs(lenders, learnt, readings.window, lent=True):
                tables, named = lenders, spec.transfer.normals
    if not tables:
        return CalibrationScores(held_out.scores, independent_scores([held_out.scores]), f"{spec.calibration.folds} blocks")
    scores, effective, runs = out_of_time_scores(spec, tables, learnt, network, readings.plan, held_out.unit, method, vote)
    source = f"{runs} pseudo-run{'s' if runs > 1 else ''} of {learnt} rows learnt and the rows after them, from {named}"
    progress(f"threshold from {source}")
    return CalibrationScores(scores, effective, source)


def pseudo_runs(tables: Sequence[SensorTable], rows: int, window: int, *, lent: bool) -> list[tuple[int, slice]]:
    """(table, its rows) of each stretch that can stand for a machine of which `rows` rows are learnt from.

    It has as many rows and twice as many after them, or twenty windows where that is more; the last of a table half as many. When it is
    to be `lent` the rest of the tables, as many rows as it learns from are left of them: where the tables are short, fewer come after,
    but never fewer than it learns from.
    """
    after = max(LATER * rows, SOON * window)
    if lent:
        after = min(after, sum(int(table.usable.sum()) for table in tables) - 2 * rows)
        if after < rows:
            return []
    every = [window_ends(table.times, table.usable, window, table.max_gap_s) for table in tables]
    windows, found = sum(len(ends) for ends in every), []
    for index, (table, ends) in enumerate(zip(tables, every, strict=True)):
        for start in range(0, len(table.times) - (rows + after // 2) + 1, rows + after):
            stop = min(start + rows + after, len(table.times))
            learnt = ((ends >= start + window - 1) & (ends < start + rows)).sum()
            later = ((ends >= start + rows + window) & (ends < stop)).sum()
            left = windows - ((ends >= start) & (ends < stop + window - 1)).sum()
            if learnt >= (rows - window + 1) / 2 and later >= FEWEST_LATER and (left >= FEWEST_LATER or not lent):
                found.append((index, slice(start, stop)))
    return found


def out_of_time_scores(
    spec: SensorSpec,
    tables: Sequence[SensorTable],
    rows: int,
    extractor: SensorExtractor,
    plan: ViewPlan,
    unit: NDArray[np.float64],
    method: LendingMethod | None = None,
    vote: Voting | None = None,
) -> tuple[NDArray[np.float64], float, int]:
    """Out-of-time scores: of normal rows that come after the rows learnt from, on pseudo-runs cut from other machines' normal tables.

    Each pseudo-run is learnt from for `rows` rows, as the machine itself is, by the machine's own plan and units, and scored on those after
    them. With a `method` it is lent
    the rest of the tables, as the machine itself is. Returns (scores (n,), their effective sample size, pseudo-runs). Raises DataError
    when no table is long enough for one.
    """
    window = plan.rows
    runs = pseudo_runs(tables, rows, window, lent=method is not None)
    if not runs:
        least = rows + max(LATER * rows, SOON * window) // 2
        raise DataError(
            f"{tables[0].path}: no table of at least {least} normal rows in one piece, for {rows} are learnt from here; give a longer "
            "record, or leave [calibration] records out"
        )
    scores = []
    for index, part in runs:
        table = tables[index]
        values, usable = table.values[part], table.usable[part]
        ends = window_ends(table.times[part], usable, window, table.max_gap_s)
        learnt, later = ends[ends < rows], ends[ends >= rows + window]
        known = values[:rows][usable[:rows]]
        lent = lend(_leave_out(tables, index, part), known, window, method) if method else None
        preprocess = fit_preprocess(known, [c.name for c in table.channels], str(table.path), lent)
        normals = Normals(windows_at(values, learnt, window), learnt, preprocess, plan, lent)
        scorer: nn.Module = fit_scorer(spec, normals, extractor, normals.features(extractor), unit=unit)
        scorer = scorer if vote is None else vote.beside(scorer)
        with torch.inference_mode():
            found, _ = scorer(normals.features(extractor, windows_at(values, later, window)))
        scores.append(found.double().numpy())
    return np.concatenate(scores), independent_scores(scores), len(runs)


def _leave_out(tables: Sequence[SensorTable], index: int, part: slice) -> list[SensorTable]:
    """The tables with some rows of one of them not usable."""
    usable = tables[index].usable.copy()
    usable[part] = False
    return [replace(t, usable=usable) if i == index else t for i, t in enumerate(tables)]
