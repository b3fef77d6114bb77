"""A folder of tables."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from anomaly.edge.sources.table_folder import TableFolder
from tests.edge.sources.conftest import SCHEMA


def put_table(folder: Path, name: str, start: int, stop: int, age: float) -> None:

    frame = pd.DataFrame({"time": np.arange(start, stop, dtype=float) + 1e9, "a": np.arange(start, stop) * 1.0, "b": 1.0})
    frame.to_parquet(folder / name)
    os.utime(folder / name, (time.time() - age, time.time() - age))


@pytest.mark.parametrize("limit", [3, 7, 100])
def test_tables_in_a_folder_go_on_where_the_one_before_ended(tmp_path: Path, limit: int) -> None:
    put_table(tmp_path, "z.parquet", 0, 10, 50)
    put_table(tmp_path, "a.parquet", 10, 20, 40)
    (tmp_path / "broken.parquet").write_bytes(b"junk")

    os.utime(tmp_path / "broken.parquet", (1, 1))
    found, bad, position = [], [], {}
    for _ in range(20):  # a new process for every poll
        poll = TableFolder(tmp_path, SCHEMA, position).poll(limit)
        found += poll.records
        bad += poll.rejected
        position = poll.position
    assert [r.time - 1e9 for r in found] == list(range(2, 20))
    assert found[10].payload[:, 0].tolist() == [10.0, 11.0, 12.0]  # over the end of a file
    assert [item.id.split("@")[0] for item in bad] == ["broken.parquet"]
