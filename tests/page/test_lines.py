"""A line at a glance: why it needs someone, what is held back, and what others did, each in their own words."""

from __future__ import annotations

from contextlib import closing

from anomaly.alarms.deeds import hold, release
from anomaly.alarms.events import make_event
from anomaly.alarms.store import Store
from anomaly.page.site import Site
from tests.page.conftest import Open

MISSING = {
    "class": "data quality", "condition": "sensor", "sensor": "flow", "sensors": ["flow", "heat"],
    "reason": "2 sensors at once (flow, heat)", "began": "2026-01-01T00:00:00Z",
}  # fmt: skip


def test_a_line_without_readable_records_says_why_it_needs_a_look(site: Site, open_page: Open) -> None:
    with closing(Store(site.store)) as store:
        reason = "20 of the last 20 records could not be read"
        store.add_events([make_event("opened", "oven", "r", 1.0, {"class": "data quality", "condition": "rubbish", "reason": reason})], [])
        store.add_events([make_event("opened", "oven", "s", 2.0, MISSING)], [])
    oven, press = sorted(open_page().get("/api/v1/lines").json()["lines"], key=lambda line: line["name"])
    assert (oven["state"], oven["worst_priority"]) == ("attention", "medium")
    assert oven["why"] == [reason, "2 sensors at once (flow, heat)"]
    assert [cause["code"] for cause in oven["causes"]] == ["quality.rubbish", "quality.sensor"]
    assert oven["causes"][0]["values"]["n0"] == 20
    assert oven["causes"][1]["values"]["sensors"] == "flow, heat"
    assert (press["state"], press["causes"], press["held"]) == ("alarm", [], [])


def test_what_is_held_back_needs_nobody_and_is_said(site: Site, open_page: Open) -> None:
    with closing(Store(site.store)) as store:
        hold(store, "shelved", "press", ["process"], 3600.0, "ada", "")
    (line,) = open_page().get("/api/v1/lines").json()["lines"]
    assert (line["state"], line["open"], line["worst_priority"]) == ("held", 1, None)
    assert [(each["kind"], each["condition"], each["who"]) for each in line["held"]] == [("shelved", "process", "ada")]


def test_a_hold_without_a_reason_has_none_in_the_history(site: Site, open_page: Open) -> None:
    with closing(Store(site.store)) as store:
        hold(store, "shelved", "press", ["process"], 3600.0, "ada", "")
        release(store, "shelved", "press", ["process"], "ada", "it is back")
    history = open_page().get("/api/v1/alarms/a1").json()["history"]
    assert [(each["kind"], each["by"], each["why"]) for each in history] == [
        ("opened", "", "x"), ("shelved", "ada", ""), ("unshelved", "ada", "it is back"),
    ]  # fmt: skip
