"""Matplotlib figures as SVG that takes its colors from the page, and so follows dark mode; and clock times on axes."""

from __future__ import annotations

import io
import json
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from numpy.typing import NDArray

from anomaly.data.clock import has_clock, moment, zone_of
from anomaly.evaluation.report.page import Plot
from anomaly.names import one_line
from anomaly.schema import DAY_S

mpl.use("Agg")
# One color for one thing; all can be told apart without seeing red and green. In a page they are its own, in a PNG they are these.
NORMAL, FAULT, FLAG = "#2a6f97", "#c8661d", "#7b3fa0"
INK, FAINT = "#1c1c1d", "#6b6b6c"
_COLORS = {NORMAL: "normal", FAULT: "fault", FLAG: "flag", INK: "ink", FAINT: "faint"}
_STYLE: Any = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a sensor may be called $x$
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "axes.edgecolor": FAINT,
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.titlecolor", "xtick.color", "ytick.color", "legend.labelcolor"), INK),
}
FREE, MOST_LEFT = 0.12, 0.4  # inches left free beside names, as fonts differ; and share of the width that names may take
POINTS = 600  # of a line over time that are drawn: the lowest and the highest reading of so many stretches


@contextmanager
def styled() -> Iterator[None]:
    """Figures that are made and drawn inside look alike."""
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # the browser has it
        yield


def svg_of(figure: Figure, salt: str, *, tight: bool = True) -> str:
    """A figure as SVG to put into a page. `salt` is one of its own: what one plot defines, another may not use.

    `tight`: it is cut to what is drawn.
    """
    buffer = io.StringIO()
    figure.patch.set_alpha(0)
    for axes in figure.axes:
        axes.patch.set_alpha(0)
    with styled(), mpl.rc_context({"svg.hashsalt": salt}):
        figure.savefig(
            buffer, format="svg", bbox_inches="tight" if tight else None, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type"))
        )
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r' xmlns(:xlink)?="[^"]*"| version="1.1"', "", text)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*"', "<g", text).replace("xlink:href", "href")
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    for color, name in _COLORS.items():
        text = text.replace(color, f"var(--{name})")
    return "\n".join(one_line(line.strip()) for line in text.splitlines())


def png_of(figure: Figure) -> bytes:
    """A figure as PNG, on white."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, bbox_inches="tight", metadata={"Software": None})
    return buffer.getvalue()


def as_plot(title: str, alt: str, figure: Figure, *, wide: bool = False, hover: str = "", tight: bool = True) -> Plot:
    """A figure as a plot of a page; one with `hover` is drawn whole, since that counts in shares of its width."""
    return Plot(title, svg_of(figure, title + alt, tight=tight and not hover), alt, wide, hover)


# --- names beside axes ---


def in_lines(name: str, wide: int = 24, most: int = 3) -> str:
    """A name in a few lines, broken at spaces, points and underscores; only what does not fit into them is cut, and shown so.

    >>> in_lines("Lagertemperatur Antriebsseite Hauptpumpe [°C]")
    'Lagertemperatur\\nAntriebsseite Hauptpumpe\\n[°C]'
    >>> in_lines("Site1.Line4.Press_7.Hydraulics.Pressure", wide=20)
    'Site1.Line4.Press_7.\\nHydraulics.Pressure'
    """
    lines = [""]
    for piece in re.findall(rf"[^ ._/\-]{{1,{wide}}}[ ._/\-]*|[ ._/\-]+", name):
        if lines[-1] and len(lines[-1] + piece.rstrip()) > wide:
            lines.append("")
        lines[-1] += piece
    shown = [line.strip() for line in lines[:most]]
    return "\n".join(shown) + ("…" if len(lines) > most else "")


def fit_left(figure: Figure) -> None:
    """Move the plots of a figure to the right until all that is written left of them is on it, however long names and readings are."""
    figure.draw_without_rendering()
    written = [box.x0 for axes in figure.axes if axes.axison and (box := axes.yaxis.get_tightbbox()) is not None]
    beyond = FREE * figure.dpi - min(written, default=np.inf)
    if np.isfinite(beyond):
        left = figure.subplotpars.left + beyond / (figure.get_figwidth() * figure.dpi)
        figure.subplots_adjust(left=min(left, MOST_LEFT))


# --- clock times ---


def on_axis(times: NDArray[np.float64]) -> NDArray[np.float64]:
    """Times (n,) in seconds as the axis that `time_axis` makes counts them: in days since 1970 where they are a clock's."""
    return times / DAY_S if has_clock(times) else times


def time_axis(axes: Any, times: NDArray[np.float64], zone: str = "") -> None:
    """Clock times on the x axis, with the day where it changes."""
    if has_clock(times):
        where = zone_of(zone)
        # Fewer than 4 days are 96 hours at most, and hours go in steps of 12 at most: 9 ticks will do. From 5 days on, as is usual, they
        # would not, and Matplotlib warns of it; likewise of minutes and months.
        locator = AutoDateLocator(tz=where, minticks=4, maxticks=9)  # type: ignore[no-untyped-call]
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, tz=where))  # type: ignore[no-untyped-call]
        axes.set_xlabel(f"time ({zone or 'UTC'})", fontsize=8)
    else:
        axes.set_xlabel("seconds since the begin of the record", fontsize=8)


# --- long lines, and what the pointer shows ---


def thinned(x: NDArray[np.float64], y: NDArray[np.float64], points: int = POINTS) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A line (n,) with as few points as draw the same: of each stretch its lowest and its highest. NaN stays where a whole stretch is.

    >>> thinned(np.arange(6.0), np.array([0.0, 5.0, 1.0, 1.0, -2.0, 1.0]), points=2)[1].tolist()
    [0.0, 5.0, 1.0, -2.0]
    """
    if len(x) <= 2 * points:
        return x, y
    at: list[int] = []
    for part in np.array_split(np.arange(len(x)), points):
        known = part[np.isfinite(y[part])]
        at += sorted({int(known[y[known].argmin()]), int(known[y[known].argmax()])}) if len(known) else [int(part[0])]
    return x[at], y[at]


def hover_of(axes: Any, times: NDArray[np.float64], rows: Sequence[tuple[str, str, NDArray[np.float64]]], zone: str) -> str:
    """JSON of what a plot over time shows under the pointer: rows (name, unit, values (n,)) at up to 300 of the times (n,).

    The x axis must run from the first time to the last, and the figure must be drawn whole, without `tight`.
    """
    if len(times) < 2:
        return ""
    place = axes.get_position()
    grid = np.linspace(times[0], times[-1], min(300, len(times)))
    at = np.clip(np.searchsorted(times, grid), 0, len(times) - 1)
    known = [
        {"name": one_line(name), "unit": one_line(unit), "v": [None if not np.isfinite(v) else float(f"{v:.5g}") for v in values[at]]}
        for name, unit, values in rows
    ]
    moments = [moment(float(times[i]), zone) for i in at]
    return json.dumps({"left": round(place.x0, 5), "right": round(place.x1, 5), "x": moments, "rows": known})
