"""Tables as plants write them: each is read to the numbers and times that were written, or refused with the key that mends it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest

from anomaly.data.tables.dialect.find import find_dialect, to_store
from anomaly.data.tables.files import read_normals
from anomaly.data.tables.reader import TableSchema, read_table
from anomaly.errors import DataError
from anomaly.schema import Channel, Dialect
from tests.data.tables.written import ROWS, Way, german, grouped, readings, times, write

MINUTES = Way(period_s=60.0, rows=11 * 1440 + 1)
WAYS = {
    "plain": Way(),
    "T and Z": Way(stamp=lambda t: f"{t:%Y-%m-%dT%H:%M:%SZ}"),
    "milliseconds": Way(stamp=lambda t: f"{t:%Y-%m-%dT%H:%M:%S}.{t.microsecond // 1000:03d}", period_s=0.25),
    "fraction after a comma": Way(
        stamp=lambda t: f"{t:%d.%m.%Y %H:%M:%S},{t.microsecond // 1000:03d}", delimiter=";", period_s=0.25, rows=2000,
        start=pd.Timestamp("2026-01-13", tz="UTC"),
    ),
    "no seconds": Way(stamp=lambda t: f"{t:%Y-%m-%d %H:%M}"),
    "year/month/day": Way(stamp=lambda t: f"{t:%Y/%m/%d %H:%M:%S}"),
    "day.month.year": Way(stamp=lambda t: f"{t:%d.%m.%Y %H:%M}"),
    "11 days from 05.01.": replace(MINUTES, stamp=lambda t: f"{t:%d.%m.%Y %H:%M}"),
    "one digit": Way(stamp=lambda t: f"{t.day}.{t.month}.{t.year} {t.hour}:{t.minute:02d}"),
    "day/month/year": Way(stamp=lambda t: f"{t:%d/%m/%Y %H:%M:%S}"),
    "month/day/year": Way(stamp=lambda t: f"{t:%m/%d/%Y %H:%M:%S}"),
    "two digits of the year": Way(stamp=lambda t: f"{t:%d.%m.%y %H:%M}", period_s=6 * 3600, rows=400),
    "month names": Way(stamp=lambda t: f"{t:%d-%b-%Y %H:%M:%S}"),
    "month names, American": Way(stamp=lambda t: f"{t:%b %d, %Y %I:%M:%S %p}", delimiter=";"),
    "12-hour clock": Way(stamp=lambda t: f"{t:%m/%d/%Y %I:%M:%S %p}"),
    "12-hour clock, small letters": Way(stamp=lambda t: f"{t:%m/%d/%Y %I:%M} {'a.m.' if t.hour < 12 else 'p.m.'}"),
    "24:00": Way(stamp=lambda t: f"{t - pd.Timedelta(days=1):%Y-%m-%d} 24:00" if (t.hour, t.minute) == (0, 0) else f"{t:%Y-%m-%d %H:%M}"),
    "leap day": Way(stamp=lambda t: f"{t:%d/%m/%Y %H:%M}", start=pd.Timestamp("2028-02-27", tz="UTC")),
    "offset": Way(stamp=lambda t: f"{t:%Y-%m-%d %H:%M:%S%z}", zone="Europe/Berlin"),
    "offsets that change": Way(stamp=lambda t: t.isoformat(), zone="Europe/Berlin", start=pd.Timestamp("2026-03-20", tz="UTC")),
    "weekdays": Way(stamp=lambda t: f"{t:%a %d.%m.%Y %H:%M}"),
    "weekdays and commas": Way(stamp=lambda t: f"{t:%A, %d/%m/%Y %H:%M:%S}", delimiter=";"),
    "Excel's line of its own": Way(before="sep=;\n", delimiter=";", number=german),
    "compact": Way(stamp=lambda t: f"{t:%Y%m%d%H%M%S}"),
    "compact with T": Way(stamp=lambda t: f"{t:%Y%m%dT%H%M%SZ}"),
    "days": Way(stamp=lambda t: f"{t:%Y-%m-%d}", period_s=86400.0),
    **{
        f"epoch {unit}": Way(stamp=lambda t, f=factor: str(int(t.timestamp() * f)), period_s=1.0)
        for unit, factor in (("s", 1), ("ms", 1e3), ("us", 1e6), ("ns", 10**9))
    },
    "epoch with a fraction": Way(stamp=lambda t: f"{t.timestamp():.3f}", period_s=0.5),
    "seconds from zero": Way(stamp=lambda t: f"{t.timestamp():.0f}", start=pd.Timestamp(0, tz="UTC"), period_s=2.0),
    "local time": Way(stamp=lambda t: f"{t:%d.%m.%Y %H:%M}", zone="Europe/Berlin", spec={"zone": "Europe/Berlin"}),
    "local time, autumn": Way(
        stamp=lambda t: f"{t:%Y-%m-%d %H:%M:%S}", zone="Europe/Berlin", start=pd.Timestamp("2026-10-24 20:00", tz="UTC"),
        period_s=60.0, rows=900, spec={"zone": "Europe/Berlin"},
    ),
    "local time, autumn, hourly": Way(
        stamp=lambda t: f"{t:%Y-%m-%d %H:%M:%S}", zone="America/New_York", start=pd.Timestamp("2026-10-28", tz="UTC"),
        spec={"zone": "America/New_York"},
    ),
    "local time, spring": Way(
        stamp=lambda t: f"{t:%Y-%m-%d %H:%M:%S}", zone="Europe/Berlin", start=pd.Timestamp("2026-03-28 20:00", tz="UTC"),
        period_s=60.0, rows=900, spec={"zone": "Europe/Berlin"},
    ),
    "German": Way(
        stamp=lambda t: f"{t:%d.%m.%Y %H:%M}", number=german, delimiter=";", encoding="cp1252",
        header=("Datum", "Durchfluß m³/h", "Temperatur °C", "Füllstand"),
    ),
    "German in UTF-8": Way(
        stamp=lambda t: f"{t:%d.%m.%Y %H:%M}", number=german, delimiter=";", header=("Zeitstempel", "Fluss", "Wärme °C", "Höhe")
    ),
    "decimal comma in quotes": Way(number=lambda v: f'"{german(v)}"'),
    "every cell in quotes": Way(
        stamp=lambda t: f'"{t:%Y-%m-%d %H:%M:%S}"', number=lambda v: f'"{v:.3f}"', header=('"time"', '"flow"', '"heat"', '"level"')
    ),
    "an inch mark in a remark": Way(number=lambda v: f"{v:.3f}", end=';5" pipe', delimiter=";"),
    "byte order mark": Way(encoding="utf-8-sig"),
    "UTF-16": Way(encoding="utf-16", delimiter="\t"),
    "UTF-16 without a mark": Way(encoding="utf-16-le", header=("time", "flow", "heat °C", "level")),
    "UTF-16, big end first": Way(encoding="utf-16-be", header=("time", "flow", "heat °C", "level")),
    "thousands, English": Way(number=lambda v: f'"{grouped(v, ",", ".")}"'),
    "thousands, German": Way(number=lambda v: grouped(v, ".", ","), delimiter=";"),
    "thousands, Swiss": Way(number=lambda v: grouped(v, "'", "."), delimiter=";"),
    "thousands, French": Way(number=lambda v: grouped(v, "\u202f", ","), delimiter=";"),
    "thousands, a space": Way(number=lambda v: grouped(v, " ", ","), delimiter="\t"),
    "exponents": Way(number=lambda v: f"{v:.9E}"),
    "German exponents": Way(number=lambda v: f"{v:.9E}".replace(".", ","), delimiter=";"),
    "plus signs and spaces": Way(number=lambda v: f"  {v:+.3f} "),
    "a minus sign from a text processor": Way(number=lambda v: f"{v:.3f}".replace("-", "\u2212")),
    "tabs": Way(delimiter="\t", number=german),
    "pipes": Way(delimiter="|"),
    "carriage returns": Way(newline="\r\n"),
    "carriage returns alone": Way(newline="\r"),
    "commas in names": Way(delimiter=";", number=german, header=("time", "flow, l/min", "pressure, bar", "level, m")),
    "units under the header": Way(under=",m3/h,°C,m\n"),
    "units and more under it": Way(under="s,m3/h,degC,m\nTS,Avg,Avg,Smp\n"),
    "lines before the header": Way(before="Export of line 4\nUser: M. Muster; Station 7\n\n"),
    "lines of as many cells before it": Way(before="Station,4,Pump,1\nOperator,Muster,,\n"),
    "a preamble and units, German": Way(
        before="Anlage;Pumpe 1\nZeitraum;05.01.2026 - 20.01.2026\n\n", under=";m³/h;°C;m\n", delimiter=";", number=german,
        encoding="cp1252",
        stamp=lambda t: f"{t:%d.%m.%Y %H:%M:%S}",
    ),
    "delimiters at the end": Way(end=";", delimiter=";"),
    "delimiters at the end, German": Way(end=";", delimiter=";", number=german),
    "blank lines": Way(before="\n", under="\n"),
    "date and time apart": Way(
        stamp=lambda t: f"{t:%Y-%m-%d},{t:%H:%M:%S}", header=("Date", "Time", "flow", "heat", "level"),
    ),
    "date and time apart, German": Way(
        stamp=lambda t: f"{t:%d.%m.%Y};{t:%H:%M}", header=("Datum", "Uhrzeit", "flow", "heat", "level"), delimiter=";", number=german,
    ),
    "time and date apart, 12 hours": Way(
        stamp=lambda t: f"{t:%I:%M:%S %p},{t:%m/%d/%Y}", header=("Time", "Date", "flow", "heat", "level"),
    ),
    **{
        f"the time is called {name}": Way(header=(name, "flow", "heat", "level"))
        for name in ("Datum", "Zeit", "Date/Time", "TIMESTAMP_UTC", "Fecha", "when")
    },
}  # fmt: skip


@pytest.mark.parametrize("name", WAYS)
def test_what_was_written_is_read(tmp_path: Path, name: str) -> None:
    way = WAYS[name]
    values = write(tmp_path / "t.csv", way)
    table = read_table(tmp_path / "t.csv", TableSchema(dialect=Dialect(**way.spec)))
    sensors = [name for name in (part.strip('"') for part in way.header) if name not in table.dialect.time]
    assert [channel.name for channel in table.channels] == sensors
    np.testing.assert_array_equal(table.values, values.astype(np.float32))
    np.testing.assert_allclose(table.times, times(way).as_unit("us").asi8 / 1e6, atol=1e-6)
    assert table.report.bad_rows == table.report.bad_cells == 0
    again = read_table(tmp_path / "t.csv", TableSchema(dialect=table.dialect, channels=table.channels))  # as a bundle does
    np.testing.assert_array_equal(again.values, table.values)
    np.testing.assert_array_equal(again.times, table.times)


def test_units_are_taken_from_their_row(tmp_path: Path) -> None:
    write(tmp_path / "t.csv", WAYS["units under the header"])
    assert [channel.unit for channel in read_table(tmp_path / "t.csv", TableSchema()).channels] == ["m3/h", "°C", "m"]


SHORT = Way(rows=100)  # four days: 5 to 9 January
AMBIGUOUS = {
    "dots": (
        Way(rows=100, stamp=lambda t: f"{t:%d.%m.%Y %H:%M}"),
        r'05\.01\.2026.*day first or month first.*\[input\] time_format = "%d\.%m\.%Y %H:%M"',
    ),
    "slashes": (Way(rows=100, stamp=lambda t: f"{t:%m/%d/%Y %I:%M %p}"), r"\[input\] time_format"),
    "two digits": (Way(rows=100, stamp=lambda t: f"{t:%d.%m.%y %H:%M}"), r"\[input\] time_format"),
    "Excel's days": (Way(stamp=lambda t: f"{25569 + t.timestamp() / 86400:.6f}"), "looks like days as Excel or MATLAB count them"),
    "MATLAB's days": (Way(stamp=lambda t: f"{719529 + t.timestamp() / 86400:.6f}"), "looks like days as Excel or MATLAB count them"),
    "comma of decimals or thousands": (
        Way(number=lambda v: f"{100 + abs(v) % 800:.3f}".replace(".", ","), delimiter=";"),
        r"\[input\] decimal",
    ),
}


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_what_may_be_read_in_two_ways_is_refused_with_the_key_that_tells(tmp_path: Path, name: str) -> None:
    way, told = AMBIGUOUS[name]
    write(tmp_path / "t.csv", way)
    with pytest.raises(DataError, match=told):
        read_table(tmp_path / "t.csv", TableSchema())


def test_the_spec_decides_what_is_ambiguous(tmp_path: Path) -> None:
    write(tmp_path / "t.csv", AMBIGUOUS["dots"][0])
    first = [
        pd.Timestamp(read_table(tmp_path / "t.csv", TableSchema(dialect=Dialect(time_format=(form,)))).times[0], unit="s").strftime("%d %B")
        for form in ("%d.%m.%Y %H:%M", "%m.%d.%Y %H:%M")
    ]
    assert first == ["05 January", "01 May"]
    write(tmp_path / "n.csv", AMBIGUOUS["comma of decimals or thousands"][0])
    small = read_table(tmp_path / "n.csv", TableSchema(dialect=Dialect(decimal=",")))
    large = read_table(tmp_path / "n.csv", TableSchema(dialect=Dialect(decimal=".")))
    np.testing.assert_allclose(large.values, small.values * 1000, rtol=1e-6)


def test_a_date_that_reads_the_same_either_way_is_not_ambiguous(tmp_path: Path) -> None:
    way = Way(rows=20, start=pd.Timestamp("2026-05-05", tz="UTC"), stamp=lambda t: f"{t:%d/%m/%Y %H:%M}")
    write(tmp_path / "t.csv", way)
    np.testing.assert_array_equal(read_table(tmp_path / "t.csv", TableSchema()).times, times(way).as_unit("s").asi8)


def test_another_file_of_the_folder_decides(tmp_path: Path) -> None:
    write(tmp_path / "1.csv", AMBIGUOUS["dots"][0])
    write(tmp_path / "2.csv", replace(AMBIGUOUS["dots"][0], start=pd.Timestamp("2026-01-20", tz="UTC")))
    assert find_dialect([tmp_path / "1.csv", tmp_path / "2.csv"]).time_format == ("%d.%m.%Y %H:%M",)


def test_files_written_in_two_ways_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "1.csv", Way())
    write(tmp_path / "2.csv", Way(delimiter=";"))
    with pytest.raises(DataError, match=r"2\.csv: delimiter is ';', but in 1\.csv it is ','"):
        find_dialect([tmp_path / "1.csv", tmp_path / "2.csv"])


def test_orders_that_are_mixed_are_refused(tmp_path: Path) -> None:
    way = Way(start=pd.Timestamp("2026-01-13", tz="UTC"), stamp=lambda t: f"{t:%d/%m/%Y %H:%M}" if t.day < 20 else f"{t:%m/%d/%Y %H:%M}")
    write(tmp_path / "t.csv", way)
    with pytest.raises(DataError, match="written in more than one order"):
        read_table(tmp_path / "t.csv", TableSchema())


WORDS = [
    "I/O Timeout",
    "#N/A",
    "-",
    "Bad",
    "No Data",
    "Shutdown",
    "Scan Off",
    "[-11059] No Good Data For Calculation",
    "NaN",
    "",
    "null",
    "inf",
    "Störung",
    "Kabelbruch!",
]


@pytest.mark.parametrize("word", WORDS)
def test_a_word_for_no_reading_is_a_missing_cell_and_the_row_counts(tmp_path: Path, word: str) -> None:
    values = write(tmp_path / "t.csv", Way(), lambda row, column, text: word if column == 1 and row >= 250 else text)
    table = read_table(tmp_path / "t.csv", TableSchema())
    assert len(table.times) == ROWS
    assert np.isnan(table.values[250:, 1]).all()
    np.testing.assert_array_equal(table.values[:, [0, 2]], values[:, [0, 2]].astype(np.float32))
    if len(word) > 2 and word not in ("NaN", "null"):
        assert any("'heat'" in note and word in note for note in table.report.notes)


LOSING = {
    "a unit in the cell": lambda text: text + " bar",
    "a decimal comma beside decimal points": lambda text: '"' + text.replace(".", ",") + '"',
    "hours and minutes": lambda text: "12:30:11",
}


@pytest.mark.parametrize("name", LOSING)
def test_cells_with_digits_are_not_lost_without_a_word(tmp_path: Path, name: str) -> None:
    write(tmp_path / "t.csv", Way(), lambda row, column, text: LOSING[name](text) if column == 1 and row % 3 == 0 else text)
    with pytest.raises(
        DataError, match=r"column 'heat': 134 of 400 cells cannot be read, such as .* in line 2; no more than 5% may be lost"
    ):
        read_table(tmp_path / "t.csv", TableSchema())


@pytest.mark.parametrize("stamp", ["2099-01-01 00:00:00", "2026-02-05 00:00:00", "9999-12-31 23:59:59"])
@pytest.mark.parametrize("at", [0, 40, 398])
def test_a_row_stamped_far_ahead_is_one_bad_row(tmp_path: Path, stamp: str, at: int) -> None:
    stamps = {times(Way())[at]: stamp}
    values = write(tmp_path / "t.csv", Way(period_s=3600.0, stamp=lambda t: stamps.get(t, f"{t:%Y-%m-%d %H:%M:%S}")))
    table = read_table(tmp_path / "t.csv", TableSchema())
    np.testing.assert_array_equal(table.values, np.delete(values, at, axis=0).astype(np.float32))
    assert table.report.bad_rows == 1
    assert f"row {at + 2} is stamped {stamp[:4]}" in table.report.notes[0]


def test_an_hour_that_a_clock_without_zone_repeats_is_told(tmp_path: Path) -> None:
    write(tmp_path / "t.csv", replace(WAYS["local time, autumn"], spec={}))
    table = read_table(tmp_path / "t.csv", TableSchema())
    assert len(table.times) == 840
    assert any("60 rows repeat times; left out" in note and '[input] zone = "Europe/Berlin"' in note for note in table.report.notes)


def test_an_hour_that_the_zone_skips_is_no_time(tmp_path: Path) -> None:
    write(tmp_path / "t.csv", Way(start=pd.Timestamp("2026-03-25", tz="UTC")))
    table = read_table(tmp_path / "t.csv", TableSchema(dialect=Dialect(zone="Europe/Berlin")))
    assert table.report.bad_rows == 1
    assert "time '2026-03-29 02:00:00' cannot be read" in table.report.notes[0]


def test_the_newest_row_first(tmp_path: Path) -> None:
    values = write(tmp_path / "t.csv", Way())
    lines = (tmp_path / "t.csv").read_text().splitlines(keepends=True)
    (tmp_path / "t.csv").write_text("".join([lines[0], *lines[:0:-1]]))
    table = read_table(tmp_path / "t.csv", TableSchema())
    np.testing.assert_array_equal(table.values, values.astype(np.float32))
    assert table.report.out_of_order == 0


TYPED = {
    "zone": lambda frame: frame.assign(time=frame["time"].dt.tz_convert("Asia/Tokyo")),
    "no zone": lambda frame: frame.assign(time=frame["time"].dt.tz_localize(None)),
    "epoch ms": lambda frame: frame.assign(time=(frame["time"].astype("int64") // 1000)),
    "text": lambda frame: frame.assign(time=frame["time"].dt.strftime("%d.%m.%Y %H:%M")),
    "categories": lambda frame: frame.assign(flow=frame["flow"].astype(str).astype("category")),
    "text with decimal commas": lambda frame: frame.assign(**{n: frame[n].map(german) for n in ("flow", "heat", "level")}),
    "float32": lambda frame: frame.astype({"flow": "float32"}),
    "nullable": lambda frame: frame.convert_dtypes(),
    "date and time": lambda frame: frame.assign(date=frame["time"].dt.date, time=frame["time"].dt.time),
}


@pytest.mark.parametrize("name", TYPED)
@pytest.mark.parametrize("suffix", ["parquet", "xlsx"])
def test_parquet_and_excel(tmp_path: Path, name: str, suffix: str) -> None:
    frame = pd.DataFrame(readings(), columns=["flow", "heat", "level"])
    frame.insert(0, "time", times(Way()).as_unit("us"))
    written = TYPED[name](frame)
    path = tmp_path / f"t.{suffix}"
    if suffix == "parquet":
        written.to_parquet(path)
    else:
        if name == "zone":
            written = written.assign(time=written["time"].dt.tz_convert("UTC").dt.tz_localize(None))
        with pd.ExcelWriter(path) as book:
            (
                written.assign(time=written["time"].dt.tz_localize(None))
                if hasattr(written["time"], "dt") and written["time"].dt.tz
                else written
            ).to_excel(book, index=False, startrow=2)
    table = read_table(path, TableSchema())
    np.testing.assert_allclose(table.values, readings(), rtol=1e-6)
    np.testing.assert_array_equal(table.times, times(Way()).as_unit("s").asi8)


def test_parquet_decimals_and_nulls(tmp_path: Path) -> None:
    from decimal import Decimal

    numbers = pa.array([None if i == 3 else Decimal(f"{i}.25") for i in range(30)], pa.decimal128(10, 2))
    stamps = pa.array([1_767_571_200_000 + 1000 * i for i in range(30)], pa.timestamp("ms", tz="UTC"))
    pyarrow.parquet.write_table(pa.table({"when": stamps, "a": numbers, "on": pa.array([True] * 30)}), tmp_path / "t.parquet")
    table = read_table(tmp_path / "t.parquet", TableSchema())
    assert [channel.name for channel in table.channels] == ["a", "on"]
    assert np.isnan(table.values[3, 0])
    assert table.values[29].tolist() == [29.25, 1.0]
    assert table.times[0] == 1_767_571_200


def test_a_bundle_fitted_to_csv_reads_excel_and_parquet_and_the_other_way_round(tmp_path: Path) -> None:
    way = Way(stamp=lambda t: f"{t:%d.%m.%Y %H:%M}", number=german, delimiter=";")
    values = write(tmp_path / "t.csv", way).astype(np.float32)
    frame = pd.DataFrame(readings(), columns=["flow", "heat", "level"])
    frame.insert(0, "time", times(way).tz_localize(None).as_unit("us"))
    frame.to_parquet(tmp_path / "t.parquet")
    frame.to_excel(tmp_path / "t.xlsx", index=False)
    paths = [tmp_path / f"t.{suffix}" for suffix in ("csv", "parquet", "xlsx")]
    for fitted in paths:
        (table,) = read_normals([fitted], TableSchema(), None)
        schema = TableSchema(channels=table.channels, dialect=to_store(table.dialect, [fitted]))
        for path in paths:
            read = read_table(path, schema)
            np.testing.assert_array_equal(read.values, values)
            np.testing.assert_array_equal(read.times, times(way).as_unit("s").asi8)


def test_a_slow_sensor_that_the_spec_names_is_held_as_well(tmp_path: Path) -> None:
    write(tmp_path / "t.csv", Way(), lambda row, column, text: "" if column == 1 and row % 12 else text)
    named = TableSchema(channels=(Channel(name="heat"), Channel(name="level", hold_s=7.0)))
    (table,) = read_normals([tmp_path / "t.csv"], named, None)
    assert [channel.hold_s for channel in table.channels] == [2.5 * 12 * 3600, 7.0]  # what is given stays
    assert np.isfinite(table.values).all()
