"""One reader: whatever a table's dialect, a whole file and a file that grows give the same rows, and every command scores them alike."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly.alarms.store import Store
from anomaly.bundle.archive import Bundle
from anomaly.data.records import Record
from anomaly.data.tables.files import read_normals, table_schema
from anomaly.data.tables.reader import SensorTable, TableSchema, read_table
from anomaly.data.tables.windows import window_ends, windows_at
from anomaly.edge.monitor import Monitor
from anomaly.edge.runtime.session import Session, open_session
from anomaly.edge.scoring.tables import score_table_file
from anomaly.edge.sources.csv_file import CsvSource
from anomaly.edge.sources.table_folder import TableFolder
from anomaly.evaluation.figures import evaluate_tables
from anomaly.schema import Dialect, InputSchema
from tests.data.tables.test_ways import WAYS
from tests.data.tables.written import Way, german, grouped, times, write
from tests.edge.tiny import tiny_bundle

STAMPS = {
    "ISO": lambda t: f"{t:%Y-%m-%dT%H:%M:%S}",
    "ISO with a zone": lambda t: f"{t:%Y-%m-%d %H:%M:%S%z}",
    "day first": lambda t: f"{t:%d.%m.%Y %H:%M:%S}",
    "month first": lambda t: f"{t:%m/%d/%Y %I:%M:%S %p}",
    "named month": lambda t: f"{t:%d-%b-%Y %H:%M:%S}",
    "compact": lambda t: f"{t:%Y%m%d%H%M%S}",
    "seconds": lambda t: f"{t.timestamp():.0f}",
    "milliseconds": lambda t: f"{t.timestamp() * 1000:.0f}",
}
NUMBERS = {
    "point": lambda v: f"{v:.3f}",
    "comma": german,
    "English thousands": lambda v: grouped(v, ",", "."),
    "German thousands": lambda v: grouped(v, ".", ","),
    "French thousands": lambda v: grouped(v, "\u202f", ","),
    "exponent": lambda v: f"{v:.9e}",
}
WORDS = ("", "NaN", "Bad", "I/O Timeout", "#N/A", "-")


@st.composite
def ways(draw: st.DrawFn) -> tuple[Way, dict[tuple[int, int], str]]:
    """A random dialect, and cells without a reading."""
    delimiter = draw(st.sampled_from([",", ";", "\t", "|"]))
    number = NUMBERS[draw(st.sampled_from(sorted(NUMBERS)))]
    encoding = draw(st.sampled_from(["utf-8", "utf-8-sig", "cp1252", "utf-16", "utf-16-le"]))
    if encoding == "cp1252" and number is NUMBERS["French thousands"]:
        encoding = "utf-8"
    quoted = draw(st.booleans()) or delimiter == ","
    stamp = STAMPS[draw(st.sampled_from(sorted(STAMPS)))]
    end = draw(st.sampled_from(["", delimiter]))
    way = Way(
        stamp=(lambda t: f'"{stamp(t)}"') if quoted else stamp,
        number=(lambda v: f'"{number(v)}"') if quoted else number,
        delimiter=delimiter,
        encoding=encoding,
        header=(draw(st.sampled_from(["time", "Zeitstempel", "Date/Time"])), "flow", "heat °C", "level"),
        before=draw(st.sampled_from(["", "Export of line 4\n\n", f"Station{delimiter}Pumpe\n"])),
        under=draw(st.sampled_from(["", delimiter.join(["", "m3/h", "K", "m"]) + end + "\n"])),
        end=end,
        newline=draw(st.sampled_from(["\n", "\r\n", "\r"])),
        period_s=draw(st.sampled_from([1.0, 60.0, 3600.0])),
        start=pd.Timestamp(f"2026-{draw(st.integers(1, 12)):02d}-{draw(st.integers(13, 20))}", tz="UTC"),
        rows=60,
    )
    gone = draw(st.dictionaries(st.tuples(st.integers(0, 59), st.integers(0, 2)), st.sampled_from(WORDS), max_size=12))
    return way, gone


def fitted_schema(path: Path, window: int = 3) -> InputSchema:
    """The input schema that a fit on the table leaves in a bundle, through its JSON."""
    (table,) = read_normals([path], TableSchema(), None)
    schema = InputSchema(
        name="window", dtype="float32", channels=len(table.channels), window=window, period_s=table.period_s,
        max_gap_s=table.max_gap_s, sensors=table.channels, dialect=table.dialect,
    )  # fmt: skip
    return InputSchema.model_validate_json(schema.model_dump_json())


def polled(path: Path, schema: InputSchema, limit: int) -> list[Record]:
    source, found = CsvSource(path, schema, {}), []
    while True:
        poll = source.poll(limit)
        found += poll.records
        if not poll.records and not poll.rejected and not poll.waiting:
            return found


def windows_of(table: SensorTable, schema: InputSchema) -> dict[str, bytes]:
    """Every window of a whole table, by its record."""
    ends = window_ends(table.times, table.usable, schema.window, table.max_gap_s)
    found = windows_at(table.values, ends, schema.window)
    return {f"{table.path.name}:{table.lines[end]}": window.tobytes() for end, window in zip(ends, found, strict=True)}


@settings(max_examples=60)
@given(made=ways(), limit=st.sampled_from([1, 7, 1000]))
def test_a_random_dialect_is_found_and_read_alike_by_all(tmp_path_factory: pytest.TempPathFactory, made: tuple, limit: int) -> None:
    way, gone = made
    path = tmp_path_factory.mktemp("way") / "t.csv"
    values = write(path, way, lambda row, column, text: gone.get((row, column), text))
    for place in gone:
        values[place] = np.nan
    schema = fitted_schema(path)
    table = read_table(path, table_schema(schema))
    np.testing.assert_array_equal(table.values, values.astype(np.float32))
    np.testing.assert_array_equal(table.times, times(way).as_unit("s").asi8)
    records = polled(path, schema, limit)
    assert {record.id: record.payload.tobytes() for record in records} == windows_of(table, schema)
    assert [record.time for record in records] == table.times[schema.window - 1 :].tolist()


STRAY = {pd.Timestamp("2026-01-08 05:00", tz="UTC"): "2099-01-01 00:00:00"}
CASES = {
    "German": WAYS["German"],
    "a preamble and units, German": WAYS["a preamble and units, German"],
    "date and time apart": WAYS["date and time apart, German"],
    "UTF-16": WAYS["UTF-16"],
    "autumn": WAYS["local time, autumn"],
    "autumn, no zone": replace(WAYS["local time, autumn"], spec={}),
    "one row in 2099": Way(stamp=lambda t: STRAY.get(t, f"{t:%Y-%m-%d %H:%M:%S}")),
    "I/O Timeout": Way(),
    "a slow sensor": Way(),
    "a level of 1e12": Way(number=lambda v: f"{1e12 + 10 * v:.3f}"),
}


def changed(name: str, row: int, column: int, text: str) -> str:
    if name == "I/O Timeout" and column == 1 and row >= 200:
        return "I/O Timeout"
    return "" if name == "a slow sensor" and column == 1 and row % 12 else text


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Bundle, Session, Path]:
    name = request.param
    folder = tmp_path / "data"
    folder.mkdir()
    write(folder / "t.csv", CASES[name], lambda row, column, text: changed(name, row, column, text))
    schema = table_schema_of(folder / "t.csv", CASES[name])
    bundle = tiny_bundle(tmp_path / "b.anomaly", schema, threshold=1e-9)
    return bundle, open_session(bundle, "cpu"), folder / "t.csv"


def table_schema_of(path: Path, way: Way) -> InputSchema:
    (table,) = read_normals([path], TableSchema(dialect=Dialect(**way.spec)), None)
    return InputSchema(
        name="window", dtype="float32", channels=3, window=2, period_s=table.period_s, max_gap_s=table.max_gap_s, sensors=table.channels,
        dialect=table.dialect,
    )  # fmt: skip


def test_score_monitor_and_a_folder_of_tables_agree_row_by_row(case: tuple[Bundle, Session, Path], tmp_path: Path) -> None:
    bundle, session, path = case
    scored = score_table_file(session.run, bundle.manifest.input, path).set_index("record")
    schema = bundle.manifest.input
    for name, source in (("csv", CsvSource(path, schema, {})), ("tables", TableFolder(path.parent, schema, {}, lambda: 4e9))):
        store = Store(tmp_path / f"{name}.db")
        Monitor(bundle, session, source, store, "line").run(threading.Event(), once=True)
        rows = pd.DataFrame(store.scores("line"), columns=["record", "time", "score", "p_value"]).set_index("record")
        assert list(rows.index) == list(scored.index)
        np.testing.assert_array_equal(rows["time"], scored["time"])
        np.testing.assert_array_equal(rows["score"].to_numpy(dtype=float), scored["score"].to_numpy(dtype=float))


def test_evaluate_reads_the_rows_that_score_reads(case: tuple[Bundle, Session, Path]) -> None:
    """Every second row is called a fault: the figures are not looked at, only which rows were scored, and how."""
    bundle, session, path = case
    scored = score_table_file(session.run, bundle.manifest.input, path)
    table = read_table(path, table_schema(bundle.manifest.input))
    labelled = replace(table, labels={"fault": (np.arange(len(table.times)) % 2).astype(np.float64)})
    found = evaluate_tables(session.run, [labelled], "fault", bundle.manifest.input.window, bundle.manifest.threshold.p_value).records
    found = found[found["score"].notna()]
    assert [f"t.csv:{table.lines[row]}" for row in found["row"]] == list(scored["record"])
    np.testing.assert_array_equal(found["time"], scored["time"])
    np.testing.assert_array_equal(found["score"].to_numpy(dtype=float), scored["score"].to_numpy(dtype=float))


def test_one_row_of_2099_costs_one_row_and_is_told_also_after_a_restart(tmp_path: Path) -> None:
    write(tmp_path / "t.csv", CASES["one row in 2099"])
    schema = fitted_schema(tmp_path / "t.csv")
    found, bad, position = [], [], {}
    for _ in range(420):  # a new process for every row
        poll = CsvSource(tmp_path / "t.csv", schema, position).poll(1)
        found += poll.records
        bad += poll.rejected
        position = poll.position
    assert len(found) == 399 - (schema.window - 1)
    assert [item.id for item in bad] == ["t.csv:79"]
    assert "its time is far ahead of the rows after it" in bad[0].reason


def test_a_slow_sensor_is_held_over_a_restart(tmp_path: Path) -> None:
    write(tmp_path / "t.csv", Way(), lambda row, column, text: changed("a slow sensor", row, column, text))
    schema = fitted_schema(tmp_path / "t.csv")
    assert [(channel.name, channel.hold_s) for channel in schema.sensors] == [("flow", 0.0), ("heat", 2.5 * 12 * 3600), ("level", 0.0)]
    whole = [(record.id, record.payload.tobytes()) for record in polled(tmp_path / "t.csv", schema, 1000)]
    found, position = [], {}
    for _ in range(80):
        poll = CsvSource(tmp_path / "t.csv", schema, position).poll(7)
        found += [(record.id, record.payload.tobytes()) for record in poll.records]
        position = poll.position
    assert found == whole
    assert np.isfinite(np.frombuffer(whole[-1][1], np.float32)).all()


def test_a_large_level_keeps_its_small_changes(tmp_path: Path) -> None:
    values = write(tmp_path / "t.csv", CASES["a level of 1e12"])
    schema = fitted_schema(tmp_path / "t.csv")
    table = read_table(tmp_path / "t.csv", table_schema(schema))
    offsets = np.array([channel.offset for channel in schema.sensors])
    np.testing.assert_allclose(table.values + offsets, 1e12 + 10 * values, atol=2e-3, rtol=0)
    assert len(np.unique(table.values[:, 1])) > 390


@pytest.mark.parametrize("word", ["", "Kabelbruch", "I/O Timeout"])
@pytest.mark.parametrize("limit", [1, 64])
def test_a_sensor_without_readings_is_an_alarm_that_names_it_also_with_once(
    tmp_path: Path, word: str, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "normal.csv", Way())
    bundle = tiny_bundle(tmp_path / "b.anomaly", table_schema_of(tmp_path / "normal.csv", Way()))
    write(tmp_path / "t.csv", Way(), lambda row, column, text: word if column == 1 and 200 <= row < 300 else text)
    store = Store(tmp_path / "s.db")
    source = CsvSource(tmp_path / "t.csv", bundle.manifest.input, {})
    poll = source.poll
    monkeypatch.setattr(source, "poll", lambda _: poll(limit))
    totals = Monitor(bundle, open_session(bundle, "cpu"), source, store, "line").run(threading.Event(), once=True)
    assert (totals.scored, totals.rejected) == (399, 0)  # every row that ends a window
    events = [event for event in store.events() if event["data"]["class"] == "data quality"]
    assert [event["type"] for event in events] == ["anomaly.alarm.opened", "anomaly.alarm.closed"]
    assert [event["data"]["sensor"] for event in events] == ["heat", "heat"]
    began = times(Way())[200].isoformat().replace("+00:00", "Z")
    told = f" ({word!r})" if word == "Kabelbruch" else ""  # a known word is told when the detector is fitted
    assert events[0]["data"]["reason"] == f"sensor 'heat' gives no reading since {began}{told}"
    assert events[0]["time"] == times(Way())[229].isoformat().replace("+00:00", "Z")


@pytest.mark.parametrize("limit", [100, 1000])  # in more looks it would be a clock set back, which is followed
def test_no_window_spans_the_hour_that_a_clock_without_a_zone_showed_twice(tmp_path: Path, limit: int) -> None:
    path = tmp_path / "t.csv"
    shown = pd.date_range("2026-10-24 23:30", periods=180, freq="min", tz="UTC").tz_convert("Europe/Berlin").strftime("%d.%m.%Y %H:%M:%S")
    path.write_text("Zeit;Druck\n" + "".join(f"{time};{row}\n" for row, time in enumerate(shown)))
    schema = fitted_schema(path)
    windows = windows_of(read_table(path, table_schema(schema)), schema)
    assert list(windows) == [f"t.csv:{line}" for line in [*range(4, 92), *range(155, 182)]]  # 03:00 is in line 152
    assert {record.id: record.payload.tobytes() for record in polled(path, schema, limit)} == windows
