"""Who is let in: this machine's own people, sessions and tokens; what another site may have sent; how often one may ask."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from fastapi import Request
from fastapi.testclient import TestClient

from anomaly.alarms.health.address import Address
from anomaly.alarms.store import Store
from anomaly.page.app import make_app
from anomaly.page.auth.guard import Auth
from anomaly.page.auth.headers import LONGEST_BODY
from anomaly.page.auth.limits import MOST_ADDRESSES, Limits, Rate
from anomaly.page.auth.roles import Person, Role
from anomaly.page.auth.sessions import MOST, Sessions
from anomaly.page.auth.settings import AuthFile, digest, read_auth
from anomaly.page.serve import serving_page
from anomaly.page.site import Site
from tests.page.conftest import OWN, TOKENS, Open, limits, settings, signed_in

ACK = "/api/v1/alarms/a1/acknowledge"


# --- of this machine alone ---


@pytest.mark.parametrize("host", ["127.0.0.1:9464", "localhost", "LOCALHOST:1", "[::1]:9464", "127.8.8.8"])
def test_on_this_machine_nobody_signs_in(open_page: Open, host: str) -> None:
    page = open_page()
    page.headers["Host"] = host
    me = page.get("/api/v1/me").json()
    assert me["role"] == "admin"
    assert me["ways"] == []
    assert page.get("/api/v1/lines").status_code == 200
    assert page.post(ACK, json={}, headers={"X-CSRF-Token": me["csrf"]}).status_code == 200


STRANGE = ["plant.example:9464", "127.0.0.1.evil.example", "10.0.0.7", "localhost@evil.example", "evil.example@localhost", "[::1", "", "0"]


@pytest.mark.parametrize("host", STRANGE)
def test_a_name_of_another_host_that_leads_here_is_refused(open_page: Open, host: str) -> None:
    page = open_page()
    page.headers["Host"] = host
    assert page.get("/api/v1/me").status_code == 403  # it holds the token that actions need
    assert page.get("/api/v1/lines").status_code == 403
    assert page.post("/api/v1/session", json={"token": "x"}).status_code == 403


@pytest.mark.parametrize(
    "header", ["Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Proto", "X-Real-IP", "True-Client-IP", "CF-Connecting-IP", "CF-Ray"]
)
def test_who_comes_by_a_proxy_is_not_on_this_machine(open_page: Open, header: str) -> None:
    page = open_page()
    for path in ("/api/v1/me", "/api/v1/lines"):
        answer = page.get(path, headers={header: "10.0.0.7"})
        assert answer.status_code == 401
        assert answer.json()["detail"] == "a proxy stands before this page, and lets others in: say who may open it by --page-auth"
    assert page.post(ACK, json={}, headers={header: "10.0.0.7", "X-CSRF-Token": page.get("/api/v1/me").json()["csrf"]}).status_code == 401


@pytest.mark.parametrize(("version", "status"), [("1.0", b"401"), ("1.1", b"200")])
def test_a_proxy_that_says_nothing_of_itself_is_known_by_its_old_protocol(site: Site, version: str, status: bytes) -> None:
    """As nginx with no more than `proxy_pass`: HTTP/1.0, the Host of the page itself, no header of its own."""
    with serving_page(site, Address("127.0.0.1", 0), Auth()) as address, socket.create_connection(("127.0.0.1", address.port), 10) as asked:
        asked.sendall(f"GET /api/v1/lines HTTP/{version}\r\nHost: {address}\r\nConnection: close\r\n\r\n".encode())
        assert asked.recv(4096).split(b" ")[1] == status


# --- what another site may have sent ---


@pytest.mark.parametrize("with_settings", [False, True])
def test_an_action_needs_the_token_that_only_our_own_page_can_read(open_page: Open, site: Site, with_settings: bool) -> None:
    page = open_page(Auth(settings())) if with_settings else open_page()
    if with_settings:
        signed_in(page, "operate")
    csrf = page.get("/api/v1/me").json()["csrf"]
    page.headers.pop("X-CSRF-Token", None)
    for headers in ({}, {"X-CSRF-Token": "guessed"}, {"X-CSRF-Token": "\xe9"}, {"X-CSRF-Token": csrf, "Origin": "https://evil.example"}):
        sent = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
        assert page.post(ACK, json={}, headers=sent).status_code == 403
    assert Store(site.store).actions() == []
    assert page.post(ACK, json={}, headers={"X-CSRF-Token": csrf, "Origin": OWN}).status_code == 200


def test_behind_a_proxy_the_pages_own_address_is_no_other_site(open_page: Open) -> None:
    page = signed_in(open_page(Auth(settings(url="https://page.plant.example")), url="https://inside:9464"), "operate")
    assert page.post(ACK, json={}, headers={"Origin": "https://evil.example"}).status_code == 403
    assert page.post(ACK, json={}, headers={"Origin": "https://page.plant.example"}).status_code == 200


# --- tokens and sessions ---


def test_a_program_sends_its_token_and_stands_in_the_audit_log(open_page: Open, site: Site) -> None:
    page = open_page(Auth(settings()))
    assert page.get("/api/v1/lines").status_code == 401
    for wrong in ("Bearer wrong", "Bearer ", f"Basic {TOKENS['admin']}", TOKENS["admin"]):
        answer = page.get("/api/v1/lines", headers={"Authorization": wrong})
        assert answer.status_code == 401, wrong
    page.headers["Authorization"] = f"Bearer {TOKENS['operate']}"
    assert page.get("/api/v1/me").json()["name"] == "the operate"
    assert page.post(ACK, json={"why": "seen"}).status_code == 200
    assert [(each.who, each.action, each.why) for each in Store(site.store).actions()] == [("the operate", "acknowledged", "seen")]


def test_a_session_lives_in_a_cookie_that_no_script_reads_and_no_other_site_sends(open_page: Open) -> None:
    page = open_page(Auth(settings()))
    assert page.post("/api/v1/session", json={"token": "wrong"}).status_code == 401
    cookie = page.post("/api/v1/session", json={"token": TOKENS["view"]}).headers["set-cookie"]
    assert all(part in cookie for part in ("HttpOnly", "SameSite=strict", "Path=/"))
    assert "Secure" not in cookie
    first = page.cookies["anomaly_session"]
    signed_in(page, "admin")
    assert page.cookies["anomaly_session"] != first
    before = open_page(app=page.app)
    before.cookies.set("anomaly_session", first)
    assert before.get("/api/v1/lines").status_code == 401  # who signs in anew is no longer who was signed in before
    gone = page.delete("/api/v1/session")
    assert gone.status_code == 204
    assert gone.headers["Clear-Site-Data"] == '"cache"'  # of pictures, which a browser keeps for an hour
    assert page.get("/api/v1/lines").status_code == 401


def test_by_https_the_cookie_is_never_sent_by_http(open_page: Open) -> None:
    direct = open_page(Auth(settings()), url="https://127.0.0.1")
    assert "Secure" in direct.post("/api/v1/session", json={"token": TOKENS["view"]}).headers["set-cookie"]
    behind = open_page(Auth(settings(url="https://page.plant.example")))
    assert "Secure" in behind.post("/api/v1/session", json={"token": TOKENS["view"]}).headers["set-cookie"]


def test_a_session_ends_after_its_hours_and_when_nobody_does_anything(open_page: Open) -> None:
    now = [0.0]
    page = signed_in(open_page(Auth(settings(session_h=2, idle_min=30), lambda: now[0])), "view")
    for minute in (29, 58, 87, 116):
        now[0] = minute * 60
        assert page.get("/api/v1/lines").status_code == 200
    now[0] = 121 * 60
    assert page.get("/api/v1/lines").status_code == 401  # two hours
    signed_in(page, "view")
    began = now[0]
    for minute in (20, 29):
        now[0] = began + minute * 60
        assert page.get("/api/v1/lines", headers={"X-Background": "1"}).status_code == 200
    now[0] = began + 31 * 60
    assert page.get("/api/v1/lines", headers={"X-Background": "1"}).status_code == 401  # what the page asks by itself is nobody's doing


def test_a_restart_signs_everybody_out(open_page: Open) -> None:
    page = signed_in(open_page(Auth(settings())), "view")
    after = open_page(Auth(settings()))
    after.cookies.set("anomaly_session", page.cookies["anomaly_session"])
    assert after.get("/api/v1/lines").status_code == 401


def test_sessions_do_not_pile_up() -> None:
    now = [0.0]
    sessions = Sessions(1e9, 1e9, lambda: now[0])
    first, _ = sessions.begin(Person("a", "view"))
    for _ in range(MOST):
        now[0] += 1
        last, _ = sessions.begin(Person("b", "view"))
    assert sessions.find(first) is None
    assert sessions.find(last) is not None


# --- how often, how much, and the headers ---


def test_guessing_tokens_is_slow(open_page: Open) -> None:
    page = open_page(Auth(settings()), Limits(limits(sign_in=(5 / 60, 5.0))))
    answers = [page.post("/api/v1/session", json={"token": f"guess {i}"}) for i in range(8)]
    assert [each.status_code for each in answers] == [401] * 5 + [429] * 3
    assert 1 <= int(answers[-1].headers["Retry-After"]) <= 12
    assert page.get("/api/v1/me").status_code == 200


def test_reads_and_actions_have_limits_of_their_own(open_page: Open) -> None:
    page = open_page(None, Limits(limits(read=(0.001, 3.0), act=(0.001, 2.0))))
    assert [page.get("/api/v1/lines").status_code for _ in range(5)] == [200] * 3 + [429] * 2
    assert [page.post(ACK, json={}).status_code for _ in range(4)] == [403] * 2 + [429] * 2
    assert page.get("/healthz").status_code == 404  # no board here; and never 429


def test_what_takes_the_whole_store_has_a_limit_of_its_own(open_page: Open) -> None:
    page = open_page(None, Limits(limits(report=(0.001, 2.0))))
    for path in ("/api/v1/weekly", "/api/v1/labels.zip", "/api/v1/weekly?line=press"):
        page.get(path)
    assert page.get("/api/v1/labels.zip").status_code == 429
    assert page.get("/api/v1/lines").status_code == 200


def test_an_address_of_a_proxy_that_is_not_believed_is_its_own(open_page: Open) -> None:
    rates = limits(read=(0.001, 2.0))
    page = open_page(Auth(settings(proxies=["127.0.0.1"])), Limits(rates))
    answers = [page.get("/api/v1/me", headers={"X-Forwarded-For": f"10.0.0.{i}"}).status_code for i in range(4)]
    assert answers == [200, 200, 429, 429]  # the client is none of the proxies: what it says of itself counts for nothing


def test_behind_a_proxy_each_person_has_a_limit(site: Site) -> None:
    app = make_app(site, Auth(settings(proxies=["10.1.0.0/16"])), Limits(limits(read=(0.001, 2.0))))
    page = TestClient(app, base_url=OWN, client=("10.1.2.3", 1))
    asked = [page.get("/api/v1/me", headers={"X-Forwarded-For": f"10.0.0.{i // 3}", "X-Forwarded-Proto": "https"}) for i in range(6)]
    assert [each.status_code for each in asked] == [200, 200, 429] * 2
    cookie = page.post("/api/v1/session", json={"token": TOKENS["view"]}, headers={"X-Forwarded-Proto": "https"}).headers["set-cookie"]
    assert "Secure" in cookie


def test_one_network_of_ipv6_is_one_asker(site: Site) -> None:
    app = make_app(site, Auth(settings()), Limits(limits(read=(0.001, 2.0))))
    asked = [TestClient(app, base_url=OWN, client=(f"2001:db8::{i}", 1)).get("/api/v1/me").status_code for i in range(1, 4)]
    assert asked == [200, 200, 429]
    assert TestClient(app, base_url=OWN, client=("2001:db8:1::1", 1)).get("/api/v1/me").status_code == 200


def test_limits_forget_who_asked_longest_ago() -> None:
    kept = Limits({"read": Rate(0.001, 1.0)}, lambda: 0.0)
    assert kept.wait_s("first", "read") == 0
    for number in range(MOST_ADDRESSES):
        kept.wait_s(str(number), "read")
    assert len(kept._buckets) == MOST_ADDRESSES
    assert kept.wait_s("first", "read") == 0


def test_a_body_that_is_too_long_is_not_read(open_page: Open) -> None:
    page = open_page()
    csrf = {"X-CSRF-Token": page.get("/api/v1/me").json()["csrf"]}
    assert page.post(ACK, content=b"x" * (LONGEST_BODY + 1), headers=csrf).status_code == 413
    assert page.post(ACK, content=iter([b"x" * 1000] * (LONGEST_BODY // 1000 + 2)), headers=csrf).status_code in (400, 413)
    assert page.post(ACK, json={}, headers=csrf).status_code == 200


@pytest.mark.parametrize("path", ["/api/v1/me", "/api/v1/nothing", "/", "/healthz", "/api/v1/lines"])
def test_every_answer_has_the_headers(open_page: Open, path: str) -> None:
    headers = open_page(Auth(settings())).get(path).headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    if path.startswith("/api/"):
        assert headers["Cache-Control"] == "no-store"
    assert "server" not in headers


# --- the file that changes ---


def test_a_token_is_taken_back_without_a_restart_and_a_mistake_changes_nothing(
    open_page: Open, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    now, file = [0.0], tmp_path / "page.toml"

    def write(*roles: Role, more: str = "") -> None:
        tokens = [f'[[token]]\nname = "the {role}"\nrole = "{role}"\nsha256 = "{digest(TOKENS[role])}"\n' for role in roles]
        file.write_text(more + "".join(tokens))
        now[0] += 3

    def may(page: TestClient) -> bool:
        return page.get("/api/v1/lines").status_code == 200

    write("view", "operate")
    auth = Auth(read_auth(file), lambda: now[0], AuthFile(file))
    stays, goes, program = signed_in(open_page(auth), "view"), signed_in(open_page(auth), "operate"), open_page(auth)
    program.headers["Authorization"] = f"Bearer {TOKENS['operate']}"
    write("view", "operate", more="mistake = 1\n")
    assert may(stays)
    assert may(goes)
    assert may(program)
    assert caplog.text.count("stays as it was") == 1
    assert "mistake" in caplog.text
    file.unlink()
    now[0] += 3
    assert may(goes)
    write("view", "admin")
    assert may(stays)
    assert not may(goes)
    assert not may(program)
    signed_in(open_page(auth), "admin")
    write("view", more="idle_min = 1\n")
    assert may(stays)
    now[0] += 61
    assert not may(stays)


def test_another_token_for_the_same_person_ends_what_the_old_one_began(open_page: Open, tmp_path: Path) -> None:
    now, file = [0.0], tmp_path / "page.toml"

    def write(token: str) -> None:
        file.write_text(f'[[token]]\nname = "A. Meier"\nrole = "admin"\nsha256 = "{digest(token)}"\n')
        now[0] += 3

    write(TOKENS["admin"])
    auth = Auth(read_auth(file), lambda: now[0], AuthFile(file))
    old = signed_in(open_page(auth), "admin")
    write("another, since the first was seen by others")
    assert old.get("/api/v1/lines").status_code == 401
    new = open_page(auth)
    assert new.post("/api/v1/session", json={"token": "another, since the first was seen by others"}).status_code == 204
    file.touch()
    now[0] += 3
    assert new.get("/api/v1/lines").status_code == 200


def test_who_watches_is_let_go_when_the_session_ends() -> None:
    def asked(**headers: str) -> Request:
        return Request({"type": "http", "headers": [(name.encode(), value.encode()) for name, value in headers.items()]})

    now = [0.0]
    auth = Auth(settings(idle_min=1), lambda: now[0])
    cookie = f"anomaly_session={auth.sessions.begin(Person('a', 'view'))[0]}"
    now[0] = 59
    assert auth.still(asked(cookie=cookie))
    assert auth.still(asked(authorization=f"Bearer {TOKENS['view']}"))
    assert not auth.still(asked(authorization="Bearer of nobody", cookie=cookie))
    now[0] = 61  # to watch is not to do something
    assert not auth.still(asked(cookie=cookie))
    assert not auth.still(asked(cookie=cookie, authorization="of no kind"))
