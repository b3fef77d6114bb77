"""What the steps need of a line, be it a camera or a set of sensors."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from anomaly.calibration.conformal import Calibrator
from anomaly.data.files import find_files
from anomaly.data.records import fingerprint
from anomaly.errors import DataError
from anomaly.evaluation.figures import Evaluation, Run
from anomaly.export.detector import Detector
from anomaly.schema import InputSchema
from anomaly.spec import CameraSpec, SensorSpec, Transfer

Progress = Callable[[str], None]


def with_transfer(own: str, transfer: Transfer) -> str:
    """A data set's fingerprint, with that of whatever the spec's [transfer] names."""
    named = [path for path in (transfer.source, transfer.normals, transfer.faults, transfer.source_faults) if path is not None]
    if not named:
        return own
    digests = []
    for path in named:
        if not path.exists():
            raise DataError(f"{path}: no such file or folder; it is named under [transfer]")
        digests.append(fingerprint(find_files(path, deep=True) if path.is_dir() else [path], path))
    return hashlib.sha256(" ".join([own, *digests]).encode()).hexdigest()


def silent(_: str) -> None:
    """A progress callback that says nothing."""


@dataclass
class Fitted:
    """What `fit` leaves: the parts' tensors, held-out normal scores in record order, how many of them are independent."""

    tensors: dict[str, Tensor]
    held_out: NDArray[np.float64]
    effective: float
    reference: pd.DataFrame
    report: dict[str, Any] = field(default_factory=dict)


class Line(Protocol):
    """One line's data with its spec. Nothing heavy happens before a method is called."""

    @property
    def spec(self) -> CameraSpec | SensorSpec:
        """The line's spec."""
        ...

    def fingerprint(self) -> str:
        """SHA-256 of the training data."""
        ...

    def test_fingerprint(self) -> str:
        """SHA-256 of the labelled data for evaluation, "" when there is none."""
        ...

    def pretrain(self, out: Path, progress: Progress) -> dict[str, Any]:
        """Write the extractor file; returns its description."""
        ...

    def fit(self, extractor: Path, progress: Progress) -> Fitted:
        """Fit the scorer on all normals and score each normal once by a scorer that has not seen it."""
        ...

    def detector(self, extractor: Path, tensors: dict[str, Tensor], calibrator: Calibrator) -> Detector:
        """The composed detector, in eval mode."""
        ...

    def input_schema(self, tensors: dict[str, Tensor]) -> InputSchema:
        """What the graph takes."""
        ...

    def evaluate(self, run: Run, schema: InputSchema, p: float) -> Evaluation | None:
        """Figures on the labelled part of the data, None when there is none."""
        ...

    def examples(self, schema: InputSchema, count: int, rng: np.random.Generator) -> tuple[list[NDArray[Any]], list[NDArray[Any]]]:
        """(random, real) raw batches, `count` records of each, for the export's parity check."""
        ...

    def decisions_per_day(self, report: dict[str, Any]) -> float | None:
        """How many alarms a day there would be if every record were flagged; None when the record rate is not known."""
        ...

    def calm_s(self) -> float:
        """Seconds of calm after which an alarm is over, where the spec does not say."""
        ...
