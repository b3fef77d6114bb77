"""What a camera bundle is used for away from the edge: figures on labelled pictures, the score of a file, the plots of a report."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from anomaly.bundle.archive import Bundle
from anomaly.data.pictures.layouts import find_labelled
from anomaly.data.pictures.reading import Picture, PictureFormat, format_of, read_picture
from anomaly.edge.runtime.session import Session
from anomaly.errors import RecordError
from anomaly.evaluation.figures import Evaluation, evaluate_pictures
from anomaly.names import record_name
from anomaly.progress import Progress, silent

if TYPE_CHECKING:
    from anomaly.evaluation.report.page import Plot

LAYOUTS = ("mvtec", "folder")


def evaluate(bundle: Bundle, session: Session, data: Path, layout: str | None, progress: Progress = silent) -> Evaluation:
    """Figures of a camera bundle on labelled pictures. Raises DataError when there are none.

    `layout` is "mvtec" (the test part of an MVTec AD, MVTec AD 2, BTAD or VisA folder, or of a manifest) or "folder" (a subfolder for
    each kind of defect and `good` for the normals; pictures in no subfolder are normals). None takes "mvtec" where there is a test part.
    """
    form, threshold = format_of(bundle.manifest.input), bundle.manifest.threshold
    pictures = find_labelled(data, layout=layout)
    found = evaluate_pictures(session.run, pictures, form, threshold.p_value, threshold.score, progress)
    found.figures["speed"] = _speed(session, pictures, form)
    return found


def _speed(session: Session, pictures: Sequence[Picture], form: PictureFormat, count: int = 30) -> dict[str, float | str]:
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
    where = f"{session.provider}, {session.variant}"
    return {"decode_ms": 1000 * float(np.median(decode)), "decide_ms": 1000 * float(np.median(decide)), "on": where}


def score_file(bundle: Bundle, session: Session, path: Path) -> pd.DataFrame:
    """One row (`record`, `score`, `p_value`, `note`) for a picture. Raises RecordError when it cannot be read."""
    pixels, note = read_picture(path, format_of(bundle.manifest.input))
    score, p_value, _ = session.run(pixels[None])
    row = {"record": [record_name(str(path))], "score": score.astype(float), "p_value": p_value.astype(float)}
    return pd.DataFrame(row | ({"note": [note]} if note else {}))


def report_plots(bundle: Bundle, evaluation: Evaluation, data: Path) -> list[Plot]:
    """Some of the judged pictures with their anomaly maps, for the report."""
    from anomaly.evaluation.report.page import plot_pictures  # Matplotlib, which nothing but a report needs

    form = format_of(bundle.manifest.input)._replace(deep=False)
    return plot_pictures(evaluation, lambda record: read_picture(evaluation.paths[record], form).pixels, bundle.manifest.threshold.score)
