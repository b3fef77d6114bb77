"""Normal windows to scores nobody was fitted on: by blocks of the record itself, and on other machines' records after it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anomaly.calibration.conformal import independent_scores
from anomaly.data.tables.faults import inject
from anomaly.data.tables.reader import SensorTable
from anomaly.data.tables.windows import block_folds, window_ends, windows_at
from anomaly.errors import DataError
from anomaly.evaluation.injected import Ranking, joined
from anomaly.features.encoder import SensorExtractor
from anomaly.features.preprocess import SensorPreprocess
from anomaly.pipeline.sensor.lending import LendingWay, Lent, lend
from anomaly.scorers.build import SensorScorer, fit_sensor_scorer
from anomaly.spec import SensorMethod, SensorSpec

BATCH = 2048
JUDGED = 200  # windows a block that made-up faults are put on
LATER = 2  # a pseudo-run is scored for this many times as long as it was learnt,
SOON = 20  # and for this many windows at least: what wanders does not show sooner
FEWEST_LATER = 8  # windows to be scored of one, and left to lend to it, at least


@dataclass(frozen=True)
class Normals:
    """Normal windows (n, rows, C) in time order with the row (n,) each ends at, their preprocessing, and what another machine lends."""

    windows: NDArray[np.float32]
    places: NDArray[np.int64]
    preprocess: SensorPreprocess
    lent: Lent | None = None

    def features(self, extractor: SensorExtractor, windows: NDArray[np.float32] | None = None) -> list[Tensor]:
        """Feature maps [(n, C * k, 1)] of windows, its own when none are given; in batches, so that memory stays bounded."""
        parts: list[list[Tensor]] = []
        with torch.inference_mode():
            for chunk in torch.from_numpy(self.windows if windows is None else windows).split(BATCH):  # type: ignore[no-untyped-call]
                parts.append(extractor(self.preprocess(chunk)))
        return [torch.cat(maps) for maps in zip(*parts, strict=True)]


@dataclass(frozen=True)
class HeldOut:
    """Scores (n,) and contributions (n, C) of normal windows by scorers that have not seen them; how made-up faults ranked."""

    scores: NDArray[np.float64]
    shares: NDArray[np.float64]
    ranking: Ranking


def fit_scorer(
    spec: SensorSpec,
    method: SensorMethod,
    normals: Normals,
    extractor: SensorExtractor,
    features: list[Tensor],
    chosen: NDArray[np.int64] | None = None,
) -> SensorScorer:
    """Fit the named scorer on the normals' own features (those `chosen`, all when None) and on what another machine lends."""
    rows = np.arange(len(normals.places)) if chosen is None else chosen
    maps, places = [m[torch.from_numpy(rows)] for m in features], normals.places[rows]
    if normals.lent is not None:
        maps = [torch.cat(pair) for pair in zip(maps, normals.features(extractor, normals.lent.windows), strict=True)]
        after = int(normals.places[-1]) + 2 * spec.input.window
        places = np.concatenate([places, normals.lent.places + after])
    return fit_sensor_scorer(method, maps, normals.windows.shape[2], places, spec.input.window, spec.seed)


def fit_preprocess(values: NDArray[np.float32], names: Sequence[str], where: str, lent: Lent | None = None) -> SensorPreprocess:
    """Centre and spread of each sensor over rows (n, C), and over those lent: median, and the larger of MAD and half the deviation."""
    rows = values.astype(np.float64)
    if lent is not None and len(lent.windows):
        rows = np.concatenate([rows, lent.windows[:: max(1, len(lent.windows) // 200)].reshape(-1, rows.shape[1]).astype(np.float64)])
    empty = [name for name, column in zip(names, rows.T, strict=True) if np.isnan(column).all()]
    if empty:
        raise DataError(f"{where}: no readings in {empty}; leave them out of [input] sensors")
    center = np.nanmedian(rows, axis=0)
    mad = 1.4826 * np.nanmedian(np.abs(rows - center), axis=0)
    spread = np.maximum(mad, 0.5 * np.nanstd(rows, axis=0))
    spread = np.where(spread > 0, spread, np.maximum(1e-3 * np.abs(center), 1e-6))  # a constant sensor
    return SensorPreprocess(torch.from_numpy(center), torch.from_numpy(spread))


def held_out_scores(
    spec: SensorSpec,
    method: SensorMethod,
    normals: Normals,
    extractor: SensorExtractor,
    features: list[Tensor],
    kept: NDArray[np.bool_] | None = None,
) -> HeldOut:
    """Cross-conformal: contiguous blocks, each scored by a scorer fitted on the others less a purged gap.

    `features` are those of the normals' own windows; only those `kept` (n,) are fitted on, all when None.
    """
    sensors = normals.windows.shape[2]
    scores, shares = np.empty(len(normals.windows)), np.empty((len(normals.windows), sensors))
    scale = normals.preprocess.scale.numpy()
    rankings = []
    for index, (fit, held) in enumerate(block_folds(normals.places, spec.calibration.folds, spec.input.window)):
        scorer = fit_scorer(spec, method, normals, extractor, features, fit if kept is None else fit[kept[fit]])
        rng = np.random.default_rng([spec.seed, index])
        judged = np.sort(rng.choice(len(held), size=min(JUDGED, len(held)), replace=False))
        faulty = np.stack([inject(normals.windows[held[i]], rng, scale)[0] for i in judged])
        with torch.inference_mode():
            score, share = scorer([m[torch.from_numpy(held)] for m in features])
            bad, _ = scorer(normals.features(extractor, faulty))
        scores[held], shares[held] = score.numpy(), share.numpy()
        rankings.append(Ranking(scores[held][judged], bad.double().numpy()[:, None]))
    return HeldOut(scores, shares, joined(rankings))


def _without(tables: Sequence[SensorTable], index: int, part: slice) -> list[SensorTable]:
    """The tables with some rows of one of them not usable."""
    usable = tables[index].usable.copy()
    usable[part] = False
    return [replace(t, usable=usable) if i == index else t for i, t in enumerate(tables)]


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


def wandering_scores(
    spec: SensorSpec,
    method: SensorMethod,
    tables: Sequence[SensorTable],
    rows: int,
    extractor: SensorExtractor,
    way: LendingWay | None = None,
) -> tuple[NDArray[np.float64], float, int]:
    """Scores of normal rows after the rows learnt from, on pseudo-runs cut from other normal tables.

    Each is learnt from for `rows` rows, as the machine itself is, and scored on those after them. Returns
    (scores (n,), how many of them are independent, pseudo-runs). With a `way` every pseudo-run is lent the rest of the tables, as the
    machine itself is. Raises DataError when no table is long enough for one.
    """
    window = spec.input.window
    runs = pseudo_runs(tables, rows, window, lent=way is not None)
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
        lent = lend(_without(tables, index, part), known, window, way) if way else None
        preprocess = fit_preprocess(known, [c.name for c in table.channels], str(table.path), lent)
        normals = Normals(windows_at(values, learnt, window), learnt, preprocess, lent)
        scorer = fit_scorer(spec, method, normals, extractor, normals.features(extractor))
        with torch.inference_mode():
            found, _ = scorer(normals.features(extractor, windows_at(values, later, window)))
        scores.append(found.double().numpy())
    return np.concatenate(scores), independent_scores(scores), len(runs)
