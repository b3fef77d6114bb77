"""One self-contained HTML page on a detector: what it is, how well it does, what it missed, what it will cost."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import jinja2
import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from sklearn.metrics import precision_recall_curve, roc_curve

from anomaly.atomic import write_text
from anomaly.evaluation.figures import SHOWN, Evaluation

matplotlib.use("Agg")
GOOD, BAD, LINE = "#2a6f97", "#c8553d", "#444444"  # can be distinguished without seeing red and green
_TEMPLATE = Path(__file__).with_name("report.html.j2")


@dataclass(frozen=True)
class Plot:
    """A picture for the page with its caption and text alternative."""

    title: str
    png: str
    alt: str


def write_report(
    path: Path, manifest: Mapping[str, Any], bundle_hash: str, evaluation: Evaluation, plots: Sequence[Plot], rejected: Sequence[str] = ()
) -> None:
    """Write the page atomically. `manifest` is the bundle's, as plain data."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    environment.filters["figure"] = _figure
    text = environment.from_string(_TEMPLATE.read_text(encoding="utf-8")).render(
        m=manifest, hash=bundle_hash, f=evaluation.figures, plots=plots, rejected=list(rejected)[:20], names=_NAMES
    )
    write_text(path, text)


_NAMES = {
    "image_auroc": "Image AUROC", "image_ap": "Image average precision", "image_f1": "Best image F1", "pixel_auroc": "Pixel AUROC",
    "pixel_aupro": "Pixel AUPRO (30 % FPR)", "precision": "Precision", "recall": "Recall", "f1": "F1", "accuracy": "Accuracy",
    "false_alarm_rate": "False-alarm rate", "missed_alarm_rate": "Missed-alarm rate", "roc_auc": "ROC-AUC", "pr_auc": "PR-AUC",
    "vus_roc": "VUS-ROC", "vus_pr": "VUS-PR", "detection_delay_s": "Median detection delay (s)",
    "false_alarms_per_day": "Flagged runs a day, before the alarm rules", "faults": "Faults", "faults_found": "Faults found",
}  # fmt: skip


def _figure(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) >= 10 or value == 0 else f"{value:.3f}"
    return str(value)


def as_plot(title: str, alt: str, figure: Figure) -> Plot:
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=96, bbox_inches="tight", metadata={"Software": None})
    return Plot(title, base64.b64encode(buffer.getvalue()).decode(), alt)


def _faulty(records: pd.DataFrame) -> pd.Series[bool]:
    """Which records are faulty: pictures are labelled by kind, rows of a table by True."""
    label = records["label"]
    return label if label.dtype == bool else label != "good"


def plot_scores(evaluation: Evaluation, threshold: float | None) -> Plot:
    """Histogram of scores, good against faulty, with the threshold."""
    records = evaluation.records.dropna(subset=["score"])
    faulty = _faulty(records)
    top = float(records["score"].quantile(0.995)) * 1.05
    low = min(0.0, float(records["score"].min()))
    bins = np.linspace(low, max(top, (threshold or 0) * 1.1), 50).tolist()
    figure = Figure(figsize=(6, 3))
    axes = figure.subplots()
    for mask, name, color in ((~faulty, "normal", GOOD), (faulty, "faulty", BAD)):
        axes.hist(records.loc[mask, "score"].clip(upper=bins[-1]), bins=bins, alpha=0.65, label=name, color=color)
    if threshold is not None:
        axes.axvline(threshold, color=LINE, linestyle="--", label="threshold")
    axes.set_xlabel("score")
    axes.set_ylabel("records")
    axes.legend()
    return as_plot("Scores", "Histogram of scores of normal and faulty records with the threshold", figure)


