"""What the report of a sensors' fit shows: the record with its held-out scores, the highest close up, made-up faults, and what speaks."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from anomaly.alarms.replay import Run, alarm_spans, replay
from anomaly.bundle.archive import Bundle
from anomaly.data.clock import moment, span_words
from anomaly.data.tables.faults import KINDS, SHAPES
from anomaly.data.tables.files import label_of
from anomaly.data.tables.units import with_unit
from anomaly.edge.kinds import rules_of
from anomaly.edge.runtime.session import Session
from anomaly.errors import DataError
from anomaly.evaluation.figures import Evaluation
from anomaly.evaluation.report.detector import number, percent
from anomaly.evaluation.report.drawing import FAINT, FAULT, NORMAL, as_plot, fit_left, in_lines, styled
from anomaly.evaluation.report.page import Block, Cell, Legend, Table, Words, anchor_of
from anomaly.evaluation.report.series import AROUND, Stretch, plot_stretch, plot_tables, stretch_of
from anomaly.pipeline.fitted import Fitted
from anomaly.pipeline.report.fitted import FitBlocks
from anomaly.pipeline.sensor.bundle import with_alarms
from anomaly.pipeline.sensor.line import SensorLine
from anomaly.rarity import least_p, rarity
from anomaly.schema import DAY_S, Channel
from anomaly.scorers.sensors.views import NAMES

TABLES, HIGHEST = 3, 4  # tables shown as a whole, and stretches close up
SENSORS = 4  # in a plot of a whole table
TIMED = 30  # windows that the cost of one is taken from

Scores = NDArray[np.float64]
COLORS = (
    ("normal", "how unusual each moment is, held out (upwards: more)"),
    ("flag", "flagged (below), alarms after the alarm rules (above)"),
)


def fit_blocks(line: SensorLine, fitted: Fitted, bundle: Bundle, session: Session, p_of: Any, evaluation: Evaluation | None) -> FitBlocks:
    """What there is to show. `p_of` gives the p-values of scores (n,)."""
    report, threshold = bundle.manifest.provenance["fit"], bundle.manifest.threshold.p_value
    score = bundle.manifest.threshold.score
    assert score is not None
    if evaluation is not None:
        with_alarms(evaluation, bundle)
    rules = rules_of(bundle.manifest, bundle.hash)
    stretches, runs = _stretches(line, fitted, p_of)
    stretches = [replace(stretch, alarms=tuple(alarm_spans(rules, run))) for stretch, run in zip(stretches, runs, strict=True)]
    figures = replay(rules, [run for run in runs if len(run.times)])
    alarms = "1 alarm" if figures["alarms"] == 1 else f"{figures['alarms']} alarms"
    held_out = f"With the alarm rules on, these normals make {alarms} in {span_words(DAY_S * figures['normal_days'])}."
    return FitBlocks(
        read=tuple(report.get("tables", ())),
        highest=_highest(line, fitted, stretches, threshold),
        made_up=_made_up(line, fitted, score),
        speaks=_speaks(fitted, score),
        labelled=_labelled(line, evaluation, threshold, bundle.manifest.least_p),
        cost=_cost(line, session),
        held_out=held_out,
    )


def _stretches(line: SensorLine, fitted: Fitted, p_of: Callable[[Scores], Scores]) -> tuple[list[Stretch], list[Run]]:
    """Each table of the line with the held-out scores of its windows, as it is drawn and as the alarm rules take it."""
    reference, window = fitted.reference, line.readings.window
    places = reference["place"].to_numpy().astype(np.int64)
    p_values = p_of(reference["score"].to_numpy(dtype=np.float64))
    shares = reference.filter(like="share:")
    offset, stretches, runs = 0, [], []
    for table in line.readings.tables:
        own = (places >= offset) & (places < offset + len(table.times))
        scored = pd.concat(
            [pd.DataFrame({"row": places[own] - offset, "p_value": p_values[own]}), shares[own].reset_index(drop=True)], axis=1
        )
        at = scored["row"].to_numpy()
        parts = shares[own].to_numpy(np.float32)
        runs.append(Run(table.times[at], p_values[own].astype(np.float32), reference["score"].to_numpy(np.float32)[own], parts))
        stretches.append(_filled(stretch_of(table, scored, least_p(fitted.effective))))
        offset += len(table.times) + 2 * window
    return stretches, runs


def _filled(stretch: Stretch) -> Stretch:
    """Where only every few windows were scored, rows between take the p-value before them, so that a line can be drawn."""
    p = pd.Series(stretch.p_values)
    step = max(1, round(len(p) / max(1, int(p.notna().sum()))))
    stretch.p_values[:] = p.ffill(limit=step).to_numpy() if step > 1 else stretch.p_values
    return stretch


def _highest(line: SensorLine, fitted: Fitted, stretches: list[Stretch], threshold: float) -> tuple[Block, ...]:
    """The record as a whole, and the windows with the highest held-out scores close up, those apart from each other."""
    violet = any(stretch.alarms or (stretch.p_values <= threshold).any() for stretch in stretches)  # what is not drawn is not explained
    blocks: list[Block] = [Legend(COLORS if violet else COLORS[:1])]
    for stretch, table in zip(stretches[:TABLES], line.readings.tables, strict=False):
        whole = plot_stretch(stretch, threshold, stretch.top(SENSORS), f"{table.path.name}: what was learnt from")
        blocks.append(replace(whole, anchor=anchor_of(table.path.name)))  # for suspects that are not drawn close up
    window = line.readings.window
    found = [(p, at, row) for at, stretch in enumerate(stretches) for p, row in _apart(stretch.p_values, 2 * window)]
    for p, at, row in sorted(found)[:HIGHEST]:
        stretch, table = stretches[at], line.readings.tables[at]
        top = stretch.top(2, row, row + 1)
        around = max(AROUND, 2 * window)
        name = f"{table.path.name}, {moment(stretch.times[row], stretch.zone)}: {_rare(p, fitted.effective)}"
        plot = plot_stretch(stretch.cut(row - around, row + around), threshold, top, name, (stretch.times[row],) * 2)
        blocks.append(replace(plot, anchor=_suspect_at(fitted.report.get("suspects", {}), table.path.name, row + 1)))
    return tuple(blocks)


def _suspect_at(suspects: Iterable[str], table: str, row: int) -> str:
    """The anchor of the suspect that holds a data row of a table, "" where none does.

    >>> name = "a.csv, 2026-01-05 13:22:15 UTC to 2026-01-05 13:22:50 UTC (data rows 8 to 15)"
    >>> _suspect_at([name], "a.csv", 9) == anchor_of(name), _suspect_at([name], "a.csv", 16)
    (True, '')
    """
    for name in suspects:
        rows = re.search(r"\(data rows? (\d+)(?: to (\d+))?\)$", name)
        if rows and name.startswith(f"{table}, ") and int(rows[1]) <= row <= int(rows[2] or rows[1]):
            return anchor_of(name)
    return ""


def _rare(p_value: float, normals: float) -> str:
    """How unusual a moment is, by so many unrelated ones.

    >>> _rare(0.001, 500.0), _rare(1e-6, 500.0)
    ('unusual as about 1 normal moment in 1,000', 'rarer than 1 normal moment in 5,000')
    """
    bound, many = rarity(p_value, least_p(normals))
    return f"{'rarer than' if bound else 'unusual as about'} 1 normal moment in {many}"


def _apart(p_values: Scores, rows: int) -> list[tuple[float, int]]:
    """(p-value, row) of the few smallest p-values (n,) that lie so many rows apart.

    >>> _apart(np.array([0.5, 0.01, 0.02, np.nan, 0.3]), 2)
    [(0.01, 1), (0.3, 4)]
    """
    left = np.where(np.isnan(p_values), 2.0, p_values)
    found: list[tuple[float, int]] = []
    while len(found) < HIGHEST and left.size and left.min() <= 1.0:
        at = int(left.argmin())
        found.append((float(p_values[at]), at))
        left[max(0, at - rows) : at + rows + 1] = 2.0
    return found


def one_found_one_missed(kinds: Sequence[int], scores: Scores, threshold: float) -> list[tuple[int | None, int | None]]:
    """Of each kind of faults (n,) a usual one that scores at or above the threshold, and a usual one below; None where there is none.

    >>> one_found_one_missed([0, 0, 0, 1], np.array([1.0, 5.0, 7.0, 2.0]), 5.0)
    [(2, 0), (None, 3)]
    """
    chosen: list[tuple[int | None, int | None]] = []
    for kind in sorted(set(kinds)):
        own = [i for i in np.argsort(scores, kind="stable").tolist() if kinds[i] == kind]
        found, missed = ([i for i in own if (scores[i] >= threshold) == hit] for hit in (True, False))
        chosen.append((found[len(found) // 2] if found else None, missed[len(missed) // 2] if missed else None))
    return chosen


def _made_up(line: SensorLine, fitted: Fitted, threshold: float) -> tuple[Block, ...]:
    """Of each kind of made-up fault one that is found and one that is missed."""
    shown = fitted.shown
    if "fault_kinds" not in shown or not len(shown["fault_kinds"]):
        return ()
    names = [kind.replace("_", " ") for kind in (*KINDS, *SHAPES)]
    windows, kinds = shown["fault_windows"].numpy(), shown["fault_kinds"].tolist()
    table = line.readings.tables[0]
    pairs = one_found_one_missed(kinds, shown["fault_scores"].numpy(), threshold)
    with styled():
        high = 1.2 * len(pairs)
        figure = Figure(figsize=(8.4, high))
        figure.subplots_adjust(left=0.08, right=0.99, top=1 - 0.25 / high, bottom=0.3 / high, hspace=0.45, wspace=0.2)
        figure.supxlabel(f"time within a window of {span_words(windows.shape[2] * table.period_s)}", fontsize=8, y=0.04 / high)
        for row, pair in zip(figure.subplots(len(pairs), 2, squeeze=False), pairs, strict=True):
            kind = names[kinds[next(i for i in pair if i is not None)]]
            for axes, i, state in zip(row, pair, ("found", "missed"), strict=True):
                if i is None:
                    axes.axis("off")
                    axes.set_title(f"{kind}: none is {state}", fontsize=8, loc="left", color=FAINT)
                else:
                    _draw_fault(axes, windows[i], table.channels, kind, state)
        fit_left(figure)
        title = "Made-up faults, one found (left) and one missed (right) of each kind"
        plot = as_plot(title, "Readings of a window without and with a made-up fault", figure, wide=True, tight=False)
    return Legend((("normal", "as it was"), ("fault", "with the made-up fault"))), plot


def _draw_fault(axes: Any, window: NDArray[np.floating[Any]], channels: Sequence[Channel], kind: str, state: str) -> None:
    """The sensor of a window (2, T, C), as it was and with a made-up fault, that the fault has changed most."""
    clean, faulty = window
    changed = np.nan_to_num(np.abs(faulty - clean)).sum(axis=0) / (np.nanstd(clean, axis=0) + 1e-9)
    sensor = int(changed.argmax())
    channel = channels[sensor]
    axes.plot(faulty[:, sensor] + channel.offset, color=FAULT, linewidth=1.2)
    axes.plot(clean[:, sensor] + channel.offset, color=NORMAL, linewidth=1)
    name = in_lines(with_unit(channel.name, f"in {channel.unit}" if channel.unit else ""), wide=38, most=1)
    axes.set_title(f"{kind} on {name}: {state}", fontsize=8, loc="left", fontweight="bold" if state == "missed" else "normal")
    axes.ticklabel_format(axis="y", useOffset=False)
    axes.tick_params(labelsize=7)
    axes.set_xticks([])
    axes.yaxis.set_major_locator(MaxNLocator(3))


def _speaks(fitted: Fitted, threshold: float) -> tuple[Block, ...]:
    """Which views speak, and which sensors, where normals score highest."""
    blocks: list[Block] = []
    shown = fitted.shown
    if "normals_speak" in shown and len(shown["normals_speak"]) > 1 and len(shown["faults_speak"]):
        normals, (scores, views) = shown["normals_speak"].numpy(), shown["faults_speak"].numpy().T
        faults = np.bincount(views[scores >= threshold].astype(np.int64), minlength=len(normals))
        both = [counts / max(1.0, float(counts.sum())) for counts in (faults, normals)]
        rows = tuple((Cell(name), *(Cell(percent(float(shares[at])), "n") for shares in both)) for at, name in enumerate(NAMES))
        words = "Of each window the view speaks that stands out more: level (how high, how wide, how sensors go together) or shape."
        blocks += [Words((words,)), Table(rows, ("View", "of made-up faults found", "of the highest normals"))]
    shares = fitted.reference.filter(like="share:")
    if shares.shape[1]:
        high = fitted.reference["score"] >= fitted.reference["score"].quantile(0.95)
        parts = [shares.div(shares.sum(axis=1).clip(lower=1e-12), axis=0)]
        parts.append(parts[0][high])
        every, top = (part.mean().sort_values(ascending=False) for part in parts)
        rows = tuple(
            (
                Cell(str(name).removeprefix("share:")),
                Cell(percent(float(value)), "n", float(value)),
                Cell(percent(float(every[str(name)])), "n"),
            )
            for name, value in top.items()
        )
        title = "Which sensors the scores of normals come from"
        blocks.append(Table(rows, ("Sensor", "in the highest twentieth", "in all windows"), title))
    return tuple(blocks)


def _labelled(line: SensorLine, evaluation: Evaluation | None, threshold: float, least: float) -> tuple[Block, ...]:
    if evaluation is None or not evaluation.tables:
        return ()
    label = label_of(evaluation.tables[0]) or ""
    return Legend(), *plot_tables(evaluation, evaluation.tables[:TABLES], label, threshold, least)


def _cost(line: SensorLine, session: Session) -> str:
    """How long a window takes, in a sentence."""
    try:
        windows = line.readings.normals.windows[:TIMED]
    except DataError:  # too few of its own, with those of another machine lent
        return ""
    took = []
    for window in windows:
        began = time.perf_counter()
        session.run(window[None])
        took.append(time.perf_counter() - began)
    milliseconds = number(1000 * float(np.median(took)))
    return f"A window takes {milliseconds} ms here (median), on {session.where}. `anomaly bench` measures it in full."
