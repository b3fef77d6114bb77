"""Records that sensors are judged on, each with what is learnt from and which rows are faulty: public ones, the samples, made-up ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from anomaly.data.tables.conversion import LABEL, tsb_ad_parts
from anomaly.data.tables.files import table_schema
from anomaly.data.tables.reader import read_table
from anomaly.evaluation.ranges import nab_probation
from anomaly.spec import SensorInput
from benchmarks.protocols import made
from benchmarks.protocols.sensors import SKAB_LABELS, SKAB_TRAINING_ROWS, nab_windows, skab_runs, tables_of

Frame = pd.DataFrame
TIMES = ("time", "datetime", "timestamp")
CLOCK = (1_767_571_200.0, 86_400.0 / made.DAY)  # of the daily pattern: from Monday, 2026-01-05
SAMPLES = Path(__file__).parents[2] / "data_samples"


@dataclass(frozen=True)
class Record:
    """`train` is learnt from, `whole` is scored, both with times and sensors; `labels` (n,) say which rows of `whole` are faulty.

    first: the first row of `whole` that was not learnt from
    kind: skab, tsb_ad, or the record's own name
    stroke: rows of a stroke that begins at `first`, 0 where there are none
    """

    name: str
    train: Frame
    whole: Frame
    labels: NDArray[np.bool_]
    first: int
    kind: str
    stroke: int = 0

    @property
    def values(self) -> NDArray[np.float64]:
        """The sensors' readings (n, C)."""
        return self.whole.drop(columns=list(TIMES), errors="ignore").to_numpy(float)

    @property
    def row_after_row(self) -> bool:
        """Whether no gap ends a window: SKAB's published baselines take a run so."""
        return self.kind == "skab"


def skab(data: Path) -> Iterator[Record]:
    """SKAB's labelled runs."""
    for path in skab_runs(data):
        frame = pd.read_csv(path, sep=";")
        values, labels = frame.drop(columns=list(SKAB_LABELS)), frame["anomaly"].to_numpy() > 0
        name = f"{path.parent.name}/{path.stem}"
        yield Record(name, values.head(SKAB_TRAINING_ROWS), values, labels, SKAB_TRAINING_ROWS, "skab")


def tsb_ad(data: Path) -> Iterator[Record]:
    """Files in TSB-AD's form."""
    for path in sorted(data.glob("*.csv")):
        train, frame = tsb_ad_parts(path)
        yield of_rows(path.stem, frame.drop(columns=["time", LABEL]).to_numpy(float), frame[LABEL].to_numpy() > 0, len(train), "tsb_ad")


def nab(data: Path) -> Iterator[Record]:
    """NAB's series: the first 15 % are learnt from, at most 750 rows; the rows of its windows are faulty."""
    for path in tables_of(data):
        frame, table = pd.read_csv(path), read_table(path, table_schema(SensorInput()))
        labels = np.zeros(len(frame), bool)
        for low, high in nab_windows(table):
            labels |= (table.times >= low) & (table.times <= high)
        learnt = nab_probation(len(frame))
        yield Record(f"nab/{path.stem}", frame.head(learnt), frame, labels, learnt, "nab")


def samples(data: Path = SAMPLES) -> Iterator[Record]:
    """The samples that the project ships: one table is learnt from, the other is judged from its first row on."""
    for name, unit_rows in {"plant": [], "press": [1]}.items():
        train, whole = (pd.read_csv(data / name / f"{part}.csv", skiprows=unit_rows) for part in ("train", "test"))
        labels = whole["anomaly"].to_numpy() > 0
        yield Record(f"sample {name}", train, whole.drop(columns=["anomaly", "fault_kind"]), labels, 0, f"sample {name}")


MADE: dict[str, Callable[[], made.Made]] = {
    "press": made.press,
    "beats": made.beats,
    "sticking valve": made.sticking,
    "AR(1)": made.remembering,
    "counts": made.counts,
    "daily pattern": made.daily,
}


def made_up() -> Iterator[Record]:
    """Each of `made`'s records."""
    for name, make in MADE.items():
        clock = CLOCK if name == "daily pattern" else (0.0, 1.0)
        yield of_rows(name, *make(), name, made.STROKE if name == "press" else 0, clock)


def of_rows(
    name: str,
    values: NDArray[np.float64],
    labels: NDArray[np.bool_],
    learnt: int,
    kind: str,
    stroke: int = 0,
    clock: tuple[float, float] = (0.0, 1.0),
) -> Record:
    """A record (n, C) of which the first rows are learnt from. `clock`: time of the first row and seconds from row to row."""
    frame = pd.DataFrame(values, columns=[f"s{i}" for i in range(values.shape[1])])
    first_s, period_s = clock
    frame.insert(0, "time", first_s + period_s * np.arange(len(values)))
    return Record(name, frame.head(learnt), frame, labels, learnt, kind, stroke)


def all_records(skab_data: Path | None, tsb_data: Path | None, nab_data: Path | None) -> Iterator[Record]:
    """The samples, the made-up records, and what is there of the public ones."""
    yield from samples()
    yield from made_up()
    for data, records in ((nab_data, nab), (tsb_data, tsb_ad), (skab_data, skab)):
        yield from records(data) if data else ()
