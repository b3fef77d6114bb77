"""Readings over time: how unusual each moment is, what was flagged, what became an alarm, and the sensors it comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from anomaly.data.clock import moment
from anomaly.data.tables.reader import SensorTable
from anomaly.data.tables.units import with_unit
from anomaly.evaluation.figures import Evaluation
from anomaly.evaluation.metrics import runs
from anomaly.evaluation.report.drawing import (
    FAINT,
    FAULT,
    FLAG,
    INK,
    NORMAL,
    as_plot,
    fit_left,
    hover_of,
    in_lines,
    on_axis,
    styled,
    thinned,
    time_axis,
)
from anomaly.evaluation.report.page import Plot
from anomaly.rarity import rarity

SENSORS = 10  # shown at most
EVENTS = 3  # worst misses and false alarms shown
AROUND = 60  # rows shown before and after a moment, at least
RAREST = 1e-6  # p-values are drawn down to it

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Stretch:
    """A stretch of readings (n, C) at `times` (n,) in s, with p-values (n,), NaN where there is none, and each sensor's share (n, C).

    `faulty` (n,): rows of labelled faults. `alarms`: (first, last) second of each. `zone`: in which people there read the clock. `least`:
    the smallest p-value that the normals can tell.
    """

    times: Floats
    readings: NDArray[np.floating[Any]]
    p_values: Floats
    shares: Floats
    names: tuple[str, ...]
    units: tuple[str, ...]
    faulty: NDArray[np.bool_] | None = None
    alarms: tuple[tuple[float, float], ...] = ()
    zone: str = ""
    least: float = 0.0

    def cut(self, first: int, last: int) -> Stretch:
        """Rows `first` to `last` (exclusive)."""
        rows = slice(max(0, first), last)
        return replace(
            self,
            times=self.times[rows],
            readings=self.readings[rows],
            p_values=self.p_values[rows],
            shares=self.shares[rows],
            faulty=None if self.faulty is None else self.faulty[rows],
        )

    def top(self, most: int, first: int = 0, last: int | None = None) -> list[int]:
        """The sensors with the largest shares in rows `first` to `last`, the largest first."""
        known = np.nan_to_num(self.shares[first:last])
        return [int(i) for i in np.argsort(-known.sum(axis=0), kind="stable")[:most]] if len(known) else list(range(most))


def stretch_of(
    table: SensorTable, scored: pd.DataFrame, least: float, alarms: Sequence[tuple[float, float]] = (), label: str = ""
) -> Stretch:
    """A table with the scores of its windows (columns `row`, `p_value` and `share:SENSOR`, as `score_table` gives them)."""
    names = tuple(channel.name for channel in table.channels)
    rows = len(table.times)
    p_values, shares = np.full(rows, np.nan), np.full((rows, len(names)), np.nan)
    at = scored["row"].to_numpy()
    p_values[at] = scored["p_value"].to_numpy(dtype=np.float64)
    parts = scored[[f"share:{name}" for name in names]].to_numpy(dtype=np.float64)
    shares[at] = parts / np.maximum(np.nansum(parts, axis=1, keepdims=True), 1e-12)
    values = table.readings + np.array([channel.offset for channel in table.channels])
    faulty = table.labels[label] > 0 if label else None
    units = tuple(channel.unit for channel in table.channels)
    return Stretch(table.times, values, p_values, shares, names, units, faulty, tuple(alarms), table.dialect.zone, least)


def stretch_figure(
    stretch: Stretch, threshold: float, sensors: Sequence[int], title: str = "", focus: tuple[float, float] | None = None
) -> tuple[Figure, str]:
    """How unusual each moment is (1 normal record in so many), with what was flagged and what became an alarm, and these sensors below.

    Returns the figure and what it shows under the pointer, as JSON. Labelled faults are shaded. The sensors' shares are those of the time
    in `focus`, (first, last) in s, all of it when None.
    """
    with styled():
        high = 1.75 + 0.72 * len(sensors)
        figure = Figure(figsize=(9.5, high))
        figure.subplots_adjust(left=0.17, right=0.985, top=1 - 0.27 / high, bottom=0.47 / high)
        axes = np.atleast_1d(figure.subplots(1 + len(sensors), 1, sharex=True, height_ratios=[1.7, *([0.8] * len(sensors))]))
        x = on_axis(stretch.times)
        _draw_rarity(axes[0], x, stretch, threshold)
        looked_at = slice(None) if focus is None else (stretch.times >= focus[0]) & (stretch.times <= focus[1])
        totals = np.nansum(stretch.shares[looked_at], axis=0) / max(float(np.nansum(stretch.shares[looked_at])), 1e-12)
        for one, index in zip(axes[1:], sensors, strict=True):
            one.plot(*thinned(x, np.asarray(stretch.readings[:, index], dtype=np.float64)), color=INK, linewidth=0.7)
            name = in_lines(with_unit(stretch.names[index], stretch.units[index]))
            one.set_ylabel(f"{name}\n{100 * totals[index]:.0f} % of the score", rotation=0, ha="right", va="center", fontsize=8)
            one.ticklabel_format(axis="y", useOffset=False)
            one.tick_params(labelsize=7)
        for first, last in runs(stretch.faulty) if stretch.faulty is not None else []:
            for one in axes:
                one.axvspan(x[first], x[last - 1], color=FAULT, alpha=0.22, linewidth=0)
        axes[0].set_xlim(x[0], max(x[-1], x[0] + 1e-9))
        axes[0].set_title(title, loc="left", fontsize=9)
        time_axis(axes[-1], stretch.times, stretch.zone)
        figure.align_ylabels()
        fit_left(figure)
        bound = _bound(stretch, threshold)
        told = np.maximum(stretch.p_values, bound)
        rows = [(f"p-value (told from {bound:.2g})" if (told > stretch.p_values).any() else "p-value", "", told)]
        rows += [(stretch.names[i], stretch.units[i], np.asarray(stretch.readings[:, i], dtype=np.float64)) for i in sensors]
        return figure, hover_of(axes[0], stretch.times, rows, stretch.zone)


def plot_stretch(stretch: Stretch, threshold: float, sensors: Sequence[int], title: str, focus: tuple[float, float] | None = None) -> Plot:
    """The same as a plot of a page."""
    figure, hover = stretch_figure(stretch, threshold, sensors, focus=focus)
    with styled():
        return as_plot(title, f"{title}: how unusual each moment is, and the sensors", figure, wide=True, hover=hover)


def _bound(stretch: Stretch, threshold: float) -> float:
    """The smallest p-value that is drawn."""
    return max(min(stretch.least, threshold), RAREST)


def _draw_rarity(axes: Any, x: Floats, stretch: Stretch, threshold: float) -> None:
    """One normal record in so many: upwards is more unusual, as far as the normals can tell."""
    bound = _bound(stretch, threshold)
    one_in = 1 / np.clip(stretch.p_values, bound, 1)
    axes.plot(*thinned(x, one_in), color=NORMAL, linewidth=0.8)
    axes.set_yscale("log")
    top = max(float(np.nanmax(one_in, initial=1.0)), 1 / threshold) * 3
    axes.set_ylim(0.9, top)
    axes.axhline(1 / threshold, color=INK, linestyle="--", linewidth=0.8)
    beyond = bool((stretch.p_values < bound).any())
    if beyond:
        axes.axhline(1 / bound, color=FAINT, linestyle=":", linewidth=0.8)
    period = float(np.median(np.diff(x))) if len(x) > 1 else 0.0
    least = max(period, 0.0015 * float(x[-1] - x[0]))  # so wide that it can be seen
    flagged = runs(np.nan_to_num(stretch.p_values, nan=1.0) <= threshold)
    axes.broken_barh([(x[a], max(least, x[b - 1] - x[a])) for a, b in flagged], (0.9, 0.5), color=FLAG, linewidth=0)
    spans = on_axis(np.array([*stretch.times[:1], *(end for span in stretch.alarms for end in span)]))[1:].reshape(-1, 2)
    axes.broken_barh([(a, max(least, b - a)) for a, b in spans if b >= x[0] and a <= x[-1]], (top / 1.7, top), color=FLAG, linewidth=0)
    most = f"\ndotted: {rarity(bound)[1]} or more" if beyond else ""  # the normals tell no more
    axes.set_ylabel(f"unusual as\n1 normal in{most}", rotation=0, ha="right", va="center", fontsize=8)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.tick_params(labelsize=7, axis="y")


COLORS = (
    ("normal", "how unusual each moment is (upwards: more)"),
    ("flag", "flagged (below) and alarms after the alarm rules (above)"),
    ("fault", "labelled fault"),
)


@dataclass
class _Events:
    """What a report shows close up: (how bad, run, first row, row after the last, in words)."""

    missed: list[tuple[float, Stretch, int, int, str]] = field(default_factory=list)
    false: list[tuple[float, Stretch, int, int, str]] = field(default_factory=list)


def plot_tables(evaluation: Evaluation, tables: Sequence[SensorTable], label: str, threshold: float, least: float) -> list[Plot]:
    """Each table as a whole, then the faults that were missed most and the alarms while nothing was wrong, close up."""
    plots, events = [], _Events()
    for table in tables:
        name = f"{table.path.parent.name}/{table.path.stem}"
        scored = evaluation.records[evaluation.records["run"] == name]
        whole = stretch_of(table, scored[scored["p_value"].notna()], least, evaluation.alarms.get(name, ()), label)
        plots.append(plot_stretch(whole, threshold, whole.top(SENSORS), name))
        _collect(events, whole, threshold, name)
    for found in (events.missed, events.false):
        for _, stretch, start, stop, what in sorted(found, key=lambda item: item[0])[:EVENTS]:
            around = max(AROUND, stop - start)
            part = stretch.cut(start - around, stop + around)
            focus = (float(stretch.times[start]), float(stretch.times[min(stop, len(stretch.times)) - 1]))
            plots.append(plot_stretch(part, threshold, stretch.top(2, start, stop), what, focus))
    return plots


def _collect(events: _Events, whole: Stretch, threshold: float, name: str) -> None:
    assert whole.faulty is not None
    flagged = np.nan_to_num(whole.p_values, nan=1.0) <= threshold
    for start, stop in runs(whole.faulty):
        share = float(flagged[start:stop].mean())
        if share < 1:
            said = "missed, none of its rows is flagged" if share == 0 else f"{100 * share:.0f} % of its rows are flagged"
            events.missed.append((share, whole, start, stop, f"Fault: {said}; {moment(whole.times[start], whole.zone)}, {name}"))
    for opened, closed in whole.alarms:
        start, stop = int(np.searchsorted(whole.times, opened)), int(np.searchsorted(whole.times, closed, "right"))
        if start < len(whole.times) and not whole.faulty[start]:
            events.false.append((-1.0, whole, start, stop, f"False alarm: {moment(whole.times[start], whole.zone)}, {name}"))
    for start, stop in runs(flagged):
        if not whole.faulty[start:stop].any() and not any(a <= whole.times[start] <= b for a, b in whole.alarms):
            worst = float(np.nanmin(whole.p_values[start:stop]))
            rows = "1 row" if stop - start == 1 else f"{stop - start} rows"
            said = f"Flagged while nothing is labelled: {rows} from {moment(whole.times[start], whole.zone)}, {name}"
            events.false.append((worst, whole, start, stop, said))
