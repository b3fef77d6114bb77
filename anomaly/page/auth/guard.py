"""Asks each request who it is from, and whether they may.

Without settings the page is for this machine alone: whoever reaches it there is its user, and may do all. Where a name of another host
stands in the request it is refused: a web site could otherwise have its own name point here (DNS rebinding).
"""

from __future__ import annotations

import getpass
import hmac
import ipaddress
import logging
import os
import secrets
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

from fastapi import Depends, HTTPException, Request

from anomaly.errors import SpecError
from anomaly.page.auth.roles import Person, Role, allows
from anomaly.page.auth.sessions import COOKIE, Session, Sessions, Way
from anomaly.page.auth.settings import AuthFile, AuthSettings, digest, is_own

if TYPE_CHECKING:
    from anomaly.page.auth.oidc import Provider

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
CSRF = "X-CSRF-Token"
# What proxies, balancers and tunnels add to the requests that they pass on; names begin so.
PROXIED = (
    "forwarded", "x-forwarded", "x-original", "via", "x-real-ip", "x-client-ip", "x-cluster-client-ip", "true-client-ip", "cf-", "x-envoy-",
    "x-amzn-", "x-azure-", "x-appengine-", "fastly-", "ngrok-",
)  # fmt: skip
LOOK_S = 2.0  # at most so often it is looked whether the file has changed
log = logging.getLogger("anomaly")
BACKGROUND = "X-Background"  # asked by the page by itself: it does not keep a session alive


class Auth:
    """`settings` None: for this machine alone. `clock`: seconds that only grow.

    `file`: where the settings are from; what changes in it is taken, so that a token can be taken back
    """

    def __init__(
        self, settings: AuthSettings | None = None, clock: Callable[[], float] = time.monotonic, file: AuthFile | None = None
    ) -> None:
        self.settings, self._clock, self._file, self._looked = settings, clock, file, clock()
        hours, minutes = (settings.session_h, settings.idle_min) if settings is not None else (12.0, 60.0)
        self.sessions = Sessions(hours * 3600, minutes * 60, clock)
        self.provider = _provider(settings)
        self.own = Session(Person(_login(), "admin"), secrets.token_urlsafe(32), 0.0, 0.0) if settings is None else None

    @property
    def ways(self) -> list[Way]:
        """How one may sign in; [] where nobody needs to."""
        if self.settings is None:
            return []
        token: list[Way] = ["token"] if self.settings.token else []
        return [*token, "oidc"] if self.provider is not None else token

    @property
    def proxies(self) -> list[str]:
        """Proxies whose word on where a request came from is believed."""
        return self.settings.proxies if self.settings is not None else []

    def shared(self, address: str) -> bool:
        """Whether many people come from this address: that of a proxy, or of this machine itself, to which tunnels lead."""
        return is_own(address) or any(_within(address, network) for network in self.proxies)

    def secure(self, request: Request) -> bool:
        """Whether people reach the page by https, so that a cookie may say: never by http."""
        url = self.settings.url if self.settings is not None else None
        return request.scope["scheme"] == "https" or (url or "").startswith("https:")

    def refresh(self) -> None:
        """Take what has changed in the file. Who is in it no longer, or by another token, is signed out. A mistake changes nothing."""
        if self._file is None or self._clock() - self._looked < LOOK_S:
            return
        self._looked = self._clock()
        found = self._file.changed()
        if found is None or found == self.settings:
            return
        try:
            provider = self.provider if self.settings is not None and _oidc(found) == _oidc(self.settings) else _provider(found)
        except SpecError as error:
            log.error("who may open the page stays as it was: %s", error)
            return
        same, self.settings, self.provider = provider is self.provider, found, provider
        known = {(each.sha256, Person(each.name, each.role)) for each in found.token}
        self.sessions.change(
            found.session_h * 3600, found.idle_min * 60, lambda it: same if it.by == "oidc" else (it.sha256, it.person) in known
        )
        log.info("who may open the page is read again")

    def still(self, request: Request) -> bool:
        """Whether who was let in once, and watches since, may go on."""
        scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self.settings is not None:
            return self.token(bearer.strip()) is not None
        self.refresh()
        return self.own is not None or self.sessions.find(request.cookies.get(COOKIE), touch=False) is not None

    def token(self, given: str) -> Person | None:
        """Whose token that is."""
        self.refresh()
        found, asked = None, digest(given)
        for each in self.settings.token if self.settings is not None else ():
            if hmac.compare_digest(each.sha256, asked):  # all are compared: how long it takes tells nothing
                found = Person(each.name, each.role)
        return found

    def session(self, request: Request) -> Session | None:
        """Of a request that came from the page."""
        if self.own is not None:
            return self.own
        self.refresh()
        return self.sessions.find(request.cookies.get(COOKIE), touch=BACKGROUND not in request.headers)

    def person(self, request: Request) -> Person:
        """Who asks. Raises HTTPException 401 for a stranger, 403 for what another site may have sent."""
        self.check_host(request)
        scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self.settings is not None:
            found = self.token(bearer.strip())
            if found is None:
                raise HTTPException(401, "this token is not known", {"WWW-Authenticate": "Bearer"})
            return found  # sent on purpose by a program: no other site can make a browser do it
        session = self.session(request)
        if session is None:
            raise HTTPException(401, "sign in first")
        if request.method not in SAFE:
            check_origin(request)
            if not hmac.compare_digest(request.headers.get(CSRF, "").encode(), session.csrf.encode()):
                raise HTTPException(403, f"the header {CSRF} is missing or old; load the page again")
        return session.person

    def check_host(self, request: Request) -> None:
        """Raises HTTPException for a request to another host's name, or by a proxy, where the page is for this machine alone."""
        if self.own is None:
            return
        if not _is_own(request.headers.get("host", "")):
            raise HTTPException(403, "this page answers to 127.0.0.1, localhost and [::1] alone")
        if _proxied(request):  # others reach it so, and would all be its admin
            raise HTTPException(401, "a proxy stands before this page, and lets others in: say who may open it by --page-auth")


