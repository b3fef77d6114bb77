"""Sign-in at the company's own server: OpenID Connect, authorization code with PKCE.

The browser is sent to the issuer, and comes back with a code. The code is exchanged for an identity token, from here to the issuer. What
has to be remembered between the two (state, nonce, PKCE's verifier) is in a cookie of that browser: nobody else can finish the sign-in.
OpenID Connect Core 1.0, section 3.1; RFC 7636 (PKCE).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import math
import os
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import httpx
import jwt

from anomaly.errors import AnomalyError, SpecError
from anomaly.names import one_line
from anomaly.page.auth.roles import ROLES, Person, Role
from anomaly.page.auth.sessions import OIDC_PATH
from anomaly.page.auth.settings import Oidc, is_own

BACK = f"{OIDC_PATH}/back"
ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]  # none by a shared secret
LEEWAY_S = 60.0  # clocks differ
KEPT_S = 3600.0  # what the issuer says of itself
KEYS_AGAIN_S = 30.0  # an unknown key makes us ask for the keys again, at most so often
PLACES = ("authorization_endpoint", "token_endpoint", "jwks_uri")


class SignInError(AnomalyError):
    """This sign-in is refused."""


class IssuerError(AnomalyError):
    """The issuer does not answer as it should."""


class Provider:
    """One issuer. `url`: of the page, as people open it. Raises SpecError where the secret is not in the environment."""

    def __init__(self, settings: Oidc, url: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.settings, self.back, self._clock = settings, url + BACK, clock
        self._secret = ""
        if settings.client_secret_env is not None:
            self._secret = os.environ.get(settings.client_secret_env, "")
            if not self._secret:
                raise SpecError(f"[oidc] client_secret_env: the variable {settings.client_secret_env} is not set; set it for this process")
        self._lock = threading.Lock()
        self._about: dict[str, Any] = {}
        self._keys: list[jwt.PyJWK] = []
        self._about_at = self._keys_at = -math.inf

    def begin(self) -> tuple[str, str]:
        """The address to send the browser to, and what its cookie holds. Raises IssuerError."""
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        asked = {
            "response_type": "code", "client_id": self.settings.client_id, "redirect_uri": self.back,
            "scope": " ".join(dict.fromkeys(["openid", *self.settings.scopes])), "state": state, "nonce": nonce,
            "code_challenge": challenge(verifier), "code_challenge_method": "S256",
        }  # fmt: skip
        place = self._known()["authorization_endpoint"]
        return f"{place}{'&' if urlsplit(place).query else '?'}{urlencode(asked)}", f"{state}.{nonce}.{verifier}"

    def finish(self, code: str, state: str, cookie: str) -> Person:
        """Who came back. Raises SignInError, IssuerError."""
        kept = cookie.split(".")
        if len(kept) != 3 or not hmac.compare_digest(kept[0].encode(), state.encode()):
            raise SignInError("this sign-in was not begun in this browser, or took too long; begin again")
        claims = self._claims(self._exchange(code, kept[2]))
        if not hmac.compare_digest(str(claims.get("nonce", "")).encode(), kept[1].encode()):
            raise SignInError("the identity token belongs to another sign-in; begin again")
        name = next((str(claims[key]) for key in (self.settings.name_claim, "name", "email", "sub") if claims.get(key)), "")
        role = role_of(claims, self.settings)
        if role is None:
            raise SignInError(f"{one_line(name[:100])} is in no group that may open this page; the claim is {self.settings.role_claim}")
        return Person(one_line(name[:100]), role)

    def _exchange(self, code: str, verifier: str) -> str:
        about, settings = self._known(), self.settings
        form = {
            "grant_type": "authorization_code", "code": code, "redirect_uri": self.back, "client_id": settings.client_id,
            "code_verifier": verifier,
        }  # fmt: skip
        headers = {}
        if self._secret and "client_secret_basic" in about.get("token_endpoint_auth_methods_supported", ["client_secret_basic"]):
            pair = f"{quote(settings.client_id, safe='')}:{quote(self._secret, safe='')}"
            headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
        elif self._secret:
            form["client_secret"] = self._secret
        answer = _ask("POST", about["token_endpoint"], data=form, headers=headers)
        if answer.status_code in (400, 401, 403):
            raise SignInError(f"the issuer refused the code ({_reason(answer)}); begin again")
        token = _object(answer).get("id_token")
        if not isinstance(token, str):
            raise IssuerError("the issuer's answer has no identity token; is the scope openid allowed for this client?")
        return token

    def _claims(self, token: str) -> dict[str, Any]:
        settings = self.settings
        try:
            key = self._key(jwt.get_unverified_header(token).get("kid"))
            claims: dict[str, Any] = jwt.decode(
                token, key, algorithms=ALGORITHMS, audience=settings.client_id, issuer=self._known()["issuer"], leeway=LEEWAY_S,
                options={"require": ["exp", "iat", "iss", "aud", "sub"]},
            )  # fmt: skip
        except jwt.PyJWTError as error:
            raise SignInError(f"the identity token is not valid: {one_line(str(error))[:200]}") from error
        if claims.get("azp", settings.client_id) != settings.client_id:
            raise SignInError("the identity token was made for another client")
        return claims

    def _key(self, id_: str | None) -> jwt.PyJWK:
        """The issuer's key of that id; its only key where the token names none."""
        for again in (False, True):
            with self._lock:
                if self._clock() - self._keys_at > (KEYS_AGAIN_S if again else KEPT_S):
                    self._keys, self._keys_at = self._fetch_keys(), self._clock()
                known = [key for key in self._keys if key.public_key_use in (None, "sig")]
            found = [key for key in known if key.key_id == id_] if id_ is not None else known
            if len(found) == 1:
                return found[0]
        raise SignInError("the identity token is signed by a key that the issuer does not name")

    def _fetch_keys(self) -> list[jwt.PyJWK]:
        try:
            return jwt.PyJWKSet.from_dict(_object(_ask("GET", self._known()["jwks_uri"]))).keys
        except jwt.PyJWTError as error:
            raise IssuerError(f"the issuer's keys cannot be read: {one_line(str(error))[:200]}") from error

    def _known(self) -> Mapping[str, Any]:
        """What the issuer says of itself (OpenID Connect Discovery 1.0)."""
        if not self._about or self._clock() - self._about_at > KEPT_S:
            about = _object(_ask("GET", f"{self.settings.issuer}/.well-known/openid-configuration"))
            if str(about.get("issuer", "")).rstrip("/") != self.settings.issuer:
                raise IssuerError(f"{self.settings.issuer} says that it is {one_line(str(about.get('issuer')))[:200]}; mend `issuer`")
            for key in PLACES:
                parts = urlsplit(str(about.get(key, "")))
                if parts.scheme != "https" and not is_own(parts.hostname or ""):
                    raise IssuerError(f"the issuer's {key} is missing, or not https")
            self._about, self._about_at = about, self._clock()
        return self._about


