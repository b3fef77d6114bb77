"""Every path of the API as a stranger, a viewer, an operator and an admin; and whatever is sent to it, no error that is ours to mend."""

from __future__ import annotations

import subprocess
import sys
from typing import Any, get_args

import pytest
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings

from anomaly.page.app import API, make_app
from anomaly.page.auth.guard import Auth
from anomaly.page.auth.roles import Role, allows
from anomaly.page.site import Site
from tests.page.conftest import NO_LIMITS, TOKENS, Open, settings

OPEN = {"GET /me", "POST /session", "DELETE /session", "GET /oidc/begin", "GET /oidc/back"}
OPERATE = {f"POST /alarms/{{id}}/{deed}" for deed in ("acknowledge", "comment", "shelve", "unshelve", "label")}
ADMIN = {f"POST /alarms/{{id}}/{deed}" for deed in ("out-of-service", "in-service", "erase")} | {
    "POST /line/hold", "POST /line/release", "POST /delivery/replay", "POST /shadow/promote", "POST /shadow/rollback",
}  # fmt: skip
ENDLESS = "GET /live"
ROLES: tuple[Role, ...] = get_args(Role)


def paths_of(app: Any) -> list[str]:
    """Each operation of the schema, as METHOD /path."""
    return [
        f"{method.upper()} {path.removeprefix(API)}"
        for path, methods in app.openapi()["paths"].items()
        for method in methods
        if method != "parameters"
    ]


def needed(operation: str) -> Role | None:
    """The role that an operation needs, None where a stranger may ask. What only reads needs the role to look."""
    if operation in OPEN:
        return None
    if operation in OPERATE | ADMIN:
        return "operate" if operation in OPERATE else "admin"
    assert operation.startswith("GET "), f"{operation} changes something: name its role here"
    return "view"


def ask(page: TestClient, operation: str) -> int:
    method, path = operation.split(" ")
    found = page.request(method, API + path.replace("{id}", "a1").replace("{role}", "opened"), params={"name": "press"}, json={})
    return found.status_code


def test_strangers_are_asked_to_sign_in_everywhere(open_page: Open) -> None:
    page = open_page(Auth(settings()))
    operations = paths_of(page.app)
    assert len(operations) > 25
    for operation in operations:
        status = ask(page, operation)
        assert (status == 401) == (needed(operation) is not None), f"{operation}: {status}"


@pytest.mark.parametrize("role", ROLES)
def test_each_role_may_do_what_it_is_for_and_no_more(open_page: Open, role: Role) -> None:
    page = open_page(Auth(settings()))
    page.headers["Authorization"] = f"Bearer {TOKENS[role]}"
    for operation in paths_of(page.app):
        least = needed(operation)
        if least is None or operation == ENDLESS:
            continue
        status = ask(page, operation)
        assert (status == 403) == (not allows(role, least)), f"{operation}: {status}"
        assert status != 401, operation
        assert status < 500, operation


@pytest.mark.parametrize("role", ["view", "operate"])
def test_what_is_refused_is_refused_before_it_is_looked_at(open_page: Open, role: Role) -> None:
    page = open_page(Auth(settings()))
    page.headers["Authorization"] = f"Bearer {TOKENS[role]}"
    assert page.post(f"{API}/alarms/of-nobody/erase", json={"why": "x" * 5000}).status_code == 403


def test_whatever_is_sent_the_answer_is_none_of_our_errors(site: Site) -> None:
    app = make_app(site, Auth(settings()), NO_LIMITS)
    schema = schemathesis.openapi.from_asgi(f"{API}/openapi.json", app).exclude(path=f"{API}/live")
    asked = set()

    for found in schema.get_all_operations():
        operation: Any = found.ok()  # type: ignore[union-attr]  # an error of our schema fails here

        @given(case=operation.as_strategy())
        @hypothesis_settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
        def ask_anything(case: Any) -> None:
            answer = case.call(headers={"Authorization": f"Bearer {TOKENS['admin']}"})
            asked.add((case.method, case.path, answer.status_code))
            assert answer.status_code < 500, (case.method, case.path, answer.text)

        ask_anything()
    assert {(method, path) for method, path, status in asked if status < 300}  # some of it was taken


def test_nothing_of_the_page_is_loaded_where_nobody_listens() -> None:
    code = (
        "import sys; import anomaly.cli.edge, anomaly.edge.monitor, anomaly.edge.box, anomaly.alarms.store\n"
        "ours = ('fastapi', 'starlette', 'uvicorn', 'jwt', 'anomaly.page')\n"
        "print([name for name in sys.modules if name.startswith(ours)])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
