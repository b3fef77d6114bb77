"""What the steps need of a line, be it a camera or a set of sensors."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from anomaly.calibration.conformal import Calibrator
from anomaly.data.files import find_files
from anomaly.data.records import fingerprint
from anomaly.errors import DataError, SpecError
from anomaly.evaluation.figures import Evaluation, Run
from anomaly.export.detector import Detector
from anomaly.features.tensors import load_tensors, save_tensors
from anomaly.schema import InputSchema
from anomaly.spec import Alarm, Budget, Transfer

Progress = Callable[[str], None]


@dataclass(frozen=True)
class DataKey:
    """Which data it is: SHA-256 of what a detector is fitted to, and of the labelled data it is judged by ("" when there is none).

    `stamp` stands for the files' names, sizes and times of change when they were hashed. A key that is handed on holds only while the stamp
    is the same, so a change of the data is seen however many steps share one key.
    """

    train: str
    test: str
    stamp: str


def stamp_of(files: Iterable[Path]) -> str:
    """A short text that changes when a file is added, removed, or written to. Reads no file."""
    digest = hashlib.sha256()
    for path in sorted(files):
        found = path.stat()
        digest.update(f"{path}\0{found.st_size}\0{found.st_mtime_ns}\0{found.st_ctime_ns}\n".encode())
    return digest.hexdigest()


def transfer_files(transfer: Transfer) -> list[Path]:
    """Every file of what the spec's [transfer] names. Raises DataError for a path that is not there."""
    return [file for path in _named(transfer) for file in _files_under(path)]


def with_transfer(own: str, transfer: Transfer) -> str:
    """A data set's fingerprint, with that of whatever the spec's [transfer] names. Raises DataError for a path that is not there."""
    named = _named(transfer)
    if not named:
        return own
    digests = [fingerprint(_files_under(path), path) for path in named]
    return hashlib.sha256(" ".join([own, *digests]).encode()).hexdigest()


def _named(transfer: Transfer) -> list[Path]:
    return [path for path in (transfer.source, transfer.normals, transfer.faults, transfer.source_faults) if path is not None]


def _files_under(path: Path) -> list[Path]:
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; it is named under [transfer]")
    return find_files(path, deep=True) if path.is_dir() else [path]


def check_transfer_given(transfer: Transfer) -> None:
    """Raise SpecError when a spec names no source to compare with."""
    if not transfer.given:
        raise SpecError("a learning curve compares with and without a transfer; name its source under [transfer]")


def silent(_: str) -> None:
    """A progress callback that says nothing."""


@dataclass
class Fitted:
    """What the fit step leaves.

    `method` names the scorer, `tensors` are what it has learnt. `held_out` (N,) are the normals' scores in record order, each by a scorer
    that has not seen the record; `effective` says how many of them are independent. `reference` becomes the bundle's reference.parquet.
    `report` goes into its manifest. It has at least `normals` (how many records), `held_out_by` (in words), `injected_auroc` (synthetic
    faults against normals) and `extractor` (its description).
    """

    method: str
    tensors: dict[str, Tensor]
    held_out: NDArray[np.float64]
    effective: float
    reference: pd.DataFrame
    report: dict[str, Any] = field(default_factory=dict)


def save_fitted(path: Path, fitted: Fitted) -> None:
    """Write the fit step's result as one safetensors file."""
    tensors = {f"scorer.{name}": tensor for name, tensor in fitted.tensors.items()}
    tensors["held_out"] = torch.from_numpy(fitted.held_out)
    tensors |= {f"reference.{c}": torch.tensor(fitted.reference[c].to_numpy(dtype=np.float64)) for c in fitted.reference}
    about = {"scorer": fitted.method, "effective": fitted.effective, "report": fitted.report, "columns": list(fitted.reference)}
    save_tensors(path, tensors, about)


def load_fitted(path: Path) -> Fitted:
    """Read what `save_fitted` wrote. Raises WeightsError when the file is missing or damaged."""
    tensors, about = load_tensors(path)
    scorer = {name.removeprefix("scorer."): tensor for name, tensor in tensors.items() if name.startswith("scorer.")}
    reference = pd.DataFrame({column: tensors[f"reference.{column}"].numpy() for column in about["columns"]})
    return Fitted(about["scorer"], scorer, tensors["held_out"].double().numpy(), about["effective"], reference, about["report"])


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

    def pretrain(self, out: Path, progress: Progress) -> dict[str, Any]:
        """Write the extractor file; returns its description."""
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

    def evaluate(self, run: Run, schema: InputSchema, p: float) -> Evaluation | None:
        """Figures on the labelled part of the data, None when there is none."""
        ...

    def examples(self, schema: InputSchema, count: int, rng: np.random.Generator) -> tuple[list[NDArray[Any]], list[NDArray[Any]]]:
        """(random, real) raw batches, `count` records of each, for the export's parity check."""
        ...

    def graphs(self, exported: Exported, rng: np.random.Generator, progress: Progress) -> Graphs:
        """Further graphs of the detector that are good enough for the bundle, with how far each agrees with it.

        `rng` is the one that `examples` has drawn from. Raises ExportError for a graph that must agree and does not.
        """
        ...

    def decisions_per_day(self, report: dict[str, Any]) -> float | None:
        """How many alarms a day there would be if every record were flagged; None when the record rate is not known."""
        ...

    def calm_s(self) -> float:
        """Seconds of calm after which an alarm is over, where the spec does not say."""
        ...
