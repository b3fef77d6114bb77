"""A store with alarms in it, and clients of the page that is shown of it: strangers, people with a role, people of this machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from anomaly.alarms.events import make_event
from anomaly.alarms.life import State
from anomaly.alarms.store import Batch, Scored, Store
from anomaly.page.app import make_app
from anomaly.page.auth.guard import Auth
from anomaly.page.auth.limits import RATES, Kind, Limits, Rate
from anomaly.page.auth.roles import ROLES, Role
from anomaly.page.auth.settings import AuthSettings, digest
from anomaly.page.site import Site

TOKENS = {role: f"token-of-{role}" for role in ROLES}
OWN = "http://127.0.0.1:9464"
NO_LIMITS = Limits({kind: Rate(1e6, 1e6) for kind in RATES})
Open = Callable[..., TestClient]


def settings(**more: object) -> AuthSettings:
    """One token for each role; the person has the role's name."""
    tokens = [{"name": f"the {role}", "role": role, "sha256": digest(TOKENS[role])} for role in ROLES]
    return AuthSettings.model_validate({"token": tokens} | more)


def limits(**rates: tuple[float, float]) -> dict[Kind, Rate]:
    """No limits but those that are given."""
    return {kind: Rate(*rates.get(kind.replace(" ", "_"), (1e6, 1e6))) for kind in RATES}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """Two alarms of one line, one of them still on."""
    with closing(Store(tmp_path / "plant.db")) as store:
        now = time.time()
        scored = [Scored(f"{i}.png", now - 60 + i, 1.0, 0.5) for i in range(20)]
        store.commit(Batch("press", "b", {"offset": 1}, State(), None, scored))
        data = {"class": "process", "condition": "process", "p_value": 0.001, "threshold_p": 0.01, "reason": "x"}
        store.add_events([make_event("opened", "press", "a2", now - 3600, data), make_event("closed", "press", "a2", now - 1800, data)], [])
        store.add_events([make_event("opened", "press", "a1", now - 60, data)], [])
    return Site(tmp_path / "plant.db")


@pytest.fixture
def open_page(site: Site) -> Iterator[Open]:
    """A client of a page, closed at the end. `auth` None: of this machine alone."""
    with ExitStack() as stack:

        def opened(auth: Auth | None = None, limits: Limits = NO_LIMITS, url: str = OWN, app: FastAPI | None = None) -> TestClient:
            made = app if app is not None else make_app(site, auth, limits)
            return stack.enter_context(TestClient(made, base_url=url, raise_server_exceptions=False, follow_redirects=False))

        yield opened


def signed_in(client: TestClient, role: Role) -> TestClient:
    """The client as someone with this role, by a token, with the header that actions need."""
    assert client.post("/api/v1/session", json={"token": TOKENS[role]}).status_code == 204
    client.headers["X-CSRF-Token"] = client.get("/api/v1/me").json()["csrf"]
    return client
