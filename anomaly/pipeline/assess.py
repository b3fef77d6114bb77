"""A bundle against labelled data: the graph in ONNX Runtime, as the edge will run it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from anomaly.bundle.archive import Bundle
from anomaly.edge.runtime.session import Session, open_session
from anomaly.errors import DataError
from anomaly.evaluation.figures import Evaluation
from anomaly.evaluation.report.evaluated import write_evaluation
from anomaly.evaluation.report.page import write_page
from anomaly.pipeline.kinds import kind_of
from anomaly.pipeline.report.fitted import FitBlocks, fit_page, p_values_of
from anomaly.pipeline.report.learnt_from import learnt_from
from anomaly.progress import Progress, silent

if TYPE_CHECKING:
    from anomaly.pipeline.steps import Steps


def evaluate_bundle(bundle: Bundle, session: Session, data: Path, layout: str | None = None, progress: Progress = silent) -> Evaluation:
    """Figures of a bundle on labelled data. Raises DataError when layout and bundle, or layout and data, do not fit.

    Each kind of input has its own layouts; which one it is is found from the data when `layout` is None. Where some of the data was learnt
    from, the figures have `learnt_from`, which says so.
    """
    kind = kind_of(bundle)
    if layout is not None and layout not in kind.layouts:
        raise DataError(f"--layout {layout} does not fit a {bundle.manifest.kind} bundle; it has {', '.join(kind.layouts)}")
    found = kind.evaluate(bundle, session, data, layout, progress)
    known = learnt_from(bundle, found)
    found.figures |= {"learnt_from": known} if known else {}
    return found


def report_on(bundle: Bundle, evaluation: Evaluation, data: Path, path: Path) -> None:
    """Write the HTML report of an evaluation."""
    blocks = kind_of(bundle).report_plots(bundle, evaluation, data)
    write_evaluation(path, bundle.manifest.model_dump(mode="json"), bundle.hash, evaluation, blocks, str(data))


def report_on_fit(steps: Steps, bundle: Bundle, path: Path) -> None:
    """Write the HTML report of a fit, whose `steps` led to the `bundle`. Nothing of it goes into the bundle."""
    kind, fitted, evaluation = kind_of(bundle), steps.fitted, steps.evaluation
    shown = FitBlocks()
    if kind.fit_blocks is not None:
        session = open_session(bundle, "cpu")
        shown = kind.fit_blocks(steps.line, fitted, bundle, session, p_values_of(steps.calibrator), evaluation)
    write_page(fit_page(bundle, fitted.held_out, fitted.effective, shown, evaluation), path)
