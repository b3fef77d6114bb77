"""Sign-in at an issuer that answers over HTTP: the whole way, and each thing that may be wrong with it."""

from __future__ import annotations

import base64
import hmac
import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from fastapi.testclient import TestClient

from anomaly.errors import SpecError
from anomaly.page.auth.guard import Auth
from anomaly.page.auth.settings import AuthSettings
from tests.page.auth.issuer import CLIENT, SECRET, Issuer
from tests.page.conftest import Open

PAGE = "https://page.plant.example"


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    started = Issuer()
    yield started
    started.close()


@pytest.fixture
def page(issuer: Issuer, open_page: Open, monkeypatch: pytest.MonkeyPatch) -> TestClient:
    monkeypatch.setenv("PLANT_SECRET", SECRET)
    return open_page(Auth(settings_of(issuer)), url=PAGE)


def settings_of(issuer: Issuer, **more: object) -> AuthSettings:
    oidc = {
        "issuer": issuer.url, "client_id": CLIENT, "client_secret_env": "PLANT_SECRET",
        "roles": {"everyone": "view", "shift": "operate", "process": "admin"},
    }  # fmt: skip
    return AuthSettings.model_validate({"url": PAGE, "oidc": oidc | more})


def come_back(page: TestClient, **query: str) -> str:
    """Sign in at the issuer as a browser does; the address that it sends the browser back to."""
    begun = page.get("/api/v1/oidc/begin", params=query)
    assert begun.status_code == 303, begun.text
    return httpx.get(begun.headers["location"]).headers["location"]


def test_who_signs_in_there_has_the_highest_role_of_the_groups(page: TestClient, issuer: Issuer) -> None:
    assert page.get("/api/v1/me").json() == {"name": "", "role": None, "csrf": "", "ways": ["oidc"], "shows": "lines"}
    issuer.claims["groups"] = ["everyone", "shift", "of nothing"]
    back = page.get(come_back(page))
    assert (back.status_code, back.headers["location"]) == (303, "/")
    cookie = next(each for each in back.headers.get_list("set-cookie") if each.startswith("anomaly_session="))
    assert all(part in cookie for part in ("HttpOnly", "SameSite=strict", "Secure", "Path=/"))
    me = page.get("/api/v1/me").json()
    assert (me["name"], me["role"]) == ("ada", "operate")
    assert page.get("/api/v1/lines").status_code == 200


def test_one_comes_back_to_the_view_that_one_was_at_and_to_no_other_site(page: TestClient) -> None:
    for to in ("#/alarms?line=a%20b", "#", ""):
        assert page.get(come_back(page, to=to)).headers["location"] == f"/{to}"
    for to in ("//evil.example", "/evil.example", "https://evil.example", "#\r\nSet-Cookie: a=b", "#/\u00e9", "@evil.example"):
        assert page.get("/api/v1/oidc/begin", params={"to": to}).status_code == 422


