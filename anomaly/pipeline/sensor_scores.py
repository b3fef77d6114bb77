"""Normal windows to scores nobody was fitted on: by blocks of the record itself, and on other machines' records after it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anomaly.calibration.conformal import effective_size
from anomaly.data.faults import inject
from anomaly.data.sensors import SensorTable
from anomaly.data.windows import block_folds, window_ends, windows_at
from anomaly.errors import DataError
from anomaly.evaluation.injected import Ranking
from anomaly.features.encoder import SensorExtractor
from anomaly.features.preprocess import SensorPreprocess
from anomaly.scorers.build import fit_sensor_scorer
from anomaly.spec import SensorMethod, SensorSpec

BATCH = 2048
JUDGED = 200  # windows a block that made-up faults are put on
LATER = 2  # a pseudo-run is scored for this many times as long as it was learnt


@dataclass(frozen=True)
class Normals:
    """Normal windows (n, rows, C) in time order with the row (n,) each ends at, and their preprocessing."""

    windows: NDArray[np.float32]
    places: NDArray[np.int64]
    preprocess: SensorPreprocess

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


def fit_preprocess(values: NDArray[np.float32], names: Sequence[str], where: str) -> SensorPreprocess:
    """Centre and spread of each sensor over rows (n, C): median, and the larger of MAD and half the deviation."""
    rows = values.astype(np.float64)
    empty = [name for name, column in zip(names, rows.T, strict=True) if np.isnan(column).all()]
    if empty:
        raise DataError(f"{where}: no readings in {empty}; leave them out of [input] sensors")
    center = np.nanmedian(rows, axis=0)
    mad = 1.4826 * np.nanmedian(np.abs(rows - center), axis=0)
    spread = np.maximum(mad, 0.5 * np.nanstd(rows, axis=0))
    spread = np.where(spread > 0, spread, np.maximum(1e-3 * np.abs(center), 1e-6))  # a constant sensor
    return SensorPreprocess(torch.from_numpy(center), torch.from_numpy(spread))


def held_out_scores(
    spec: SensorSpec, method: SensorMethod, normals: Normals, extractor: SensorExtractor, features: list[Tensor]
) -> HeldOut:
    """Cross-conformal: contiguous blocks, each scored by a scorer fitted on the others less a purged gap.

    `features` are those of the normals' own windows.
    """
    sensors = normals.windows.shape[2]
    scores, shares = np.empty(len(normals.windows)), np.empty((len(normals.windows), sensors))
    scale = normals.preprocess.scale.numpy()
    rankings = []
    for index, (fit, held) in enumerate(block_folds(normals.places, spec.calibration.folds, spec.input.window)):
        chosen = [m[torch.from_numpy(fit)] for m in features]
        scorer = fit_sensor_scorer(method, chosen, sensors, normals.places[fit], spec.input.window, spec.seed)
        rng = np.random.default_rng([spec.seed, index])
        judged = np.sort(rng.choice(len(held), size=min(JUDGED, len(held)), replace=False))
        faulty = np.stack([inject(normals.windows[held[i]], rng, scale)[0] for i in judged])
        with torch.inference_mode():
            score, share = scorer([m[torch.from_numpy(held)] for m in features])
            bad, _ = scorer(normals.features(extractor, faulty))
        scores[held], shares[held] = score.numpy(), share.numpy()
        rankings.append(Ranking(scores[held][judged], bad.double().numpy()[:, None]))
    ranking = Ranking(np.concatenate([r.clean for r in rankings]), np.concatenate([r.faulty for r in rankings]))
    return HeldOut(scores, shares, ranking)


def wandering_scores(
    spec: SensorSpec, method: SensorMethod, tables: Sequence[SensorTable], rows: int, extractor: SensorExtractor
) -> tuple[NDArray[np.float64], float, int]:
    """Scores of normal rows after the rows learnt from, on pseudo-runs cut from other normal tables.

    Each pseudo-run is learnt from for `rows` rows, as the machine itself is, and scored for twice as many after them. Returns
    (scores (n,), how many of them are independent, pseudo-runs). Raises DataError when no table is long enough for one.
    """
    window = spec.input.window
    scores, effective, runs = [], 0.0, 0
    for table in tables:
        names = [c.name for c in table.channels]
        for start in range(0, len(table.times) - 2 * rows + 1, (1 + LATER) * rows):
            part = slice(start, start + (1 + LATER) * rows)
            values, usable = table.values[part], table.usable[part]
            ends = window_ends(table.times[part], usable, window, table.max_gap_s)
            learnt, later = ends[ends < rows], ends[ends >= rows + window]
            if len(learnt) < rows // 2 or len(later) < 8:
                continue
            preprocess = fit_preprocess(values[:rows][usable[:rows]], names, str(table.path))
            normals = Normals(windows_at(values, learnt, window), learnt, preprocess)
            scorer = fit_sensor_scorer(method, normals.features(extractor), len(names), learnt, window, spec.seed)
            with torch.inference_mode():
                found, _ = scorer(normals.features(extractor, windows_at(values, later, window)))
            scores.append(found.double().numpy())
            effective += effective_size(scores[-1])
            runs += 1
    if not runs:
        raise DataError(
            f"{spec.calibration.records}: no table of at least {2 * rows} normal rows in one piece, twice what is learnt from here; "
            "give a longer record or leave [calibration] records out"
        )
    return np.concatenate(scores), effective, runs
