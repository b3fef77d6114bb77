"""What a camera bundle is used for away from the edge: figures on labelled pictures, the score of a file, the plots of a report."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from anomaly.bundle.archive import Bundle
from anomaly.data.files import PICTURES, find_files
from anomaly.data.pictures.layouts import GOOD_NAMES, find_pictures, has_test
from anomaly.data.pictures.reading import Color, Picture, read_image
from anomaly.edge.runtime.session import Session
from anomaly.errors import DataError, RecordError
from anomaly.evaluation.figures import Evaluation, evaluate_pictures
from anomaly.progress import Progress, silent

if TYPE_CHECKING:
    from anomaly.evaluation.report.page import Plot

LAYOUTS = ("mvtec", "folder")


def bundle_color(bundle: Bundle) -> tuple[Color, bool]:
    """(gray or rgb, 16 bit?) of the pictures a camera bundle takes."""
    return ("gray" if bundle.manifest.input.channels == 1 else "rgb"), bundle.manifest.input.dtype == "uint16"


def evaluate(bundle: Bundle, session: Session, data: Path, layout: str | None, progress: Progress = silent) -> Evaluation:
    """Figures of a camera bundle on labelled pictures. Raises DataError when there are none.

    `layout` is "mvtec" (the test part of an MVTec AD, MVTec AD 2, BTAD or VisA folder, or of a manifest) or "folder" (a subfolder for
    each kind of defect and `good` for the normals; pictures in no subfolder are normals). None takes "mvtec" where there is a test part.
    """
    p, score = bundle.manifest.threshold.p_value, bundle.manifest.threshold.score
    color, deep = bundle_color(bundle)
    pictures = _labelled_pictures(data, layout or ("mvtec" if has_test(data) else "folder"))
    found = evaluate_pictures(session.run, pictures, color, deep, p, score, progress)
    found.figures["speed"] = _speed(session, pictures, color, deep)
    return found


def _speed(session: Session, pictures: Sequence[Picture], color: Color, deep: bool, count: int = 30) -> dict[str, float | str]:
    """Median milliseconds to decode a picture and to decide on it, on this machine, over up to `count` pictures."""
    decode, decide = [], []
    for picture in pictures[:: max(1, len(pictures) // count)][:count]:
        started = time.perf_counter()
        try:
            raw = read_image(picture.path, color, deep=deep)[None]
        except RecordError:
            continue  # counted where the figures are made
        decoded = time.perf_counter()
        session.run(raw)
        decode.append(decoded - started)
        decide.append(time.perf_counter() - decoded)
    where = f"{session.provider}, {session.variant}"
    return {"decode_ms": 1000 * float(np.median(decode)), "decide_ms": 1000 * float(np.median(decide)), "on": where}


def _labelled_pictures(data: Path, layout: str) -> Sequence[Picture]:
    if layout == "mvtec":
        found = find_pictures(data).test
        if not found:
            raise DataError(f"{data}: no test pictures; MVTec AD layout has test/good and test/KIND, a manifest rows with split = test")
        return found
    if not data.is_dir():
        raise DataError(f"{data}: no such folder")
    paths = find_files(data, PICTURES, deep=True)
    if not paths:
        raise DataError(f"{data}: no pictures in it")
    return [Picture(p.relative_to(data).as_posix(), p, _kind_of(data, p)) for p in paths]


def _kind_of(data: Path, path: Path) -> str | None:
    folders = path.relative_to(data).parts[:-1]
    return None if not folders or folders[-1].lower() in GOOD_NAMES else folders[-1]


def score_file(bundle: Bundle, session: Session, path: Path) -> pd.DataFrame:
    """One row (`record`, `score`, `p_value`) for a picture. Raises RecordError when it cannot be read."""
    color, deep = bundle_color(bundle)
    score, p_value, _ = session.run(read_image(path, color, deep=deep)[None])
    return pd.DataFrame({"record": [str(path)], "score": score.astype(float), "p_value": p_value.astype(float)})


def report_plots(bundle: Bundle, evaluation: Evaluation, data: Path) -> list[Plot]:
    """Some of the judged pictures with their anomaly maps, for the report."""
    from anomaly.evaluation.report.page import plot_pictures  # Matplotlib, which nothing but a report needs

    color, _ = bundle_color(bundle)
    folder = data if data.is_dir() else data.parent
    return plot_pictures(evaluation, lambda record: read_image(folder / record, color).astype(np.uint8), bundle.manifest.threshold.score)
