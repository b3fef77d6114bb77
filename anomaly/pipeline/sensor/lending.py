"""Another machine's normal record brought to this machine's levels, so that a scorer can learn from it what few rows do not show."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from anomaly.calibration.dependence import effective_size
from anomaly.data.tables.reader import SensorTable
from anomaly.data.tables.windows import stack_windows, window_ends
from anomaly.errors import DataError
from anomaly.features.training.alignment import Alignment, coral

Rows = NDArray[np.float32]
LendingMethod = Literal["coral", "batch-norm"]
MOST_LENT = 400  # windows
WINSORISED_AT = 6.0  # robust deviations from the median, beyond which a reading is clipped before moments are taken


@dataclass(frozen=True)
class LentWindows:
    """Windows (n, rows, C) of another machine in this machine's units and levels, and the row each ends at."""

    windows: Rows
    places: NDArray[np.int64]


def lend(tables: Sequence[SensorTable], target: Rows, window: int, method: LendingMethod) -> LentWindows:
    """Normal windows of other machines' tables, aligned with the target's normal rows (m, C), NaN = missing.

    "coral" (correlation alignment, Sun et al. 2016, arXiv:1511.05547) brings the whole covariance over, "batch-norm" each sensor's centre
    and spread alone. The target's moments are shrunk towards the source's as far as its rows, which follow each other closely, are few.
    Raises DataError when the tables hold no whole window.
    """
    ends = [window_ends(table.times, table.usable, window, table.max_gap_s) for table in tables]
    if not any(len(found) for found in ends):
        raise DataError(f"{tables[0].path}: no {window} rows without a gap to learn from; raise [input] max_gap_s, or give another record")
    source = np.concatenate([table.values[table.usable] for table in tables])
    align = alignment(source, target, method)
    moved = [(_aligned_by_stretch(align, table.values, len(target), window), found) for table, found in zip(tables, ends, strict=True)]
    return LentWindows(*stack_windows(moved, window, MOST_LENT))


def _aligned_by_stretch(align: Alignment, rows: Rows, learnt: int, window: int) -> Rows:
    """Rows (n, C) through an alignment stretch by stretch, each brought to the target's level by its first `learnt` rows."""
    long = learnt + max(2 * learnt, 20 * window)
    parts = []
    for start in range(0, len(rows), long):
        part = rows[start : start + long]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a sensor without readings in the stretch: it has none to bring over
            middle = np.nanmedian(part[:learnt], axis=0).astype(np.float64)
        usual = np.where(np.isfinite(middle), middle, align.source_mean.numpy())
        parts.append(align_rows(replace(align, source_mean=torch.from_numpy(usual)), part))
    return np.concatenate(parts)


def alignment(source: Rows, target: Rows, method: LendingMethod) -> Alignment:
    """How rows of the source (n, C) become rows of the target (m, C)."""
    a, b = _winsorised(source), _winsorised(target)
    sensors = source.shape[1]
    scale = np.maximum(a.std(axis=0), 1e-9)
    scale = np.where(a.std(axis=0) > 1e-9 * np.abs(a).max(axis=0), scale, 1.0)
    independent = min(effective_size(column) if np.ptp(column) > 0 else float(len(b)) for column in b.T)
    unknown = (sensors + 1 if method == "coral" else 2) * len(b) / max(independent, 1e-9)
    here, there = torch.from_numpy(a / scale), torch.from_numpy(b / scale)
    if method == "coral":
        found = coral(here, there, prior=unknown)
        matrix = found.matrix.double().numpy()
    else:
        mine, theirs = np.square(a / scale - np.mean(a / scale, axis=0)).mean(axis=0), np.square((b - b.mean(axis=0)) / scale).mean(axis=0)
        shrunk = (len(b) * theirs + unknown * mine) / (len(b) + unknown)
        matrix = np.diag(np.sqrt(shrunk / np.maximum(mine, 1e-12)))
    whole = np.diag(1 / scale) @ matrix @ np.diag(scale)
    middle = [torch.from_numpy(np.nanmedian(side, axis=0).astype(np.float64)) for side in (source, target)]
    return Alignment(middle[0], torch.from_numpy(whole), middle[1])


def align_rows(align: Alignment, rows: Rows) -> Rows:
    """Rows (n, C) with NaN through an alignment; what is missing stays missing and counts as its sensor's centre for the others."""
    known = np.isfinite(rows)
    filled = np.where(known, rows, align.source_mean.numpy())
    moved: Rows = align(torch.from_numpy(filled)).numpy().astype(np.float32)
    moved[~known] = np.nan
    return moved


def _winsorised(rows: Rows) -> NDArray[np.float64]:
    """Rows (n, C), gaps filled with the sensor's median and outliers clipped, so that a few of them do not set the covariance."""
    middle = np.nanmedian(rows, axis=0)
    spread = np.maximum(1.4826 * np.nanmedian(np.abs(rows - middle), axis=0), 0.5 * np.nanstd(rows, axis=0))
    filled = np.where(np.isfinite(rows), rows, middle).astype(np.float64)
    clipped: NDArray[np.float64] = np.clip(filled, middle - WINSORISED_AT * spread, middle + WINSORISED_AT * spread)
    return clipped
