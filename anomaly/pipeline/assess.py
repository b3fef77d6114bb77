"""A bundle against labelled data, and a bundle over new files: the graph in ONNX Runtime, as the edge will run it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from anomaly.bundle.archive import Bundle
from anomaly.data.files import find_files
from anomaly.edge.runtime.session import Session
from anomaly.errors import DataError, RecordError
from anomaly.evaluation.figures import Evaluation
from anomaly.evaluation.report import page
from anomaly.pipeline.kinds import kind_of
from anomaly.progress import Progress, counted, silent


def evaluate_bundle(bundle: Bundle, session: Session, data: Path, layout: str | None = None, progress: Progress = silent) -> Evaluation:
    """Figures of a bundle on labelled data. Raises DataError when layout and bundle, or layout and data, do not fit.

    Each kind of input has its own layouts; which one it is is found from the data when `layout` is None.
    """
    kind = kind_of(bundle)
    if layout is not None and layout not in kind.layouts:
        raise DataError(f"--layout {layout} does not fit a {bundle.manifest.kind} bundle; it has {', '.join(kind.layouts)}")
    return kind.evaluate(bundle, session, data, layout, progress)


def report_on(bundle: Bundle, evaluation: Evaluation, data: Path, path: Path) -> None:
    """Write the HTML report of an evaluation."""
    plots: list[page.Plot | None] = [
        page.plot_scores(evaluation, bundle.manifest.threshold.score),
        page.plot_curves(evaluation),
        page.plot_calibration(evaluation),
        *kind_of(bundle).report_plots(bundle, evaluation, data),
    ]
    manifest = bundle.manifest.model_dump(mode="json")
    page.write_report(path, manifest, bundle.hash, evaluation, [p for p in plots if p is not None], evaluation.rejected)


def score_paths(bundle: Bundle, session: Session, paths: Sequence[Path], progress: Progress = silent) -> tuple[pd.DataFrame, list[str]]:
    """Score files and folders; returns (one row a record, what could not be read). Raises DataError when nothing could.

    The frame's `attrs["notes"]` say what was found wrong in files that were read.
    """
    kind = kind_of(bundle)
    frames: list[pd.DataFrame] = []
    rejected: list[str] = []
    for path in counted(_files_in(paths, kind.suffixes), progress, "files scored"):
        try:
            frames.append(kind.score_file(bundle, session, path))
        except (RecordError, DataError) as error:
            rejected.append(str(error))
    if not frames:
        raise DataError("nothing could be scored:", *rejected[:5])
    notes = [note for frame in frames for note in frame.attrs.get("notes", ())]
    frame = pd.concat(frames, ignore_index=True)
    frame.attrs = {"notes": notes}
    frame["flagged"] = frame["p_value"] <= bundle.manifest.threshold.p_value
    return frame, rejected


def _files_in(paths: Sequence[Path], suffixes: frozenset[str]) -> list[Path]:
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += find_files(path, suffixes, deep=True)
        else:
            found.append(path)
    if not found:
        raise DataError(f"{', '.join(map(str, paths))}: no file to score ({', '.join(sorted(suffixes))})")
    return found
