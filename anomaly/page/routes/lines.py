"""Lines: all of them, one over time, the pictures kept of its alarms."""

from __future__ import annotations

import sqlite3
from typing import Annotated

from fastapi import APIRouter, Query

from anomaly.alarms.events import iso
from anomaly.errors import DataError
from anomaly.page import alarms, models, queries
from anomaly.page.lines import look_at_lines, names_of, one_line_at
from anomaly.page.routes.shared import LineName, OfSite, seconds_of
from anomaly.page.site import NotThereError

router = APIRouter(tags=["lines"])
When = Annotated[str | None, Query(max_length=40, description="RFC 3339 with a zone")]
QUALITY = ("rejected", "drifted", "swapped", "refused", "rolled_back")


@router.get("/lines")
def lines(site: OfSite) -> models.Lines:
    """All lines at a glance, those that need a person first."""
    return look_at_lines(site)


@router.get("/line")
def line(site: OfSite, name: LineName, begin: When = None, end: When = None) -> models.LineDetail:
    """A line from `begin` to `end`; when they are not given, the day up to its newest record."""
    since, until = seconds_of(begin, "begin"), seconds_of(end, "end")
    if since is not None and until is not None and until <= since:
        raise DataError("end: comes before begin; swap them")
    return one_line_at(site, name, since, until)


@router.get("/line/pictures")
def pictures(site: OfSite, name: LineName, last: Annotated[int, Query(ge=1, le=100)] = 24) -> list[models.Picture]:
    """Of the last pictures that are kept of its alarms, the most unusual first."""
    with queries.reading(site.store) as db:
        _known(site, db, name)
        found = queries.pictures(db, name, last)
    return [models.Picture(alarm=a, role=role, record=record, time=iso(time), p_value=p) for a, role, record, time, p in found]


@router.get("/line/drift")
def drift(site: OfSite, name: LineName) -> models.Drift:
    """Data quality and drift: what was told of it, alarms of data quality that are on, records that were set aside."""
    health = site.health(name)
    with queries.reading(site.store) as db:
        _known(site, db, name)
        _, found = queries.find_alarms(db, line=name, live=True, alarm_class="data quality", limit=100)
        return models.Drift(
            line=name, level=health.drift if health is not None else None,
            events=[alarms.happened(body) for body in queries.events_of_kind(db, name, QUALITY)], quality=alarms.rows(db, found),
            rejected=[
                models.Rejected(record=record, time=None if time is None else iso(time), reason=reason)
                for record, time, reason in queries.rejected(db, name)
            ],
        )  # fmt: skip


def _known(site: OfSite, db: sqlite3.Connection, name: str) -> None:
    if name not in names_of(db, site):
        raise NotThereError(f"no line {name!r}")
