"""A table that is read in parts is the table that is read whole, whatever is wrong with it and wherever it is cut."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly.batch.survey import Surveyed, read_part, survey
from anomaly.data.tables.reader import TableSchema, read_table
from anomaly.data.tables.windows import window_ends
from anomaly.errors import DataError
from anomaly.schema import Channel, Dialect

WINDOW = 5
CHANNELS = (Channel(name="flow", low=-50.0), Channel(name="heat", offset=10.0, hold_s=7.0))
SCHEMA = TableSchema(channels=CHANNELS, mode_column="mode", modes=("run",), period_s=1.0, max_gap_s=4.0)
DIALECT = Dialect(encoding="utf-8", delimiter=";", decimal=".", skip_rows=1, units_rows=1, time=("time",), time_format=("s",))
CSV = TableSchema(**{**vars(SCHEMA), "dialect": DIALECT})


def compare(path: Path, schema: TableSchema, size: int, cuts: list[int], block: int) -> Surveyed:
    """Every part of the table, cut there, holds what the whole table holds, and judges the same windows."""
    whole, found = read_table(path, schema), survey(path, schema, block)
    assert found.rows["line"].tolist() == whole.lines.tolist()
    np.testing.assert_array_equal(found.rows["time"], whole.times)
    ends = window_ends(whole.times, whole.usable, WINDOW, whole.max_gap_s)
    judged: list[int] = []
    places = sorted({0, len(whole.lines), *(cut % (len(whole.lines) + 1) for cut in cuts)})
    for begin, end in pairwise(places):
        part, first = read_part(path, schema, found, begin, end, WINDOW)
        for name in ("values", "readings", "lines", "times", "usable"):
            np.testing.assert_array_equal(getattr(part, name)[first:], getattr(whole, name)[begin:end], err_msg=name)
        mine = window_ends(part.times, part.usable, WINDOW, part.max_gap_s)
        for at in mine[mine >= first]:
            window = slice(at - WINDOW + 1, at + 1)
            there = at - first + begin
            np.testing.assert_array_equal(part.values[window], whole.values[there - WINDOW + 1 : there + 1])
            judged.append(int(there))
    assert judged == ends.tolist()
    assert len(found.rows) + len(found.aside) == size
    return found


@settings(max_examples=40)
@given(st.data())
def test_a_csv_in_parts_is_the_csv(data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 10_000)))
    rows = data.draw(st.integers(30, 120))
    times = np.cumsum(rng.choice([1.0, 1.0, 1.0, 1.0, 9.0, 0.0], rows)) + 1_767_225_600
    late = rng.choice(rows, 3, replace=False)
    times[late] -= rng.integers(1, 40, 3)
    if data.draw(st.booleans()):
        times[rows // 2] += 1e6  # a stray stamp
    if data.draw(st.booleans()):
        times = times[::-1]  # the newest row first
    lines = []
    for at, moment in enumerate(times):
        heat = f"{rng.normal():.3f}" if at % 4 == 0 else ""
        flow = rng.choice([f"{rng.normal():.3f}", "I/O Timeout", "-99", "?"], p=[0.85, 0.05, 0.05, 0.05])
        mode = "run" if rng.random() < 0.95 else "stop"
        lines.append(f"{moment:.0f};{flow};{heat};{mode}")
    broken = data.draw(st.integers(5, rows - 1))
    lines[broken] = "cut;short"
    text = "exported by hand\r\ntime;flow;heat;mode\r\ns;m3;C;\r\n" + "\r\n".join(lines) + data.draw(st.sampled_from(["", "\r\n"]))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "t.csv"
        path.write_bytes(text.encode())
        cuts = data.draw(st.lists(st.integers(0, 200), max_size=6))
        found = compare(path, CSV, rows, cuts, data.draw(st.integers(100, 2000)))
    assert (broken + 4, "has 2 fields instead of 4") in found.aside


@pytest.mark.parametrize("group", [7, 10_000])
def test_a_parquet_in_parts_is_the_parquet(tmp_path: Path, group: int) -> None:
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"time": pd.date_range("2026-01-01", periods=200, freq="s", tz="UTC"), "flow": rng.normal(size=200)})
    frame["heat"] = np.where(np.arange(200) % 4, np.nan, rng.normal(size=200))
    frame["mode"] = pd.Categorical(np.where(np.arange(200) // 60 == 1, "stop", "run"))
    frame["not read"] = "text"
    frame.to_parquet(tmp_path / "t.parquet", row_group_size=group)
    schema = TableSchema(**{**vars(SCHEMA), "dialect": DIALECT.model_copy(update={"time_format": ("ISO8601",)})})
    assert len(compare(tmp_path / "t.parquet", schema, 200, [1, 33, 34, 77, 190], 1).blocks) == -(-200 // group)


@pytest.mark.parametrize("encoding", ["utf-16", "cp1252"])
def test_other_encodings(tmp_path: Path, encoding: str) -> None:
    text = "Werk Süd\ntime;flow;heat;mode\ns;m³;°C;\n" + "".join(f"{1e9 + at:.0f};{at}.5;1;run\n" for at in range(100))
    (tmp_path / "t.csv").write_bytes(text.encode(encoding))
    schema = TableSchema(**{**vars(CSV), "dialect": DIALECT.model_copy(update={"encoding": encoding})})
    assert len(compare(tmp_path / "t.csv", schema, 100, [10, 50], 300).blocks) > 3


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("heat", "hat"), "column 'heat' is missing"),
        (("mode\n", "made\n"), "mode column 'mode' is missing"),
        (("time;", "tame;"), "no time column 'time'"),
        ((";7.5;", ";7,5 x;"), "10 of 100 cells cannot be read, such as '7,5 x' in line 11"),
        (("1000000", "soon"), "times cannot be read"),
        (("time;flow;", "time;"), "the header is shifted"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_as_by_the_reader(tmp_path: Path, change: tuple[str, str], said: str) -> None:
    text = "plant\ntime;flow;heat;mode\ns;m3;C;\n" + "".join(f"{1e9 + at:.0f};{at % 10}.5;1;run\n" for at in range(100))
    path = tmp_path / "t.csv"
    path.write_text(text.replace(*change))
    with pytest.raises(DataError, match=said) as ours:
        survey(path, CSV, 400)
    with pytest.raises(DataError) as readers:
        read_table(path, CSV)
    assert str(ours.value) == str(readers.value)


def test_parts_know_of_the_hour_that_is_left_out(tmp_path: Path) -> None:
    clock = np.concatenate([np.arange(3600, 7200, 60), np.arange(3600, 9000, 60)])  # 02:00 comes after 02:59
    path = tmp_path / "t.csv"
    path.write_text("time,flow\n" + "".join(f"{seconds},{row}\n" for row, seconds in enumerate(clock)))
    dialect = Dialect(encoding="utf-8", delimiter=",", decimal=".", skip_rows=0, units_rows=0, time=("time",), time_format=("s",))
    schema = TableSchema(channels=(Channel(name="flow"),), period_s=60.0, max_gap_s=600.0, dialect=dialect)
    found = compare(path, schema, 150, list(range(50, 80)), 256)
    assert found.rows["line"][found.rows["anew"]].tolist() == [122]  # the first row after 02:59
