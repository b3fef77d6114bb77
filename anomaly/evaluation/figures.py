"""Figures of merit of a detector on labelled records: `evaluate_pictures` and `evaluate_tables`.

They take the records and any function that runs a detector, in PyTorch or ONNX Runtime. `anomaly.pipeline.assess` is what commands call: it
opens a bundle's data and asks for the figures here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from anomaly.data.pictures.reading import Picture, PictureFormat, read_picture
from anomaly.data.tables.reader import SensorTable
from anomaly.data.tables.windows import Run, score_table
from anomaly.errors import DataError, RecordError
from anomaly.evaluation import metrics
from anomaly.evaluation.pixels import AUPRO_LIMIT, PixelFigures
from anomaly.evaluation.vus import vus
from anomaly.parallel import on_all_cores
from anomaly.progress import Progress, counted, part, silent

SHOWN = 6  # pictures of a kind that a report shows


@dataclass
class Evaluation:
    """What an evaluation found: `figures` for the JSON, `records` a row a record, `rejected` records with reasons.

    `maps` by record id are those of the pictures that a report shows, and `paths` where all pictures lie. `notes`: what a person should
    know of how the data was read. `alarms`: by run, (first, last) second of each alarm that the alarm rules make of the scores.
    `tables`: what was judged, where it is tables.
    """

    figures: dict[str, Any]
    records: pd.DataFrame
    maps: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    rejected: list[str] = field(default_factory=list)
    paths: dict[str, Path] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    alarms: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    tables: list[SensorTable] = field(default_factory=list)


def evaluate_pictures(
    run: Run,
    pictures: Sequence[Picture],
    form: PictureFormat,
    p: float,
    score_threshold: float | None = None,
    progress: Progress = silent,
    aupro_limit: float = AUPRO_LIMIT,
) -> Evaluation:
    """Score labelled pictures one by one and compute image and pixel figures.

    `run` takes raw pictures (1, H, W, C) and gives (score (1,), p_value (1,), map (1, h, w)). A picture is flagged when its p-value is at
    or below `p`; `score_threshold` is only written down, and AUPRO is taken up to a false-positive rate of `aupro_limit`. Pictures that
    cannot be read are listed as rejected; masks that cannot be used are named in the notes and leave their picture out of the pixel
    figures. Raises DataError when no picture can be read.
    """
    rows, rejected, notes = [], [], []
    pixels, shown = PixelFigures(aupro_limit), Shown()

    def judged(picture: Picture) -> tuple[tuple[int, int], str, tuple[NDArray[np.float32], ...]] | RecordError:
        try:
            raw, note = read_picture(picture.path, form)
        except RecordError as error:
            return error
        return (raw.shape[0], raw.shape[1]), note, run(raw[None])

    told = counted(pictures, part(progress, 0.0, 0.7), "labelled pictures")
    for picture, found in zip(told, on_all_cores(judged, pictures), strict=True):
        if isinstance(found, RecordError):
            rejected.append(str(found))
            continue
        size, note, (score, p_value, detail) = found
        notes += [note] if note else []
        rows.append((picture.id, picture.defect or "good", float(score[0]), float(p_value[0])))
        shown.add(picture, float(score[0]), detail[0])
        pixels.add(picture, size, detail[0])
    if not rows:
        raise DataError("none of the pictures could be read:", *rejected[:5])
    records = pd.DataFrame(rows, columns=["id", "label", "score", "p_value"])
    records["flagged"] = records["p_value"] <= p
    part(progress, 0.7, 1.0)("figures with intervals")
    figures = _picture_figures(records, p, score_threshold) | pixels.result()
    figures["rejected"] = len(rejected)
    paths = {picture.id: picture.path for picture in pictures}
    return Evaluation(figures, records, shown.maps(), rejected, paths, [*notes, *pixels.notes()])


class Shown:
    """The maps that a report shows, and no others: of defects and good parts that rank highest, and of defects that rank lowest."""

    def __init__(self) -> None:
        self._best: dict[str, list[tuple[float, str, NDArray[np.float32]]]] = {"defect": [], "missed": [], "good": []}

    def add(self, picture: Picture, score: float, detail: NDArray[np.float32]) -> None:
        """Keep a picture's map while it is among the first of its group."""
        places = {"good": score} if picture.defect is None else {"defect": score, "missed": -score}
        for group, rank in places.items():
            kept = sorted([*self._best[group], (rank, picture.id, detail)], key=lambda item: -item[0])
            self._best[group] = kept[:SHOWN]

    def maps(self) -> dict[str, NDArray[np.float32]]:
        """Those kept, by record id."""
        return {name: detail for group in self._best.values() for _, name, detail in group}


