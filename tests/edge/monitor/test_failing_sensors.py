"""Sensors that fail at run time, through the monitor: each is named with since when, live and with --once, and all rows are scored."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from anomaly.alarms.store import Store
from anomaly.bundle.archive import Bundle
from anomaly.data.tables.files import read_normals
from anomaly.data.tables.normal_range import with_normal_range
from anomaly.data.tables.reader import TableSchema
from anomaly.edge.monitor import Monitor
from anomaly.edge.runtime.session import open_session
from anomaly.edge.sources.csv_file import CsvSource
from anomaly.schema import InputSchema
from tests.edge.tiny import tiny_bundle

NAMES, ROWS, FAILS = ["flow", "heat", "level"], 600, slice(300, 500)


def readings() -> pd.DataFrame:
    """Three sensors: a noisy one, one that is rounded and so often repeats itself, and a narrow one."""
    rng = np.random.default_rng(5)
    flow, heat = rng.normal(80.0, 2.0, ROWS), np.round(20 + np.sin(np.arange(ROWS) / 40) + rng.normal(0, 0.05, ROWS), 1)
    stamps = pd.date_range("2026-03-01", periods=ROWS, freq="s", tz="UTC")
    return pd.DataFrame({"time": stamps, "flow": flow, "heat": heat, "level": 5 + rng.normal(0, 0.3, ROWS)})


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    readings().to_csv(tmp_path / "normal.csv", index=False)
    tables = read_normals([tmp_path / "normal.csv"], TableSchema(), None)
    schema = InputSchema(
        name="window", dtype="float32", channels=3, window=2, period_s=1.0, max_gap_s=tables[0].max_gap_s,
        sensors=with_normal_range(tables[0].channels, tables), dialect=tables[0].dialect,
    )  # fmt: skip
    return tiny_bundle(tmp_path / "b.anomaly", schema)


def alarms(tmp_path: Path, bundle: Bundle, frame: pd.DataFrame, once: bool) -> list[tuple[str, str, str, int, str]]:
    """(kind, condition, sensor, row, reason) of the data-quality events of a run; live, the rows come in parts."""
    store, path = Store(tmp_path / f"s{once}.db"), tmp_path / "t.csv"
    frame.to_csv(path, index=False)
    monitor = Monitor(bundle, open_session(bundle, "cpu"), CsvSource(path, bundle.manifest.input, {}), store, "line")
    if once:
        assert monitor.run(threading.Event(), once=True).rejected == 0
    else:
        whole = path.read_text()
        cut = whole.index("\n", len(whole) * 2 // 3) + 1
        path.write_text(whole[:cut])
        monitor.turn(threading.Event())
        path.write_text(whole)
        while monitor.turn(threading.Event()).records:
            pass
    assert monitor.totals.scored == ROWS - 1
    start = frame["time"].iloc[0]
    events = [event for event in store.events() if event["data"].get("class") == "data quality" and "sensor" in event["data"]]
    return [
        (event["type"].rpartition(".")[2], event["data"]["condition"], event["data"]["sensor"],
         int((pd.Timestamp(event["time"]) - start).total_seconds()), event["data"]["reason"])
        for event in events
    ]  # fmt: skip


def failing(way: str, sensor: str) -> pd.DataFrame:
    frame = readings()
    column = frame[sensor].to_numpy(copy=True)
    column[FAILS] = {
        "blank": np.full(200, np.nan), "frozen": np.full(200, column[FAILS.start]), "out of range": np.full(200, 65535.0) + column[FAILS],
        "another unit": column[FAILS] * 14.5, "below": column[FAILS] - 127.0,
    }[way]  # fmt: skip
    frame[sensor] = column
    return frame


@pytest.mark.parametrize("once", [True, False])
@pytest.mark.parametrize("sensor", NAMES)
@pytest.mark.parametrize(
    ("way", "condition"),
    [
        ("blank", "sensor"),
        ("frozen", "sensor_frozen"),
        ("out of range", "sensor_range"),
        ("another unit", "sensor_range"),
        ("below", "sensor_range"),
    ],
)
def test_a_sensor_that_fails_is_named_until_it_is_back(
    tmp_path: Path, bundle: Bundle, way: str, condition: str, sensor: str, once: bool
) -> None:
    opened, closed = alarms(tmp_path, bundle, failing(way, sensor), once)
    still = next(channel.still_rows or 0 for channel in bundle.manifest.input.sensors if channel.name == sensor)
    rows = max(30, 3 * still) if way == "frozen" else 30
    assert opened[:3] == ("opened", condition, sensor)
    assert abs(opened[3] - (FAILS.start + rows - 1)) <= still  # a rounded sensor may have stood still already
    assert closed[:3] == ("closed", condition, sensor)
    assert FAILS.stop <= closed[3] <= FAILS.stop + 2 + still
    assert "2026-03-01T00:05:00Z" in opened[4] or (way == "frozen" and "2026-03-01T00:04:5" in opened[4])


@pytest.mark.parametrize("once", [True, False])
def test_all_sensors_without_readings_are_one_alarm(tmp_path: Path, bundle: Bundle, once: bool) -> None:
    frame = readings()
    frame.loc[300:, NAMES] = np.nan
    found = alarms(tmp_path, bundle, frame, once)
    assert [entry[:4] for entry in found] == [("opened", "sensor", "flow", 329)]
    assert found[0][4] == "3 sensors at once (flow, heat, level), the first: sensor 'flow' gives no reading since 2026-03-01T00:05:00Z"


@pytest.mark.parametrize("once", [True, False])
def test_all_sensors_that_stand_still_are_one_alarm(tmp_path: Path, bundle: Bundle, once: bool) -> None:
    """Found in each by itself, since a window of two rows does not show that the whole source is frozen.

    The one that often repeats a reading had stood still already when the fault came.
    """
    frame = readings()
    frame.loc[300:, NAMES] = frame.loc[300, NAMES].to_numpy()
    found = alarms(tmp_path, bundle, frame, once)
    assert [entry[:3] for entry in found] == [("opened", "sensor_frozen", "heat"), ("reminded", "sensor_frozen", "heat")]
    assert found[1][4].startswith("flow, level too: sensor 'flow' stands still at ")


@pytest.mark.parametrize("once", [True, False])
@pytest.mark.parametrize("way", ["every second", "at random", "with words"])
def test_a_sensor_whose_readings_come_and_go_is_one_alarm(tmp_path: Path, bundle: Bundle, way: str, once: bool) -> None:
    frame = readings()
    gone = np.zeros(ROWS, bool)
    gone[FAILS] = np.random.default_rng(2).random(200) < 0.5 if way == "at random" else np.arange(200) % 2 == 0
    frame["flow"] = frame["flow"].astype(object).where(~gone, "off" if way == "with words" else None)
    opened, closed = alarms(tmp_path, bundle, frame, once)
    assert opened[:3] == ("opened", "sensor", "flow")
    assert opened[3] < FAILS.start + 110
    assert re.match(r"sensor 'flow' gives no reading in \d\d of 60 rows, since 2026-03-01T00:05:[345]", opened[4])
    assert ("('off')" in opened[4]) == (way == "with words")
    assert closed[0] == "closed"
    assert FAILS.stop < closed[3] < FAILS.stop + 60


def test_a_sensor_that_gave_few_readings_in_the_normals_is_left_to_its_scores(tmp_path: Path, bundle: Bundle) -> None:
    frame = readings()
    frame.loc[::2, "flow"] = np.nan
    schema = bundle.manifest.input
    sensors = (schema.sensors[0].model_copy(update={"gaps": 0.5}), *schema.sensors[1:])
    usual = tiny_bundle(tmp_path / "usual.anomaly", schema.model_copy(update={"sensors": sensors}))
    assert alarms(tmp_path, usual, frame, True) == []
    assert [sensor.gaps for sensor in schema.sensors] == [0.0, 0.0, 0.0]


def test_normal_readings_are_told_nothing(tmp_path: Path, bundle: Bundle) -> None:
    assert alarms(tmp_path, bundle, readings(), True) == []
    assert bundle.manifest.input.sensors[1].still_rows > 1


def test_one_wild_normal_reading_does_not_widen_the_range(tmp_path: Path) -> None:
    frame = readings()
    frame.loc[100, "flow"] = 65535.0
    frame["mode"] = 1.0
    frame.to_csv(tmp_path / "normal.csv", index=False)
    tables = read_normals([tmp_path / "normal.csv"], TableSchema(), None)
    flow, *_, mode = with_normal_range(tables[0].channels, tables)
    assert flow.normal_high is not None
    assert 80 < flow.normal_high < 90
    assert (mode.normal_low, mode.still_rows) == (None, None)  # constant: nothing is known of what it may do
