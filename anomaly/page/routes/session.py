"""Signing in and out, and who one is."""

from __future__ import annotations

import base64
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Literal

from fastapi import APIRouter, HTTPException, Query, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import Field

from anomaly.names import one_line
from anomaly.page.auth.guard import Auth, check_origin
from anomaly.page.auth.roles import Person, Role
from anomaly.page.auth.sessions import COOKIE, OIDC_COOKIE, OIDC_LASTS_S, OIDC_PATH, Way
from anomaly.page.auth.settings import digest
from anomaly.page.models import Answer, Asked

if TYPE_CHECKING:
    from anomaly.page.auth.oidc import Provider

router = APIRouter(tags=["session"])
log = logging.getLogger("anomaly")
Shows = Literal["lines", "boxes"]
Text = Annotated[str, Query(max_length=4000)]
VIEW = r"^(#[!-~]{0,500})?$"
View = Annotated[str, Query(pattern=VIEW)]


class Me(Answer):
    """Who looks. `role` is null for a stranger, who may sign in by one of `ways`. `csrf` goes with each action as X-CSRF-Token.

    `shows`: the lines of one site, or many boxes in one list
    """

    name: str
    role: Role | None
    csrf: str
    ways: list[Way]
    shows: Shows


class SignIn(Asked):
    """A token as `anomaly page token` made it."""

    token: str = Field(min_length=1, max_length=500)


@router.get("/me")
def me(request: Request) -> Me:
    """Who asks, a stranger included."""
    auth = _auth(request)
    auth.check_host(request)
    person, csrf = None, ""
    if request.headers.get("authorization") is not None:
        person = auth.person(request)
    else:
        session = auth.session(request)
        if session is not None:
            person, csrf = session.person, session.csrf
    shows: Shows = request.app.state.shows
    return Me(name=person.name if person else "", role=person.role if person else None, csrf=csrf, ways=auth.ways, shows=shows)


@router.post("/session", status_code=204)
def sign_in(request: Request, response: Response, asked: SignIn) -> None:
    """Sign in by a token. The answer sets a cookie that no script can read."""
    auth = _auth(request)
    auth.check_host(request)
    check_origin(request)
    person = auth.token(asked.token)
    if person is None:
        raise HTTPException(401, "this token is not known")
    _begin(request, response, person, sha256=digest(asked.token))


@router.delete("/session", status_code=204)
def sign_out(request: Request, response: Response) -> None:
    """Sign out."""
    auth = _auth(request)
    auth.check_host(request)
    check_origin(request)
    auth.sessions.end(request.cookies.get(COOKIE))
    response.delete_cookie(COOKIE, path="/")
    response.headers["Clear-Site-Data"] = '"cache"'  # pictures of alarms, which the next person at this screen may not be meant to see


def _begin(request: Request, response: Response, person: Person, by: Way = "token", sha256: str = "") -> None:
    auth = _auth(request)
    auth.sessions.end(request.cookies.get(COOKIE))  # whoever was signed in here before
    id_, _ = auth.sessions.begin(person, by, sha256)
    response.set_cookie(COOKIE, id_, httponly=True, samesite="strict", secure=auth.secure(request), path="/")


# --- at the company's own server ---


@router.get("/oidc/begin", status_code=303, response_class=RedirectResponse)
def begin_oidc(request: Request, to: View = "") -> RedirectResponse:
    """Go to the issuer to sign in. A browser is sent here as to a page. `to`: the view to come back to, such as #/alarms."""
    with _issuer(request) as provider:
        place, kept = provider.begin()
    answer = RedirectResponse(place, 303)
    # Lax: the browser comes back from another site, and must have it with it.
    kept += "." + base64.urlsafe_b64encode(to.encode()).decode().rstrip("=")
    answer.set_cookie(OIDC_COOKIE, kept, OIDC_LASTS_S, httponly=True, samesite="lax", secure=_auth(request).secure(request), path=OIDC_PATH)
    return answer


@router.get("/oidc/back", status_code=303, response_class=RedirectResponse)
def end_oidc(request: Request, code: Text = "", state: Text = "", error: Text = "") -> RedirectResponse:
    """Where the issuer sends the browser back to. It goes on to the page, signed in."""
    kept, _, to = request.cookies.get(OIDC_COOKIE, "").rpartition(".")
    with _issuer(request) as provider:
        if error or not code:
            raise HTTPException(401, f"the issuer did not sign you in: {one_line(error)[:100] or 'no code'}")
        person = provider.finish(code, state, kept)
    answer = RedirectResponse("/" + _view(to), 303)
    _begin(request, answer, person, "oidc")
    answer.delete_cookie(OIDC_COOKIE, path=OIDC_PATH)
    return answer


def _view(kept: str) -> str:
    """The view that a cookie names, "" where it names none: only what follows # ever becomes part of an address."""
    try:
        found = base64.urlsafe_b64decode(kept + "=" * (-len(kept) % 4)).decode()
    except ValueError:
        return ""
    return found if re.fullmatch(VIEW, found) else ""


@contextmanager
def _issuer(request: Request) -> Iterator[Provider]:
    """The issuer. What goes wrong there becomes an answer of the API."""
    provider = _auth(request).provider
    if provider is None:
        raise HTTPException(404, "this page has no sign-in by OIDC; sign in by a token")
    from anomaly.page.auth.oidc import IssuerError, SignInError

    try:
        yield provider
    except SignInError as error:
        raise HTTPException(403, str(error)) from error
    except IssuerError as error:
        log.warning("sign-in by OIDC: %s", error)
        raise HTTPException(502, str(error)) from error


def _auth(request: Request) -> Auth:
    auth: Auth = request.app.state.auth
    return auth
