"""A further kind of input at the edge is one row: spectra, registered here alone, run through the whole monitor."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from anomaly.alarms.quality import Repeats
from anomaly.alarms.store import Store
from anomaly.data.records import Record
from anomaly.edge.kinds import KINDS, EdgeKind
from anomaly.edge.monitor import Monitor
from anomaly.edge.runtime.self_test import self_test
from anomaly.edge.runtime.session import Session, open_session
from anomaly.edge.sources.base import Poll, Source
from anomaly.edge.sources.uri import SCHEMES, Request, Scheme, open_source
from anomaly.errors import BundleError, SpecError
from anomaly.schema import InputSchema
from tests.edge.tiny import tiny_bundle

LINES = 16
SPECTRUM = InputSchema(name="spectrum", dtype="float32", channels=LINES)


class Spectra:
    """A file with one spectrum a line."""

    def __init__(self, path: Path, position: dict[str, Any]) -> None:
        self._rows = np.loadtxt(path, dtype=np.float32)
        self._at = int(position.get("row", 0))

    def poll(self, limit: int) -> Poll:
        rows = range(self._at, min(self._at + limit, len(self._rows)))
        self._at = rows.stop
        return Poll([Record(f"s:{i}", float(i), self._rows[i]) for i in rows], position={"row": self._at})

    def close(self) -> None:
        return


def open_spectra(request: Request) -> Source:
    return Spectra(Path(request.path), request.position)


def explain(detail: NDArray[np.float32], schema: InputSchema) -> dict[str, Any]:
    return {"cause": f"line {int(detail.argmax())} of {schema.channels}"}


def frozen(before: Repeats, records: Sequence[Record[NDArray[Any]]], schema: InputSchema) -> tuple[Repeats, str]:
    return before, "a spectrum of zeros" if not records[-1].payload.any() else ""


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = EdgeKind(
        output="line", records_per_poll=4, records_per_run=3, accepts="spectra: give a file", scheme_of_path=lambda path: "spectra",
        explain=explain, find_frozen=frozen,
    )  # fmt: skip
    monkeypatch.setitem(KINDS, "spectrum", kind)
    monkeypatch.setitem(SCHEMES, "spectra", Scheme("spectrum", open_spectra))


@pytest.mark.usefixtures("registered")
def test_a_third_kind_runs_through_the_monitor(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = np.full((10, LINES), 0.1, np.float32)
    rows[6, 3] = 9.0
    rows[9] = 0.0
    np.savetxt(tmp_path / "spectra.txt", rows)
    bundle = tiny_bundle(tmp_path / "tiny.anomaly", SPECTRUM, "line")
    session = open_session(bundle, "cpu")
    assert self_test(bundle, session) == 1
    sizes: list[int] = []
    run = session.run
    session.run = lambda raw: sizes.append(len(raw)) or run(raw)  # type: ignore[method-assign, func-returns-value]
    store = Store(tmp_path / "s.db")
    source = open_source(str(tmp_path / "spectra.txt"), bundle.manifest.input, lambda _: False, {})
    loop = Monitor(bundle, session, source, store, "l")
    for _ in range(4):
        loop.turn(threading.Event())
    assert sizes == [3, 1, 3, 1, 2]
    assert [scored.record for scored in store.scores("l")] == [f"s:{i}" for i in range(10)]
    opened, closed, still = store.events()
    assert opened["data"]["cause"] == "line 3 of 16"
    assert (opened["data"]["record"], closed["type"]) == ("s:6", "anomaly.alarm.closed")
    assert still["data"]["reason"] == "a spectrum of zeros"
    assert "s:6  p 0.00012  line 3 of 16" in caplog.messages[0]
    with pytest.raises(SpecError, match="this bundle takes spectra: give a file"):
        open_source("camera:0", bundle.manifest.input, lambda _: False, {})
    with pytest.raises(BundleError, match="a detector of 'spectrum' has score, p_value and line"):
        Session(tiny_bundle(tmp_path / "map.anomaly", SPECTRUM, "map").detector, "cpu")


def test_a_kind_that_is_not_registered_is_named(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "tiny.anomaly", SPECTRUM, "line")
    with pytest.raises(BundleError, match="takes 'spectrum', which this version does not know; it knows image, window"):
        open_session(bundle, "cpu")
