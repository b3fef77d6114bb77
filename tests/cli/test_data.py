"""`anomaly table`, as a user types it."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from anomaly.errors import AnomalyError, DataError
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


def test_long_readings_with_a_decimal_comma(tmp_path: Path) -> None:
    lines = "".join(f"05.01.2026 {i // 60:02d}:{i % 60:02d};{tag};{i},5\n" for i in range(300) for tag in ("flow", "heat"))
    (tmp_path / "l.csv").write_text("Zeit;tag;value\n" + lines + "13.01.2026 00:00;flow;7,5\n")
    run("table", tmp_path / "l.csv", "--out", tmp_path / "w.parquet", "--long", "tag,value")
    wide = pd.read_parquet(tmp_path / "w.parquet")
    assert wide["flow"].tolist() == [*(i + 0.5 for i in range(300)), 7.5]
    assert wide["Zeit"].iloc[1] == pd.Timestamp("2026-01-05 00:01", tz="UTC")
    (tmp_path / "w.csv").write_text("Zeit;tag;value\n" + "".join(f"2026-01-05 00:{i:02d};flow;viel\n" for i in range(50)))
    with pytest.raises(DataError, match="column 'value' holds 'viel' and the like, which are no numbers"):
        run("table", tmp_path / "w.csv", "--out", tmp_path / "o.csv", "--long", "tag,value")


def test_inspect_tells_a_page(tmp_path: Path, samples: Path) -> None:
    (tmp_path / "t.csv").write_text("time,a,anomaly\n" + "".join(f"2026-01-01 00:{i:02d}:00,{i},{int(i > 50)}\n" for i in range(60)))
    told = run("inspect", tmp_path / "t.csv").splitlines()
    assert told[0] == "read as: UTF-8, cells between ',', decimal point"
    assert "label 'anomaly' in t.csv: 9 of 60 rows" in told
    assert f"next: anomaly fit {samples / 'camera'}" in run("inspect", samples / "camera")
    assert "1 to learn from, 1 to test on: test.csv" in run("inspect", samples / "plant")
    with pytest.raises(DataError, match="no such file or folder"):
        run("inspect", tmp_path / "none")


@pytest.mark.parametrize(
    ("spec", "data", "told"),
    [
        ("specs/camera.toml", "plant/test.csv", r"test\.csv: this looks like a table of readings: use specs/sensor\.toml"),
        ("specs/camera.toml", "plant", r"plant: this looks like a table of readings: use specs/sensor\.toml"),
        ("specs/sensor.toml", "camera", r"camera: this looks like a folder of pictures: use specs/camera\.toml"),
        ("specs", "camera", "specs: this is a folder: give a spec such as specs/sensor.toml"),
        ("data_samples/camera", "camera", r"this looks like a folder of pictures: use specs/camera\.toml, and name the data with --data"),
    ],
)
def test_a_spec_that_does_not_fit_the_data_is_told_which_does(samples: Path, tmp_path: Path, spec: str, data: str, told: str) -> None:
    with pytest.raises(AnomalyError, match=told):
        run("fit", spec, "--data", samples / data, "--out", tmp_path / "o.anomaly")
