"""Figures of labelled records: what is scored, what is not, and what it comes to, by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anomaly.data.pictures.reading import Picture, PictureFormat
from anomaly.data.tables.files import table_schema
from anomaly.data.tables.reader import SensorTable, read_table
from anomaly.data.tables.windows import score_table
from anomaly.errors import DataError
from anomaly.evaluation.figures import by_row, evaluate_pictures, evaluate_tables
from anomaly.schema import InputSchema


@pytest.fixture
def table(tmp_path: Path) -> SensorTable:
    """Twenty rows of one sensor; rows 12 to 15 are a fault; no reading is missing, but an hour lies before row 5."""
    path = tmp_path / "run.csv"
    lines = ["time,a,anomaly"]
    for row in range(20):
        second = row + (3600 if row >= 5 else 0)
        faulty = 12 <= row < 16
        time = f"2026-01-01T{second // 3600:02d}:{second % 3600 // 60:02d}:{second % 60:02d}Z"
        lines.append(f"{time},{10 if faulty else row % 2},{int(faulty)}")
    path.write_text("\n".join(lines) + "\n")
    return read_table(path, table_schema(SCHEMA))


SCHEMA = InputSchema(
    name="window", dtype="float32", channels=1, window=3, period_s=1.0, max_gap_s=10.0, time="time",
    sensors=({"name": "a", "unit": "", "low": None, "high": None},), labels=("anomaly",), mode_column=None, modes=(),
)  # fmt: skip


def latest(windows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A detector whose score is the last reading, and whose p-value is small from ten on."""
    score = windows[:, -1, 0].astype(np.float32)
    return score, np.where(score >= 10, 0.001, 0.5).astype(np.float32), np.ones((len(windows), 1), np.float32)


def test_every_whole_window_is_scored(table: SensorTable) -> None:
    seen = []

    def run(windows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        seen.append(windows)
        return latest(windows)

    scored = score_table(run, table, rows=3)
    assert scored["row"].tolist() == [2, 3, 4, *range(7, 20)]  # none spans the hour before row 5
    assert np.concatenate(seen)[..., 0].tolist() == [table.values[row - 2 : row + 1, 0].tolist() for row in scored["row"]]
    assert score_table(run, table, 3, first_row=10)["row"].tolist() == list(range(10, 20))
    with pytest.raises(DataError, match="a window takes 16 rows without a gap, and the longest stretch has 15"):
        score_table(run, table, rows=16)


def test_a_row_that_ends_no_window_ranks_lowest_and_is_not_flagged(table: SensorTable) -> None:
    flagged, score = by_row(score_table(latest, table, 3), 0, 20, 0.01)
    assert flagged.nonzero()[0].tolist() == [12, 13, 14, 15]
    assert set(score[[0, 1, 5, 6]]) == {0.0}


def test_figures_of_tables_by_hand(table: SensorTable) -> None:
    found = evaluate_tables(latest, [table], "anomaly", 3, p=0.01)
    assert found.figures["roc_auc"] == 1.0
    assert found.figures["recall"] == 1.0
    assert (found.figures["faults"], found.figures["faults_found"], found.figures["detection_delay_s"]) == (1, 1, 0.0)
    assert found.figures["false_alarms_per_day"] == 0.0
    assert len(found.records) == 20
    with pytest.raises(DataError, match="no label column 'fault'"):
        evaluate_tables(latest, [table], "fault", 3, p=0.01)


def test_a_picture_that_cannot_be_read_is_rejected_and_the_rest_is_judged(tmp_path: Path) -> None:
    pictures = []
    for name, level, defect in (("a", 10, None), ("b", 20, None), ("c", 200, "scratch"), ("d", 0, None)):
        path = tmp_path / f"{name}.png"
        Image.fromarray(np.full((8, 8), level, np.uint8)).save(path)
        pictures.append(Picture(name, path, defect))
    pictures[3].path.write_bytes(b"not a picture")

    def run(raw: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        score = raw.reshape(len(raw), -1).mean(axis=1).astype(np.float32)
        return score, (1 / (1 + score)).astype(np.float32), np.zeros((len(raw), 4, 4), np.float32)

    found = evaluate_pictures(run, pictures, PictureFormat("gray"), p=1 / 100)
    assert found.records["id"].tolist() == ["a", "b", "c"]
    assert found.records["flagged"].tolist() == [False, False, True]
    assert (found.figures["n"], found.figures["n_defect"], found.figures["rejected"]) == (3, 1, 1)
    assert found.figures["image_auroc"] == 1.0
    assert found.figures["per_defect"]["scratch"]["found"] == 1.0
    with pytest.raises(DataError, match="none of the pictures"):
        evaluate_pictures(run, pictures[3:], PictureFormat("gray"), p=0.01)
