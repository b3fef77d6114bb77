"""Learning curves: accuracy on labelled records against how many normals there were to learn from, with a transfer and without."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from anomaly.data.pictures.reading import Picture
from anomaly.data.tables.files import label_of, table_schema
from anomaly.data.tables.reader import SensorTable, read_table
from anomaly.errors import DataError, SpecError
from anomaly.evaluation.figures import by_row, score_table
from anomaly.evaluation.metrics import auroc
from anomaly.evaluation.transfer import ALONE
from anomaly.features.stages import Stages
from anomaly.pipeline.camera.line import CameraLine
from anomaly.pipeline.camera.transfer import CameraTransfer, Way
from anomaly.pipeline.line import Progress
from anomaly.pipeline.sensor.line import SensorLine
from anomaly.pipeline.sensor.transfer import SensorTransfer
from anomaly.pipeline.steps import Steps
from anomaly.scorers.build import fit_camera_scorer
from anomaly.spec import Transfer, TransferMethod

SIZES = (5, 10, 20, 50, 100)
ALL = 1 << 30
WINDOWS = (10, 20, 50, 100, 200, 500)
BANK = 2000  # patches a bank at most: many fits
AT_ONCE = 32


def camera_curve(line: CameraLine, method: TransferMethod, sizes: Sequence[int], seeds: int, progress: Progress) -> pd.DataFrame:
    """Image AUROC (`way`, `normals`, `seed`, `auroc`) on the line's labelled pictures, of the target alone and of one way of transfer.

    Sizes beyond what there is stand for all normals. Every seed draws other normals. Banks hold at most 2,000 patches, whatever
    the spec says. Raises DataError when the line has no labelled pictures, SpecError when its spec names no source.
    """
    _check_given(line.spec.transfer)
    if not line.pictures.test:
        raise DataError(f"{line.root}: no labelled pictures to measure on; give a folder with test/good and test/KIND")
    transfer = CameraTransfer(line, progress)
    test = [p for p in line.pictures.test if line.read(p) is not None]
    labels = np.array([p.defect is not None for p in test])
    seen: dict[int, tuple[Stages, list[Tensor], list[Tensor]]] = {}
    found = []

    def scores(way: Way, chosen: NDArray[np.int64], seed: int) -> NDArray[np.float64]:
        key = id(way.extractor)
        if key not in seen:
            if way.extractor not in (transfer.own, transfer.source):
                for other in [k for k, held in seen.items() if held[0] not in (transfer.own, transfer.source)]:
                    del seen[other]
            sides = [line.features_of(way.extractor, transfer.preprocess, side) for side in (line.readable, test)]
            seen[key] = (way.extractor, sides[0], sides[1])
        _, train, tested = seen[key]
        generator = torch.Generator().manual_seed(seed)
        maps = [m[torch.from_numpy(chosen)] for m in train]
        scorer = fit_camera_scorer(line.spec, maps, generator, largest=BANK, borrowed=way.borrowed).scorer
        with torch.inference_mode():
            parts = [scorer([m[i : i + AT_ONCE] for m in tested])[0] for i in range(0, len(test), AT_ONCE)]
        return torch.cat(parts).double().numpy()

    ways: dict[str, Callable[[list[Picture]], Way]] = {ALONE: lambda _: Way(transfer.own), method: lambda t: transfer.way(method, t)}
    for name, make in ways.items():
        for size in sorted({min(size, len(line.readable)) for size in sizes}):
            for seed in range(1 if size == len(line.readable) else seeds):
                chosen = np.sort(np.random.default_rng([line.spec.seed, seed]).permutation(len(line.readable))[:size])
                way = make([line.readable[i] for i in chosen])
                area = auroc(labels, scores(way, chosen, seed)) or 0.0
                found.append({"way": name, "normals": size, "seed": seed, "auroc": area})
                progress(f"{name}, {size} normals, seed {seed}: AUROC {area:.4f}")
    return pd.DataFrame(found)


def sensor_curve(line: SensorLine, sizes: Sequence[int], seeds: int, progress: Progress) -> pd.DataFrame:
    """ROC-AUC (`way`, `normals`, `seed`, `auroc`) of the line's labelled rows, by the target alone and by the spec's transfer.

    `normals` are windows whose rows follow each other; every seed has them begin elsewhere. Sizes beyond what there is stand for
    all rows. A size with which a way cannot be fitted has no row. Raises DataError when the line has no labelled tables, or
    the transfer can be fitted with no size, SpecError when the spec names no source.
    """
    _check_given(line.spec.transfer)
    if not line.test_paths:
        raise DataError(f"{line.root}: no labelled tables to measure on; give a folder with train*.csv and test*.csv")
    SensorTransfer(line.readings, progress)  # a source that does not fit is refused before anything is fitted
    tables = _labelled_tables(line)
    every = max(1, len(line.readings.values) - line.spec.input.window + 1)
    found, reason = [], ""
    for way, transfer in {ALONE: Transfer(), line.spec.transfer.method: line.spec.transfer}.items():
        for size in sorted({min(size, every) for size in sizes}):
            for seed in range(1 if size == every else seeds):
                start = int(np.random.default_rng([line.spec.seed, seed, size]).integers(every - size + 1))
                try:
                    area = _row_auroc(line.subset(start, size + line.spec.input.window - 1, transfer), tables)
                except DataError as error:
                    reason = str(error)
                    progress(f"{way}, {size} windows: cannot be fitted; {reason}")
                    break
                found.append({"way": way, "normals": size, "seed": seed, "auroc": area})
                progress(f"{way}, {size} windows, seed {seed}: ROC-AUC {area:.4f}")
    if not found or found[-1]["way"] == ALONE:
        raise DataError(reason)
    return pd.DataFrame(found)


def _labelled_tables(line: SensorLine) -> list[tuple[SensorTable, NDArray[np.bool_]]]:
    """The line's labelled tables with which rows (n,) are faulty. Raises SpecError for one without labels."""
    found = []
    for path in line.test_paths:
        table = read_table(path, table_schema(line.input_schema({})))
        label = label_of(table)
        if label is None:
            raise SpecError(f"{path}: no label column; name it in [input] labels")
        found.append((table, table.labels[label] > 0))
    return found


def _row_auroc(line: SensorLine, tables: Sequence[tuple[SensorTable, NDArray[np.bool_]]]) -> float:
    """ROC-AUC of all rows of labelled tables by a detector fitted on the line."""
    with tempfile.TemporaryDirectory() as scratch:
        run = Steps(line, Path(scratch)).detector().run
    scores = []
    for table, _ in tables:
        scored = score_table(run, table, line.spec.input.window, line.spec.input.context)
        scores.append(by_row(scored, 0, len(table.times), 1.0)[1])
    return auroc(np.concatenate([label for _, label in tables]), np.concatenate(scores)) or 0.0


def _check_given(transfer: Transfer) -> None:
    if not transfer.given:
        raise SpecError("a learning curve compares with and without a transfer; name its source under [transfer]")