def challenge(verifier: str) -> str:
    """PKCE's challenge to a verifier, by SHA-256.

    >>> challenge("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk")  # the example of RFC 7636, appendix B
    'E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM'
    """
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def role_of(claims: Mapping[str, Any], settings: Oidc) -> Role | None:
    """The highest role of the groups in a token's claims, None where there is none."""
    found: Any = claims.get(settings.role_claim)
    if found is None:  # a name with a dot in it, as Auth0 has, is tried as it stands first
        found = claims
        for part in settings.role_claim.split("."):
            found = found.get(part) if isinstance(found, Mapping) else None
    groups = [found] if isinstance(found, str) else found if isinstance(found, list) else []
    roles = [settings.roles[group] for group in groups if isinstance(group, str) and group in settings.roles]
    return max(roles, key=ROLES.index, default=None)


def _ask(method: str, address: str, **more: Any) -> httpx.Response:
    try:
        return httpx.request(method, address, timeout=5.0, follow_redirects=False, **more)
    except httpx.HTTPError as error:
        raise IssuerError(f"the issuer at {urlsplit(address).netloc} does not answer: {one_line(str(error))[:200]}") from error


def _object(answer: httpx.Response) -> dict[str, Any]:
    try:
        found = answer.json() if answer.status_code == httpx.codes.OK else None
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise IssuerError(f"the issuer answers {answer.url.path} by {answer.status_code}, without what was asked for")
    return found


def _reason(answer: httpx.Response) -> str:
    """Its own word for it (RFC 6749, section 5.2), else the status."""
    try:
        return one_line(str(answer.json()["error"]))[:100]
    except (ValueError, KeyError, TypeError):
        return str(answer.status_code)