def without_duplicates(records: pd.DataFrame, near: dict[str, str]) -> dict[str, Any]:
    """How many test pictures nearly repeat a training picture (`near`: {test id: training id}), and the image AUROC without them."""
    rest = records[~records["id"].isin(near.keys())]
    labels = (rest["label"] != "good").to_numpy()
    return {
        "near_duplicates_of_training": {"n": len(near), "examples": dict(sorted(near.items())[:20])},
        "image_auroc_without_near_duplicates": metrics.auroc(labels, rest["score"].to_numpy(dtype=np.float64)),
    }


def _picture_figures(records: pd.DataFrame, p: float, score_threshold: float | None) -> dict[str, Any]:
    labels = (records["label"] != "good").to_numpy()
    scores = records["score"].to_numpy(dtype=np.float64)
    flagged = records["flagged"].to_numpy()
    rng = np.random.default_rng(0)
    groups = [np.array([i]) for i in range(len(labels))]
    figures: dict[str, Any] = {"n": len(records), "n_defect": int(labels.sum()), "threshold": score_threshold, "p_threshold": p}
    intervals: dict[str, Any] = {}
    ranked = {"image_auroc": metrics.auroc, "image_ap": metrics.average_precision, "image_f1": metrics.best_f1}
    for name, figure in ranked.items():
        figures[name] = figure(labels, scores)
        intervals[name] = metrics.interval(lambda rows, f=figure: f(labels[rows], scores[rows]), groups, rng)  # type: ignore[misc]
    figures |= _with_intervals(labels, flagged, groups, intervals, rng)
    figures["ci95"] = {name: value for name, value in intervals.items() if value is not None}
    kinds = sorted(set(records["label"]) - {"good"})
    good = ~labels
    figures["per_defect"] = {
        kind: {
            "n": int((records["label"] == kind).sum()),
            "image_auroc": metrics.auroc(labels[m], scores[m]),
            "found": float(flagged[(records["label"] == kind).to_numpy()].mean()),
        }
        for kind in kinds
        for m in [good | (records["label"] == kind).to_numpy()]
    }
    return figures


def _with_intervals(
    labels: NDArray[np.bool_],
    flagged: NDArray[np.bool_],
    groups: Sequence[NDArray[np.int64]],
    intervals: dict[str, Any],
    rng: np.random.Generator,
) -> dict[str, float]:
    """The figures of decisions. A rate of 0 or 1, which is the same in every resample, gets its exact binomial interval."""
    figures = metrics.decisions(labels, flagged)
    for name, value in figures.items():
        if value in (0.0, 1.0):
            intervals[name] = metrics.certain_interval(name, value, labels, flagged, groups)
        else:
            draw = lambda rows, n=name: metrics.decisions(labels[rows], flagged[rows]).get(n)  # noqa: E731
            intervals[name] = metrics.interval(draw, groups, rng, 200)
    return figures


def by_row(scored: pd.DataFrame, first: int, rows: int, p: float) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """(flagged, score), each (rows - first,), of the rows `first` to `rows` of a table that `score_table` scored.

    A row that ends no window is not flagged and ranks lowest.
    """
    flagged, score = np.zeros(rows, dtype=bool), np.full(rows, float(scored["score"].min()))
    at = scored["row"].to_numpy()
    flagged[at], score[at] = scored["p_value"].to_numpy() <= p, scored["score"].to_numpy()
    return flagged[first:], score[first:]


