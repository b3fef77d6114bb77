"""What people do to alarms from the page, where it does not fit how the alarm stands."""

from __future__ import annotations

from contextlib import closing

import pytest

from anomaly.alarms import deeds
from anomaly.alarms.book import Alarm
from anomaly.alarms.store import Store
from anomaly.page.routes import actions
from anomaly.page.site import Site
from tests.page.conftest import Open


def test_who_acknowledges_a_moment_after_another_is_told_so(site: Site, open_page: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    found = actions._found

    def read_just_before_another_acts(store: Store, id_: str) -> Alarm:
        alarm = found(store, id_)
        with closing(Store(site.store)) as other:
            deeds.acknowledge(other, alarm, "bob", "seen")
        return alarm

    monkeypatch.setattr(actions, "_found", read_just_before_another_acts)
    client = open_page()
    client.headers["X-CSRF-Token"] = client.get("/api/v1/me").json()["csrf"]
    answer = client.post("/api/v1/alarms/a1/acknowledge", json={})
    assert (answer.status_code, "was acknowledged by bob" in answer.json()["detail"]) == (409, True)
