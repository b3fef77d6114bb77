"""Plots of scores: how far faults lie from normals, how they are ranked, and whether p-values hold what they promise."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve, roc_curve

from anomaly.evaluation.figures import Evaluation
from anomaly.evaluation.report.drawing import FAINT, FAULT, INK, NORMAL, as_plot, styled
from anomaly.evaluation.report.page import Plot

BARS = 60  # of a histogram
FAR = 4.0  # times as far as the threshold lies from the lowest score, a histogram reaches at most


def faulty_rows(records: pd.DataFrame) -> pd.Series[bool]:
    """Which records are faulty: pictures are labelled by kind, rows of a table by True."""
    label = records["label"]
    return label if label.dtype == bool else label != "good"


def scores_figure(normal: NDArray[np.float64], faulty: NDArray[np.float64], threshold: float | None) -> Figure:
    """Histogram of scores of normals (n,) and of faults (m,), with the threshold. What lies far out is drawn at the edge."""
    every = np.concatenate([normal, faulty])
    low, top = float(every.min()), _drawn_to(every, threshold)
    bins = _edges(low, top, threshold)
    with styled():
        figure = Figure(figsize=(5.4, 2.7))
        axes = figure.subplots()
        for scores, name, color in ((normal, "normal", NORMAL), (faulty, "faulty", FAULT)):
            if len(scores):
                axes.hist(
                    np.minimum(scores, (bins[-2] + bins[-1]) / 2),
                    bins=bins.tolist(),
                    alpha=0.7,
                    label=f"{name} ({len(scores):,})",
                    color=color,
                )
        if threshold is not None:
            axes.axvline(threshold, color=INK, linestyle="--", linewidth=1, label="threshold: flagged right of it")
        last = f"\nthe last bar holds all from {bins[-2]:.3g} on, the highest {float(every.max()):.3g}" if every.max() > bins[-1] else ""
        axes.set(xlabel=f"score{last}", ylabel="records")
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        if len(every) > 5000:
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(FuncFormatter(_plain))
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0.2)  # above: inside it would hide bars or the line
    return figure


def _drawn_to(scores: NDArray[np.float64], threshold: float | None) -> float:
    """Up to which score (n,) a histogram is drawn: so far that the normals are more than a few bars, though faults may lie far beyond.

    >>> _drawn_to(np.array([0.0, 0.5, 1.0, 400.0]), 1.2)
    4.8
    >>> _drawn_to(np.array([0.0, 2.0]), None) > 2.0
    True
    """
    low = float(scores.min())
    far = 1.02 * (float(np.quantile(scores, 0.995)) - low)
    if threshold is not None and threshold > low:
        far = max(1.08 * (threshold - low), min(far, FAR * (threshold - low)))
    return low + (far or 1.0)


def _edges(low: float, top: float, threshold: float | None) -> NDArray[np.float64]:
    """Edges of bars from `low` to `top` and a little beyond, one of them at the threshold, so that no bar holds flagged and others.

    >>> edges = _edges(0.0, 4.8, 1.2)
    >>> bool(edges[0] <= 0.0 and edges[-1] >= 4.8), bool((edges == 1.2).any())
    (True, True)
    """
    step = (top - low) / BARS
    at = low if threshold is None or not low < threshold < top else threshold
    return at + step * np.arange(-np.ceil((at - low) / step - 1e-9), np.ceil((top - at) / step - 1e-9) + 1)


def _plain(value: float, at: float | None = None) -> str:
    """A mark of a logarithmic axis; powers as Matplotlib writes them are TeX, which a report leaves as typed.

    >>> _plain(0.0001), _plain(1000.0)
    ('0.0001', '1000')
    """
    return f"{value:g}"


def plot_scores(evaluation: Evaluation, threshold: float | None) -> Plot:
    """Histogram of the scores of labelled records."""
    figure = figure_of(evaluation, threshold)
    with styled():
        return as_plot("Scores", "Histogram of scores of normal and faulty records with the threshold", figure)


def figure_of(evaluation: Evaluation, threshold: float | None) -> Figure:
    """The histogram of the scores of labelled records, as a figure."""
    records = evaluation.records.dropna(subset=["score"])
    faulty = faulty_rows(records).to_numpy(dtype=bool)
    scores = records["score"].to_numpy(dtype=np.float64)
    return scores_figure(scores[~faulty], scores[faulty], threshold)


def plot_curves(evaluation: Evaluation) -> Plot | None:
    """What other thresholds would give: faults found against normals flagged, and against how many of the flagged are faulty."""
    records = evaluation.records.dropna(subset=["score"])
    faulty = faulty_rows(records)
    if not faulty.any() or faulty.all():
        return None
    labels, scores = faulty.to_numpy(dtype=bool), records["score"].to_numpy(dtype=np.float64)
    false, true, _ = roc_curve(labels, scores)
    precision, recall, _ = precision_recall_curve(labels, scores)
    flagged = records["flagged"].to_numpy(dtype=bool)
    with styled():
        figure = Figure(figsize=(9.5, 3.2))
        left, right = figure.subplots(1, 2)
        left.plot(false, true, color=INK)
        left.plot([0, 1], [0, 1], color=FAINT, linestyle=":", linewidth=0.8)
        left.plot([flagged[~labels].mean()], [flagged[labels].mean()], "o", color=INK, label="the threshold in use")
        left.set(xlabel="share of normals flagged", ylabel="share of faults flagged", title="ROC")
        left.legend(loc="lower right")
        right.plot(recall, precision, color=INK)
        if flagged.any():
            right.plot([flagged[labels].mean()], [labels[flagged].mean()], "o", color=INK)
        right.set(xlabel="share of faults flagged (recall)", ylabel="precision", title="Precision and recall", ylim=(0, 1.03))
        figure.tight_layout()
        return as_plot("What other thresholds would give", "ROC curve and precision-recall curve", figure, wide=True)


def plot_calibration(evaluation: Evaluation) -> Plot | None:
    """Share of normal records at or below each p-value: on or under the diagonal the p-values hold what they promise."""
    records = evaluation.records.dropna(subset=["p_value"])
    p_values = np.sort(records.loc[~faulty_rows(records), "p_value"].to_numpy())
    if len(p_values) < 5:
        return None
    with styled():
        figure = Figure(figsize=(4.2, 3))
        axes = figure.subplots()
        axes.plot([1e-4, 1], [1e-4, 1], color=INK, linestyle="--", label="promised", linewidth=1)
        share = np.arange(1, len(p_values) + 1) / len(p_values)
        axes.step(np.clip(p_values, 1e-4, 1), share, where="post", color=NORMAL, label="seen on normals")
        axes.set(xscale="log", yscale="log", xlabel="p-value", ylabel="share of normal records")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(FuncFormatter(_plain))
        axes.legend()
        return as_plot(
            "Do the p-values hold? Seen should lie on the line or below", "Share of normal records at or below each p-value", figure
        )