def evaluate_tables(
    run: Run,
    tables: Sequence[SensorTable],
    label: str,
    rows: int,
    p: float,
    score_threshold: float | None = None,
    first_row: int = 0,
    progress: Progress = silent,
) -> Evaluation:
    """Score labelled tables and compute row and range figures over all their rows from `first_row` on.

    `run` and `rows` are as for `score_table`; `label` names the column of 0 and 1. A row that ends no full window is not flagged
    and ranks lowest. Raises DataError for a table without that column.
    """
    parts = []
    for index, table in enumerate(tables):
        if label not in table.labels:
            raise DataError(f"{table.path}: no label column {label!r} to evaluate against; name it in [input] labels")
        share = 0.6 / len(tables)
        scored = score_table(run, table, rows, first_row, part(progress, index * share, (index + 1) * share))
        every = pd.DataFrame({"row": np.arange(first_row, len(table.times))})
        every["time"] = table.times[first_row:]
        every["label"] = table.labels[label][first_row:] > 0
        every["run"] = f"{table.path.parent.name}/{table.path.stem}"
        parts.append(every.merge(scored.drop(columns="time"), on="row", how="left"))
    records = pd.concat(parts, ignore_index=True)
    records["flagged"] = records["p_value"].fillna(1.0) <= p
    part(progress, 0.6, 1.0)("figures with intervals")
    return Evaluation(_table_figures(records, tables, rows, p, score_threshold), records, tables=list(tables))


def _table_figures(
    records: pd.DataFrame, tables: Sequence[SensorTable], window: int, p: float, score_threshold: float | None
) -> dict[str, Any]:
    labels = records["label"].to_numpy(dtype=bool)
    flagged = records["flagged"].to_numpy(dtype=bool)
    scores = records["score"].fillna(records["score"].min()).to_numpy(dtype=np.float64)
    rng = np.random.default_rng(0)
    length = 10 * window  # rows that near one another are not independent: whole blocks are drawn again
    groups = [
        block for _, run in records.groupby("run", sort=False) for block in np.array_split(run.index.to_numpy(), max(1, len(run) // length))
    ]
    intervals: dict[str, Any] = {}
    figures: dict[str, Any] = {"n": len(records), "n_anomaly": int(labels.sum()), "threshold": score_threshold, "p_threshold": p}
    figures |= _with_intervals(labels, flagged, groups, intervals, rng)
    for name, figure in {"roc_auc": metrics.auroc, "pr_auc": metrics.average_precision}.items():
        figures[name] = figure(labels, scores)
        intervals[name] = metrics.interval(lambda drawn, f=figure: f(labels[drawn], scores[drawn]), groups, rng, 200)  # type: ignore[misc]
    figures["ci95"] = {name: value for name, value in intervals.items() if value is not None}
    figures |= _range_figures(records, tables, labels, flagged, scores)
    return figures


def _range_figures(
    records: pd.DataFrame, tables: Sequence[SensorTable], labels: NDArray[np.bool_], flagged: NDArray[np.bool_], scores: NDArray[np.float64]
) -> dict[str, Any]:
    """Means and sums over runs: VUS, delay, false alarms a day, ROC-AUC run by run."""
    surfaces, delays, found, faults, false, days, aucs = [], [], 0, 0, 0.0, 0.0, {}
    for table, (name, run) in zip(tables, records.groupby("run", sort=False), strict=True):
        at = run.index.to_numpy()
        surface = vus(labels[at], scores[at])
        if surface is not None:
            surfaces.append(surface)
            aucs[str(name)] = metrics.auroc(labels[at], scores[at])
        delay, hit, there = metrics.detection_delay(run["time"].to_numpy(), labels[at], flagged[at])
        found, faults = found + hit, faults + there
        delays += [delay] if delay is not None else []
        rate = metrics.false_alarms_per_day(run["time"].to_numpy(), labels[at], flagged[at], table.period_s)
        if rate is not None:
            normal = float((~labels[at]).sum()) * table.period_s / 86_400
            false, days = false + rate * normal, days + normal
    figures: dict[str, Any] = {"faults": faults, "faults_found": found, "detection_delay_s": float(np.median(delays)) if delays else None}
    figures["false_alarms_per_day"] = false / days if days > 0 else None
    if surfaces:
        figures["vus_roc"], figures["vus_pr"] = (float(v) for v in np.mean(surfaces, axis=0))
        figures["roc_auc_by_run"] = aucs
    return figures
