"""A bundle against labelled data: the graph in ONNX Runtime, as the edge will run it."""

from __future__ import annotations

from pathlib import Path

from anomaly.bundle.archive import Bundle
from anomaly.edge.runtime.session import Session
from anomaly.errors import DataError
from anomaly.evaluation.figures import Evaluation
from anomaly.evaluation.report.evaluated import write_evaluation
from anomaly.pipeline.kinds import kind_of
from anomaly.progress import Progress, silent


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
    blocks = kind_of(bundle).report_plots(bundle, evaluation, data)
    write_evaluation(path, bundle.manifest.model_dump(mode="json"), bundle.hash, evaluation, blocks, str(data))