def plot_curves(evaluation: Evaluation) -> Plot | None:
    """ROC and precision-recall curves, None when only one class is there."""
    records = evaluation.records.dropna(subset=["score"])
    faulty = _faulty(records)
    if not faulty.any() or faulty.all():
        return None
    labels, scores = faulty.to_numpy(dtype=bool), records["score"].to_numpy(dtype=np.float64)
    false, true, _ = roc_curve(labels, scores)
    precision, recall, _ = precision_recall_curve(labels, scores)
    figure = Figure(figsize=(7, 3.2))
    left, right = figure.subplots(1, 2)
    left.plot(false, true, color=GOOD)
    left.plot([0, 1], [0, 1], color=LINE, linestyle="--", linewidth=0.8)
    left.set(xlabel="false-alarm rate", ylabel="share of faults found", title="ROC")
    right.plot(recall, precision, color=BAD)
    right.set(xlabel="share of faults found (recall)", ylabel="precision", title="Precision and recall", ylim=(0, 1.03))
    figure.tight_layout()
    return as_plot("Ranking", "ROC curve and precision-recall curve", figure)


def plot_calibration(evaluation: Evaluation) -> Plot | None:
    """Share of normal records at or below each p-value: on or under the diagonal the p-values are valid."""
    records = evaluation.records.dropna(subset=["p_value"])
    normal = ~_faulty(records)
    p_values = np.sort(records.loc[normal, "p_value"].to_numpy())
    if len(p_values) < 5:
        return None
    figure = Figure(figsize=(4.2, 3.2))
    axes = figure.subplots()
    axes.plot([1e-4, 1], [1e-4, 1], color=LINE, linestyle="--", label="promised")
    axes.step(np.clip(p_values, 1e-4, 1), np.arange(1, len(p_values) + 1) / len(p_values), where="post", color=GOOD, label="seen")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("p-value")
    axes.set_ylabel("share of normal records")
    axes.legend()
    return as_plot("Calibration on normal records", "Share of normal test records at or below each p-value", figure)


def plot_pictures(evaluation: Evaluation, read: Callable[[str], NDArray[np.uint8]], threshold: float | None) -> list[Plot]:
    """The worst misses, the worst false alarms and the clearest finds, each with its heat-map."""
    records = evaluation.records
    faulty = records["label"] != "good"
    groups = {
        "Defects ranked lowest": records[faulty].nsmallest(SHOWN, "score"),
        "Good parts ranked highest": records[~faulty].nlargest(SHOWN, "score"),
        "Defects ranked highest": records[faulty].nlargest(SHOWN, "score"),
    }
    low = float(records["score"].min())  # a score may be of either sign, and so may the threshold
    high = low + 1.5 * (threshold - low) if threshold is not None and threshold > low else float(records["score"].max())
    return [_gallery(title, chosen, evaluation, read, (low, high)) for title, chosen in groups.items() if len(chosen)]


def _gallery(
    title: str, chosen: pd.DataFrame, evaluation: Evaluation, read: Callable[[str], NDArray[np.uint8]], shades: tuple[float, float]
) -> Plot:
    """`shades`: the map's values that are darkest and brightest."""
    figure = Figure(figsize=(1.9 * SHOWN, 4.1))
    axes = figure.subplots(2, SHOWN, squeeze=False)
    for column in axes.T:
        for one in column:
            one.axis("off")
    for index, row in enumerate(chosen.itertuples()):
        picture = read(str(row.id))
        shown = picture[:, :, 0] if picture.shape[2] == 1 else picture
        heat = Image.fromarray(evaluation.maps[str(row.id)]).resize((shown.shape[1], shown.shape[0]), Image.Resampling.BILINEAR)
        for one in axes[:, index]:
            one.imshow(shown, cmap="gray", vmin=0, vmax=255)
        axes[1, index].imshow(np.asarray(heat), cmap="inferno", alpha=0.5, vmin=shades[0], vmax=shades[1])
        axes[0, index].set_title(f"{row.label}\nscore {row.score:.2f}, p {row.p_value:.2g}", fontsize=8)
    return as_plot(title, f"{title}: pictures and their heat-maps", figure)
