"""Signing in and out, and who one is."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, HTTPException, Request, Response
from pydantic import Field

from anomaly.page.auth.guard import Auth, check_origin
from anomaly.page.auth.roles import Role
from anomaly.page.auth.sessions import COOKIE
from anomaly.page.models import Answer, Asked

router = APIRouter(tags=["session"])


class Me(Answer):
    """Who looks. `role` is null for a stranger, who may sign in by one of `ways`. `csrf` goes with each action as X-CSRF-Token."""

    name: str
    role: Role | None
    csrf: str
    ways: list[Literal["token", "oidc"]]


class SignIn(Asked):
    """A token as `anomaly page-token` made it."""

    token: str = Field(min_length=1, max_length=500)


@router.get("/me")
def me(request: Request) -> Me:
    """Who asks, a stranger included."""
    auth: Auth = request.app.state.auth
    auth.check_host(request)
    session = auth.session(request)
    if session is None:
        return Me(name="", role=None, csrf="", ways=["token"])
    ways: list[Literal["token", "oidc"]] = [] if auth.own is not None else ["token"]
    return Me(name=session.person.name, role=session.person.role, csrf=session.csrf, ways=ways)


@router.post("/session", status_code=204)
def sign_in(request: Request, response: Response, asked: SignIn) -> None:
    """Sign in by a token. The answer sets a cookie that no script can read."""
    auth: Auth = request.app.state.auth
    auth.check_host(request)
    check_origin(request)
    person = auth.token(asked.token)
    if person is None:
        raise HTTPException(401, "this token is not known")
    id_, _ = auth.sessions.begin(person)
    secure = request.url.scheme == "https"
    response.set_cookie(COOKIE, id_, httponly=True, samesite="strict", secure=secure, path="/")


@router.delete("/session", status_code=204)
def sign_out(request: Request, response: Response) -> None:
    """Sign out."""
    auth: Auth = request.app.state.auth
    auth.check_host(request)
    check_origin(request)
    auth.sessions.end(request.cookies.get(COOKIE))
    response.delete_cookie(COOKIE, path="/")
