"""Champion and challenger on the page: what a person decides is done to what they saw, and to nothing else."""

from __future__ import annotations

import json
import shutil
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from anomaly.alarms.health.board import Board
from anomaly.alarms.store import Store
from anomaly.bundle.release_folder import ReleaseFolder
from anomaly.page.app import API, make_app
from anomaly.page.auth.guard import Auth
from anomaly.page.site import Site
from tests.conftest import Fitted
from tests.edge.conftest import other_version
from tests.page.conftest import NO_LIMITS, TOKENS, Open, settings


@dataclass
class Press:
    """The line press, which follows a release folder with three versions: 3 is the champion, 4 the challenger."""

    page: TestClient
    folder: ReleaseFolder
    hashes: dict[str, str]

    def shown(self) -> dict[str, Any]:
        found: dict[str, Any] = self.page.get(f"{API}/shadow?name=press").json()
        return found

    def decide(self, deed: str, hash_: str) -> tuple[int, str]:
        answer = self.page.post(f"{API}/shadow/{deed}?name=press", json={"hash": hash_, "why": "two weeks beside the line"})
        return answer.status_code, next(iter(answer.json().values()))

    def champion(self) -> str:
        return str(json.loads((self.folder.where / "champion.json").read_text())["version"])


@pytest.fixture
def press(site: Site, open_page: Open, sensor: Fitted, tmp_path: Path) -> Press:
    folder = ReleaseFolder(tmp_path / "release")
    hashes = {}
    for version in ("1", "2", "3", "4"):
        hashes[version] = other_version(sensor.bundle, tmp_path / "made.anomaly", version)
        folder.publish(tmp_path / "made.anomaly", role="challenger" if version != "1" else "champion")
        if version in "23":
            folder.promote("A. Meier")
    board = Board(site.store)
    board.add(["press"])
    board.lines["press"].release = str(folder.where)
    page = open_page(app=make_app(Site(site.store, board), Auth(settings()), NO_LIMITS))
    page.headers["Authorization"] = f"Bearer {TOKENS['admin']}"
    return Press(page, folder, hashes)


def test_two_people_who_go_back_go_one_back(press: Press) -> None:
    seen = press.shown()["champion_hash"]  # by both
    assert seen == press.hashes["3"]
    assert press.decide("rollback", seen)[0] == 200
    status, words = press.decide("rollback", seen)
    assert (status, press.champion()) == (409, "2")
    assert words.startswith("somebody was quicker: the champion is pump-2-")
    assert str(press.folder.where) not in words
    with closing(Store(press.page.app.state.site.store)) as store:  # type: ignore[attr-defined]
        assert [each.action.partition(":")[0] for each in store.actions("press")] == ["rolled back"]
    assert press.decide("rollback", press.shown()["champion_hash"])[0] == 200
    assert press.champion() == "1"


def test_a_challenger_that_nobody_saw_is_not_promoted(press: Press, sensor: Fitted, tmp_path: Path) -> None:
    seen = press.shown()["challenger_hash"]
    press.hashes["5"] = other_version(sensor.bundle, tmp_path / "made.anomaly", "5")
    press.folder.publish(tmp_path / "made.anomaly", role="challenger")
    status, words = press.decide("promote", seen)
    assert (status, press.champion()) == (409, "3")
    assert words.startswith("somebody was quicker: the challenger is pump-5-")
    seen = press.shown()["challenger_hash"]
    assert press.decide("promote", seen)[0] == 200
    status, words = press.decide("promote", seen)
    assert (status, press.champion()) == (409, "5")
    assert words == "somebody was quicker: the challenger is none by now, and nothing was done; look at it first"


def test_what_is_asked_without_a_hash_is_not_done(press: Press) -> None:
    for deed in ("promote", "rollback"):
        assert press.page.post(f"{API}/shadow/{deed}?name=press", json={"why": "x"}).status_code == 422
    assert press.champion() == "3"


def test_a_broken_challenger_is_told_without_the_place_of_the_folder(press: Press) -> None:
    challenger = press.folder.pointed("challenger")
    assert challenger is not None
    challenger.write_bytes(challenger.read_bytes()[:-100])
    for answer in (
        press.page.get(f"{API}/shadow?name=press"),
        press.page.post(f"{API}/shadow/promote?name=press", json={"hash": press.hashes["4"]}),
    ):
        assert answer.status_code == 409
        assert answer.json()["detail"].startswith(f"{challenger.name}: ")
        assert str(press.folder.where) not in answer.text
    shutil.rmtree(press.folder.where)
    answer = press.page.get(f"{API}/shadow?name=press")
    assert answer.status_code == 409
    assert str(press.folder.where) not in answer.text
