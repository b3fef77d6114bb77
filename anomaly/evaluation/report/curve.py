"""A learning curve as one self-contained page: accuracy against the number of normals, with a transfer and without."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter
from scipy.stats import t as student

from anomaly import __version__
from anomaly.evaluation.report.drawing import FAINT, FLAG, INK, NORMAL, as_plot, styled
from anomaly.evaluation.report.page import Cell, Page, Plot, Section, Table, write_page
from anomaly.evaluation.transfer import ALONE


def curve_table(curve: pd.DataFrame) -> pd.DataFrame:
    """Mean and 95 % interval (Student's t over seeds; NaN for one run) of every method (column `way`) at every number of normals."""
    rows = []
    for _, part in curve.groupby(["way", "normals"], sort=True):
        values, half = part["auroc"].to_numpy(dtype=np.float64), float("nan")
        if len(values) > 1:
            half = float(student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5)
        mean, way, normals = float(values.mean()), part["way"].iloc[0], int(part["normals"].iloc[0])
        low, high = np.clip([mean - half, mean + half], 0.0, 1.0)
        rows.append({"way": way, "normals": normals, "auroc": mean, "low": float(low), "high": float(high)})
    return pd.DataFrame(rows)


def equal_to(table: pd.DataFrame, way: str, normals: int) -> int | None:
    """The fewest normals with which the target alone is at least as good as the method is with `normals`; None when it never is."""
    reached = float(table[(table["way"] == way) & (table["normals"] == normals)]["auroc"].iloc[0])
    enough = table[(table["way"] == ALONE) & (table["auroc"] >= reached)]
    return int(enough["normals"].min()) if len(enough) else None


def write_curve(curve: pd.DataFrame, title: str, path: Path, unit: str = "normals", figure: str = "image AUROC") -> None:
    """Write the page atomically. `curve` has a row a run: way, normals (counted in `unit`), seed, auroc (called `figure`)."""
    table = curve_table(curve)
    rows = tuple(
        (
            Cell(f"{row['normals']}", "n"),
            Cell(row["way"]),
            Cell(f"{row['auroc']:.4f}", "n"),
            Cell(f"{row['low']:.4f} to {row['high']:.4f}" if row["low"] == row["low"] else "one run", "n"),
        )
        for row in table.to_dict("records")
    )
    head = (f"{unit.capitalize()} to learn from", "Way", f"{figure[0].upper()}{figure[1:]}", "95 % interval")
    section = Section("The curve", (_plot(table, unit, figure), Table(rows, head, first_is_number=True)))
    made = ("Made", f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC by anomaly-pipeline {__version__}")
    write_page(Page(title, "accuracy against the number of normals", (_words(table, unit),), (section,), (made,)), path)


def _words(table: pd.DataFrame, unit: str) -> str:
    way = next(w for w in table["way"].unique() if w != ALONE)
    size = min(table[table["way"] == way]["normals"], key=lambda n: abs(n - 20))
    equal = equal_to(table, way, size)
    most = int(table["normals"].max())
    needed = f"needs {equal} {unit}" if equal is not None else f"does not get there with {most} {unit}"
    return f"To be as good as {way} is with {size} {unit}, the target alone {needed}."


def _plot(table: pd.DataFrame, unit: str, figure_name: str) -> Plot:
    with styled():
        figure = Figure(figsize=(6, 3.4))
        axes = figure.subplots()
        for way, color in zip(sorted(table["way"].unique(), key=lambda w: w == ALONE), (NORMAL, FLAG, INK, FAINT), strict=False):
            part = table[table["way"] == way]
            axes.plot(part["normals"], part["auroc"], marker="o", color=color, label=way)
            axes.fill_between(part["normals"], part["low"], part["high"], color=color, alpha=0.15)
        axes.set_xscale("log")
        axes.set_xticks(sorted(table["normals"].unique()))
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.minorticks_off()
        axes.set(xlabel=f"{unit} to learn from", ylabel=figure_name)
        axes.legend()
        alt = f"{figure_name} against the number of {unit}, with the transfer and without"
        return as_plot("Mean over seeds, 95 % interval shaded", alt, figure)
