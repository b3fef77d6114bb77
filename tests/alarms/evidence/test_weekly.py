"""The weekly report against a week that is known by hand."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from anomaly.alarms.events import make_event
from anomaly.alarms.life import State
from anomaly.alarms.store import THRESHOLD, Batch, Scored, Store
from anomaly.alarms.weekly import Week, figures_of, render, week_of
from anomaly.alarms.weekly.page import verdict
from anomaly.alarms.weekly.report import write_report
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
    for name, word in (("a", "real"), ("c0", "nuisance"), ("c1", "nuisance"), ("before", "real")):
        store.label(name, word, "ada")  # type: ignore[arg-type]
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


def test_a_week_up_to_any_time_counts_alarms_under_their_own_day(store: Store) -> None:
    (week,) = figures_of(store, MONDAY + 2 * 3600, MONDAY + 7 * 86_400 + 2 * 3600)
    assert week.days == (0, 4, 1, 0, 0, 0, 0, 0)
    page = render([week])
    assert "<td class=day>2026-01-05 from 02:00</td>" in page
    assert "<td class=day>2026-01-06</td><td class=n>4</td>" in page
    assert "<td class=day>2026-01-12 until 02:00</td>" in page
    assert "Alarms from 2026-01-05 02:00 to 2026-01-12 02:00 UTC" in page


def test_more_flagged_than_allowed_is_said_whatever_was_labelled() -> None:
    week = Week("l", MONDAY, MONDAY + 7 * 86_400, opened=1, days=(1,) * 7, records=20, flagged=7, threshold=0.01)
    assert verdict(week).startswith("1 alarm: 7 of 20 records flagged, more than the budget allows: faults, or")
    labelled = verdict(replace(week, real=1))
    assert (
        labelled == "1 alarm: 7 of 20 records flagged, more than the budget allows. What was labelled was a real fault; look at the others."
    )
    assert "1 line, 1 alarm." in render([week])


def test_the_threshold_is_known_before_the_first_alarm(tmp_path: Path) -> None:
    with_one = Store(tmp_path / "t.db")
    scored = [Scored(f"r{i}", MONDAY + i, 1.0, 0.005 if i < 7 else 0.5) for i in range(20)]
    with_one.commit(Batch("l", "b", {"offset": 1}, State(), None, scored, kept={THRESHOLD: "0.01"}))
    (week,) = figures_of(with_one, MONDAY, MONDAY + 7 * 86_400)
    assert (week.flagged, week.over_budget) == (7, True)


def test_time_to_acknowledge_is_told_of_those_who_did() -> None:
    week = Week("l", MONDAY, MONDAY + 7 * 86_400, opened=3, days=(3, 0, 0, 0, 0, 0, 0), unacknowledged=3)
    told = lambda week: re.search(r"Time to acknowledge</th><td>([^<]*)", render([week])).group(1)  # type: ignore[union-attr]  # noqa: E731
    assert told(week) == "nobody acknowledged one"
    assert told(replace(week, acknowledged=1, unacknowledged=2, acknowledge_s=0.3)) == "1 acknowledged, after 0.3 s; 2 not acknowledged"
    assert told(replace(week, acknowledged=1, unacknowledged=2)) == "1 acknowledged; 2 not acknowledged"  # when it was told is not known
    assert told(replace(week, opened=0)) == "no alarm"


def test_on_the_first_day_the_report_is_of_what_there_is(tmp_path: Path) -> None:
    store = Store(tmp_path / "t.db", clock=lambda: MONDAY + 9 * 3600)
    store.commit(Batch("l", "b", {"offset": 1}, State(), None, [Scored(f"r{i}", MONDAY + 60 * i, 1.0, 0.5) for i in range(300)]))
    said = write_report(store, tmp_path / "w.html", MONDAY + 9 * 3600)
    assert said[0] == "l: 0 alarms: nothing that needs anyone."
    assert "Alarms from 2025-12-30 00:00 to 2026-01-05 09:00 UTC" in (tmp_path / "w.html").read_text()
    said = write_report(store, tmp_path / "w.html", MONDAY + 30 * 86_400)
    assert "the records that are kept are of 2026-01-05. Give the time up to which: --until." in said[0]


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
