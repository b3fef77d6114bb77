"""What `Detector.explain` draws. Matplotlib is imported here alone; the base install does without."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from PIL import Image

from anomaly.bundle.manifest import Manifest
from anomaly.data.pictures.reading import Decoded
from anomaly.data.tables.reader import SensorTable
from anomaly.data.tables.windows import window_ends, windows_at
from anomaly.edge.runtime.session import Session
from anomaly.errors import DataError
from anomaly.rarity import rare_words, shades_of, shares_of

try:
    from matplotlib.figure import Figure

    from anomaly.evaluation.report.drawing import on_axis, time_axis
except ImportError as error:
    raise ImportError("figures need Matplotlib; run: pip install matplotlib") from error

LINE, FAULT = "#2a6f97", "#c8553d"  # can be told apart without seeing red and green
MOST_SENSORS = 4  # shown, of those with the largest shares
AROUND = 3  # windows before and after that are shown too


class Explained(Figure):
    """A figure that notebooks show by itself."""

    def _repr_png_(self) -> bytes:
        buffer = BytesIO()
        self.savefig(buffer, format="png", dpi=72)
        return buffer.getvalue()


def explain_picture(manifest: Manifest, session: Session, name: str, picture: Decoded) -> Figure:
    """A picture, and its heat-map over it: bright where it departs from the normals, full at one and a half times the threshold's map."""
    score, p_value, maps = session.run(picture.pixels[None])
    deep = picture.pixels.dtype == np.uint16
    pixels = (picture.pixels // 257).astype(np.uint8) if deep else picture.pixels
    seen = pixels[:, :, 0] if pixels.shape[2] == 1 else pixels
    high, wide = seen.shape[:2]
    heat = np.asarray(Image.fromarray(maps[0]).resize((wide, high), Image.Resampling.BILINEAR))
    figure = Explained(figsize=(9, min(9.0, 0.6 + 4.5 * high / wide)), layout="constrained")
    plain, hot = figure.subplots(1, 2)
    for axes in (plain, hot):
        axes.imshow(seen, cmap="gray", vmin=0, vmax=255)
        axes.axis("off")
    usual = manifest.usual_score
    low, full = shades_of(float(np.median(heat)) if usual is None else usual, manifest.threshold.score, float(heat.max()))
    shown = hot.imshow(heat, cmap="inferno", alpha=0.5, vmin=low, vmax=full)
    figure.colorbar(shown, ax=hot, shrink=0.8, label="departure from the normals")
    figure.suptitle(f"{name}\n{_verdict(manifest, float(score[0]), float(p_value[0]))}", fontsize=10)
    return figure


def explain_window(manifest: Manifest, session: Session, name: str, table: SensorTable, row: int) -> Figure:
    """The sensors with the largest shares of a window's score, over the rows around it; their normal range is between the dotted lines."""
    rows = manifest.input.window or 1
    if row not in window_ends(table.times, table.usable, rows, table.max_gap_s):
        raise DataError(f"{name}: this row ends no whole window of {rows} rows, so it has no score")
    score, p_value, share = session.run(windows_at(table.values, np.array([row]), rows))
    part = shares_of(share[0])
    first = np.argsort(-part, kind="stable")[: min(MOST_SENSORS, len(part))]
    around = slice(max(0, row + 1 - (1 + AROUND) * rows), row + 1 + AROUND * rows)
    times, window = on_axis(table.times[around]), on_axis(table.times[[row + 1 - rows, row]])
    figure = Explained(figsize=(9, 1.2 + 1.5 * len(first)), layout="constrained")
    for axes, index in zip(figure.subplots(len(first), 1, sharex=True, squeeze=False)[:, 0], first, strict=True):
        channel = table.channels[index]
        axes.plot(times, table.readings[around, index].astype(np.float64) + channel.offset, color=LINE, linewidth=1, label="readings")
        axes.axvspan(window[0], window[1], color=FAULT, alpha=0.15, linewidth=0, label="the window that is scored")
        for end in (channel.normal_low, channel.normal_high):
            if end is not None:
                axes.axhline(end, color="#888888", linestyle=":", linewidth=0.8, label="range of the normals")
        axes.set_title(f"{channel.name}: {part[index]:.0%} of the score", fontsize=9, loc="left")
        axes.set_ylabel(channel.unit, fontsize=8)
        axes.tick_params(labelsize=8)
    time_axis(axes, table.times[around], manifest.input.zone or table.dialect.zone)
    figure.suptitle(f"{name}\n{_verdict(manifest, float(score[0]), float(p_value[0]))}", fontsize=10)
    keys = {key.get_label(): key for one in figure.axes for key in one.get_legend_handles_labels()[0]}
    figure.legend(handles=list(keys.values()), loc="outside lower center", ncols=len(keys), fontsize=8, frameon=False)
    return figure


def _verdict(manifest: Manifest, score: float, p_value: float) -> str:
    flagged = "flagged" if p_value <= manifest.threshold.p_value else "not flagged"
    odd, asked = rare_words(p_value, manifest.least_p), rare_words(manifest.threshold.p_value)
    return f"{flagged}: {odd} looks as odd, {asked} is flagged (score {score:.3g})"
