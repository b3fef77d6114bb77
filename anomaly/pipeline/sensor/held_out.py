"""Scores of normal windows by scorers that have not seen them: cross-conformal, over contiguous blocks of the record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from anomaly.data.clock import has_clock, moment
from anomaly.data.tables.faults import KINDS, SHAPES, inject
from anomaly.data.tables.reader import SensorTable
from anomaly.data.tables.windows import block_folds
from anomaly.evaluation.injected import Ranking, joined
from anomaly.features.encoder import SensorExtractor
from anomaly.pipeline.sensor.tables import Normals
from anomaly.scorers.sensors.views import Views, fit_views, level_maps, units, with_units
from anomaly.spec import SensorSpec

MOST_INJECTED = 200  # windows a block that synthetic faults are put on
HIGHEST = 0.05  # the share of scores that says in what units a scorer measures
HIGH = 0.99  # of the normals score lower than those whose view is told
OF_KIND = 9  # made-up faults of a kind, the lowest and the highest score among them, that the report may show
MOST_NAMED = 20  # suspects named in the report


@dataclass(frozen=True)
class HeldOut:
    """Held-out scores (n,) and contributions (n, C) of normal windows, in the units of the `scorer` of them all, and how faults ranked.

    `ranking` is of synthetic faults among the windows, `faulty` are their scores by kind, of those too that `ranking` leaves out since
    they change a shape alone: `shapes`. `evidence` (n, D) is what the windows' scorers saw of them, where it was asked for. `shown` is for
    the fit's report, see `_to_show`.
    """

    scorer: Views
    scores: NDArray[np.float64]
    shares: NDArray[np.float64]
    ranking: Ranking
    faulty: dict[str, NDArray[np.float64]]
    shapes: Ranking
    evidence: NDArray[np.float64] | None = None
    shown: dict[str, Tensor] = field(default_factory=dict)

    @property
    def unit(self) -> NDArray[np.float64]:
        """Of each view (V,)."""
        return self.scorer.unit.double().numpy()

    def faulty_scores(self) -> dict[str, list[float]]:
        """Scores of the synthetic faults by kind, those without a fault left out: what the threshold finds of them is counted later."""
        return {kind: scores.tolist() for kind, scores in self.faulty.items() if len(scores)}


def fit_scorer(
    spec: SensorSpec,
    normals: Normals,
    extractor: SensorExtractor,
    features: list[Tensor],
    chosen: NDArray[np.int64] | None = None,
    unit: NDArray[np.float64] | None = None,
) -> Views:
    """Fit every view, in these units (V,), on the normals' own features (those `chosen`, all when None) and on what is lent."""
    rows = np.arange(len(normals.places)) if chosen is None else chosen
    maps, places = [m[torch.from_numpy(rows)] for m in features], normals.places[rows]
    if normals.lent is not None:
        maps = [torch.cat(pair) for pair in zip(maps, normals.features(extractor, normals.lent.windows), strict=True)]
        after = int(normals.places[-1]) + 2 * normals.plan.rows
        places = np.concatenate([places, normals.lent.places + after])
    views = fit_views(maps, normals.windows.shape[2], places, normals.plan, spec.seed)
    return views if unit is None else with_units(views, unit)


