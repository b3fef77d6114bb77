"""The weekly report against a week that is known by hand."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from anomaly.alarms.events import make_event
from anomaly.alarms.life import State
from anomaly.alarms.store import Batch, Scored, Store
from anomaly.alarms.weekly import figures_of, render, week_of
from anomaly.errors import DataError
from tests.conftest import run

MONDAY = 1_767_571_200.0  # 2026-01-05, midnight UTC
HOSTILE = "press <script>alert(1)</script>\x1b[2J"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    moment = [MONDAY]
    store = Store(tmp_path / "s.db", clock=lambda: moment[0])

    def alarm(name: str, opens: float, lasts: float | None, condition: str = "process") -> None:
        class_ = "process" if condition == "process" else "data quality"
        data = {"class": class_, "condition": condition, "p_value": 0.001, "threshold_p": 0.01, "reason": "x"}
        moment[0] = MONDAY + opens
        store.add_events([make_event("opened", HOSTILE, name, MONDAY + opens, data)], [])
        if lasts is not None:
            moment[0] = MONDAY + opens + lasts
            store.add_events([make_event("closed", HOSTILE, name, MONDAY + opens + lasts, data)], [])

    scored = [Scored(f"r{i}", MONDAY + 60 * i, 1.0, 0.005 if i % 100 == 0 else 0.5) for i in range(0, 10_080 // 2)]  # half of the week
    store.commit(Batch(HOSTILE, "b", {"offset": 1}, State(), None, scored))
    alarm("before", -3600.0, 60.0)
    alarm("a", 3600.0, 600.0)
    for number in range(4):
        alarm(f"c{number}", 90_000.0 + 10 * number, 5.0)
    alarm("long", 200_000.0, 90_000.0, "silent")
    alarm("after", 8 * 86_400.0, 60.0)
    moment[0] = MONDAY + 3600.0 + 120.0
    store.act(HOSTILE, "acknowledged", "ada", "", lambda book: [], "a")
    for name, verdict in (("a", "real"), ("c0", "nuisance"), ("c1", "nuisance"), ("before", "real")):
        store.label(name, verdict, "ada")  # type: ignore[arg-type]
    return store


def test_figures_of_a_known_week(store: Store) -> None:
    (week,) = figures_of(store, MONDAY, MONDAY + 7 * 86_400)
    assert (week.opened, week.other) == (5, 1)
    assert week.days == (1, 4, 1, 0, 0, 0, 0)
    assert (week.records, week.flagged, week.threshold) == (5040, 51, 0.01)
    assert week.expected == pytest.approx(50.4)
    assert week.over_budget is False
    assert (week.stale, week.chattering, week.peak, week.flood_share) == (1, 1, 4, 0.0)
    assert (week.real, week.nuisance) == (1, 2)
    assert week.precision == pytest.approx(1 / 3)
    assert week.watched == pytest.approx(0.5, abs=0.01)
    assert week.frequent[0] == ("process", 5)
    assert week.still_on == 0


def test_the_page_shows_names_as_text_and_asks_nothing_of_the_network(store: Store) -> None:
    page = render(figures_of(store, MONDAY, MONDAY + 7 * 86_400))
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "\x1b" not in page
    assert not re.search(r"(src|href)=", page)
    assert "most of those that were looked at were a nuisance" in page
    assert "1 real, 2 a nuisance: 33% real" in page


def test_a_week_ends_at_midnight_and_an_empty_store_says_so(tmp_path: Path) -> None:
    assert week_of(MONDAY + 5000) == (MONDAY - 7 * 86_400, MONDAY)
    with pytest.raises(DataError, match="no line yet"):
        render(figures_of(Store(tmp_path / "empty.db"), 0.0, 1.0))


def test_the_command_writes_the_page(store: Store, tmp_path: Path) -> None:
    said = run("alarms", "weekly", store.path, "--until", "2026-01-12T00:00:00Z", "--out", tmp_path / "w.html")
    assert "6 alarms: most of those" in " ".join(said.split())
    assert "Alarms from 2026-01-05 to 2026-01-11" in (tmp_path / "w.html").read_text()
    with pytest.raises(DataError, match=r"name it \.html"):
        run("alarms", "weekly", store.path, "--out", tmp_path / "w.txt")


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Chromium")
def test_chromium_prints_it(store: Store, tmp_path: Path) -> None:
    run("alarms", "weekly", store.path, "--until", "2026-01-12T00:00:00Z", "--out", tmp_path / "w.html", "--pdf")
    assert (tmp_path / "w.pdf").read_bytes().startswith(b"%PDF")
