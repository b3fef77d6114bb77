"""Alarms: the list, one of them, and what is kept of its records."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query
from fastapi.responses import Response

from anomaly.errors import StoreError
from anomaly.page import alarms, models, queries
from anomaly.page.routes.shared import LONGEST_NAME, Limit, Offset, OfSite
from anomaly.page.site import NotThereError

router = APIRouter(tags=["alarms"])
Id = Annotated[str, Path(max_length=100)]
Role = Literal["opened", "worst"]
JPEG: dict[int | str, dict[str, Any]] = {200: {"content": {"image/jpeg": {}}, "description": "a picture"}}


@router.get("/alarms")
def list_alarms(
    site: OfSite,
    line: Annotated[str | None, Query(max_length=LONGEST_NAME)] = None,
    live: Annotated[bool | None, Query(description="true: only those that are on or wait for someone; false: only the others")] = None,
    state: Annotated[str | None, Query(max_length=40)] = None,
    alarm_class: Annotated[str | None, Query(max_length=40)] = None,
    text: Annotated[str, Query(max_length=100)] = "",
    order: Literal["urgent", "newest", "oldest"] = "urgent",
    limit: Limit = 50,
    offset: Offset = 0,
) -> models.Alarms:
    """Some of the alarms that fit."""
    with queries.reading(site.store) as db:
        total, found = queries.find_alarms(
            db, line=line, live=live, state=state, alarm_class=alarm_class, text=text, order=order, limit=limit, offset=offset
        )
        return models.Alarms(total=total, offset=offset, alarms=alarms.rows(db, found), lines=queries.lines_with_alarms(db))


@router.get("/alarms/{id}")
def one(site: OfSite, id: Id) -> models.AlarmDetail:
    """All that is known of an alarm."""
    return alarms.detail(site, id)


@router.get("/alarms/{id}/{role}/picture", response_class=Response, responses=JPEG)
def picture(site: OfSite, id: Id, role: Role, side: Annotated[int | None, Query(ge=16, le=1024)] = None) -> Response:
    """The picture that is kept, as JPEG; `side`: so many pixels at most."""
    return _jpeg(alarms.scaled(alarms.evidence(site, id, role, "picture").picture, side))


@router.get("/alarms/{id}/{role}/map")
def levels(site: OfSite, id: Id, role: Role) -> models.Levels:
    """Where the picture is unusual, cell by cell."""
    return alarms.levels(alarms.evidence(site, id, role, "picture"))


@router.get("/alarms/{id}/{role}/window")
def window(site: OfSite, id: Id, role: Role) -> models.Window:
    """The readings before and in the window."""
    return alarms.window(site, id, alarms.evidence(site, id, role, "window"))


@router.get("/alarms/{id}/normal", response_class=Response, responses=JPEG)
def normal(site: OfSite, id: Id) -> Response:
    """A normal record of the detector, to look at beside it."""
    with queries.reading(site.store) as db:
        line = alarms.find(db, id).line
    found = alarms.normal_picture(site, line)
    if found is None:
        raise NotThereError("the detector of this line has no normal picture to show")
    return _jpeg(found)


def _jpeg(body: bytes) -> Response:
    if not body:
        raise StoreError("the picture is empty")
    return Response(body, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"})
