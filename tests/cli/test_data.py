"""`anomaly table`, as a user types it."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from anomaly.errors import DataError
from tests.conftest import run


def test_a_long_export_with_a_counter_becomes_a_table(tmp_path: Path) -> None:
    long = tmp_path / "export.csv"
    long.write_text(
        "when,tag,value\n" + "".join(f"2026-01-01T00:00:0{i}Z,flow,{i}\n2026-01-01T00:00:0{i}Z,parts,{3 * i}\n" for i in range(4))
    )
    out = tmp_path / "table.parquet"
    assert run("table", long, "--out", out, "--time", "when", "--long", "tag,value", "--counter", "parts").endswith(f"{out}: 4 rows\n")
    table = pd.read_parquet(out)
    assert table["flow"].tolist() == [0, 1, 2, 3]
    assert table["parts"].tolist()[1:] == [3, 3, 3]


def test_a_missing_source_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.csv: no such file"):
        run("table", "nowhere.csv", "--out", tmp_path / "t.csv")
