"""CSV that leaves: a spreadsheet runs nothing in it, and our readers find what was written."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from anomaly.data.spreadsheet import read_cell, write_csv, written_cell
from anomaly.data.tables.conversion import Conversion, convert
from anomaly.data.tables.reader import TableSchema, read_table
from tests.conftest import Fitted, run

RUN = ["=HYPERLINK(1)", "+A1", "-A1-M1", "@SUM(1)", "\t=1"]
NUMBERS = st.floats().map(str) | st.integers().map(lambda value: f"{value:+}") | st.from_regex(r"-[0-9]+,[0-9]+", fullmatch=True)


@given(st.text() | st.builds(str.__add__, st.sampled_from("=+-@\t\r'"), st.text()))
def test_no_text_is_run_and_each_is_read_back(text: str) -> None:
    written = written_cell(text)
    assert read_cell(written) == text
    assert written[:1] not in ("=", "@", "\t", "\r") or len(written) == 1
    assert written[:1] not in ("+", "-") or not any(letter.isalpha() and letter not in "eE" for letter in written)


@given(NUMBERS.filter(lambda text: "inf" not in text))
def test_a_number_stays(text: str) -> None:
    assert written_cell(text) == text


def test_a_frame_keeps_its_numbers_and_leads_text_by_an_apostrophe(tmp_path: Path) -> None:
    frame = pd.DataFrame({"=a": [-1.5, np.nan], "b": ["=1+1", "press"], "c": [-3, 4], "d": [True, False], "e": [None, "-x"]})
    write_csv(frame, tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_text() == "'=a,b,c,d,e\n-1.5,'=1+1,-3,True,\n,press,4,False,'-x\n"


def test_a_table_made_of_an_export_has_its_sensors_names_when_it_is_read(tmp_path: Path) -> None:
    names = ["=A1-M1", "-B2", "+C3", "plain", "'quoted"]
    frame = pd.DataFrame({name: np.linspace(0, 1, 40) - number for number, name in enumerate(names)})
    frame.insert(0, "time", pd.date_range("2026-01-01", periods=40, freq="s", tz="UTC"))
    frame.to_parquet(tmp_path / "export.parquet")
    (table,) = convert(str(tmp_path / "export.parquet"), tmp_path / "t.csv", Conversion(period_s=1.0))
    assert (tmp_path / "t.csv").read_text().startswith("time,'=A1-M1,'-B2,'+C3,plain,'quoted\n")
    read = read_table(table, TableSchema())
    assert [channel.name for channel in read.channels] == names
    np.testing.assert_allclose(read.readings[:, 1], frame["-B2"])


def test_scores_and_flagged_stretches_of_a_file_with_such_a_name(sensor: Fitted, tmp_path: Path) -> None:
    shutil.copy(sensor.data / "test.csv", tmp_path / "=1+1.csv")
    said = run("score", sensor.bundle, tmp_path / "=1+1.csv", "--csv", tmp_path / "s.csv", "--exit-zero")
    assert f"written to {tmp_path / 's.csv'}" in " ".join(said.split())
    found = pd.read_csv(tmp_path / "s.csv")
    assert found["record"].str.startswith("'=1+1.csv:").all()
    assert found["p_is_below"].any()
    assert (found["p_value"][found["p_is_below"]] == found["p_value"].min()).all()
