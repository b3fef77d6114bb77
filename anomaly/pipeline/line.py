"""What the steps need of a line, be it a camera or a set of sensors."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from anomaly.calibration.conformal import Calibrator
from anomaly.data.tables.windows import Run
from anomaly.errors import SpecError
from anomaly.evaluation.figures import Evaluation
from anomaly.export.detector import Detector
from anomaly.pipeline.fitted import Fitted
from anomaly.progress import Progress
from anomaly.schema import InputSchema
from anomaly.spec import Alarm, Budget, Transfer


def check_transfer_given(transfer: Transfer) -> None:
    """Raise SpecError when a spec names no source to compare with."""
    if not transfer.given:
        raise SpecError("a learning curve compares with and without a transfer; name its source under [transfer]")


@dataclass(frozen=True)
class Examples:
    """Raw batches (n, ...) that graph and PyTorch are compared on: random ones and real ones. `names`, one a real record, for messages."""

    noise: list[NDArray[Any]]
    real: list[NDArray[Any]]
    names: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Exported:
    """A detector with its exported graph, as `Line.graphs` starts from it.

    `model` is the ONNX graph in float32, `extractor` the file of the pretrain step, `held_out` (N,) the held-out normal scores that the
    detector is calibrated by, `p` the p-value at or below which a record is flagged.
    """

    detector: Detector
    model: bytes
    extractor: Path
    held_out: NDArray[np.float64]
    p: float


@dataclass(frozen=True)
class Graphs:
    """Further graphs that a bundle carries beside `detector.onnx`, and what was found of each, accepted or not.

    `variants` are the same graph in other arithmetic, by name (`fp16`, `int8`); `stream` is its form for rows that follow each other.
    """

    variants: dict[str, bytes] = field(default_factory=dict)
    stream: bytes | None = None
    parity: dict[str, dict[str, Any]] = field(default_factory=dict)


class LineSpec(Protocol):
    """What the steps ask of a spec, whatever its kind: a pydantic model with these fields."""

    @property
    def kind(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def seed(self) -> int: ...
    @property
    def budget(self) -> Budget: ...
    @property
    def alarm(self) -> Alarm: ...
    def model_dump(self, *, mode: str = ...) -> dict[str, Any]:
        """The whole spec as plain values, in the order it is written in."""
        ...


class Delays(NamedTuple):
    """Of an alarm, as in `anomaly.schema.AlarmSettings`."""

    on_delay_s: float = 0.0
    off_delay_s: float = 0.0
    off_records: int = 1


class Line(Protocol):
    """One line's data with its spec. Nothing heavy happens before a method is called."""

    @property
    def spec(self) -> LineSpec:
        """The line's spec."""
        ...

    def files(self) -> list[Path]:
        """Every file that `fingerprint` or `test_fingerprint` reads."""
        ...

    def fingerprint(self) -> str:
        """SHA-256 of the training data."""
        ...

    def test_fingerprint(self) -> str:
        """SHA-256 of the labelled data for evaluation, "" when there is none."""
        ...

    def notes(self) -> list[str]:
        """What a person should know of the data as it was read; a line of text each."""
        ...

    def pretrain(self, out: Path, progress: Progress, *, full: bool = False) -> dict[str, Any]:
        """Write the extractor file; returns its description.

        Training stops after a first stretch that promises no gain, unless it is to be `full`.
        """
        ...

    def fit(self, extractor: Path, progress: Progress) -> Fitted:
        """Fit the scorer on all normals and score each normal once by a scorer that has not seen it."""
        ...

    def detector(self, extractor: Path, fitted: Fitted, calibrator: Calibrator) -> Detector:
        """The composed detector, in eval mode."""
        ...

    def input_schema(self) -> InputSchema:
        """What the graph takes."""
        ...

    def evaluate(self, run: Run, schema: InputSchema, p: float, progress: Progress) -> Evaluation | None:
        """Figures on the labelled part of the data, None when there is none."""
        ...

    def examples(self, schema: InputSchema, count: int, rng: np.random.Generator) -> Examples:
        """`count` random and `count` real records, for the export's parity check."""
        ...

    def graphs(self, exported: Exported, rng: np.random.Generator, progress: Progress, *, quick: bool = False) -> Graphs:
        """Further graphs of the detector that are good enough for the bundle, with how far each agrees with it.

        `quick` leaves out those that only make it run faster. Raises ExportError for a graph that must agree and does not.
        """
        ...

    def decisions_per_day(self, report: dict[str, Any]) -> float | None:
        """How many alarms a day there would be if every record were flagged; None when the record rate is not known."""
        ...

    def delays(self) -> Delays:
        """When an alarm opens and is over, where the spec does not say."""
        ...
