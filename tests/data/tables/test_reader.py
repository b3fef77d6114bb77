"""Reading tables: what is wrong is counted and named; what makes a file unusable stops with the fix."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from anomaly.data.tables.dialect.encoding import decoded
from anomaly.data.tables.reader import TableSchema, read_table
from anomaly.errors import DataError
from anomaly.schema import Channel, Dialect

HEADER = "time,a,b\n"
ROWS = "".join(f"2026-01-01T00:00:{i:02d}Z,{i},{i * 2}\n" for i in range(20))


def table(tmp_path: Path, text: str, schema: TableSchema | None = None):
    path = tmp_path / "t.csv"
    path.write_text(text)
    return read_table(path, schema or TableSchema())


def test_plain_table(tmp_path: Path) -> None:
    read = table(tmp_path, HEADER + ROWS)
    assert [c.name for c in read.channels] == ["a", "b"]
    assert read.period_s == 1.0
    assert read.times[0] == pd.Timestamp("2026-01-01T00:00:00Z").timestamp()
    np.testing.assert_array_equal(read.values[:, 1], np.arange(20) * 2)
    assert read.report.summary() == {"rows": 20}


def test_text_cell_is_missing_counted_and_quoted(tmp_path: Path) -> None:
    read = table(tmp_path, HEADER + ROWS.replace(",7,14", ",7,fault!"))
    assert np.isnan(read.values[7, 1])
    assert read.report.bad_cells == 1
    assert "line 9, column 'b': 'fault!' is not a number; taken as missing" in read.report.notes[0]


def test_missing_column(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"t\.csv: column 'flow' is missing; columns are \['time', 'a', 'b'\]"):
        table(tmp_path, HEADER + ROWS, TableSchema(channels=(Channel(name="flow"),)))


def test_shifted_header(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has 3 fields but the header names 2 .*the header is shifted"):
        table(tmp_path, "time,a\n" + ROWS)


def test_header_missing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"the first line holds numbers, not column names .*add a header line"):
        table(tmp_path, "0,1,2\n1,2,3\n2,3,4\n")


def test_empty_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"t\.csv: the file is empty \(0 bytes\)"):
        table(tmp_path, "")
    with pytest.raises(DataError, match="a header but no rows"):
        table(tmp_path, HEADER)


def test_one_short_row_is_left_out_not_fatal(tmp_path: Path) -> None:
    read = table(tmp_path, HEADER + ROWS + "2026-01-01T00:00:30Z,5\n")
    assert read.report.bad_rows == 1
    assert len(read.times) == 20
    assert "row 22 has 2 fields instead of 3; left out" in read.report.notes[0]


def test_duplicates_disorder_gaps_and_missing_are_counted(tmp_path: Path) -> None:
    lines = ROWS.splitlines(keepends=True)
    lines[3], lines[4] = lines[4], lines[3]
    lines.append("2026-01-01T00:00:05Z,99,99\n")
    lines.append("2026-01-01T00:05:00Z,1,\n")
    read = table(tmp_path, HEADER + "".join(lines))
    assert read.report.summary() == {"rows": 21, "missing_cells": 1, "duplicate_times": 1, "out_of_order": 2, "gaps": 1}
    assert read.values[5, 0] == 99  # of equal times the last is kept
    assert [note for note in read.report.notes if "the time of a later row" in note] == [
        f"{tmp_path / 't.csv'}: 1 row has the time of a later row, the first is row 7; left out"
    ]
    assert (np.diff(read.times) > 0).all()


def test_shuffled_rows_are_sorted_and_none_is_lost(tmp_path: Path) -> None:
    rows = [f"2026-01-0{1 + i // 14400}T{i // 600 % 24:02}:{i // 10 % 60:02}:{i % 10 * 6:02}Z,{i},{-i}\n" for i in range(20_000)]
    whole = table(tmp_path, HEADER + "".join(rows))
    order = np.random.default_rng(0).permutation(len(rows))
    read = table(tmp_path, HEADER + "".join(rows[at] for at in order))
    np.testing.assert_array_equal(read.times, whole.times)
    np.testing.assert_array_equal(read.values, whole.values)
    assert read.report.notes == [f"{tmp_path / 't.csv'}: its rows are in no order of time; sorted"]
    assert read.report.bad_rows == 0


@pytest.mark.parametrize("cell", ["", "NaN", "inf", "1e300", "Bad"])
def test_a_sensor_without_a_reading_is_told_and_a_table_without_any_refused(tmp_path: Path, cell: str) -> None:
    known = TableSchema(channels=(Channel(name="a"), Channel(name="b")))
    rows = "".join(f"2026-01-01T00:00:{i:02}Z,{{}},{cell}\n" for i in range(20))
    read = table(tmp_path, "time,a,b\n" + rows.replace("{}", "1"), known)
    assert any("sensor 'b' has no reading in any of 20 rows; it is judged by the others alone" in note for note in read.report.notes)
    assert not any("sensor 'a'" in note for note in read.report.notes)
    with pytest.raises(DataError, match=r"t\.csv: no sensor has a reading in any of its 20 rows"):
        table(tmp_path, "time,a,b\n" + rows.replace("{}", cell), known)


def test_limits_labels_and_modes(tmp_path: Path) -> None:
    text = "time,p,label,mode\n" + "".join(f"{i},{i},{int(i > 5)},{'run' if i % 2 else 'stop'}\n" for i in range(10))
    read = table(
        tmp_path, text, TableSchema(channels=(Channel(name="p", high=8.0),), labels=("label",), mode_column="mode", modes=("run",))
    )
    assert read.report.out_of_limits == 1
    assert read.labels["label"].sum() == 4
    assert read.usable.sum() == 5


@pytest.mark.parametrize(("unit", "factor"), [("s", 1), ("ms", 1e3), ("us", 1e6), ("ns", 1e9)])
def test_numeric_times(tmp_path: Path, unit: str, factor: float) -> None:
    start = 1_767_225_600
    read = table(tmp_path, "ts,a\n" + "".join(f"{int((start + i) * factor)},{i}\n" for i in range(9)))
    np.testing.assert_allclose(read.times, start + np.arange(9))


def test_semicolons_parquet_and_remarks(tmp_path: Path) -> None:
    frame = pd.DataFrame({"datetime": pd.date_range("2026", periods=8, freq="10s"), "x": np.arange(8.0), "remark": ["ok"] * 8})
    frame.to_csv(tmp_path / "s.csv", sep=";", index=False)
    frame.to_parquet(tmp_path / "s.parquet")
    a, b = read_table(tmp_path / "s.csv", TableSchema()), read_table(tmp_path / "s.parquet", TableSchema())
    assert [c.name for c in a.channels] == ["x"]
    np.testing.assert_array_equal(a.values, b.values)
    np.testing.assert_array_equal(a.times, b.times)


def test_no_time_column(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no time column found .*\[input\] time"):
        table(tmp_path, "a,b\n1,2\n3,4\n")


def test_broken_parquet(tmp_path: Path) -> None:
    (tmp_path / "b.parquet").write_bytes(b"PAR1 nonsense")
    with pytest.raises(DataError, match="not a readable Parquet file"):
        read_table(tmp_path / "b.parquet", TableSchema())


def test_the_encoding_that_failed_is_not_what_the_message_says_to_name() -> None:
    with pytest.raises(DataError, match=r"not readable as cp1252 .* one of \"utf-8\", \"utf-16\", \"cp850\""):
        decoded("Zeit;Prüfung\n".encode("cp850"), "cp1252", "table.csv")


@pytest.mark.parametrize(
    ("learnt_in", "new_in", "why"),
    [
        ("cp1252", "utf-8", "its letters"),
        ("cp1252", "utf-8-sig", "its byte order mark"),
        ("cp1252", "utf-16", "its byte order mark"),
        ("cp1252", "utf-16-be", "the zeros between its letters"),
        ("utf-8", "cp1252", "the names of its columns"),
        ("utf-8", "cp850", "the names of its columns"),
    ],
)
def test_an_export_in_another_encoding_is_read_right_and_said(tmp_path: Path, learnt_in: str, new_in: str, why: str) -> None:
    text = "Zeit;Lager °C\n" + "".join(f"13.01.2026 00:{i // 60:02}:{i % 60:02};{i % 7},5\n" for i in range(200))
    (tmp_path / "learnt.csv").write_text(text, encoding=learnt_in)
    learnt = read_table(tmp_path / "learnt.csv", TableSchema())
    (tmp_path / "new.csv").write_text(text, encoding=new_in)
    new = read_table(tmp_path / "new.csv", TableSchema(dialect=learnt.dialect, channels=learnt.channels))
    assert [channel.name for channel in new.channels] == ["Lager °C"]
    np.testing.assert_array_equal(new.values, learnt.values)
    assert why in new.report.encoding
    assert new.report.notes[0] == new.report.encoding


def test_units_come_from_the_names_that_hold_them(tmp_path: Path) -> None:
    path = tmp_path / "export.csv"
    rows = "".join(f"2026-03-16 06:00:{second:02},{second}.5,{second},7\n" for second in range(40))
    path.write_text("time,Lager [°C],Druck (bar),Ventil (links)\n" + rows, encoding="utf-8")
    table = read_table(path, TableSchema())
    assert [(channel.name, channel.unit) for channel in table.channels] == [
        ("Lager [°C]", "°C"),
        ("Druck (bar)", "bar"),
        ("Ventil (links)", ""),
    ]


def test_rows_that_all_have_one_time_are_told_as_that(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"all 3 rows have the same time, 2026-01-13T00:00:00; is 'time' the time column"):
        table(tmp_path, "time,a\n" + "2026-01-13T00:00:00Z,1.5\n" * 3)


def test_what_a_bundle_cannot_read_is_not_to_be_mended_in_a_spec(tmp_path: Path) -> None:
    text = "Zeit;a\n" + "".join(f"13.01.2026 00:00:{i:02};{i % 7},25\n" for i in range(60))
    (tmp_path / "learnt.csv").write_text(text)
    learnt = read_table(tmp_path / "learnt.csv", TableSchema())
    schema = TableSchema(dialect=learnt.dialect, channels=learnt.channels)
    (tmp_path / "new.csv").write_text(text.replace(",", "."))
    with pytest.raises(DataError, match=r"export it as the one that was learnt from\. .* decimal '\.' instead of ','") as error:
        read_table(tmp_path / "new.csv", schema)
    assert "spec" not in str(error.value)


def test_a_time_that_does_not_fit_is_told_with_the_format_it_is_written_in(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("Zeit;a\n" + "".join(f"05.01.2026 00:00:{i:02};{i % 7},25\n" for i in range(60)))
    with pytest.raises(DataError, match=r"which is written as %d\.%m\.%Y %H:%M:%S\); correct the file, or \[input\] time_format"):
        read_table(tmp_path / "t.csv", TableSchema(dialect=Dialect(time_format=("%d.%m.%Y %H:%M",))))
