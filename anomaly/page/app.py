"""The page as one app: health and metrics as ever, the API under /api/v1, the files of the page."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from http import HTTPStatus
from importlib.resources import files
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response, StreamingResponse
from fastapi.staticfiles import StaticFiles
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from anomaly import __version__
from anomaly.alarms.health.board import Board
from anomaly.alarms.health.metrics import Metrics
from anomaly.errors import AnomalyError, DataError, NotPossibleError, StoreError
from anomaly.names import masked, one_line
from anomaly.page.auth.guard import Auth, view
from anomaly.page.auth.headers import Shell
from anomaly.page.auth.limits import Limits
from anomaly.page.boxes import Boxes
from anomaly.page.live import Feed
from anomaly.page.release import NoReleaseError
from anomaly.page.routes import actions, alarms, boxes, lines, operations, session
from anomaly.page.site import NotThereError, Site

API = "/api/v1"
STATIC = Path(str(files("anomaly.page"))) / "static"
MOST_MISTAKES, LONGEST_KEY = 20, 100  # of a request, that the answer names
log = logging.getLogger("anomaly")


def make_app(site: Site, auth: Auth | None = None, limits: Limits | None = None) -> FastAPI:
    """The app of one site. Without `auth` it is for this machine alone."""
    app, api = _begin(auth, "lines")
    app.state.site, app.state.feed = site, Feed(site)
    for part in (lines, alarms, operations):
        api.include_router(part.router, dependencies=[Depends(view)])
    api.include_router(actions.router)  # each names the role it needs
    api.add_api_route("/live", live, methods=["GET"], dependencies=[Depends(view)], tags=["live"], response_class=StreamingResponse)
    _add_health(app, site.board)
    return _end(app, api, limits)


def make_boxes_app(asked: Boxes, auth: Auth | None = None, limits: Limits | None = None) -> FastAPI:
    """The app of many boxes in one list."""
    app, api = _begin(auth, "boxes")
    app.state.boxes = asked
    api.include_router(boxes.router, dependencies=[Depends(view)])
    return _end(app, api, limits)


def _begin(auth: Auth | None, shows: session.Shows) -> tuple[FastAPI, APIRouter]:
    app = FastAPI(
        title="anomaly", version=__version__, openapi_url=f"{API}/openapi.json", docs_url=None, redoc_url=None,
        description="Lines, alarms and what people do about them. Version 1.",
    )  # fmt: skip
    app.state.auth, app.state.shows = auth or Auth(), shows
    return app, APIRouter(prefix=API)


def _end(app: FastAPI, api: APIRouter, limits: Limits | None) -> FastAPI:
    """What every app has: signing in, the files, errors, headers, limits."""
    api.include_router(session.router)
    app.include_router(api)
    _add_errors(app)
    app.mount("/static", StaticFiles(directory=STATIC, check_dir=False), name="static")
    app.add_api_route("/", index, methods=["GET"], include_in_schema=False)
    app.add_middleware(Shell, limits=limits or Limits())
    if app.state.auth.proxies:  # around the rest: whom the limits are for is known after it
        app.add_middleware(ProxyHeadersMiddleware, trusted_hosts=app.state.auth.proxies)
    return app


async def live(request: Request) -> StreamingResponse:
    """What changes, as server-sent events: `lines`, `alarm`, `event`, `acted`, `trouble`."""
    feed: Feed = request.app.state.feed
    if feed.full:
        raise HTTPException(HTTPStatus.SERVICE_UNAVAILABLE, "too many viewers", {"Retry-After": "30"})

    auth: Auth = request.app.state.auth

    async def told() -> AsyncIterator[bytes]:
        async for body in feed.watch():
            if not auth.still(request):  # the session ended while it watched
                return
            yield body

    return StreamingResponse(told(), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})


def index() -> Response:
    """The page."""
    return FileResponse(STATIC / "index.html", headers={"Cache-Control": "no-cache"})


# --- health, as without the page ---


def _add_health(app: FastAPI, board: Board | None) -> None:
    if board is None:
        return
    metrics = Metrics(board)

    def health(wrong: list[str]) -> Response:
        body = {"status": "unavailable" if wrong else "ok"} | board.summary()
        return JSONResponse(body, HTTPStatus.SERVICE_UNAVAILABLE if wrong else HTTPStatus.OK)

    def healthz() -> Response:
        return health(board.stuck())

    def readyz() -> Response:
        return health(board.missing())

    def scraped() -> Response:
        body, kind = metrics.text()
        return Response(body, headers={"Content-Type": kind})

    for path, answer in (("/healthz", healthz), ("/readyz", readyz), ("/metrics", scraped)):
        app.add_api_route(path, answer, methods=["GET", "HEAD"], include_in_schema=False)


# --- errors ---


def _add_errors(app: FastAPI) -> None:
    def answer(status: HTTPStatus) -> Any:
        def handle(_request: Request, error: Exception) -> JSONResponse:
            return JSONResponse({"detail": masked(str(error))}, status)

        return handle

    def wrong(_request: Request, error: RequestValidationError) -> JSONResponse:
        """Which key is wrong and why. What was given for it is not repeated: it may be a token, and need not be text that can be sent."""
        found = [
            {"type": each["type"], "loc": [one_line(part)[:LONGEST_KEY] if isinstance(part, str) else part for part in each["loc"]]}
            | {"msg": one_line(each["msg"])}
            for each in error.errors()[:MOST_MISTAKES]
        ]
        return JSONResponse({"detail": found}, HTTPStatus.UNPROCESSABLE_ENTITY)

    def ours(_request: Request, error: Exception) -> JSONResponse:
        log.error("the page had an error that is ours to mend", exc_info=error)
        return JSONResponse({"detail": "an error that is ours to mend; the log has it"}, HTTPStatus.INTERNAL_SERVER_ERROR)

    for kind, status in (
        (NotThereError, HTTPStatus.NOT_FOUND), (DataError, HTTPStatus.BAD_REQUEST), (NoReleaseError, HTTPStatus.CONFLICT),
        (NotPossibleError, HTTPStatus.CONFLICT), (StoreError, HTTPStatus.SERVICE_UNAVAILABLE), (AnomalyError, HTTPStatus.CONFLICT),
    ):  # fmt: skip
        app.add_exception_handler(kind, answer(status))
    app.add_exception_handler(RequestValidationError, wrong)  # type: ignore[arg-type]  # the handler of this kind alone
    app.add_exception_handler(Exception, ours)