def test_groups_may_lie_deeper_or_be_one_word(issuer: Issuer, open_page: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLANT_SECRET", SECRET)
    for claim, claims in (
        ("realm_access.roles", {"realm_access": {"roles": ["process"]}}),
        ("https://plant.example/roles", {"https://plant.example/roles": "process"}),
    ):
        page = open_page(Auth(settings_of(issuer, role_claim=claim)), url=PAGE)
        issuer.claims = {"sub": "no other name", **claims}
        page.get(come_back(page))
        me = page.get("/api/v1/me").json()
        assert (me["name"], me["role"]) == ("no other name", "admin")


@pytest.mark.parametrize(
    ("claims", "words"),
    [
        ({"groups": ["other"]}, "no group"),
        ({"groups": {"shift": True}}, "no group"),
        ({"nonce": "of another sign-in"}, "another sign-in"),
        ({"aud": "another client"}, "not valid"),
        ({"aud": [CLIENT, "another"], "azp": "another"}, "another client"),
        ({"iss": "https://elsewhere.example"}, "not valid"),
        ({"exp": int(time.time()) - 3600}, "not valid"),
        ({"iat": int(time.time()) + 3600}, "not valid"),
        ({"exp": None}, "not valid"),
    ],
)
def test_a_token_that_does_not_fit_signs_nobody_in(page: TestClient, issuer: Issuer, claims: dict[str, Any], words: str) -> None:
    issuer.claims |= claims
    back = page.get(come_back(page))
    assert back.status_code == 403
    assert words in back.json()["detail"]
    assert page.get("/api/v1/me").json()["role"] is None


def by_shared_secret(claims: dict[str, Any], secret: bytes) -> str:
    """HS256 by hand: PyJWT itself refuses to make such a token."""
    parts = [base64.urlsafe_b64encode(json.dumps(each).encode()).rstrip(b"=") for each in ({"alg": "HS256", "kid": "k1"}, claims)]
    signed = b".".join(parts)
    return (signed + b"." + base64.urlsafe_b64encode(hmac.digest(secret, signed, "sha256")).rstrip(b"=")).decode()


def test_a_token_that_is_signed_otherwise_signs_nobody_in(page: TestClient, issuer: Issuer) -> None:
    stranger = rsa.generate_private_key(65537, 2048)
    public = issuer.keys["k1"].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for sign in (
        lambda claims: jwt.encode(claims, stranger, "RS256", headers={"kid": "k1"}),
        lambda claims: jwt.encode(claims, stranger, "RS256", headers={"kid": "k9"}),
        lambda claims: jwt.encode(claims, "", "none", headers={"kid": "k1"}),
        lambda claims: by_shared_secret(claims, public),  # the public key taken for a shared secret
        lambda claims: "no.token.at all",
    ):
        issuer.sign = sign
        assert page.get(come_back(page)).status_code == 403
    assert page.get("/api/v1/me").json()["role"] is None


def test_a_new_key_of_the_issuer_is_found(issuer: Issuer, open_page: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLANT_SECRET", SECRET)
    auth, now = Auth(settings_of(issuer)), [0.0]
    assert auth.provider is not None
    monkeypatch.setattr(auth.provider, "_clock", lambda: now[0])
    page = open_page(auth, url=PAGE)
    assert page.get(come_back(page)).status_code == 303
    issuer.keys["k2"] = rsa.generate_private_key(65537, 2048)
    assert page.get(come_back(page)).status_code == 403  # it was asked just now
    now[0] += 31
    assert page.get(come_back(page)).status_code == 303
    assert issuer.asked.count("/jwks") == 2


def test_a_sign_in_that_another_browser_began_is_refused(page: TestClient, issuer: Issuer, open_page: Open) -> None:
    back = come_back(page)
    other = open_page(Auth(settings_of(issuer)), url=PAGE)
    assert other.get(back).status_code == 403  # no cookie: someone was sent a link
    other.get("/api/v1/oidc/begin")
    assert other.get(back).status_code == 403  # a cookie of another sign-in
    assert "/token" not in issuer.asked
    assert page.get(back).status_code == 303
    assert page.get(back).status_code == 403  # not twice


def test_what_the_issuer_says_no_to_is_told(page: TestClient) -> None:
    page.get("/api/v1/oidc/begin")
    assert "access_denied" in page.get("/api/v1/oidc/back?error=access_denied&state=x").json()["detail"]
    assert page.get("/api/v1/oidc/back").status_code == 401


def test_an_issuer_that_is_away_or_says_nonsense_is_named_and_the_rest_works(
    issuer: Issuer, open_page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLANT_SECRET", SECRET)
    for about in ({"issuer": "https://elsewhere.example"}, {"token_endpoint": "http://elsewhere.example/token"}, {"jwks_uri": None}):
        issuer.about = about
        assert open_page(Auth(settings_of(issuer)), url=PAGE).get("/api/v1/oidc/begin").status_code == 502
    issuer.about = {}
    issuer.close()
    page = open_page(Auth(settings_of(issuer)), url=PAGE)
    answer = page.get("/api/v1/oidc/begin")
    assert answer.status_code == 502
    assert "does not answer" in answer.json()["detail"]
    assert page.get("/api/v1/me").status_code == 200


def test_a_page_without_oidc_says_so(open_page: Open) -> None:
    assert open_page().get("/api/v1/oidc/begin").status_code == 404


def test_the_secret_has_to_be_in_the_environment(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PLANT_SECRET", raising=False)
    with pytest.raises(SpecError, match="PLANT_SECRET is not set"):
        Auth(settings_of(issuer))
