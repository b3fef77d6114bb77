"""The report's pictures of series: p-value, contributions and sensors over time, and the worst misses and false alarms close up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from anomaly.data.tables.reader import SensorTable
from anomaly.evaluation.figures import Evaluation
from anomaly.evaluation.metrics import runs
from anomaly.evaluation.report.page import BAD, GOOD, LINE, Plot, as_plot

SENSORS = 10  # shown at most
EVENTS = 3  # worst misses and false alarms shown
CALM = 0.5  # a p-value that half of all normal windows lie above: before it fell below, nothing had begun


def plot_series(evaluation: Evaluation, table: SensorTable) -> Plot:
    """p-value with what was flagged, each sensor's share, and the raw sensors below; faulty stretches shaded."""
    run = _run_of(evaluation, table)
    shown = min(table.readings.shape[1], SENSORS)
    figure = Figure(figsize=(11, 3.4 + 0.75 * shown))
    axes = figure.subplots(shown + 2, 1, sharex=True, height_ratios=[2.2, 1.4, *([0.75] * shown)])
    hours = (table.times - table.times[0]) / 3600
    at = run["row"].to_numpy()
    _draw_p(axes[0], hours[at], run, evaluation.figures["p_threshold"])
    shares, names = _shares(run, table)
    axes[1].imshow(
        shares[:, :shown].T,
        aspect="auto",
        cmap="magma_r",
        vmin=0,
        vmax=1,
        interpolation="nearest",
        extent=(hours[at[0]], hours[at[-1]], shown, 0),
    )
    axes[1].set_yticks(np.arange(shown) + 0.5, names[:shown], fontsize=7)
    for index in range(shown):
        _draw_sensor(axes[index + 2], hours, table, index)
    for start, stop in runs(run["label"].to_numpy(dtype=bool)):
        for one in (axes[0], *axes[2:]):
            one.axvspan(hours[at[start]], hours[at[stop - 1]], color=BAD, alpha=0.18, linewidth=0)
    axes[-1].set_xlabel("hours")
    title = f"{table.path.parent.name}/{table.path.stem}: p-value, contributions and sensors (labelled faults shaded)"
    return as_plot(title, "p-value over time with flags, each sensor's share, and the raw sensors", figure)


def plot_events(evaluation: Evaluation, tables: Sequence[SensorTable]) -> list[Plot]:
    """The worst misses (faults least flagged) and the worst false alarms (most certain flags outside a fault), each close up."""
    missed: list[tuple[float, SensorTable, int, int, str]] = []
    false: list[tuple[float, SensorTable, int, int, str]] = []
    for table in tables:
        run = _run_of(evaluation, table)
        flagged, label = run["flagged"].to_numpy(dtype=bool), run["label"].to_numpy(dtype=bool)
        p = run["p_value"].fillna(1.0).to_numpy()
        for start, stop in runs(label):
            share = float(flagged[start:stop].mean())
            if share < 1:
                missed.append((share, table, start, stop, f"fault, {100 * share:.0f} % of its rows flagged"))
        for start, stop in runs(flagged & ~label):
            began = start - int(np.argmax(np.append(p[start::-1] > CALM, True)))
            false.append(
                (float(p[start:stop].min()), table, start, stop, f"flagged for {stop - start} rows, last calm {start - began} rows before")
            )
    plots = []
    for title, found in (("Faults that were missed most", missed), ("False alarms that were surest", false)):
        for _, table, start, stop, what in sorted(found, key=lambda item: item[0])[:EVENTS]:
            plots.append(_close_up(evaluation, table, start, stop, f"{title}: {what}"))
    return plots


def _close_up(evaluation: Evaluation, table: SensorTable, start: int, stop: int, title: str) -> Plot:
    """One event with as much before and after it: p-value and the two sensors that contributed most."""
    run = _run_of(evaluation, table)
    around = max(60, stop - start)
    low, high = max(0, start - around), min(len(run), stop + around)
    part = run.iloc[low:high]
    shares, names = _shares(run.iloc[start:stop], table)
    top = np.argsort(-shares.mean(axis=0))[:2]
    at = part["row"].to_numpy()
    minutes = (table.times - table.times[at[0]]) / 60
    figure = Figure(figsize=(8, 1.6 + 0.9 * len(top)))
    axes = figure.subplots(1 + len(top), 1, sharex=True)
    _draw_p(axes[0], minutes[at], part, evaluation.figures["p_threshold"])
    for one, index in zip(axes[1:], top, strict=True):
        _draw_sensor(one, minutes[at], table, int(index), at)
        one.set_ylabel(f"{names[index]}\n{100 * shares[:, index].mean():.0f} %", rotation=0, ha="right", va="center", fontsize=8)
    for one in axes:
        one.axvspan(minutes[at[start - low]], minutes[at[min(stop, high) - 1 - low]], color=BAD, alpha=0.18, linewidth=0)
    axes[-1].set_xlabel(f"minutes, {table.path.parent.name}/{table.path.stem}")
    return as_plot(title, f"{title}: p-value and the two sensors that contributed most", figure)


def _run_of(evaluation: Evaluation, table: SensorTable) -> pd.DataFrame:
    records = evaluation.records
    run: pd.DataFrame = records[records["run"] == f"{table.path.parent.name}/{table.path.stem}"]
    return run


def _shares(run: pd.DataFrame, table: SensorTable) -> tuple[NDArray[np.float64], list[str]]:
    """Each sensor's share of the score, (n, C) summing to one, and the sensors' names."""
    names = [channel.name for channel in table.channels]
    parts = run[[f"share:{name}" for name in names]].fillna(0.0).to_numpy(dtype=np.float64)
    return parts / np.maximum(parts.sum(axis=1, keepdims=True), 1e-12), names


def _draw_p(axes: Any, when: NDArray[np.float64], run: pd.DataFrame, threshold: float) -> None:
    p = run["p_value"].clip(lower=1e-12)
    axes.semilogy(when, p, color=GOOD, linewidth=0.8)
    flagged = run["flagged"].to_numpy(dtype=bool)
    axes.plot(when[flagged], p[flagged], ".", color=BAD, markersize=2)
    axes.axhline(threshold, color=LINE, linestyle="--", linewidth=0.8)
    axes.set_ylabel("p-value")


def _draw_sensor(axes: Any, when: NDArray[np.float64], table: SensorTable, index: int, rows: NDArray[np.int64] | None = None) -> None:
    values = table.readings[:, index] if rows is None else table.readings[rows, index]
    channel = table.channels[index]
    axes.plot(when, values + channel.offset, color=LINE, linewidth=0.6)
    axes.set_ylabel(f"{channel.name} {channel.unit}".strip(), rotation=0, ha="right", va="center", fontsize=8)
    axes.tick_params(labelsize=7)