def check_origin(request: Request) -> None:
    """Raises HTTPException for a request that a page of another site made."""
    origin = request.headers.get("origin")
    auth: Auth = request.app.state.auth
    url = (auth.settings.url if auth.settings is not None else None) or ""  # a proxy may ask by another Host
    own = {request.headers.get("host", "").lower(), urlsplit(url).netloc.lower()} - {""}
    if origin is not None and _netloc(origin) not in own:
        raise HTTPException(403, "the request comes from another site")


def _netloc(address: str) -> str:
    """Host and port of an address, "" for what is none."""
    try:
        return urlsplit(address).netloc.lower()
    except ValueError:
        return ""


def _proxied(request: Request) -> bool:
    """Whether a proxy passed the request on: it says so, or speaks HTTP/1.0, as nginx does by itself and no browser does."""
    return request.scope.get("http_version") in ("0.9", "1.0") or any(name.startswith(PROXIED) for name in request.headers)


def _is_own(host: str) -> bool:
    try:
        return "@" not in host and is_own(urlsplit(f"//{host}").hostname or "")
    except ValueError:
        return False


def _within(address: str, network: str) -> bool:
    try:
        return ipaddress.ip_address(address) in ipaddress.ip_network(network)
    except ValueError:
        return False


def _login() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a user without a name, as in a container
        return f"user {os.getuid()}"


def _oidc(settings: AuthSettings) -> object:
    return settings.oidc, settings.url


def _provider(settings: AuthSettings | None) -> Provider | None:
    if settings is None or settings.oidc is None or settings.url is None:
        return None
    from anomaly.page.auth.oidc import Provider  # cryptography, which only this way of signing in needs

    return Provider(settings.oidc, settings.url)


class Needs:
    """A dependency: the person who asks, who has this role at least."""

    def __init__(self, role: Role) -> None:
        self.role = role

    def __call__(self, request: Request) -> Person:
        auth: Auth = request.app.state.auth
        person = auth.person(request)
        if not allows(person.role, self.role):
            raise HTTPException(403, f"this needs the role {self.role}; {person.name} has {person.role}")
        return person


view, operate, admin = Needs("view"), Needs("operate"), Needs("admin")
Viewer = Annotated[Person, Depends(view)]
Operator = Annotated[Person, Depends(operate)]
Admin = Annotated[Person, Depends(admin)]
