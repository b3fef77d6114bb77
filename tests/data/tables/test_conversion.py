"""What a plant has, as the one table: exact tables out of small sources, and errors that name what is wrong."""

from __future__ import annotations

import sqlite3
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.io import savemat, wavfile

from anomaly.data.tables.conversion import Conversion, convert
from anomaly.data.tables.files import find_tables
from anomaly.data.tables.reader import TableSchema, read_table
from anomaly.errors import DataError

LONG = (
    "time,tag,value\n2026-01-01T00:00:00Z,flow,1\n2026-01-01T00:00:00Z,heat,20\n2026-01-01T00:00:01Z,flow,2\n2026-01-01T00:00:01Z,flow,3\n"
)


def made(source: str | Path, out: Path, **how: object) -> pd.DataFrame:
    (path,) = convert(str(source), out, Conversion(**how))  # type: ignore[arg-type]
    return pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)


def test_long_readings_become_columns(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text(LONG)
    wide = made(tmp_path / "l.csv", tmp_path / "w.csv", long=("tag", "value"))
    assert list(wide) == ["time", "flow", "heat"]
    np.testing.assert_array_equal(wide["flow"], [1, 3])  # of equal readings the last
    assert wide["heat"].isna().tolist() == [False, True]
    with pytest.raises(DataError, match=r"l\.csv: columns \['name'\] are missing; it has \['time', 'tag', 'value'\]"):
        convert(str(tmp_path / "l.csv"), tmp_path / "w.csv", Conversion(long=("name", "value")))


def test_a_query_is_run_and_no_password_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with sqlite3.connect(tmp_path / "h.db") as database:
        pd.DataFrame({"time": [1.0, 2.0], "tag": ["a", "a"], "value": [5.0, 6.0]}).to_sql("history", database, index=False)
    monkeypatch.setenv("PLANT_DB", f"sqlite:///{tmp_path / 'h.db'}")
    wide = made("env:PLANT_DB", tmp_path / "w.parquet", query="SELECT * FROM history WHERE time > 1", long=("tag", "value"))
    assert wide.to_dict("list") == {"time": [2.0], "a": [6.0]}
    with pytest.raises(DataError, match=r"env:PLANT_DB: the query failed: .*no such table: absent"):
        convert("env:PLANT_DB", tmp_path / "w.parquet", Conversion(query="SELECT * FROM absent"))
    with pytest.raises(DataError, match="environment variable NOT_THERE is not set"):
        convert("env:NOT_THERE", tmp_path / "w.parquet", Conversion(query="SELECT 1"))
    with pytest.raises(DataError) as refused:
        convert("nodriver://user:secret@host/db", tmp_path / "w.parquet", Conversion(query="SELECT 1"))
    assert "secret" not in str(refused.value)
    monkeypatch.setitem(sys.modules, "psycopg", None)  # not installed
    with pytest.raises(DataError, match=r"the driver .* is not installed, so nothing was asked yet; run: pip install 'psycopg\[binary\]'"):
        convert("postgresql+psycopg://host/db", tmp_path / "w.parquet", Conversion(query="SELECT 1"))


def test_the_hour_that_comes_twice_and_the_one_that_never_comes(tmp_path: Path) -> None:
    twice = ["2026-10-25 01:30", "2026-10-25 02:30", "2026-10-25 02:30", "2026-10-25 03:30"]
    pd.DataFrame({"time": twice, "a": range(4)}).to_csv(tmp_path / "d.csv", index=False)
    made(tmp_path / "d.csv", tmp_path / "u.csv", zone="Europe/Berlin")
    table = read_table(tmp_path / "u.csv", TableSchema())
    np.testing.assert_array_equal(np.diff(table.times), [3600, 3600, 3600])
    pd.DataFrame({"time": ["2026-03-29 02:30"], "a": [1]}).to_csv(tmp_path / "n.csv", index=False)
    with pytest.raises(DataError, match="is not local time of Europe/Berlin"):
        convert(str(tmp_path / "n.csv"), tmp_path / "u.csv", Conversion(zone="Europe/Berlin"))


def test_a_counter_becomes_growth_and_its_reset_is_missing(tmp_path: Path) -> None:
    pd.DataFrame({"time": range(5), "pieces": [10, 12, 15, 1, 4]}).to_csv(tmp_path / "c.csv", index=False)
    grown = made(tmp_path / "c.csv", tmp_path / "g.csv", counters=("pieces",))["pieces"]
    np.testing.assert_array_equal(grown, [np.nan, 2, 3, np.nan, 3])
    with pytest.raises(DataError, match=r"counters \['parts'\] are not among its columns"):
        convert(str(tmp_path / "c.csv"), tmp_path / "g.csv", Conversion(counters=("parts",)))


def test_uneven_readings_come_to_one_rate_and_gaps_stay_gaps(tmp_path: Path) -> None:
    pd.DataFrame({"time": [0.0, 1.0, 2.5, 9.0], "a": [1.0, 3.0, 5.0, 7.0], "label": [0, 1, 0, 0]}).to_csv(tmp_path / "r.csv", index=False)
    even = made(tmp_path / "r.csv", tmp_path / "e.csv", period_s=2.0)
    np.testing.assert_array_equal(even["a"], [2.0, 5.0, np.nan, np.nan, 7.0])
    assert even["label"].tolist()[:2] == [1.0, 0.0]  # a fault in a part of a period is in the period


def bearing(seconds: float, rate: int, damaged: bool) -> np.ndarray:
    """Noise; when damaged, 100 blows a second that ring at a fifth of the rate."""
    rng = np.random.default_rng(0)
    t = np.arange(int(seconds * rate)) / rate
    signal = rng.normal(0, 0.05, len(t))
    if damaged:
        since = np.mod(t, 0.01)
        signal += 0.3 * np.exp(-since * 1500) * np.sin(2 * np.pi * rate / 5 * since)
    return signal


def test_a_damaged_bearing_shows_in_the_envelope(tmp_path: Path) -> None:
    tables = []
    for damaged in (False, True):
        wavfile.write(tmp_path / "b.wav", 12_800, (bearing(10, 12_800, damaged) * 20_000).astype(np.int16))
        tables.append(made(tmp_path / "b.wav", tmp_path / "b.csv"))
    good, bad = tables
    assert len(good) == 20
    np.testing.assert_allclose(good["time"], np.arange(20) * 0.5)
    assert (bad["b_kurtosis"] > good["b_kurtosis"].max()).all()
    envelope = [c for c in good if "_envelope_" in c]
    gain = (bad[envelope].mean() - good[envelope].mean()).sort_values()
    low, high = (float(v) for v in (gain.index[-1].split("_")[2], 1e9))
    assert 57 <= low <= 101 < high  # the band that 100 Hz lies in rises most


def test_matlab_files_need_a_rate_and_named_variables(tmp_path: Path) -> None:
    savemat(tmp_path / "x.mat", {"X097_DE_time": bearing(5, 12_000, False)[:, None], "X097RPM": np.array([[1796]])})
    table = made(tmp_path / "x.mat", tmp_path / "x.parquet", rate=12_000.0)
    assert len(table) == 10
    assert "X097_DE_time_rms" in table
    with pytest.raises(DataError, match="give it with --rate"):
        convert(str(tmp_path / "x.mat"), tmp_path / "x.csv", Conversion())
    with pytest.raises(DataError, match=r"no numeric vectors \['nope'\]"):
        convert(str(tmp_path / "x.mat"), tmp_path / "x.csv", Conversion(rate=12_000.0, variables=("nope",)))
    (tmp_path / "bad.mat").write_bytes(b"not matlab")
    with pytest.raises(DataError, match=r"bad\.mat: not a readable MATLAB file"):
        convert(str(tmp_path / "bad.mat"), tmp_path / "x.csv", Conversion(rate=1.0))
    (tmp_path / "bad.wav").write_bytes(b"RIFFxxxx")
    with pytest.raises(DataError, match=r"bad\.wav: not a readable WAV file"):
        convert(str(tmp_path / "bad.wav"), tmp_path / "x.csv", Conversion())


def test_tsb_ad_files_become_a_folder_to_fit_and_evaluate(tmp_path: Path) -> None:
    source = tmp_path / "001_X_id_1_Sensor_tr_60_1st_80.csv"
    pd.DataFrame({"a": range(100), "Label": [0] * 80 + [1] * 20}).to_csv(source, index=False)
    rows = convert(str(source), tmp_path / "out", Conversion())
    assert {p.name: n for p, n in rows.items()} == {"train.parquet": 60, "test.parquet": 100}
    train, test = find_tables(tmp_path / "out")
    assert "label" not in pd.read_parquet(train[0])
    assert read_table(test[0], TableSchema(labels=("label",))).labels["label"].sum() == 20


def test_wrong_names_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file; give a table"):
        convert(str(tmp_path / "none.csv"), tmp_path / "o.csv", Conversion())
    (tmp_path / "t.csv").write_text("when,a\n1,2\n2,3\n")
    with pytest.raises(DataError, match="name the time with --time"):
        convert(str(tmp_path / "t.csv"), tmp_path / "o.csv", Conversion())
    with pytest.raises(DataError, match=r"must end in \.csv or \.parquet"):
        convert(str(tmp_path / "t.csv"), tmp_path / "o.txt", Conversion(time="when"))
