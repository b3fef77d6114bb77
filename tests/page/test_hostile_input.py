"""What no browser sends: numbers that are none, text that is none, addresses that are none. It is refused in words, and never repeated."""

from __future__ import annotations

import json
from typing import Any

import pytest

from anomaly.page.app import API
from anomaly.page.auth.guard import Auth
from tests.page.conftest import OWN, TOKENS, Open, settings

ACTIONS: dict[str, dict[str, Any]] = {
    "/alarms/a1/shelve": {"seconds": 60, "why": "x"},
    "/alarms/a1/label": {"verdict": "real", "reason": "r", "kind": "k", "boxes": [], "stretches": []},
    "/line/hold?name=press": {"kind": "shelved", "condition": "process", "seconds": 60, "why": "x"},
    "/delivery/replay": {"sink": "x", "ids": ["a"]},
    "/session": {"token": "x"},
}
HOSTILE = (
    r'"\ud800"',
    "NaN",
    "1e999",
    "-1e999",
    r'{"\ud800": 1}',
    "[[0, 0, NaN, 1]]",
    "9" * 400,
    '[["my-token"]]',
    '{"a": "my-token"}',
)


@pytest.mark.parametrize("path", ACTIONS)
def test_what_is_no_value_is_refused_and_not_repeated(open_page: Open, path: str) -> None:
    page = open_page(Auth(settings()))
    headers = {"Authorization": f"Bearer {TOKENS['admin']}", "Content-Type": "application/json"}
    fine = ACTIONS[path]
    for key in (*fine, "unknown"):
        for value in HOSTILE:
            body = ", ".join([*(f'"{name}": {json.dumps(given)}' for name, given in fine.items() if name != key), f'"{key}": {value}'])
            answer = page.post(f"{API}{path}", content=f"{{{body}}}", headers=headers)
            assert answer.status_code in (400, 422), (key, value, answer.text)
            assert "my-token" not in answer.text
            assert '"input"' not in answer.text
            if answer.status_code == 422:
                assert key in answer.text, "it names the key"
    for whole in (r'"\ud800"', "NaN", "[" * 50_000, '"my-token"', "\xff", r'{"\ud800": "my-token"}'):
        answer = page.post(f"{API}{path}", content=whole.encode("latin-1"), headers=headers)
        assert answer.status_code in (400, 422), (whole[:20], answer.text)
        assert "my-token" not in answer.text


@pytest.mark.parametrize(
    "times", [("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59Z"), ("2026-11-27T08:00:00Z", "9999-12-31T23:59:59-14:00")]
)
def test_times_before_the_first_and_after_the_last_year_are_refused(open_page: Open, times: tuple[str, str]) -> None:
    page = open_page(Auth(settings()))
    page.headers["Authorization"] = f"Bearer {TOKENS['admin']}"
    answers = (
        page.post(f"{API}/alarms/a1/label", json={"verdict": "real", "stretches": [times]}),
        page.get(f"{API}/line", params={"name": "press", "begin": times[0], "end": times[1]}),
    )
    for answer in answers:
        assert answer.status_code == 400, answer.text
        assert "write a time with its zone" in answer.json()["detail"]


@pytest.mark.parametrize("origin", ["http://[::1", "http://[", "http://a]:1", "null", "\xff", "http://127.0.0.1:99999999"])
def test_an_origin_that_is_no_address_is_another_site(open_page: Open, origin: str) -> None:
    page = open_page()
    csrf = page.get(f"{API}/me").json()["csrf"]
    sent = [(b"Origin", origin.encode("latin-1")), (b"X-CSRF-Token", csrf.encode())]
    assert page.post(f"{API}/alarms/a1/comment", json={"why": "x"}, headers=sent).status_code == 403
    assert page.delete(f"{API}/session", headers=sent).status_code == 403
    assert page.post(f"{API}/alarms/a1/comment", json={"why": "x"}, headers={"Origin": OWN, "X-CSRF-Token": csrf}).status_code == 200


def test_a_host_that_is_no_address_is_no_error_of_ours(open_page: Open) -> None:
    page = open_page(Auth(settings()))
    answer = page.post(f"{API}/session", json={"token": TOKENS["view"]}, headers={"Host": "[::1"})
    assert answer.status_code == 204
