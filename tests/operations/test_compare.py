"""What is left out of a new fit, and a challenger against a champion, on real bundles and stores."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from anomaly.alarms.book import AlarmBook
from anomaly.alarms.events import Event, alarm_id, iso, make_event
from anomaly.alarms.life import State
from anomaly.alarms.store import Batch, Scored, Store
from anomaly.bundle.archive import read_bundle, write_bundle
from anomaly.bundle.manifest import Threshold
from anomaly.errors import DataError, StoreError
from anomaly.operations.compare import compare
from anomaly.operations.confirmed import overrides, unconfirmed
from anomaly.pipeline.kinds import open_line
from anomaly.spec import read_spec
from tests.conftest import Fitted

T0 = 1_767_225_600.0  # 2026-01-01


def other(fitted: Fitted, folder: Path, p: float) -> Path:
    """The same detector with another threshold."""
    opened = read_bundle(fitted.bundle)
    threshold = Threshold(p_value=p, score=None, budget={"false_alarm_rate": p})
    path = folder / f"p{p}.anomaly"
    write_bundle(path, opened.manifest.model_copy(update={"threshold": threshold}), dict(opened.members))
    return path


def alarm(store: Store, opened: float, closed: float, why: str | None = None) -> None:
    """An alarm of the line `pump`, which someone acknowledges with a reason."""
    id_ = alarm_id("pump", "", opened, "r")
    data = {"class": "process", "condition": "process", "began": iso(opened - 5)}
    store.add_events([make_event("opened", "pump", id_, opened, data)], [])
    store.add_events([make_event("closed", "pump", id_, closed, data)], [])
    if why is not None:

        def do(book: AlarmBook) -> list[Event]:
            return book.acknowledge(book.alarms[id_], "A. Meier", why, closed)

        store.act("pump", "acknowledged", "A. Meier", why, do, id_)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    opened = Store(tmp_path / "line.db")
    opened.register("pump", [])
    alarm(opened, T0 + 100, T0 + 200, "seal broken; not a false alarm")
    alarm(opened, T0 + 300, T0 + 400, "False alarm: cleaning")
    alarm(opened, T0 + 500, T0 + 600)
    opened.close()
    return tmp_path / "line.db"


def test_alarms_count_unless_someone_called_them_false(store: Path, sensor: Fitted) -> None:
    schema = read_bundle(sensor.bundle).manifest.input
    reach = ((schema.window or 1) - 1) * (schema.period_s or 0)
    found = unconfirmed(store, None, schema)
    assert (found.alarms, found.excused) == (2, 1)
    assert found.stretches == ((T0 + 95 - reach, T0 + 200), (T0 + 495 - reach, T0 + 600))
    assert found.says == "Not learnt from: what lies in 2 alarms; 1 that people called false alarms count as normal."
    with pytest.raises(DataError, match=r"no line 'press'; name one of pump"):
        unconfirmed(store, "press", schema)
    with pytest.raises(StoreError, match="no such file"):
        unconfirmed(store.with_name("none.db"), None, schema)


def test_a_label_counts_more_than_what_was_said_with_the_acknowledgement(store: Path, sensor: Fitted) -> None:
    opened = Store(store)
    first, excused, last = opened.alarms(live=False)
    opened.label(first.id, "nuisance", "ada")
    opened.label(excused.id, "real", "ada")
    found = unconfirmed(store, None, read_bundle(sensor.bundle).manifest.input)
    assert (found.alarms, found.excused) == (2, 1)
    assert [end for _, end in found.stretches] == [excused.closed, last.closed]


def test_rows_of_alarms_are_not_learnt_from(store: Path, sensor: Fitted) -> None:
    schema = read_bundle(sensor.bundle).manifest.input
    line = open_line(read_spec(sensor.spec), sensor.data)
    times = line.readings.tables[0].times  # type: ignore[attr-defined]
    found = replace(
        unconfirmed(store, None, schema), stretches=((float(times[100]), float(times[200])), (float(times[1900]), float("inf")))
    )
    keys = overrides(found, schema, {})
    again = open_line(read_spec(sensor.spec, keys), sensor.data)
    table = again.readings.tables[0]  # type: ignore[attr-defined]
    kept = np.flatnonzero(table.usable)
    assert set(range(len(times))) - set(kept.tolist()) == {*range(100, 201), *range(1900, len(times))}
    assert again.readings.window == schema.window  # type: ignore[attr-defined]


def test_good_parts_of_alarms_are_not_learnt_from(camera: Fitted) -> None:
    line = open_line(read_spec(camera.spec), camera.data)
    name = line.pictures.train[0].path.name  # type: ignore[attr-defined]
    again = open_line(read_spec(camera.spec, {"input.leave_out": [name, "gone.png"]}), camera.data)
    assert len(again.pictures.train) == len(line.pictures.train) - 1  # type: ignore[attr-defined]
    assert again.fingerprint() != line.fingerprint()
    assert "1 good parts are left out by [input] leave_out; not there: gone.png" in again.notes()


@pytest.mark.parametrize("kind", ["sensor", "camera"])
def test_verdicts_on_data(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    fitted: Fitted = request.getfixturevalue(kind)
    same = compare(fitted.bundle, fitted.bundle, fitted.data)
    blind = compare(fitted.bundle, other(fitted, tmp_path, 1e-9), fitted.data)
    back = compare(other(fitted, tmp_path, 1e-9), fitted.bundle, fitted.data / "train.csv" if kind == "sensor" else fitted.data)
    if kind == "camera":  # six good parts are too few to say anything
        assert {same.state, blind.state, back.state} == {"cannot tell"}
        return
    assert same.state == "no worse"
    assert all((part.low, part.high) == (0.0, 0.0) for part in same.parts)
    assert blind.state == "worse"
    assert "it finds fewer made-up faults (0.0% against" in blind.says
    assert back.state == "better", back.says
    assert compare(fitted.bundle, fitted.bundle, fitted.data) == same


def test_fewer_false_alarms_on_what_it_learnt_from_do_not_count_for_a_challenger(sensor: Fitted, tmp_path: Path) -> None:
    """The champion flags more than it may on the rows that the challenger learnt from: the challenger is not better by that."""
    opened = read_bundle(sensor.bundle)
    wild = tmp_path / "wild.anomaly"
    manifest = opened.manifest.model_copy(update={"threshold": Threshold(p_value=0.5, score=None, budget={"false_alarm_rate": 0.001})})
    write_bundle(wild, manifest, dict(opened.members))
    found = compare(wild, sensor.bundle, sensor.data / "train.csv")
    assert found.state in ("no worse", "worse")  # it finds fewer faults than one that flags half of everything
    assert any("does not count for it" in note for note in found.notes)


def test_false_alarms_are_counted_beside_the_line(sensor: Fitted, tmp_path: Path) -> None:
    """A challenger that calls a third of the line's records strange is worse, however well it does on the data it learnt from."""
    wild = other(sensor, tmp_path, 0.0201)
    old, new = read_bundle(sensor.bundle), read_bundle(wild)
    store = Store(tmp_path / "line.db")
    store.register("pump", [])
    scores = [Scored(f"r{i}", T0 + i, 1.0, 0.5) for i in range(300)]
    shadow = [replace(one, p_value=0.001 if i % 3 == 0 else 0.5) for i, one in enumerate(scores)]
    store.commit(Batch("pump", old.hash, {}, State(), None, scored=scores, shadow=shadow, shadow_bundle=new.hash))
    store.close()
    found = compare(sensor.bundle, wild, sensor.data, tmp_path / "line.db")
    assert found.state == "worse"
    assert "flags more normal records than its budget allows (33.3% against 0.0%, 2.01% allowed)" in found.says
    assert any("300 records that both scored" in note for note in found.notes)
