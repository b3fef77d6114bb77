"""An alarm over several pictures: the page lists them all, and what someone says is kept of the picture that was shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from anomaly.alarms.store import Store
from anomaly.page.app import make_app
from anomaly.page.auth.guard import Auth
from anomaly.page.site import Site
from tests.alarms.evidence.test_pictures import NAMES, made_store
from tests.page.conftest import NO_LIMITS, OWN, settings, signed_in


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return made_store(tmp_path / "s.db")


def test_the_pictures_of_an_alarm_and_what_was_said_of_each(store: Store) -> None:
    with TestClient(make_app(Site(store.path), Auth(settings()), NO_LIMITS), base_url=OWN) as client:
        signed_in(client, "operate")
        found = client.get("/api/v1/alarms/a1").json()
        rows = [(each["record"], each["role"], each["label"]) for each in found["flagged"]]
        assert rows == [("good/1.png", "opened", None), ("2.png", "worst", None), ("3.png", None, None)]
        assert found["flagged_total"] == 3  # the calm one is not among them
        worst = next(each for each in found["kept"] if each["role"] == "worst")
        said = {"verdict": "real", "kind": "crack", "boxes": [[10, 20, 30, 20]], "pictures": [worst["time"]]}
        assert client.post("/api/v1/alarms/a1/label", json=said).status_code == 200
        found = client.get("/api/v1/alarms/a1").json()
        assert [each["label"] and each["label"]["kind"] for each in found["flagged"]] == [None, "crack", None]
        assert found["label"]["pictures"] == [{"record": "2.png", "verdict": "real", "kind": "crack", "boxes": [[10, 20, 30, 20]]}]
        gone = client.post("/api/v1/alarms/a1/label", json=said | {"pictures": ["2020-01-01T00:00:00Z"]})
        assert (gone.status_code, "not kept any more" in gone.json()["detail"]) == (409, True)
    label = store.label_of("a1")
    assert label is not None
    assert [one.record for one in label.pictures] == [NAMES["worst"]]


def test_what_is_kept_is_listed_also_where_its_score_is_gone(store: Store) -> None:
    with store._transaction("") as db:  # as after a week, when the worst of each minute is left
        db.execute("DELETE FROM scores")
    with TestClient(make_app(Site(store.path)), base_url=OWN) as client:
        found = client.get("/api/v1/alarms/a1").json()
    assert [(each["record"], each["score"]) for each in found["flagged"]] == [("good/1.png", None), ("2.png", None)]