def held_out_scores(
    spec: SensorSpec,
    normals: Normals,
    extractor: SensorExtractor,
    features: list[Tensor],
    kept: NDArray[np.bool_] | None = None,
    *,
    evidence: bool = False,
) -> HeldOut:
    """Cross-conformal scores (Vovk 2015): each contiguous block is scored by a scorer fitted on the other blocks.

    Windows that share a row with the block are left out of the fit. A block's scorer measures in units of its own: it has less to learn
    from, and may scale a feature otherwise. Its scores are brought to the units of the scorer of all windows (`_ratio`).

    `features` are those of the normals' own windows; only those `kept` (n,) are fitted on, all when None.
    """
    final = fit_scorer(spec, normals, extractor, features, None if kept is None else np.flatnonzero(kept))
    parts: list[_Part] = []
    seen: list[NDArray[np.float64]] = []
    for index, (others, held) in enumerate(block_folds(normals.places, spec.calibration.folds, normals.plan.rows)):
        fit = others if kept is None else others[kept[others]]
        views = fit_scorer(spec, normals, extractor, features, fit)
        injected, faulty, kinds = _injected(spec, normals, index, held)
        own = normals.windows[held[injected]]
        clean = np.concatenate([own, own])
        there = ((faulty != clean) & ~(np.isnan(faulty) & np.isnan(clean))).any(axis=(1, 2))  # a constant sensor cannot be stuck
        with torch.inference_mode():
            normal = views.each([m[torch.from_numpy(held)] for m in features])
            bad = views.each(normals.features(extractor, faulty))
            ratio = _ratio(views, final, [m[torch.from_numpy(fit)] for m in features])
            if evidence:
                whole = views.evidence([m[torch.from_numpy(held)] for m in features])
                whole[:, : views.level.evidence_width] *= ratio
                seen.append(whole.double().numpy())
        parts.append(_Part(held, injected, normal, _scores(bad), ratio, kinds, there))
    unit = units(np.concatenate([_scores(part.normal) for part in parts]))
    found = _joined(parts, with_units(final, unit), len(normals.windows))
    found = replace(found, shown=_to_show(spec, normals, parts, found))
    return replace(found, evidence=np.concatenate(seen)) if evidence else found


def _injected(
    spec: SensorSpec, normals: Normals, index: int, held: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.str_]]:
    """Which of a block's windows `held` get faults (m,), the windows with them (2 m, T, C) and their kinds (2 m,); the same each time."""
    rng = np.random.default_rng([spec.seed, index])
    injected = np.sort(rng.choice(len(held), size=min(MOST_INJECTED, len(held)), replace=False))
    return injected, *_faulty(normals.windows[held[injected]], rng, normals.preprocess.scale.numpy())


def _to_show(spec: SensorSpec, normals: Normals, parts: Sequence[_Part], found: HeldOut) -> dict[str, Tensor]:
    """For the fit's report: of each kind of made-up fault a few, from the lowest score to the highest.

    `fault_windows` (k, 2, T, C): the window without and with the fault; `fault_kinds` (k,) numbers in KINDS and SHAPES, `fault_scores`
    (k,). `normals_speak` (V,): how often each view speaks for the highest normals. `faults_speak` (f, 2): score and view of every fault.
    What of the faults is found is for the threshold to say, which is not known yet.
    """
    high = float(np.quantile(found.scores, HIGH))
    unit, names = found.unit, [*KINDS, *SHAPES]
    rows: list[tuple[int, int, int, float]] = []  # fold, number in it, kind, score
    normals_speak, faults_speak = np.zeros(len(unit)), [np.empty((0, 2))]
    for fold, part in enumerate(parts):
        own = unit / np.append(part.ratio, np.ones(len(unit) - 1))
        normal, bad = _scores(part.normal) / own, part.bad / own
        top = bad.max(axis=1)
        there = np.flatnonzero(part.there)
        rows += [(fold, int(at), names.index(part.every_kind[at]), float(top[at])) for at in there]
        normals_speak += np.bincount(normal[normal.max(axis=1) > high].argmax(axis=1), minlength=len(unit))
        faults_speak.append(np.stack([top[there], bad[there].argmax(axis=1)], axis=1))
    chosen = []
    for kind in range(len(names)):
        some = sorted((row for row in rows if row[2] == kind), key=lambda row: row[3])
        at = np.linspace(0, len(some) - 1, OF_KIND).round().astype(int).tolist() if some else []
        chosen += [some[i] for i in dict.fromkeys(at)]
    drawn = {fold: _injected(spec, normals, fold, parts[fold].held) for fold in {row[0] for row in chosen}}
    pairs = []
    for fold, at, _, _ in chosen:
        injected, faulty, _ = drawn[fold]
        pairs.append(np.stack([normals.windows[parts[fold].held[injected[at % len(injected)]]], faulty[at]]))
    shape = (0, 2, *normals.windows.shape[1:])
    return {
        "fault_windows": torch.from_numpy(np.stack(pairs) if pairs else np.empty(shape, np.float32)),
        "fault_kinds": torch.tensor([row[2] for row in chosen], dtype=torch.int64),
        "fault_scores": torch.tensor([row[3] for row in chosen], dtype=torch.float64),
        "normals_speak": torch.from_numpy(normals_speak),
        "faults_speak": torch.from_numpy(np.concatenate(faults_speak)),
    }


