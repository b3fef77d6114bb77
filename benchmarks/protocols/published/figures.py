"""One category, fitted on its normals, with the threshold from them alone, and judged as the edge runs; and the table of all."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from anomaly.atomic import write_text
from anomaly.bundle.archive import read_bundle
from anomaly.data.pictures.layouts import find_labelled
from anomaly.data.pictures.reading import format_of
from anomaly.edge.runtime.session import open_session
from anomaly.evaluation.figures import evaluate_pictures
from anomaly.pipeline.camera.bundle import speed
from anomaly.pipeline.kinds import open_line
from anomaly.pipeline.steps import Steps
from anomaly.progress import Progress, part, silent
from anomaly.spec import CameraSpec

COLUMNS = {  # of the table: a figure's name, its heading, and how it is written
    "learnt": ("learnt", "{:.0f}"),
    "judged": ("judged", "{:.0f}"),
    "size": ("size", "{}"),
    "image_auroc": ("image AUROC", "{:.4f}"),
    "pixel_auroc": ("pixel AUROC", "{:.4f}"),
    "pixel_aupro": ("AUPRO", "{:.4f}"),
    "recall": ("faults found", "{:.1%}"),
    "false_alarm_rate": ("good flagged", "{:.1%}"),
    "fit_s": ("fit, s", "{:.0f}"),
    "picture_ms": ("a picture, ms", "{:.1f}"),
}
COUNTED = ("learnt", "judged", "size")  # what has no mean


def judge(spec: CameraSpec, data: Path, work: Path, limit: float, progress: Progress = silent) -> dict[str, Any]:
    """The figures of one category. `limit` is the false-positive rate up to which AUPRO is taken.

    fit_s is the whole way from pictures to a bundle, read from a file when an earlier run was stopped between the two; picture_ms is
    decoding and deciding on this machine, by the variant named under `on`.
    """
    steps = Steps(open_line(spec, data), work, progress=part(progress, 0.0, 0.9))
    clock, started = work / f"{steps.data_key.train[:16]}.seconds", time.perf_counter()
    before = float(clock.read_text()) if clock.exists() else 0.0
    try:
        bundle = read_bundle(steps.export())
    finally:
        seconds = before + (time.perf_counter() - started if steps.trained else 0.0)
        write_text(clock, str(seconds))
    session, form, threshold = open_session(bundle), format_of(bundle.manifest.input), bundle.manifest.threshold
    pictures = find_labelled(data, layout="mvtec")
    told = part(progress, 0.9, 1.0)
    found = evaluate_pictures(session.run, pictures, form, threshold.p_value, threshold.score, told, aupro_limit=limit)
    taken, fit = speed(session, pictures, form), bundle.manifest.provenance["fit"]
    return found.figures | {
        "learnt": fit["normals"],
        "judged": found.figures["n"],
        "size": "x".join(str(side) for side in fit.get("plan", bundle.manifest.provenance["spec"]["input"])["size"]),
        "aupro_limit": limit,
        "fit_s": seconds,
        "picture_ms": float(taken["decode_ms"]) + float(taken["decide_ms"]),
        "speed": taken,
        "bundle": bundle.hash,
        "notes": found.notes,
    }


def table(found: Mapping[str, Mapping[str, Any]], order: tuple[str, ...]) -> str:
    """The figures as a Markdown table, a row a category in the published order, and the mean where there are several."""
    there = [category for category in order if category in found]
    lines = [f"| category | {' | '.join(heading for heading, _ in COLUMNS.values())} |", "|---|" + "---|" * len(COLUMNS)]
    lines += [f"| {category} | {_cells(found[category])} |" for category in there]
    if len(there) > 1:
        mean: dict[str, Any] = {}
        for name in COLUMNS.keys() - set(COUNTED):
            values = [found[category][name] for category in there if found[category].get(name) is not None]
            mean[name] = statistics.fmean(values) if values else None
        lines.append(f"| mean of {len(there)}{'' if len(there) == len(order) else f' (of {len(order)})'} | {_cells(mean)} |")
    return "\n".join(lines)


def _cells(figures: Mapping[str, Any]) -> str:
    return " | ".join("" if figures.get(name) is None else form.format(figures[name]) for name, (_, form) in COLUMNS.items())
