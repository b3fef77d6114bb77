"""What is kept of an alarm's records while a line runs: which, in what units, within what bounds, and never at the alarm's expense."""

from __future__ import annotations

import base64
import io
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from anomaly.alarms.evidence import Evidence, made
from anomaly.alarms.evidence import keeper as gathering
from anomaly.alarms.health.log import LineLog
from anomaly.alarms.store import Store
from anomaly.data.records import Record
from anomaly.edge.monitor import Monitor
from anomaly.edge.runtime.session import open_session
from anomaly.edge.sources.uri import open_source
from anomaly.page.alarms import levels as map_levels
from anomaly.page.models import Levels
from anomaly.rarity import shades_of
from anomaly.schema import Channel, InputSchema
from tests.edge.tiny import tiny_bundle

SCHEMA = InputSchema(
    name="window", dtype="float32", channels=2, window=2, period_s=1.0, max_gap_s=10,
    sensors=(Channel(name="flow\x1b[2J<b>", unit="l/s", offset=100.0), Channel(name="heat")),
)  # fmt: skip
CALM = [0.1 + 0.001 * (i % 7) for i in range(60)]
FLOW = [*CALM, 5.0, 6.5, 9.0, 7.0, 6.0, 0.3, 0.2, 0.1, 0.1]  # the alarm opens at the 61st row, its worst is the 63rd


def watch(folder: Path, rows: int = len(FLOW), evidence_bytes: int = 10**9) -> Store:
    bundle = tiny_bundle(folder / "b.anomaly", SCHEMA)
    frame = pd.DataFrame({"time": pd.date_range("2026-01-01", periods=len(FLOW), freq="s"), SCHEMA.sensors[0].name: FLOW, "heat": 0.5})
    frame[SCHEMA.sensors[0].name] += 100.0
    frame.head(rows).to_csv(folder / "feed.csv", index=False)
    store = Store(folder / "s.db", evidence_bytes=evidence_bytes)
    source = open_source(str(folder / "feed.csv"), SCHEMA, lambda _: False, store.resume("l")[0])
    Monitor(bundle, open_session(bundle, "cpu"), source, store, "l").run(threading.Event(), once=True)
    return store


@pytest.mark.parametrize("stop", [len(FLOW), 61, 62])
def test_the_opening_and_the_worst_record_are_kept_also_over_a_restart(tmp_path: Path, stop: int) -> None:
    watch(tmp_path, stop).close()
    store = watch(tmp_path)
    (alarm,) = store.alarms(live=False)
    opened, worst = store.evidence(alarm.id)
    assert (opened.role, worst.role) == ("opened", "worst")
    assert opened.meta["sensors"] == [SCHEMA.sensors[0].name, "heat"]
    assert opened.meta["units"] == ["l/s", ""]
    assert opened.meta["shares"][0] > 0.9
    assert opened.arrays["values"][-2:, 0] == pytest.approx([100.0 + FLOW[59], 105.0], rel=1e-5)
    assert worst.arrays["values"][-1, 0] == pytest.approx(109.0)
    assert worst.p_value == pytest.approx(np.exp(-9.0), rel=1e-3)
    times = opened.arrays["times"]
    assert (np.diff(times) > 0).all()
    assert store.evidence_size()[0] == 2


def test_the_hours_before_an_alarm_are_kept_thinned() -> None:
    keeper = gathering.Keeper(LineLog("l"))
    keeper.use(SCHEMA)
    rows = np.zeros((2, 2), np.float32)
    for second in range(0, 8 * 3600, 1):
        keeper.remember([Record(str(second), float(second), rows + second)])
    keeper.opened("a", (Record("x", 8 * 3600.0, rows), 0.001, np.array([1.0, 3.0], np.float32)))
    (found,) = keeper.made()
    times = found.arrays["times"][: -found.meta["window_rows"]]
    assert 1900 < len(times) <= made.HISTORY_ROWS
    assert 5.5 * 3600 < times[-1] - times[0] <= 6.2 * 3600
    assert found.arrays["values"][0] == pytest.approx([times[0], times[0] + 100.0])
    assert found.size < 40_000


