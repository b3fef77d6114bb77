"""What a camera bundle is used for away from the edge: figures on labelled pictures, the score of a file, the plots of a report."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from anomaly.alarms.replay import Run, exact_interval, parts, promise_of_parts, replay
from anomaly.bundle.archive import Bundle
from anomaly.data.files import by_number
from anomaly.data.pictures.layouts import find_labelled
from anomaly.data.pictures.reading import Picture, PictureFormat, format_of, read_picture
from anomaly.edge.kinds import rules_of
from anomaly.edge.runtime.session import Session
from anomaly.errors import RecordError
from anomaly.evaluation.figures import Evaluation, evaluate_pictures
from anomaly.progress import Progress, silent
from anomaly.schema import DAY_S

if TYPE_CHECKING:
    from anomaly.evaluation.report.page import Block

LAYOUTS = ("mvtec", "folder")


def evaluate(bundle: Bundle, session: Session, data: Path, layout: str | None, progress: Progress = silent) -> Evaluation:
    """Figures of a camera bundle on labelled pictures. Raises DataError when there are none.

    `layout` is "mvtec" (the test part of an MVTec AD, MVTec AD 2, BTAD or VisA folder, or of a manifest) or "folder" (a subfolder for
    each kind of defect and `good` for the normals; pictures in no subfolder are normals). None takes "mvtec" where there is a test part.
    """
    form, threshold = format_of(bundle.manifest.input), bundle.manifest.threshold
    pictures = find_labelled(data, layout=layout)
    found = evaluate_pictures(session.run, pictures, form, threshold.p_value, threshold.score, progress)
    with_budget(found, bundle)
    found.figures["speed"] = speed(session, pictures, form)
    return found


def with_budget(evaluation: Evaluation, bundle: Bundle) -> None:
    """Add to the figures whether the bundle's budget held on the good parts: by alarms over time where it is set so, else by their share.

    For alarms over time the good parts pass in order of name, at the budget's pictures a day, with the bundle's alarm rules on.
    """
    budget, threshold = bundle.manifest.threshold.budget, bundle.manifest.threshold.p_value
    good = evaluation.records[evaluation.records["label"] == "good"].sort_values("id", key=lambda ids: ids.map(by_number))
    per_day = budget.get("records_per_day") or DAY_S
    p, score = good["p_value"].to_numpy(np.float32), good["score"].to_numpy(np.float32)
    runs = [Run(np.arange(len(good), dtype=np.float64) * float(DAY_S / per_day), p, score)]
    rules = rules_of(bundle.manifest, bundle.hash)
    figures = parts(rules, runs)
    figures["ci95"] = exact_interval(figures["good_parts_flagged"], figures["good_parts"])
    if budget.get("false_alarms_per_day") is None:
        evaluation.figures["budget"] = figures | {"promise": promise_of_parts(budget, threshold, figures)}
        return
    figures |= replay(rules, runs)
    said = f"{promise_of_parts(budget, threshold, figures)} (Good parts in order of name, {per_day:g} a day.)"
    evaluation.figures["budget"] = figures | {"promise": said}


def speed(session: Session, pictures: Sequence[Picture], form: PictureFormat, count: int = 30) -> dict[str, float | str]:
    """Median milliseconds to decode a picture and to decide on it, on this machine, over up to `count` pictures."""
    decode, decide = [], []
    for picture in pictures[:: max(1, len(pictures) // count)][:count]:
        started = time.perf_counter()
        try:
            raw = read_picture(picture.path, form).pixels[None]
        except RecordError:
            continue  # counted where the figures are made
        decoded = time.perf_counter()
        session.run(raw)
        decode.append(decoded - started)
        decide.append(time.perf_counter() - decoded)
    return {"decode_ms": 1000 * float(np.median(decode)), "decide_ms": 1000 * float(np.median(decide)), "on": session.where}


def report_plots(bundle: Bundle, evaluation: Evaluation, data: Path) -> list[Block]:
    """Some of the judged pictures with their anomaly maps, for the report."""
    return labelled_galleries(bundle, evaluation, find_labelled(data))


def labelled_galleries(bundle: Bundle, evaluation: Evaluation, pictures: Sequence[Picture]) -> list[Block]:
    """Those of the labelled pictures whose maps an evaluation has kept."""
    from anomaly.evaluation.report.pictures import galleries  # Matplotlib, which nothing but a report needs

    form = format_of(bundle.manifest.input)._replace(deep=False)
    threshold, normals = bundle.manifest.threshold.score, float(bundle.manifest.calibration["independent_scores"])
    shown = [picture for picture in pictures if picture.id in evaluation.maps]
    return [*galleries(evaluation, lambda record: read_picture(evaluation.paths[record], form).pixels, threshold, normals, shown)]
