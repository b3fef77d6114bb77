"""Scores of normal windows by scorers that have not seen them: cross-conformal, over contiguous blocks of the record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from anomaly.data.tables.faults import KINDS, SHAPES, inject
from anomaly.data.tables.reader import SensorTable
from anomaly.data.tables.windows import block_folds
from anomaly.evaluation.injected import Ranking, joined, share_found
from anomaly.features.encoder import SensorExtractor
from anomaly.pipeline.sensor.tables import Normals
from anomaly.scorers.sensors.deviation import Deviation, fit_deviation
from anomaly.spec import SensorSpec

MOST_INJECTED = 200  # windows a block that synthetic faults are put on
MOST_NAMED = 20  # suspects named in the report


@dataclass(frozen=True)
class HeldOut:
    """Held-out scores (n,) and contributions (n, C) of normal windows, and how synthetic faults ranked among them.

    `faulty` are the scores of synthetic faults by their kind, of those too that `ranking` leaves out since they change a shape alone.
    """

    scores: NDArray[np.float64]
    shares: NDArray[np.float64]
    ranking: Ranking
    faulty: dict[str, NDArray[np.float64]]

    def found(self) -> dict[str, float]:
        """Share of the synthetic faults of each kind that score above 99 % of the normals."""
        return share_found(self.scores, self.faulty)


def fit_scorer(
    spec: SensorSpec,
    normals: Normals,
    extractor: SensorExtractor,
    features: list[Tensor],
    chosen: NDArray[np.int64] | None = None,
) -> Deviation:
    """Fit the scorer on the normals' own features (those `chosen`, all when None) and on what another machine lends."""
    rows = np.arange(len(normals.places)) if chosen is None else chosen
    maps, places = [m[torch.from_numpy(rows)] for m in features], normals.places[rows]
    if normals.lent is not None:
        maps = [torch.cat(pair) for pair in zip(maps, normals.features(extractor, normals.lent.windows), strict=True)]
        after = int(normals.places[-1]) + 2 * spec.input.window
        places = np.concatenate([places, normals.lent.places + after])
    return fit_deviation(maps, normals.windows.shape[2], places, spec.input.window)


def held_out_scores(
    spec: SensorSpec,
    normals: Normals,
    extractor: SensorExtractor,
    features: list[Tensor],
    kept: NDArray[np.bool_] | None = None,
) -> HeldOut:
    """Cross-conformal scores (Vovk 2015): each contiguous block is scored by a scorer fitted on the other blocks.

    Windows that share a row with the block are left out of the fit. `features` are those of the normals' own windows; only those
    `kept` (n,) are fitted on, all when None.
    """
    sensors = normals.windows.shape[2]
    scores, shares = np.empty(len(normals.windows)), np.empty((len(normals.windows), sensors))
    scale = normals.preprocess.scale.numpy()
    rankings, of_kind = [], []
    for index, (fit, held) in enumerate(block_folds(normals.places, spec.calibration.folds, spec.input.window)):
        scorer = fit_scorer(spec, normals, extractor, features, fit if kept is None else fit[kept[fit]])
        rng = np.random.default_rng([spec.seed, index])
        injected = np.sort(rng.choice(len(held), size=min(MOST_INJECTED, len(held)), replace=False))
        own = normals.windows[held[injected]]
        faulty, kinds = _faulty(own, rng, scale)
        with torch.inference_mode():
            score, share = scorer([m[torch.from_numpy(held)] for m in features])
            bad = scorer(normals.features(extractor, faulty))[0].double().numpy()
        scores[held], shares[held] = score.numpy(), share.numpy()
        rankings.append(Ranking(scores[held][injected], bad[: len(own), None]))
        clean = np.concatenate([own, own])
        there = ((faulty != clean) & ~(np.isnan(faulty) & np.isnan(clean))).any(axis=(1, 2))  # a constant sensor cannot be stuck
        of_kind.append((kinds[there], bad[there]))
    every, found = (np.concatenate(parts) for parts in zip(*of_kind, strict=True))
    return HeldOut(scores, shares, joined(rankings), {kind: found[every == kind] for kind in (*KINDS, *SHAPES)})


def _faulty(
    windows: NDArray[np.float32], rng: np.random.Generator, scale: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.str_]]:
    """Windows (n, T, C) with a fault each (2 n, T, C), and its kind: once one of KINDS, once one of SHAPES."""
    kinds, faulty = [], []
    for window in windows:
        kinds.append(KINDS[int(rng.integers(len(KINDS)))])
        faulty.append(inject(window, rng, scale, kinds[-1])[0])
    for index, window in enumerate(windows):
        kinds.append(SHAPES[index % len(SHAPES)])
        faulty.append(inject(window, rng, scale, kinds[-1], windows[rng.integers(len(windows))])[0])
    return np.stack(faulty), np.array(kinds)


def describe_normals(names: Sequence[str], normals: Normals, held_out: HeldOut) -> pd.DataFrame:
    """What drift is later told by: of each window its place in the record, score, each sensor's part in it, and each sensor's last reading.

    Readings are less their channel's offset, as in the windows.
    """
    shares = pd.DataFrame(held_out.shares, columns=[f"share:{name}" for name in names])
    levels = pd.DataFrame(normals.windows[:, -1].astype(np.float64), columns=[f"level:{name}" for name in names])
    return pd.concat([pd.DataFrame({"score": held_out.scores, "place": normals.places.astype(np.float64)}), shares, levels], axis=1)


def name_suspects(
    tables: Sequence[SensorTable], window: int, places: NDArray[np.int64], scores: NDArray[np.float64], suspect: NDArray[np.bool_]
) -> dict[str, float]:
    """Normal windows that stand out from the others, as stretches of rows: {"table, data rows A to B": its highest score}.

    `places`, `scores` and `suspect` are (n,), a window each. The worst come first, `MOST_NAMED` at most.
    """
    offset = 0
    named: dict[str, float] = {}
    for table in tables:
        own = np.flatnonzero(suspect & (places >= offset) & (places < offset + len(table.times)))
        for stretch in np.split(own, np.flatnonzero(np.diff(places[own]) > window) + 1):
            if len(stretch):
                first, last = (int(places[i]) - offset + 1 for i in (stretch[0], stretch[-1]))
                named[f"{table.path.name}, data rows {first} to {last}"] = round(float(scores[stretch].max()), 3)
        offset += len(table.times) + 2 * window
    return dict(sorted(named.items(), key=lambda item: -item[1])[:MOST_NAMED])
