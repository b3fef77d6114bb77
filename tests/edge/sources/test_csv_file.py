"""A CSV that grows."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from anomaly.edge.sources.csv_file import CsvSource
from anomaly.errors import DataError
from anomaly.schema import Channel, Dialect, InputSchema

SCHEMA = InputSchema(
    name="window", dtype="float32", channels=2, window=3, max_gap_s=10, sensors=[Channel(name="a"), Channel(name="b", high=50)]
)


def rows(start: int, stop: int) -> str:
    return "".join(f"{i},{i},{i * 10},x\n" for i in range(start, stop))


@pytest.fixture
def feed(tmp_path: Path) -> Path:
    path = tmp_path / "feed.csv"
    path.write_text("time,a,b,note\n" + rows(0, 4))
    return path


def test_growing_csv(feed: Path) -> None:
    source = CsvSource(feed, SCHEMA, {})
    first = source.poll(100)
    assert [r.id for r in first.records] == ["feed.csv:4", "feed.csv:5"]
    np.testing.assert_array_equal(first.records[1].payload, [[1, 10], [2, 20], [3, 30]])
    with feed.open("a") as stream:
        stream.write("4,4,40,x\n5,5,")  # half a row
        stream.flush()
        assert [r.id for r in source.poll(100).records] == ["feed.csv:6"]
        stream.write("60,x\n")
        stream.flush()
        poll = source.poll(100)
    assert [r.id for r in poll.records] == ["feed.csv:7"]
    assert np.isnan(poll.records[0].payload[2, 1])  # beyond its limit


def finished(feed: Path, position: dict[str, Any], age_s: float = 60.0) -> CsvSource:
    then = time.time() - age_s
    os.utime(feed, (then, then))
    return CsvSource(feed, SCHEMA, position, finished=True)


@pytest.mark.parametrize("more", ["\n5,5,50,x\n", "\r\n5,5,50,x", "\n\n5,5,50,x"])
def test_the_last_row_of_a_finished_file_counts_once_though_no_line_end_follows(feed: Path, more: str) -> None:
    with feed.open("a") as stream:
        stream.write("4,4,40,x")
    assert [r.id for r in CsvSource(feed, SCHEMA, {}).poll(100).records] == ["feed.csv:4", "feed.csv:5"]
    first = finished(feed, {}).poll(100)
    assert ([r.id for r in first.records], first.waiting) == (["feed.csv:4", "feed.csv:5", "feed.csv:6"], False)
    assert finished(feed, first.position).poll(100).records == []
    with feed.open("a", newline="") as stream:
        stream.write(more)
    then = finished(feed, first.position).poll(100)
    assert [(r.id, r.time) for r in then.records] == [(f"feed.csv:{7 + more.count(chr(10) * 2)}", 5.0)]
    np.testing.assert_array_equal(then.records[0].payload, [[3, 30], [4, 40], [5, 50]])
    assert then.rejected == []


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_the_last_row_counts_also_where_rows_come_in_small_parts(feed: Path, limit: int) -> None:
    with feed.open("a") as stream:
        stream.write("4,4,40,x")
    source, found = finished(feed, {}), []
    while (poll := source.poll(limit)).waiting or poll.records:
        found += [r.id for r in poll.records]
    assert found == ["feed.csv:4", "feed.csv:5", "feed.csv:6"]


def test_a_last_row_that_may_still_be_written_is_waited_for(feed: Path) -> None:
    with feed.open("a") as stream:
        stream.write("4,4,40,x")
    now = [100.0]
    source = finished(feed, {}, age_s=0.0)
    source._last_line.steady = lambda: now[0]
    first = source.poll(100)
    assert (len(first.records), first.waiting) == (2, True)
    with feed.open("a") as stream:
        stream.write("x\n5,5,5")
    now[0] += 1.0
    os.utime(feed)
    second = source.poll(100)
    assert ([r.id for r in second.records], second.waiting) == (["feed.csv:6"], False)  # someone is writing to it: the rest is left
    other = finished(feed, {}, age_s=0.0)
    other._last_line.steady = lambda: now[0]
    assert other.poll(100).waiting
    now[0] += 2.0
    os.utime(feed)
    assert "3 fields instead of 4" in other.poll(100).rejected[0].reason


def test_bad_rows_are_set_aside_and_the_rest_goes_on(feed: Path) -> None:
    with feed.open("a") as stream:
        stream.write("4,oops,1,x\n5,5\nnever,1,1,x\n3,1,1,x\n6,6,6,x\n\n7,7,7,x\n")
    poll = CsvSource(feed, SCHEMA, {}).poll(100)
    reasons = [r.reason for r in poll.rejected]
    assert "feed.csv:7: 2 fields instead of 4; the row: 5,5" in reasons[0]
    assert "time 'never' cannot be read" in reasons[1]
    assert "its time is not after the row before" in reasons[2]
    assert [r.id for r in poll.records] == ["feed.csv:4", "feed.csv:5", "feed.csv:6", "feed.csv:10", "feed.csv:12"]
    assert np.isnan(poll.records[2].payload[2, 0])  # a cell that is no number is a missing reading, and its row counts
    assert poll.unread == {"a": (1, "oops", 4.0)}


def test_a_row_that_cannot_be_read_before_any_other_is_of_the_time_of_its_file(tmp_path: Path) -> None:
    path = tmp_path / "feed.csv"
    path.write_text("time,a,b,note\n" + "never,1,2,x\n" * 3)
    os.utime(path, (1_700_000_000, 1_700_000_000))
    dialect = Dialect(
        encoding="utf-8", delimiter=",", quote='"', decimal=".", thousands="", skip_rows=0, units_rows=0, time=("time",), time_format=("s",)
    )
    schema = SCHEMA.model_copy(update={"dialect": dialect})
    assert {r.time for r in CsvSource(path, schema, {}).poll(100).rejected} == {1_700_000_000.0}


def test_no_window_spans_a_gap(feed: Path) -> None:
    with feed.open("a") as stream:
        stream.write(rows(100, 103))
    poll = CsvSource(feed, SCHEMA, {}).poll(100)
    assert [r.id for r in poll.records] == ["feed.csv:4", "feed.csv:5", "feed.csv:8"]


@pytest.mark.parametrize("window", [3, 8])
@pytest.mark.parametrize("limit", [1, 2, 5])
def test_restart_anywhere_gives_the_same_windows(feed: Path, limit: int, window: int) -> None:
    schema = SCHEMA.model_copy(update={"window": window})
    with feed.open("a") as stream:
        stream.write(rows(4, 20) + "bad\n" + rows(20, 30) + rows(80, 86))
    whole = [(r.id, r.payload.tobytes()) for r in CsvSource(feed, schema, {}).poll(1000).records]
    found, position = [], {}
    for _ in range(60):  # a new process for every poll
        poll = CsvSource(feed, schema, position).poll(limit)
        found += [(r.id, r.payload.tobytes()) for r in poll.records]
        position = poll.position
    assert found == whole


def test_replaced_file_is_begun_anew(feed: Path) -> None:
    source = CsvSource(feed, SCHEMA, {})
    source.poll(100)
    new = feed.with_name("new.csv")
    new.write_text("time,a,b,note\n" + rows(200, 205))
    new.replace(feed)
    assert [r.time for r in source.poll(100).records] == [202, 203, 204]
    feed.write_text("time,b\n1,2\n")  # the same file, shortened, with a column gone
    poll = source.poll(100)
    assert "columns ['a'] are missing, which the bundle needs" in poll.rejected[0].reason


@pytest.mark.parametrize("odd", ["", '5,"5",50,x\n', "5,oops,50,x\n", "\n", "5,5,,x\n", "5,NaN,1e3,x\n", "4e9,5,50,x\n", "3,5,50,x\n"])
def test_a_block_at_once_is_what_line_by_line_gives(tmp_path: Path, odd: str) -> None:
    path = tmp_path / "f.csv"
    path.write_text(
        "time,a,b,note\n" + "".join(f"{i},{i / 7},{i},x\n" for i in range(5)) + odd + "".join(f"{i},{i},3,x\n" for i in range(6, 60))
    )
    quick = CsvSource(path, SCHEMA, {}).poll(1000)
    source = CsvSource(path, SCHEMA, {})
    slow = [source.poll(1) for _ in range(60)]
    records = [r for poll in slow for r in poll.records]
    assert [(r.id, r.time, r.payload.tobytes()) for r in quick.records] == [(r.id, r.time, r.payload.tobytes()) for r in records]
    assert [item.id for item in quick.rejected] == [item.id for poll in slow for item in poll.rejected]
    assert quick.position == slow[-1].position
    assert len(quick.records) > 50


@pytest.mark.parametrize("stamp", ["2026-03-01 10:00:{:02d}", "2026-03-01T10:00:{:02d}Z", "2026-03-01T12:00:{:02d}+02:00"])
def test_dates_are_read_alike(tmp_path: Path, stamp: str) -> None:
    path = tmp_path / "f.csv"
    path.write_text("time;a;b\n" + "".join(f"{stamp.format(i)};{i};1\n" for i in range(5)))
    times = [r.time for r in CsvSource(path, SCHEMA, {}).poll(100).records]
    assert times == [pd.Timestamp("2026-03-01 10:00", tz="UTC").timestamp() + i for i in (2, 3, 4)]


def test_a_file_that_begins_as_a_header_is_read_once_its_rows_tell_how_they_are_written(tmp_path: Path) -> None:
    path = tmp_path / "f.csv"
    path.write_text("Zeit;a;b\n")
    source = CsvSource(path, SCHEMA, {})  # a bundle that knows no dialect: fitted to Parquet, or older
    assert source.poll(100).records == []
    with path.open("a") as stream:
        stream.write("".join(f"13.01.2026 00:00:0{i};{i},5;1,25\n" for i in range(5)))
    records = source.poll(100).records
    assert [record.id for record in records] == ["f.csv:4", "f.csv:5", "f.csv:6"]
    np.testing.assert_array_equal(records[0].payload, [[0.5, 1.25], [1.5, 1.25], [2.5, 1.25]])
    assert records[0].time == pd.Timestamp("2026-01-13 00:00:02", tz="UTC").timestamp()


def test_dates_that_may_be_read_in_two_ways_are_not_guessed_by_a_bundle_without_a_dialect(tmp_path: Path) -> None:
    path = tmp_path / "f.csv"
    path.write_text("time;a;b\n" + "".join(f"05.01.2026 00:00:0{i};{i};1\n" for i in range(5)))
    with pytest.raises(DataError, match=r"may be day first or month first.*\[input\] time_format"):
        CsvSource(path, SCHEMA, {})
    told = SCHEMA.model_copy(update={"dialect": Dialect(time_format=("%d.%m.%Y %H:%M:%S",))})
    assert CsvSource(path, told, {}).poll(9).records[0].time == pd.Timestamp("2026-01-05 00:00:02", tz="UTC").timestamp()


def test_files_that_do_not_grow_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not grow; put such files into a folder"):
        CsvSource(tmp_path / "t.parquet", SCHEMA, {})


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-8", "utf-16"])
def test_a_feed_in_another_encoding_than_was_learnt_is_read_right_and_said(tmp_path: Path, encoding: str) -> None:
    channels = [Channel(name="Lager °C")]
    dialect = Dialect(
        encoding="cp1252", delimiter=";", decimal=",", thousands="", skip_rows=0, units_rows=0, time=("Zeit",), time_format=("s",)
    )
    schema = InputSchema(name="window", dtype="float32", channels=1, window=3, max_gap_s=10, sensors=channels, dialect=dialect)
    path = tmp_path / "feed.csv"
    path.write_text("Zeit;Lager °C\n" + "".join(f"{i};{i},5\n" for i in range(4)), encoding=encoding)
    source = CsvSource(path, schema, {})
    poll = source.poll(100)
    assert [record.payload[-1].tolist() for record in poll.records] == [[2.5], [3.5]]
    assert len(poll.notes) == 1
    assert "what was learnt from, or the spec, has cp1252" in poll.notes[0]
    assert not source.poll(100).notes  # once