def test_evidence_that_cannot_be_made_costs_no_alarm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise MemoryError("no room\nfor it")

    monkeypatch.setattr(gathering, "make_evidence", broken)
    store = watch(tmp_path)
    assert len(store.alarms(live=False)) == 1
    assert store.evidence_size() == (0, 0)
    assert "no picture or readings are kept of an alarm" in caplog.text


def test_without_room_for_evidence_the_alarm_is_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    original = made.make_evidence

    def huge(*given: object) -> Evidence | None:
        one = original(*given)  # type: ignore[arg-type]
        assert one is not None
        return replace(one, picture=bytes(50_000_000))

    bounded = Store.__init__

    def small(self: Store, *given: object, **more: object) -> None:
        bounded(self, *given, **more)  # type: ignore[arg-type]
        self._db.execute("PRAGMA max_page_count = 2000")  # SQLite's own full disk: 8 MB

    monkeypatch.setattr(gathering, "make_evidence", huge)
    monkeypatch.setattr(Store, "__init__", small)
    store = watch(tmp_path)
    (alarm,) = store.alarms(live=False)
    assert alarm.closed is not None
    assert store.evidence(alarm.id) == []
    assert "are not kept" in caplog.text


def test_with_no_room_asked_for_nothing_is_kept(tmp_path: Path) -> None:
    assert watch(tmp_path, evidence_bytes=0).evidence_size() == (0, 0)


def test_a_map_is_shown_on_the_scale_of_the_threshold_as_in_reports() -> None:
    """A picture hardly above a usual score looks calm, whatever its own highest place; where no scale is kept it has its own."""
    schema = InputSchema(name="image", dtype="uint8", channels=1)
    calm, odd = np.linspace(0.0, 2.2, 64, dtype=np.float32).reshape(8, 8), np.full((8, 8), 9.0, np.float32)
    pixels, nothing = np.full((40, 40, 1), 99, np.uint8), (np.empty(0), np.empty((0, 0), np.float32))

    def shown(detail: np.ndarray, scale: tuple[float, float] | None) -> tuple[Levels, np.ndarray]:
        found = made.make_evidence("a", "opened", Record("p", 1.0, pixels), 0.01, detail, schema, nothing, scale)
        assert found is not None
        levels = map_levels(found)
        return levels, np.frombuffer(base64.b64decode(levels.levels), np.uint8)

    levels, cells = shown(calm, (2.0, 4.0))
    assert (levels.lowest, levels.highest) == shades_of(2.0, 4.0, 2.2) == (2.0, 5.0)
    assert levels.threshold == 4.0
    assert cells.max() < 255 / 10
    assert shown(odd, (2.0, 4.0))[1].min() == 255
    levels, cells = shown(calm, None)
    assert levels.threshold is None
    assert (cells.min(), cells.max()) == (0, 255)


@pytest.mark.parametrize(("shape", "dtype"), [((1500, 3000, 3), np.uint8), ((70, 50, 1), np.uint8), ((70, 50, 1), np.uint16)])
def test_a_picture_is_kept_small_with_its_map(shape: tuple[int, int, int], dtype: type) -> None:
    schema = InputSchema(name="image", dtype="uint16" if dtype is np.uint16 else "uint8", channels=shape[2])
    pixels = np.full(shape, np.iinfo(dtype).max // 2, dtype)
    anomaly_map = np.zeros((300, 600), np.float32)
    anomaly_map[299, 0] = 3.0
    found = made.make_evidence("a", "opened", Record("p", 1.0, pixels), 0.01, anomaly_map, schema, (np.empty(0), np.empty((0, 0))))
    assert found is not None
    with Image.open(io.BytesIO(found.picture)) as image:
        assert max(image.size) == min(1024, max(shape))
        assert list(image.size) == found.meta["kept"]
        assert abs(int(np.asarray(image).mean()) - 127) <= 1
    assert found.meta["size"] == [shape[1], shape[0]]
    kept = found.arrays["map"]
    assert max(kept.shape) <= made.LARGEST_MAP
    assert kept[-1, 0] == kept.max() == 3.0
    assert found.size < 120_000
