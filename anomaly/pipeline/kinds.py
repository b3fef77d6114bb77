"""The kinds of input that a detector can be fitted to. A kind is one package, one row here and one row in `anomaly.edge.kinds`.

To add a kind: a spec model in `anomaly.spec.SPECS`, a package with its `Line` and what its bundles can be asked, and the two rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from pydantic import BaseModel

from anomaly.bundle.archive import Bundle
from anomaly.edge.runtime.session import Session
from anomaly.errors import BundleError, DataError, SpecError
from anomaly.evaluation.figures import Evaluation
from anomaly.pipeline.camera import bundle as camera
from anomaly.pipeline.fitted import Fitted
from anomaly.pipeline.line import Line, LineSpec
from anomaly.pipeline.sensor import bundle as sensor
from anomaly.progress import Progress
from anomaly.spec import CameraSpec, SensorSpec

if TYPE_CHECKING:
    from anomaly.evaluation.report.page import Block
    from anomaly.pipeline.report.fitted import FitBlocks

STEPS = ("pretrain", "fit", "calibrate", "evaluate", "graph", "parity", "variants", "export")


@dataclass(frozen=True)
class Kind:
    """One kind of input, on the training side.

    spec            the pydantic model of its spec
    layouts         names of the ways its labelled data may lie
    open_line       (spec, data) -> its line; PyTorch is imported by this function only
    evaluate        (bundle, session, labelled data, layout or None, progress) -> figures
    report_plots    (bundle, evaluation, data) -> what the report shows of the records
    fit_blocks      (line, fitted, bundle, session, p-values of scores, evaluation or None) -> what the fit's report shows; None: nothing
    steps_s         (line, extractor or None) -> how many seconds each step to a bundle, and the fit's report, are expected to take
    has_variants    whether its bundles carry the same graph in other arithmetic
    rank_source     (line, source) -> the figures that a source of transfer is ranked by; None when the kind has no transfer
    learning_curve  (line, draws, progress) -> columns way, normals, seed, auroc; None when the kind has no transfer
    curve_axes      what a learning curve counts, and what it measures
    """

    spec: type[BaseModel]
    layouts: tuple[str, ...]
    open_line: Callable[[Any, Path], Line]
    evaluate: Callable[[Bundle, Session, Path, str | None, Progress], Evaluation]
    report_plots: Callable[[Bundle, Evaluation, Path], list[Block]]
    fit_blocks: Callable[[Any, Fitted, Bundle, Session, Any, Evaluation | None], FitBlocks] | None = None
    steps_s: Callable[[Any, Path | None], Mapping[str, float]] = lambda line, extractor: dict.fromkeys((*STEPS, "report"), 1.0)
    has_variants: bool = False
    rank_source: Callable[[Any, Path], dict[str, Any]] | None = None
    learning_curve: Callable[[Any, int, Progress], pd.DataFrame] | None = None
    curve_axes: tuple[str, str] = ("normals", "AUROC")


def open_line(spec: LineSpec, data: Path) -> Line:
    """The line a spec describes, on the data given.

    Raises DataError before any work when the data is not there, SpecError for a kind that has no row here.
    """
    if spec.kind not in KINDS:
        raise SpecError(f"{spec.name}: no kind {spec.kind!r} is known here; known are {', '.join(KINDS)}")
    return KINDS[spec.kind].open_line(spec, data)


def kind_of(bundle: Bundle) -> Kind:
    """The row of a bundle's kind. Raises BundleError for a kind that is not known here."""
    name = bundle.manifest.kind
    if name not in KINDS:
        raise BundleError(f"{bundle.manifest.name}: a {name} bundle; known here: {', '.join(KINDS)}")
    return KINDS[name]


def rank_source(line: Line, source: Path) -> dict[str, Any]:
    """The figures that a source of transfer is ranked by. Raises DataError for a kind of input without transfer."""
    found = KINDS[line.spec.kind].rank_source
    if found is None:
        raise DataError(f"{source}: sources cannot be ranked for a {line.spec.kind} detector")
    return found(line, source)


def learning_curve(line: Line, draws: int, progress: Progress) -> pd.DataFrame:
    """Accuracy against the number of normals, with the spec's transfer and without: columns way, normals, seed, auroc.

    Raises SpecError when the spec names no source, or for a kind of input without transfer; DataError when the line has no labelled data.
    """
    found = KINDS[line.spec.kind].learning_curve
    if found is None:
        raise SpecError(f"{line.spec.name}: there are no learning curves for a {line.spec.kind} detector")
    return found(line, draws, progress)


def _open_camera(spec: CameraSpec, data: Path) -> Line:
    from anomaly.pipeline.camera.line import CameraLine

    return CameraLine(spec, data)


def _open_sensor(spec: SensorSpec, data: Path) -> Line:
    from anomaly.pipeline.sensor.line import SensorLine

    return SensorLine(spec, data)


def _camera_blocks(*given: Any) -> FitBlocks:
    from anomaly.pipeline.report.camera import fit_blocks

    return fit_blocks(*given)


def _sensor_blocks(*given: Any) -> FitBlocks:
    from anomaly.pipeline.report.sensor import fit_blocks

    return fit_blocks(*given)


def _rank_camera(line: Any, source: Path) -> dict[str, Any]:
    from anomaly.pipeline.camera.rank_source import rank_source

    return rank_source(line, source)


def _rank_sensor(line: Any, source: Path) -> dict[str, Any]:
    from anomaly.pipeline.sensor.rank_source import rank_source

    return rank_source(line, source)


def _curve_camera(line: Any, draws: int, progress: Progress) -> pd.DataFrame:
    from anomaly.pipeline.camera.curve import ALL, SIZES, camera_curve

    return camera_curve(line, line.spec.transfer.method, (*SIZES, ALL), draws, progress)


def _curve_sensor(line: Any, draws: int, progress: Progress) -> pd.DataFrame:
    from anomaly.pipeline.sensor.curve import ALL, WINDOWS, sensor_curve

    return sensor_curve(line, (*WINDOWS, ALL), draws, progress)


KINDS: dict[str, Kind] = {
    "camera": Kind(
        spec=CameraSpec,
        layouts=camera.LAYOUTS,
        open_line=_open_camera,
        evaluate=camera.evaluate,
        report_plots=camera.report_plots,
        fit_blocks=_camera_blocks,
        steps_s=lambda line, extractor: line.expected_s(extractor),
        has_variants=True,
        rank_source=_rank_camera,
        learning_curve=_curve_camera,
        curve_axes=("normals", "image AUROC"),
    ),
    "sensor": Kind(
        spec=SensorSpec,
        layouts=sensor.LAYOUTS,
        open_line=_open_sensor,
        evaluate=sensor.evaluate,
        report_plots=sensor.report_plots,
        fit_blocks=_sensor_blocks,
        steps_s=lambda line, extractor: dict(zip((*STEPS, "report"), (1, 4, 0.1, 1, 0.2, 0.5, 0.5, 0.2, 3), strict=True)),
        rank_source=_rank_sensor,
        learning_curve=_curve_sensor,
        curve_axes=("normal windows", "ROC-AUC of rows"),
    ),
}
