"""A daily pattern at the edge: every way to a detector takes it off alike, and rules for sensors see the reading as it came."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from anomaly.alarms.store import Store
from anomaly.bundle.archive import Bundle
from anomaly.data.tables.files import read_normals, table_schema
from anomaly.data.tables.normal_range import with_normal_range
from anomaly.data.tables.reader import SensorTable, TableSchema, read_table
from anomaly.edge.monitor import Monitor
from anomaly.edge.runtime.batching import score
from anomaly.edge.runtime.session import open_session
from anomaly.edge.scoring.tables import score_table_file
from anomaly.edge.sources.base import Source
from anomaly.edge.sources.csv_file import CsvSource
from anomaly.edge.sources.live.row_feed import RowFeed
from anomaly.edge.sources.table_folder import TableFolder
from anomaly.schema import DAY_S, Dialect, InputSchema
from tests.edge.tiny import tiny_bundle

ZONE, ROW_S = "Europe/Berlin", 900.0
START = pd.Timestamp("2026-03-20", tz=ZONE).timestamp()
TIMES = START + np.arange(round(14 * DAY_S / ROW_S)) * ROW_S  # summer time begins on the 29th


def write(path: Path, rows: slice) -> Path:
    rng, local = np.random.default_rng(0), pd.to_datetime(TIMES, unit="s", utc=True).tz_convert(ZONE).tz_localize(None)
    hour = local.hour + local.minute / 60
    heat = 20 + 5 * np.sin(2 * np.pi * hour / 24) + rng.normal(0, 0.2, len(TIMES))
    frame = pd.DataFrame({"time": local.strftime("%Y-%m-%d %H:%M:%S"), "heat": np.round(heat, 3), "flow": rng.normal(0, 1, len(TIMES))})
    frame.loc[900:904, "heat"] = np.nan
    frame[rows].drop(index=range(1000, 1040), errors="ignore").to_csv(path, index=False)  # with a gap
    return path


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    (table,) = read_normals([write(tmp_path / "normal.csv", slice(0, 768))], TableSchema(dialect=Dialect(zone=ZONE)), None)
    assert [channel.pattern is not None for channel in table.channels] == [True, False]
    schema = InputSchema(
        name="window", dtype="float32", channels=2, window=2, period_s=ROW_S, max_gap_s=4 * ROW_S,
        sensors=with_normal_range(table.channels, [table]), dialect=table.dialect,
    )  # fmt: skip
    return tiny_bundle(tmp_path / "b.anomaly", schema)


class Live(RowFeed):
    """The readings of a table as rows that come live; `done` once all have come."""

    def __init__(self, table: SensorTable, schema: InputSchema) -> None:
        self.table, self.done = table, threading.Event()
        super().__init__("live", schema)

    def run(self) -> None:
        self.connected()
        for moment, row in zip(self.table.times.tolist(), self.table.readings.tolist(), strict=True):
            self.whole_row(moment, {"heat": row[0], "flow": row[1]})
        self.done.set()
        self.stopping.wait()


def polled(source: Source, bundle: Bundle, limit: int) -> dict[float, float]:
    """Time of each record -> its score."""
    session, found = open_session(bundle, "cpu"), {}
    while True:
        poll = source.poll(limit)
        found |= zip([record.time for record in poll.records], score(session, poll.records).score.tolist(), strict=True)
        if not poll.records and not poll.waiting:
            return found


def test_every_way_to_the_detector_gives_the_same_scores(tmp_path: Path, bundle: Bundle) -> None:
    """A file, one that grows (by any number of rows a poll), a folder of tables, and rows that come live, over a change of summer time."""
    folder = tmp_path / "in"
    folder.mkdir()
    path, schema, session = write(folder / "t.csv", slice(700, None)), bundle.manifest.input, open_session(bundle, "cpu")
    scored = score_table_file(session.run, bundle.manifest.input, path)
    expected = dict(zip(scored["time"].tolist(), scored["score"].tolist(), strict=True))
    assert len(expected) > 500
    for limit in (1, 64, 1000):
        assert polled(CsvSource(path, schema, {}), bundle, limit) == expected
    assert polled(TableFolder(folder, schema, {}, clock=lambda: path.stat().st_mtime + 60), bundle, 100) == expected
    live = Live(read_table(path, table_schema(schema)), schema)
    assert live.done.wait(30)
    assert polled(live, bundle, 50) == expected
    live.close()
    assert 20 < scored["score"].max() < 22  # the graph gives the largest value, which reads 25 and more where nothing is taken off


def test_a_new_detector_of_the_line_takes_off_its_own_pattern(tmp_path: Path, bundle: Bundle) -> None:
    """Two detectors score the same rows of one source, as a challenger does beside the one in use."""
    schema = bundle.manifest.input
    plain = schema.model_copy(update={"sensors": tuple(s.model_copy(update={"pattern": None}) for s in schema.sensors)})
    other = tiny_bundle(tmp_path / "other.anomaly", plain)
    records = CsvSource(write(tmp_path / "t.csv", slice(700, 900)), schema, {}).poll(1000).records
    own, without = (score(open_session(b, "cpu"), records).score for b in (bundle, other))
    np.testing.assert_array_equal(without, [np.nanmax(record.payload) for record in records])
    assert own.max() < without.max() - 2


def test_a_sensor_that_stands_still_is_told_with_its_reading(tmp_path: Path, bundle: Bundle) -> None:
    frame = pd.read_csv(write(tmp_path / "t.csv", slice(300, 500)))
    frame.loc[60:159, "heat"] = 21.5
    frame.to_csv(tmp_path / "t.csv", index=False)
    store = Store(tmp_path / "s.db")
    source = CsvSource(tmp_path / "t.csv", bundle.manifest.input, {})
    Monitor(bundle, open_session(bundle, "cpu"), source, store, "line").run(threading.Event(), once=True)
    told = [event["data"].get("reason", "") for event in store.events()]
    assert any("stands still at 21.5 since" in reason for reason in told)