def _ratio(views: Views, final: Views, features: list[Tensor]) -> float:
    """What one of a fold's units of level is in those of the final scorer: the ratio of their highest scores on windows both have learnt.

    A distance of shapes needs none: it is in spreads of the whole record from the start.
    """
    if not len(features[0]):  # all that the fold has learnt from is lent
        return 1.0
    count = max(1, int(HIGHEST * len(features[0])))
    theirs, ours = (float(each.level(level_maps(features))[0].double().topk(count).values.mean()) for each in (views, final))
    return ours / theirs if theirs > 0 and ours > 0 else 1.0


@dataclass(frozen=True)
class _Part:
    """What one fold came to: which windows were held out (m,), what the views made of them, and of synthetic faults on some of them.

    ratio: what its unit of level is in that of the final scorer
    """

    held: NDArray[np.int64]
    injected: NDArray[np.int64]
    normal: list[tuple[Tensor, Tensor]]
    bad: NDArray[np.float64]
    ratio: float
    every_kind: NDArray[np.str_]
    there: NDArray[np.bool_]


def _scores(found: list[tuple[Tensor, Tensor]]) -> NDArray[np.float64]:
    """Scores (n, V) of what the views found."""
    return torch.stack([score for score, _ in found], dim=1).double().numpy()


def _joined(parts: Sequence[_Part], scorer: Views, count: int) -> HeldOut:
    """The folds put together, each view in the scorer's unit."""
    unit = scorer.unit.double().numpy()
    sensors = parts[0].normal[0][1].shape[1]
    scores, shares = np.empty(count), np.empty((count, sensors))
    rankings, shapes, kinds, faulty = [], [], [], []
    for part in parts:
        own = unit / np.append(part.ratio, np.ones(len(unit) - 1))  # the final scorer's units, as the fold measures
        each = _scores(part.normal) / own
        speaks = each.argmax(axis=1)
        scores[part.held] = each.max(axis=1)
        by_view = np.stack([share.double().numpy() for _, share in part.normal]) / own[:, None, None]
        shares[part.held] = by_view[speaks, np.arange(len(speaks))]
        bad = (part.bad / own).max(axis=1)
        clean, count_bad = scores[part.held][part.injected], len(part.injected)
        rankings.append(Ranking(clean, bad[:count_bad, None]))
        shapes.append(Ranking(clean, bad[count_bad:, None]))
        kinds.append(part.every_kind[part.there])
        faulty.append(bad[part.there])
    every, found = np.concatenate(kinds), np.concatenate(faulty)
    of_kind = {kind: found[every == kind] for kind in (*KINDS, *SHAPES)}
    return HeldOut(scorer, scores, shares, joined(rankings), of_kind, joined(shapes))


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
    """Normal windows that stand out from the others, as stretches: {"table, TIME to TIME (data rows A to B)": its highest score}.

    `places`, `scores` and `suspect` are (n,), a window each. The worst come first, `MOST_NAMED` at most.
    """
    offset = 0
    named: dict[str, float] = {}
    for table in tables:
        own = np.flatnonzero(suspect & (places >= offset) & (places < offset + len(table.times)))
        for stretch in np.split(own, np.flatnonzero(np.diff(places[own]) > window) + 1):
            if len(stretch):
                first, last = (int(places[i]) - offset + 1 for i in (stretch[0], stretch[-1]))
                named[f"{table.path.name}, {_stretch(table, first, last)}"] = round(float(scores[stretch].max()), 3)
        offset += len(table.times) + 2 * window
    return dict(sorted(named.items(), key=lambda item: -item[1])[:MOST_NAMED])


def _stretch(table: SensorTable, first: int, last: int) -> str:
    """Rows `first` to `last` of a table, counted from 1, with the clock times of both where there is a clock."""
    rows = f"data row {first}" if first == last else f"data rows {first} to {last}"
    if not has_clock(table.times):
        return rows
    zone = table.dialect.zone or ""
    if first == last:
        return f"{moment(float(table.times[first - 1]), zone)} ({rows})"
    return f"{moment(float(table.times[first - 1]), zone)} to {moment(float(table.times[last - 1]), zone)} ({rows})"
